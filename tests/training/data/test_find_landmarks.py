"""Landmarks are found once and read back as they were."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from training import find_landmarks
from training.data.landmark_sources import NpzLandmarks
from training.data.landmarks import Landmarks
from training.find_landmarks import Found, main, save_landmarks


@pytest.fixture
def astronaut(tmp_path):
    """A folder with one portrait and one picture of nobody."""
    data = pytest.importorskip("skimage.data", reason="needs scikit-image's photo")
    (tmp_path / "in").mkdir()
    Image.fromarray(data.astronaut()).save(tmp_path / "in" / "ann.png")
    Image.new("RGB", (300, 300)).save(tmp_path / "in" / "nobody.png")
    return tmp_path / "in"


def test_what_is_saved_is_read_back(tmp_path):
    random = torch.Generator().manual_seed(0)
    mesh, pose = 100 * torch.rand(478, 2, generator=random), 100 * torch.rand(33, 4, generator=random)
    found = {"a.png": Landmarks(mesh, None), "sub/b.png": Landmarks(mesh + 1, pose)}
    save_landmarks(tmp_path / "marks.npz", Found.of(found))
    source = NpzLandmarks(tmp_path / "marks.npz")
    for file, marks in found.items():
        again = source.find(file, torch.zeros(1, 3, 8, 8))
        assert_close(again.mesh, marks.mesh)
        assert (again.pose is None) == (marks.pose is None)
    assert_close(again.pose, pose)
    assert [path.name for path in tmp_path.iterdir()] == ["marks.npz"]  # nothing half-written stays


def test_the_command_finds_a_face_and_counts_a_picture_without(astronaut, tmp_path, capsys):
    out = tmp_path / "made" / "marks.npz"
    assert main(["--portraits", str(astronaut), "--out", str(out)]) == 0
    assert "landmarks of 1 portraits from mini@" in (said := capsys.readouterr().out)
    assert "skipped: 1 no-landmarks" in said
    assert NpzLandmarks(out).files == {"ann.png"}
    (astronaut / "portraits.csv").write_text("file\nann.png")
    assert main(["--portraits", str(astronaut), "--out", str(out)]) == 0
    assert "1 pictures are not in portraits.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"--portraits": "nowhere"}, "no such folder"),
        ({"--landmarks": "dlib"}, "unknown source of landmarks 'dlib'"),
        ({"--out": "marks.txt"}, "ends in .npz"),
        ({"--out": "in/ann.png/marks.npz"}, "cannot write to"),
        ({"--min-side": "5000"}, "no portrait in .* can be used: 2 too-small"),
    ],
)
def test_what_cannot_work_is_said_and_leaves_no_file(astronaut, tmp_path, monkeypatch, capsys, changes, complaint):
    monkeypatch.chdir(tmp_path)
    options = {"--portraits": "in", "--out": "marks.npz", **changes}
    assert main([word for option in options.items() for word in option]) == 2
    error = capsys.readouterr().err
    assert re.match(f"error: .*{complaint}", error)
    assert not list(tmp_path.glob("marks*")) and not list(tmp_path.glob(".marks*"))


class Dying(NpzLandmarks):
    """Known landmarks; the process dies when it is asked for the picture of this name."""

    asked: list[str] = []
    dies_at = ""

    def find(self, file, image):
        Dying.asked.append(file)
        if file == self.dies_at:
            raise KeyboardInterrupt
        return super().find(file, image)


def test_a_stopped_search_goes_on_where_it_was_and_finds_the_same(tmp_path, monkeypatch, capsys):
    (tmp_path / "in").mkdir()
    for number in range(7):
        Image.new("RGB", (300, 300)).save(tmp_path / "in" / f"{number}.png")
    (tmp_path / "in" / "3.png").write_bytes(b"")
    meshes = np.random.default_rng(0).uniform(0, 300, (7, 478, 2)).astype(np.float32)
    known = tmp_path / "known.npz"
    np.savez(known, files=np.array([f"{n}.png" for n in range(7)]), mesh=meshes)
    monkeypatch.setattr(find_landmarks, "SAVE_EVERY", 2)
    monkeypatch.setattr(find_landmarks, "landmark_source", lambda *source, **models: Dying(known))

    def search(out: str, *more: str) -> int:
        Dying.asked.clear()
        return main(["--portraits", str(tmp_path / "in"), "--out", str(tmp_path / out), *more])

    assert search("unbroken.npz") == 0
    monkeypatch.setattr(Dying, "dies_at", "5.png")
    assert search("marks.npz") == 130 and not (tmp_path / "marks.npz").exists()
    assert search("marks.npz", "--min-side", "200") == 2
    assert "was begun with other portraits, landmarks or --min-side" in capsys.readouterr().err
    monkeypatch.setattr(Dying, "dies_at", "")
    assert search("marks.npz") == 0
    said = capsys.readouterr().out
    assert "goes on after 4 of 7 portraits" in said and "skipped: 1 empty-file" in said
    assert Dying.asked == ["4.png", "5.png", "6.png"]
    assert (tmp_path / "marks.npz").read_bytes() == (tmp_path / "unbroken.npz").read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_part_is_named(tmp_path):
    scratch = tmp_path / "begun"
    scratch.mkdir()
    (scratch / "about.json").write_text("{}")
    (scratch / "000000000.npz").write_bytes(b"half")
    with pytest.raises(ValueError, match="000000000.npz is damaged .*: delete .*begun to start anew"):
        find_landmarks._begun(scratch, {})
