"""`album` on the command line: a folder in, a folder out, a report and a sheet beside it."""

import json

import numpy as np
import pytest
from PIL import Image
from toys import SEEING, astronaut, hopper, push, save_set

from mirrorppr_core.commands.cli import main

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


def save(photo, path):
    Image.fromarray(photo[0].permute(1, 2, 0).contiguous().numpy()).save(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("album")
    save_set(folder / "set", config=SEEING)
    save(astronaut(), folder / "before.png")
    save(push(astronaut(), centre=(215.0, 120.0), radius=40.0, shift=(4.0, 0.0)), folder / "after.png")
    (folder / "shoot").mkdir()
    save(hopper(), folder / "shoot" / "hopper.png")
    save(astronaut(), folder / "shoot" / "collins.png")
    Image.new("RGB", (300, 300), "gray").save(folder / "shoot" / "wall.png")
    return folder


def command(files, out, *more):
    return [
        "album", "--before", str(files / "before.png"), "--after", str(files / "after.png"), "--photos",
        str(files / "shoot"), "--weights", str(files / "set"), "--out", str(out), *more,
    ]  # fmt: skip


def test_a_folder_is_retouched_reported_and_continued(files, tmp_path, capsys):
    assert main(command(files, tmp_path)) == 1  # one of three shows no face
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert (report["retouched"], report["not_retouched"], report["done_before"]) == (2, 1, 0)
    assert "photo 3 of 3" in told.err and "one plain colour" in told.err
    whole = json.loads((tmp_path / "album" / "report.json").read_text())
    assert [row["output"] for row in whole["photos"]][0] == "wall.png"
    assert Image.open(tmp_path / "album" / "sheet.png").size[0] > 900
    unchanged = np.array(Image.open(tmp_path / "wall.png"))
    assert (unchanged == np.array(Image.open(files / "shoot" / "wall.png"))).all()
    assert main(command(files, tmp_path)) == 1
    assert json.loads(capsys.readouterr().out)["done_before"] == 3


def test_stop_says_which_photo_and_other_settings_want_another_folder(files, tmp_path, capsys):
    assert main(command(files, tmp_path, "--on-error", "stop")) == 2
    assert "photo 3 of 3, wall.png: query is one plain colour" in capsys.readouterr().err
    assert main(command(files, tmp_path, "--strength", "0.5")) == 2
    assert "another strength" in capsys.readouterr().err


def test_an_empty_folder_is_refused_before_the_exemplar_is_read(files, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    line = command(files, tmp_path / "out")
    line[line.index("--photos") + 1] = str(tmp_path / "empty")
    assert main(line) == 2
    assert "no pictures there (empty)" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_numbered_frames_are_retouched_as_a_sequence_in_their_own_format(files, tmp_path, capsys):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in (1, 2):
        save(hopper(), frames / f"f_{number}.webp")
    words = command(files, tmp_path / "out", "--sequence", "--format", "same")
    words[words.index(str(files / "shoot"))] = str(frames)
    assert main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["retouched"] == 2
    rows = json.loads((tmp_path / "out" / "album" / "report.json").read_text())["photos"]
    assert {row["output"] for row in rows} == {"f_1.webp", "f_2.webp"} and all(
        0 < row["confidence"] < 1 for row in rows
    )
    words.remove("--sequence")
    assert main(words) == 2 and "another sequence" in capsys.readouterr().err
