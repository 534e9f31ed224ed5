"""`extract` and what takes its files: an operation kept on the command line and used again."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_cli import arguments, picture, pixels, run
from toys import SEEING, astronaut, hopper, retouched_mouth, save_set

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    save_set(folder / "set", config=SEEING, trained=False)
    save_set(folder / "other", config=SEEING, trained=False, set_id="ba9876543210")
    picture(astronaut()).save(folder / "before.png")
    picture(retouched_mouth(astronaut())).save(folder / "after.png")
    picture(hopper()).save(folder / "hopper.png")
    return folder


def extract(files: Path, out: Path, **options: object) -> list[str]:
    given = {
        "before": files / "before.png",
        "after": files / "after.png",
        "weights": files / "set",
        "out": out,
        **options,
    }
    return ["extract", *(word for name, value in given.items() for word in (f"--{name}", str(value)))]


def retouch(files: Path, out: Path, operation: Path, weights: str = "set") -> list[str]:
    given = {"operation": operation, "weights": files / weights, "out": out, "query": files / "hopper.png"}
    return ["retouch", *(word for name, value in given.items() for word in (f"--{name}", str(value)))]


def test_a_photo_after_the_kept_operation_is_the_photo_after_the_pair(files, tmp_path, capsys):
    status, report, _ = run(capsys, *extract(files, tmp_path / "look.safetensors", name="A smile"))
    assert status == 0 and report["name"] == "A smile" and report["set"] == "0123456789ab"
    assert report["privacy"].startswith("This file shows a person") and report["largest_displacement_px"] > 4
    status, kept, _ = run(capsys, *retouch(files, tmp_path / "kept", tmp_path / "look.safetensors"))
    assert status == 0 and kept["operation"]["name"] == "A smile"
    status, paired, _ = run(capsys, *arguments(files, tmp_path / "paired", "hopper.png"))
    assert status == 0 and kept["operation"]["notes"] == paired["exemplar"]["notes"]
    assert kept["operation"]["largest_displacement_px"] == paired["exemplar"]["largest_displacement_px"]
    assert np.array_equal(pixels(tmp_path / "kept" / "hopper.png"), pixels(tmp_path / "paired" / "hopper.png"))


def test_another_set_needs_the_exemplar_in_the_file(files, tmp_path, capsys):
    for pictures in ("exemplar", "none"):
        assert run(capsys, *extract(files, tmp_path / f"{pictures}.safetensors", pictures=pictures))[0] == 0
    status, report, _ = run(capsys, *retouch(files, tmp_path / "a", tmp_path / "exemplar.safetensors", "other"))
    assert status == 0 and "extracted again" in report["operation"]["notes"][0] and report["set"] == "ba9876543210"
    status, report, _ = run(capsys, *retouch(files, tmp_path / "b", tmp_path / "none.safetensors", "other"))
    assert status == 2 and "holds no exemplar" in report["error"] and not (tmp_path / "b").exists()


def test_a_file_is_never_overwritten_and_needs_its_ending(files, tmp_path, capsys):
    (tmp_path / "look.safetensors").write_bytes(b"mine")
    status, report, _ = run(capsys, *extract(files, tmp_path / "look.safetensors"))
    assert status == 2 and "is not overwritten" in report["error"]
    assert (tmp_path / "look.safetensors").read_bytes() == b"mine"
    status, report, _ = run(capsys, *extract(files, tmp_path / "look.png"))
    assert status == 2 and "does not end in .safetensors" in report["error"]
    status, report, _ = run(capsys, *extract(files, tmp_path / "b.safetensors", name="a/b"))
    assert status == 2 and "cannot be the name of an operation" in report["error"]
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--operation", "x.safetensors", "--before", "b.png"], "--operation and --before exclude each other"),
        (["--before", "b.png"], "name the exemplar with --before and --after, or an operation file"),
        ([], "name the exemplar with --before and --after, or an operation file"),
        (["--operation", "nowhere.safetensors"], "there is no operation file nowhere.safetensors"),
        (["--operation", "x.safetensors", "--engine", "qwen"], "--operation is Mini's"),
    ],
)
def test_what_is_no_source_of_a_retouch_is_refused(files, tmp_path, capsys, words, message):
    query = ["--query", str(files / "hopper.png"), "--out", str(tmp_path / "out"), "--weights", str(files / "set")]
    status, report, _ = run(capsys, "retouch", *words, *query)
    assert status == 2 and message in report["error"] and not (tmp_path / "out").exists()


def test_an_album_takes_an_operation_file_too(files, tmp_path, capsys):
    run(capsys, *extract(files, tmp_path / "look.safetensors"))
    (tmp_path / "shoot").mkdir()
    Image.open(files / "hopper.png").save(tmp_path / "shoot" / "one.png")
    words = ["--operation", str(tmp_path / "look.safetensors"), "--photos", str(tmp_path / "shoot")]
    status, report, _ = run(capsys, "album", *words, "--weights", str(files / "set"), "--out", str(tmp_path / "album"))
    assert status == 0 and report["retouched"] == 1 and report["operation"]["name"] == "look"
    assert json.loads((tmp_path / "album" / "album" / "report.json").read_text())["operation"]["name"] == "look"
