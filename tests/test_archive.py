"""The archive that a registry would publish: built from what git holds and .comfyignore leaves, unpacked, and scanned.

What is scanned for is what registries flag and users fear: code that runs text, starts processes, unpickles, hides
bytes, or reaches out. test_structure.py holds the same for the sources line by line; here it is the files as shipped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from host import ROOT
from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from test_structure import archive

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

SENDABLE = {".py", ".js", ".json", ".md", ".txt", ".toml", ".jpg", ".png", ".safetensors", ""}  # "" is LICENSE
LARGEST_MB = 40
FORBIDDEN = {
    "runs text as code": r"\b(eval|exec|compile)\s*\(|\bnew Function\b",
    "starts processes": r"\bsubprocess\b|\bos\.(system|popen|exec\w+|spawn\w+|fork)\b|\bpty\b",
    "unpickles": r"\b(c?pickle|dill|marshal|shelve|joblib)\b|\btorch\.load\b|allow_pickle",
    "reaches the network": r"\b(urllib|requests|httpx|aiohttp|socket|ftplib|smtplib|huggingface_hub)\b|XMLHttpRequest",
    "installs": r"\bpip(\._internal|\.main)\b|\bensurepip\b",
    "decodes hidden bytes": r"\b(base64|b64decode|a85decode|unhexlify|fromhex|codecs\.decode)\b|\batob\s*\(",
    "reads secrets": r"\bos\.(environ|getenv)\b|\bkeyring\b|\.netrc\b|\.ssh\b",
}
BLOB = re.compile(r"[A-Za-z0-9+/=]{160,}|(\\x[0-9a-fA-F]{2}){40,}")
ADDRESS = re.compile(r"https?://[^\s\"'<>)\]]+")
LEFT_OUT = {"tests", "training", ".ci"}  # of the top level
CLONE = "## From a clone"  # the one chapter of the README that is about what the archive does not hold
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
SYSTEMS = (("linux", "Linux", "x86_64"), ("darwin", "Darwin", "arm64"), ("win32", "Windows", "AMD64"))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    """The archive, unpacked where a registry's client would: a folder of its own, nothing beside it."""
    file = tmp_path_factory.mktemp("archive") / "node.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in archive():
            packed.write(ROOT / path, path.as_posix())
    assert file.stat().st_size < LARGEST_MB * 1e6
    folder = file.with_name("ComfyUI-MirrorPPR")
    with zipfile.ZipFile(file) as packed:
        assert packed.testzip() is None
        packed.extractall(folder)
    return folder


def texts(folder: Path, *endings: str) -> dict[str, str]:
    found = {path for path in folder.rglob("*") if path.is_file() and path.suffix in endings}
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in sorted(found)}


def readme_of_the_archive(folder: Path) -> str:
    """README without the chapter about clones."""
    before, _, rest = (folder / "README.md").read_text(encoding="utf-8").partition(f"\n{CLONE}")
    return before + ("\n## " + rest.partition("\n## ")[2] if "\n## " in rest else "")


def test_the_archive_holds_only_kinds_of_files_that_can_be_read(shipped):
    files = [path for path in shipped.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= SENDABLE


@pytest.mark.parametrize("danger", FORBIDDEN)
def test_no_file_of_the_archive(shipped, danger):
    for name, text in texts(shipped, ".py", ".js").items():
        hit = re.search(FORBIDDEN[danger], text.replace("re.compile(", ""))  # of patterns, no code
        assert not hit, f"{name} {danger}: {hit[0]!r}"


def test_no_file_hides_a_block_of_bytes(shipped):
    for name, text in texts(shipped, ".py", ".js", ".json", ".md", ".toml").items():
        hit = BLOB.search(text)
        assert not hit, f"{name} holds {hit[0][:60]}"


def test_code_names_no_address_and_templates_only_those_of_models(shipped):
    """The page offers models of a template for download; nothing of ours fetches them."""
    for name, text in texts(shipped, ".py", ".js").items():
        assert not ADDRESS.search(text), f"{name} names {ADDRESS.search(text)[0]}"
    for name, text in texts(shipped, ".json").items():
        models = {
            model["url"] for node in json.loads(text).get("nodes", [])
            for model in node.get("properties", {}).get("models", [])
        }  # fmt: skip
        assert set(ADDRESS.findall(text)) == models, name


def test_weights_in_the_archive_are_safetensors_and_open(shipped):
    from safetensors import safe_open

    files = sorted(shipped.rglob("*.safetensors"))
    assert files
    for path in files:
        with safe_open(str(path), framework="pt") as file:
            assert list(file.keys()), path.name


def test_the_command_line_starts_from_the_archive_alone(shipped):
    done = subprocess.run(
        [sys.executable, "-m", "mirrorppr_core", "--help"], cwd=shipped, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "retouch" in done.stdout and "fetch" not in done.stdout


def test_the_readme_speaks_only_of_what_is_in_the_archive(shipped):
    text = readme_of_the_archive(shipped)
    named = set(re.findall(r"\]\((?!https?:|#)([^)#]+)", text)) | set(re.findall(r"`([\w./-]+/[\w.-]*)`", text))
    ours = {name for name in named if name.split("/")[0] in {path.parts[0] for path in archive()} | LEFT_OUT}
    missing = [name for name in sorted(ours) if not (shipped / name).exists()]
    assert ours and not missing
    modules = set(re.findall(r"python -m ([\w.]+)", text))
    assert modules == {"mirrorppr_core"}, "programs of a clone belong into its chapter"
    commands = set(re.findall(r"python -m mirrorppr_core (\w+)", text))
    assert commands and all((shipped / "mirrorppr_core" / "commands" / f"{name}.py").is_file() for name in commands)
    assert not re.search(r"^\s*make \w+", text, re.MULTILINE), "the archive has no Makefile"


# --- pyproject ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyproject() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def places() -> list[dict]:
    """Environments in which an extra must be installable."""
    here = default_environment()
    return [
        {**here, "python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform,
         "platform_system": system, "platform_machine": machine}
        for python in PYTHONS for platform, system, machine in SYSTEMS
    ]  # fmt: skip


def test_every_extra_is_a_list_of_requirements_that_apply_once_everywhere(pyproject):
    for extra, lines in pyproject["project"]["optional-dependencies"].items():
        wanted = [Requirement(line) for line in lines]
        assert all(one.url is None for one in wanted), f"{extra} names an address: registries refuse that"
        for place in places():
            names = [one.name.lower() for one in wanted if one.marker is None or one.marker.evaluate(place)]
            assert set(names) == {one.name.lower() for one in wanted}, f"{extra} lacks a package on {place}"
            assert len(set(names)) == len(names), f"{extra} names a package twice on {place}"


def test_markers_are_told_apart():
    """The check above would see a package that an extra lacks for one Python."""
    only_old = Marker("python_version < '3.13'")
    assert {place["python_version"] for place in places() if not only_old.evaluate(place)} == {"3.13"}


def test_what_a_publisher_fills_in_is_ready(pyproject):
    """Addresses are unknown until somebody publishes; the lines are there, and become valid when OWNER is replaced."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    filled = tomllib.loads(re.sub(r"^# (?=\[project\.urls\]|\w+ = \"https)", "", text, flags=re.MULTILINE))
    assert set(filled["project"]["urls"]) == {"Repository", "Documentation", "Issues"}
    assert {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui"} <= set(filled["tool"]["comfy"])
    assert "urls" not in pyproject["project"], "an address that nobody owns must not be published"
    assert re.fullmatch(r"\d+\.\d+\.\d+", pyproject["project"]["version"])


def test_icon_and_banner_have_the_registrys_shapes():
    from PIL import Image

    for name, width, height in (("icon", 400, 400), ("banner", 1260, 540)):
        with Image.open(ROOT / "nodes" / "web" / f"{name}.png") as picture:
            assert picture.size == (width, height)
