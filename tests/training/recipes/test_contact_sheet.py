"""The sheet of all professional operations: a row for each portrait, and mistakes told in one line."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.core.operations.test_professional import SIZE, draw_mesh, draw_pose
from training.contact_sheet import CAPTION_PX, CELL_PX, STRENGTHS, main


@pytest.fixture
def portraits(tmp_path):
    """Two drawn faces under eval/, one of them with a body."""
    folder = tmp_path / "portraits"
    (folder / "eval").mkdir(parents=True)
    for person in range(2):
        coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(person))
        picture = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").clamp(0, 1)
        Image.fromarray((picture[0] * 255).byte().permute(1, 2, 0).numpy()).save(folder / "eval" / f"{person}.png")
    pose = draw_pose().numpy()[None].copy()
    pose[..., :2] += 0.5
    np.savez(
        folder / "landmarks.npz",
        files=np.array(["eval/0.png", "eval/1.png"]),
        face_avg=np.stack([draw_mesh(person).numpy() + 0.5 for person in range(2)]),
        body_files=np.array(["eval/1.png"]),
        pose=pose,
    )
    return folder


def sheet(portraits, out, *more) -> int:
    return main(["--portraits", str(portraits), "--out", str(out), *more])


def test_a_row_for_each_portrait_and_operation(portraits, tmp_path):
    out = tmp_path / "new" / "sheet.png"
    assert sheet(portraits, out, "--operations", "face_trans", "body_shape_thin_shoulders", "--num", "2") == 0
    with Image.open(out) as picture:
        assert picture.size == (CELL_PX * len(STRENGTHS), 3 * (CELL_PX + CAPTION_PX))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--operations", "face_rotate"), "face_rotate"),
        (("--num", "0"), "--num 0: use 1 or more"),
        (("--portraits", "nowhere"), "no such landmarks"),
        (("--out", "sheet.txt"), "--out sheet.txt: give a file whose name ends in .png"),
        (("--out", "portraits/eval/0.png/sheet.png"), "cannot write to"),
    ],
)
def test_bad_arguments_are_told_in_one_line(portraits, tmp_path, monkeypatch, capsys, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    told = {"--portraits": "portraits", "--out": "sheet.png", "--operations": "face_trans", "--num": "1"}
    told.update([arguments])
    assert main([word for option in told.items() for word in option]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and complaint in error
    assert not (tmp_path / "sheet.png").exists()


def test_bad_files_are_told_in_one_line(portraits, tmp_path, capsys):
    (portraits / "eval" / "0.png").write_bytes(b"")
    assert sheet(portraits, tmp_path / "a.png", "--operations", "face_trans") == 2
    assert "empty-file" in capsys.readouterr().err
    marks = portraits / "landmarks.npz"
    marks.write_bytes(marks.read_bytes()[:500])
    assert sheet(portraits, tmp_path / "a.png") == 2
    assert "landmarks.npz is damaged" in capsys.readouterr().err
    np.savez(marks, files=np.array(["train/0.png"]), face_avg=np.zeros((1, 478, 2)))
    assert sheet(portraits, tmp_path / "a.png", "--operations", "face_trans") == 2
    assert "no face of split 'eval'" in capsys.readouterr().err
