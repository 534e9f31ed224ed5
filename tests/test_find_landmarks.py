"""Landmarks are found once and read back as they were."""

import re

import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from training.find_landmarks import main, save_landmarks
from training.landmark_sources import Landmarks, NpzLandmarks


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
    save_landmarks(tmp_path / "marks.npz", found)
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
    assert not list(tmp_path.glob("marks*"))
