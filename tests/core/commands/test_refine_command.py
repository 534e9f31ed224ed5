"""`refine`: a result corrected by hand joins an operation file; joints for every command that reads pairs."""

import json
from pathlib import Path

import pytest
from test_cli import arguments, picture, run
from toys import SEEING, astronaut, hopper, push, retouched_mouth, save_set

from mirrorppr_core.commands.cli import main
from mirrorppr_core.mini.reuse import load_operation

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    save_set(folder / "set", config=SEEING, trained=False)
    picture(astronaut()).save(folder / "before.png")
    picture(retouched_mouth(astronaut())).save(folder / "after.png")
    picture(astronaut()).save(folder / "query.png")
    picture(push(astronaut(), centre=(226, 152), radius=28, shift=(6.0, 3.6))).save(folder / "corrected.png")
    picture(push(astronaut(), centre=(226, 152), radius=28, shift=(-5.0, 1.0))).save(folder / "other.png")
    picture(hopper()).save(folder / "hopper.png")
    nobody = {"canvas_width": 512, "canvas_height": 512, "people": []}
    (folder / "nobody.json").write_text(json.dumps(nobody))
    look = ["--before", folder / "before.png", "--after", folder / "after.png", "--weights", folder / "set"]
    assert main(["extract", *map(str, look), "--out", str(folder / "look.safetensors")]) == 0
    return folder


def refine(files: Path, out: Path, *more: str, **options: object) -> list[str]:
    given = {"operation": "look.safetensors", "before": "query.png", "corrected": "corrected.png", "weights": "set"}
    named = [word for name, value in {**given, **options}.items() for word in (f"--{name}", str(files / str(value)))]
    return ["refine", *named, "--out", str(out), *more]


def test_a_corrected_result_joins_the_pairs_of_the_file_which_stays_as_it_is(files, tmp_path, capsys):
    old = (files / "look.safetensors").read_bytes()
    status, report, _ = run(capsys, *refine(files, tmp_path / "better.safetensors", "--name", "Better"))
    assert status == 0 and report["pairs"] == 2 and report["name"] == "Better"
    assert load_operation(tmp_path / "better.safetensors").operation.pairs == 2
    assert (files / "look.safetensors").read_bytes() == old


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"corrected": "hopper.png"},
            "the correction cannot be read: exemplar before and after do not look like the same photo",
        ),
        ({"corrected": "other.png"}, "the correction shows another retouch than the operation"),
        ({"corrected": "query.png"}, "the correction shows no change"),
        ({"operation": "nowhere.safetensors"}, "there is no operation file nowhere.safetensors"),
    ],
)
def test_what_is_no_correction_is_refused_and_nothing_written(files, tmp_path, capsys, options, message):
    status, report, _ = run(capsys, *refine(files, tmp_path / "better.safetensors", **options))
    assert status == 2 and message in report["error"] and not (tmp_path / "better.safetensors").exists()


def test_a_file_is_never_overwritten(files, capsys):
    status, report, _ = run(capsys, *refine(files, files / "look.safetensors"))
    assert status == 2 and "is not overwritten" in report["error"]


def test_every_command_that_reads_pairs_takes_their_joints(files, tmp_path, capsys):
    joints = ["--pose-before", str(files / "nobody.json")]
    pair = ["--before", str(files / "before.png"), "--after", str(files / "after.png"), "--weights", str(files / "set")]
    for words in (
        ["extract", *pair, "--out", str(tmp_path / "a.safetensors")],
        refine(files, tmp_path / "b.safetensors"),
        arguments(files, tmp_path / "c", "hopper.png"),
    ):
        status, report, _ = run(capsys, *words, *joints)
        assert status == 2 and "nobody.json holds nobody" in report["error"]
    status, report, _ = run(capsys, *arguments(files, tmp_path / "c", "hopper.png"), *joints, *joints)
    assert status == 2 and "2 --pose-before for 1 pairs" in report["error"]


def test_joints_of_before_beside_an_operation_file_are_refused(files, tmp_path, capsys):
    words = ["--operation", "look.safetensors", "--pose-before", "x.json", "--query", str(files / "hopper.png")]
    status, report, _ = run(capsys, "retouch", *words, "--out", str(tmp_path))
    assert status == 2 and "--pose-before belongs to --before" in report["error"]
