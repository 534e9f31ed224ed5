"""A packed portrait folder holds the same people, smaller, with landmarks in the same places."""

import csv

import numpy as np
import pytest
from PIL import Image

from training.data.labelled import labelled_portraits
from training.pack import pack


@pytest.fixture
def portraits(tmp_path):
    folder = tmp_path / "portraits"
    (folder / "train").mkdir(parents=True)
    files = ["train/a.jpg", "train/b.jpg", "train/lost.jpg"]
    rng = np.random.default_rng(0)
    for file in files:
        Image.fromarray(rng.integers(0, 255, (400, 600, 3), np.uint8)).save(folder / file)
    with open(folder / "portraits.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=["file", "split", "identity", "source"])
        writer.writeheader()
        for file in files:
            writer.writerow({"file": file, "split": "train", "identity": file, "source": "drawn"})
    meshes = rng.uniform(0, 400, (3, 478, 2)).astype(np.float32)
    meshes[2] = np.nan
    np.savez(folder / "landmarks.npz", files=np.array(files), face_avg=meshes)
    return folder, meshes


def test_pictures_and_landmarks_shrink_together(portraits, tmp_path):
    folder, meshes = portraits
    out = tmp_path / "small"
    assert pack(folder, out, side=300) == 2, "the face that was not found stays behind"
    with Image.open(out / "train/a.jpg") as picture:
        assert picture.size == (300, 200)
    with np.load(out / "landmarks.npz") as stored:
        assert list(stored["files"]) == ["train/a.jpg", "train/b.jpg"]
        np.testing.assert_allclose(stored["mesh"], meshes[:2] / 2, atol=1e-3)
    with open(out / "portraits.csv", newline="") as handle:
        assert [r["file"] for r in csv.DictReader(handle)] == ["train/a.jpg", "train/b.jpg"]


def test_small_pictures_keep_their_size(portraits, tmp_path):
    folder, meshes = portraits
    pack(folder, tmp_path / "same", side=1000)
    with Image.open(tmp_path / "same/train/b.jpg") as picture:
        assert picture.size == (600, 400)
    with np.load(tmp_path / "same/landmarks.npz") as stored:
        np.testing.assert_allclose(stored["mesh"], meshes[:2], atol=1e-4)


def test_bodies_come_along_with_their_poses_and_more_pixels(portraits, tmp_path):
    folder, meshes = portraits
    (folder / "body").mkdir()
    Image.fromarray(np.zeros((800, 600, 3), np.uint8)).save(folder / "body/c.jpg")
    with open(folder / "portraits.csv", "a") as handle:
        handle.write("body/c.jpg,train,carl,drawn\n")
    files = ["train/a.jpg", "body/c.jpg"]
    pose = np.random.default_rng(1).uniform(0, 600, (1, 33, 4)).astype(np.float32)
    np.savez(folder / "landmarks.npz", files=files, face_avg=meshes[:2], body_files=["body/c.jpg"], pose=pose)
    assert pack(folder, tmp_path / "small", side=200) == 2
    with Image.open(tmp_path / "small/body/c.jpg") as picture:
        assert picture.size == (300, 400)
    with np.load(tmp_path / "small/landmarks.npz") as stored:
        assert list(stored["files"]) == files and np.isnan(stored["pose"][0]).all()
        np.testing.assert_allclose(stored["pose"][1, :, :2], pose[0, :, :2] / 2, atol=1e-3)
        np.testing.assert_allclose(stored["pose"][1, :, 3], pose[0, :, 3], rtol=1e-6)  # visibility has no size
    face, body = labelled_portraits(tmp_path / "small", split="train", bodies=True)
    assert face.pose is None and body.is_body and body.pose is not None


def test_nothing_is_overwritten_and_an_empty_split_is_named(portraits, tmp_path):
    folder, _ = portraits
    (tmp_path / "there").mkdir()
    with pytest.raises(FileExistsError, match="new folder"):
        pack(folder, tmp_path / "there")
    with pytest.raises(ValueError, match="no face of split 'eval'.*splits are 'train'"):
        pack(folder, tmp_path / "none", split="eval")
    with pytest.raises(ValueError, match="side=64"):
        pack(folder, tmp_path / "none", side=64)
