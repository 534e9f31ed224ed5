"""An album: every photo once, whatever happens; names kept; the doubtful ones first."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from host import ROOT
from PIL import Image

from mirrorppr_core.albums.doubt import ranked
from mirrorppr_core.albums.journal import Journal
from mirrorppr_core.albums.photos import check_apart, find_photos
from mirrorppr_core.albums.run import AlbumStopped, run_album, settings_of
from mirrorppr_core.albums.sequence import look_through
from mirrorppr_core.albums.sheet import FOLDER, draw_album_sheet
from mirrorppr_core.bodies.sources import PoseChoice
from mirrorppr_core.geometry.field import Field
from mirrorppr_core.mini.editor import RetouchConfig, Retouched
from mirrorppr_core.operations.sliders import Sliders
from mirrorppr_core.photo_files import read_photo
from mirrorppr_core.photo_saving import Saving

SETTINGS = {"operation": "abc", "strength": 1.0}


def picture(path: Path, shade: int) -> Path:
    Image.new("RGB", (300, 260), (shade, shade, shade)).save(path)
    return path


def inverted(photo) -> Retouched:
    """Stands for the engine: what it does to pixels does not matter here."""
    if int(photo[0, 0, 0, 0]) == 13:
        raise ValueError("no face found.")
    return Retouched(image=255 - photo, field=Field.zero(*photo.shape[-2:]), faces=(), notes=(), num_found=0)


@pytest.fixture
def shoot(tmp_path) -> Path:
    folder = tmp_path / "shoot"
    folder.mkdir()
    for number in (1, 2, 10):
        picture(folder / f"IMG_{number}.png", 20 + number)
    (folder / "IMG_1.cr2").write_bytes(b"raw")
    return folder


def steps(shoot: Path, out: Path, retouch=inverted, **options):
    album = find_photos([shoot])
    (out / FOLDER).mkdir(parents=True, exist_ok=True)
    journal = Journal(out / FOLDER / "journal.jsonl", SETTINGS)
    return run_album(album, retouch, out=out, journal=journal, **options)


def test_photos_come_as_people_count_them_and_other_files_are_counted(shoot):
    album = find_photos([shoot])
    assert [photo.source.name for photo in album.photos] == ["IMG_1.png", "IMG_2.png", "IMG_10.png"]
    assert album.passed_over == {".cr2": 1}


def test_results_keep_their_names_and_two_of_one_stem_keep_their_endings_too(shoot):
    picture(shoot / "IMG_2.webp", 5)
    assert {photo.name for photo in find_photos([shoot]).photos} == {
        "IMG_1.png", "IMG_2.png.png", "IMG_2.webp.png", "IMG_10.png"
    }  # fmt: skip


def test_an_album_without_pictures_is_refused_with_what_is_there(tmp_path):
    (tmp_path / "a.cr2").write_bytes(b"raw")
    with pytest.raises(ValueError, match=r"1 \.cr2"):
        find_photos([tmp_path])
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        find_photos([tmp_path / "nowhere"])


def test_results_that_would_replace_the_photos_are_refused(shoot):
    with pytest.raises(ValueError, match="would replace"):
        check_apart(find_photos([shoot]), shoot)


def test_every_photo_is_retouched_once_and_the_same_command_repeats_none(shoot, tmp_path):
    out = tmp_path / "out"
    first = list(steps(shoot, out))
    assert [step.number for step in first] == [1, 2, 3] and not any(step.repeated for step in first)
    assert np.array(Image.open(out / "IMG_10.png"))[0, 0, 0] == 225
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    again = list(steps(shoot, out, retouch=lambda photo: pytest.fail("done before")))
    assert all(step.repeated for step in again)
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")} == before


def test_a_photo_that_changed_or_a_result_that_is_gone_is_done_again(shoot, tmp_path):
    out = tmp_path / "out"
    list(steps(shoot, out))
    picture(shoot / "IMG_2.png", 99)
    (out / "IMG_10.png").unlink()
    assert [step.repeated for step in steps(shoot, out)] == [True, False, False]
    assert np.array(Image.open(out / "IMG_2.png"))[0, 0, 0] == 156


def test_a_photo_that_cannot_be_retouched_is_written_unchanged_and_named(shoot, tmp_path):
    picture(shoot / "IMG_3.png", 13)
    (shoot / "IMG_4.png").write_bytes(b"no picture")
    made = {step.row["output"]: step.row for step in steps(shoot, tmp_path / "out")}
    assert np.array(Image.open(tmp_path / "out" / "IMG_3.png"))[0, 0, 0] == 13
    assert made["IMG_3.png"]["error"] == "no face found." and made["IMG_3.png"]["written"]
    assert "IMG_4.png is damaged or not a picture" in made["IMG_4.png"]["error"] and not made["IMG_4.png"]["written"]
    assert not (tmp_path / "out" / "IMG_4.png").exists() and len(made) == 5


def test_stop_ends_at_the_first_such_photo_and_keeps_all_before_it(shoot, tmp_path):
    picture(shoot / "IMG_3.png", 13)
    out = tmp_path / "out"
    with pytest.raises(AlbumStopped, match="photo 3 of 4, IMG_3.png: no face found"):
        list(steps(shoot, out, on_error="stop"))
    journal = Journal(out / FOLDER / "journal.jsonl", SETTINGS)
    assert set(journal.rows) == {"IMG_1.png", "IMG_2.png"} and not (out / "IMG_10.png").exists()


def test_another_operation_does_not_continue_an_album(shoot, tmp_path):
    list(steps(shoot, tmp_path))
    with pytest.raises(ValueError, match="made with another strength"):
        Journal(tmp_path / FOLDER / "journal.jsonl", {**SETTINGS, "strength": 0.5})


def test_a_line_that_was_cut_is_done_again_and_swallows_no_other(shoot, tmp_path):
    list(steps(shoot, tmp_path))
    path = tmp_path / FOLDER / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    assert [step.repeated for step in steps(shoot, tmp_path)] == [True, True, False]
    assert [json.loads(line) for line in path.read_text().splitlines()][-1]["output"] == "IMG_10.png"


def test_a_file_that_is_no_journal_is_refused(tmp_path):
    (tmp_path / "journal.jsonl").write_text('{"other": 1}\n')
    with pytest.raises(ValueError, match="is not the journal of an album"):
        Journal(tmp_path / "journal.jsonl", SETTINGS)


def test_the_doubtful_and_the_odd_come_first():
    def row(name, doubt, motion):
        return {"output": name, "doubt": doubt, "relative_motion": motion}

    rows = [row("a", 0.1, 0.02), row("b", 0.2, 0.021), row("odd", 0.1, 0.09), row("failed", 1.0, None)]
    assert [r["output"] for r in ranked(rows)] == ["failed", "odd", "b", "a"]


def test_the_sheet_shows_every_photo(shoot, tmp_path):
    (shoot / "IMG_4.png").write_bytes(b"no picture")
    rows = [step.row for step in steps(shoot, tmp_path)]
    sheet = draw_album_sheet(rows, tmp_path)
    assert sheet.width == 4 * 328 + 8 and len(list((tmp_path / FOLDER / "small").iterdir())) == 3


SLOW = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3:]
import test_album as here
def slowly(photo):
    time.sleep(0.15)
    return here.inverted(photo)
list(here.steps(Path(sys.argv[1]), Path(sys.argv[2]), slowly))
"""


def test_kill_9_loses_nothing_and_repeats_at_most_the_photo_in_hand(tmp_path):
    shoot, out = tmp_path / "shoot", tmp_path / "out"
    shoot.mkdir()
    for number in range(8):
        picture(shoot / f"{number}.png", 20 + number)
    path = [str(ROOT), str(ROOT / "tests" / "helpers"), str(Path(__file__).parent)]
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(shoot), str(out), *path])
    while len(list(out.glob("*.png"))) < 3 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 3 <= len(list(out.glob("*.png"))) < 8
    went_on = list(steps(shoot, out))
    assert len(went_on) == 8 and sum(step.repeated for step in went_on) >= 2
    assert {path.name for path in out.glob("*.png")} == {f"{number}.png" for number in range(8)}
    assert torch.tensor([np.array(Image.open(out / f"{n}.png"))[0, 0, 0] + 20 + n for n in range(8)]).eq(255).all()


def test_who_finds_the_joints_is_asked_of_every_frame_and_decides_whether_an_album_goes_on(tmp_path):
    album = find_photos([picture(tmp_path / "f_1.png", 90), picture(tmp_path / "f_2.png", 80)])
    sequence, mini = Mock(), PoseChoice("mini")
    of_frame = look_through(album, sequence, read_photo, mini)
    of_frame(album.photos[1])("pixels")
    assert [call.args[2] for call in sequence.look.call_args_list] == [mini, mini]
    assert sequence.retouch.call_args.args == (1, "pixels", mini)
    auto, own = (settings_of(Sliders(()), RetouchConfig(), Saving(), joints=joints) for joints in ("auto", "mini"))
    assert own == {**auto, "joints": "mini"}
