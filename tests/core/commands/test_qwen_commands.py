"""fetch and check: nothing is downloaded before sizes and licences were shown, and real weights can be tried."""

import argparse
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from host import ROOT
from tiny_qwen import components, save_base, save_set

from mirrorppr_core.commands import check as check_command
from mirrorppr_core.commands import fetch as fetch_command


class Hub:
    """Stands in for huggingface_hub: its repositories are folders."""

    def __init__(self, repositories, *, breaks=False):
        self.repositories, self.breaks, self.downloads = repositories, breaks, []

    def HfApi(self):
        return self

    def model_info(self, repo, *, revision, files_metadata):
        root = self.repositories[repo]
        files = [SimpleNamespace(rfilename=p.relative_to(root).as_posix(), size=p.stat().st_size)
                 for p in root.rglob("*") if p.is_file()]  # fmt: skip
        return SimpleNamespace(sha=revision or "0123456789abcdef", siblings=files)

    def snapshot_download(self, repo, *, revision, allow_patterns, local_dir):
        if self.breaks:
            raise ConnectionResetError("reset by peer")
        self.downloads.append((repo, revision))
        for pattern in allow_patterns:
            part = pattern.removesuffix("/*")
            shutil.copytree(self.repositories[repo] / part, local_dir / part, dirs_exist_ok=True)


def options(command, *words):
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args([command.__name__.split(".")[-1].removesuffix("_command"), *words])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(components(), tmp_path_factory.mktemp("base"))


@pytest.fixture
def hub(tmp_path, base):
    save_set(tmp_path / "repo")
    (tmp_path / "repo" / "unwanted.bin").write_bytes(b"x" * 1000)
    return Hub({fetch_command.WEIGHTS.repo: tmp_path / "repo", fetch_command.BASE.repo: base})


def test_without_yes_sizes_and_licences_are_shown_and_nothing_is_downloaded(tmp_path, hub, capsys):
    out = tmp_path / "out"
    assert fetch_command.fetch(options(fetch_command, "--out", str(out)), hub=hub) == 2
    said = capsys.readouterr().err
    assert "4 files" in said and "rformer.safetensors" in said and "unwanted" not in said
    assert "no licence" in said and "--yes" in said
    assert not out.exists() and not hub.downloads


def test_with_yes_the_set_is_downloaded_at_one_commit_and_checked(tmp_path, hub, capsys):
    out = tmp_path / "models" / "mirrorppr"
    assert fetch_command.fetch(options(fetch_command, "--out", str(out), "--yes"), hub=hub) == 0
    report = json.loads(capsys.readouterr().out)
    assert hub.downloads == [(fetch_command.WEIGHTS.repo, "0123456789abcdef")]
    assert report["kind"] == "face" and "patch-order test" in report["patch_order"]
    assert report["lora"]["ranks"] == [4]


def test_the_base_model_comes_only_when_asked_for(tmp_path, hub):
    out = tmp_path / "out"
    fetch_command.fetch(options(fetch_command, "--out", str(out), "--yes", "--base"), hub=hub)
    assert (out / "qwen_image_edit" / "transformer" / "config.json").is_file()


def test_a_download_that_breaks_off_says_how_to_go_on(tmp_path, hub):
    hub.breaks = True
    with pytest.raises(OSError, match="Run the same command again"):
        fetch_command.fetch(options(fetch_command, "--out", str(tmp_path / "out"), "--yes"), hub=hub)


def test_an_unreachable_hub_and_a_changed_layout_are_explained(tmp_path, hub):
    wanted = options(fetch_command, "--out", str(tmp_path / "out"))
    (tmp_path / "repo/mirrorppr_face/lora/lora.safetensors").unlink()
    with pytest.raises(ValueError, match="no longer has mirrorppr_face/lora"):
        fetch_command.fetch(wanted, hub=hub)
    with pytest.raises(OSError, match="Check the connection"):
        fetch_command.fetch(wanted, hub=Hub({}))


def test_too_little_space_is_noticed_before_the_download(tmp_path, hub, monkeypatch):
    monkeypatch.setattr(fetch_command.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OSError, match="choose another --out"):
        fetch_command.fetch(options(fetch_command, "--out", str(tmp_path / "out"), "--yes"), hub=hub)
    assert not hub.downloads


def test_check_tries_the_networks_and_with_a_base_the_whole_engine(tmp_path, base, capsys):
    save_set(tmp_path)
    assert check_command.run(options(check_command, "--weights", str(tmp_path), "--base", str(base))) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["networks"]["tokens"] == [1, 8, 32]
    assert report["networks"]["difference_when_reversed"] > 0.001
    assert report["engine"]["size"] == [1, 3, 512, 512]


def test_only_the_command_line_knows_of_fetch():
    files = [*(ROOT / "mirrorppr_core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py"), ROOT / "__init__.py"]
    names = {path.name for path in files if "fetch_command" in path.read_text()}
    assert names <= {"cli.py", "__main__.py", "fetch_command.py"}


def test_the_engine_is_importable_where_neither_diffusers_nor_peft_is_installed():
    """Inside ComfyUI nobody has them; only standalone functions need them, when they are called."""
    modules = sorted(p.stem for p in (ROOT / "mirrorppr_core" / "qwen").glob("*.py") if p.stem != "__init__")
    blocked = "import sys; sys.modules.update(dict.fromkeys(['diffusers', 'peft', 'transformers', 'huggingface_hub']))"
    imports = "; ".join(f"import mirrorppr_core.qwen.{name}" for name in modules)
    subprocess.run([sys.executable, "-c", f"{blocked}; {imports}"], cwd=ROOT, check=True)
