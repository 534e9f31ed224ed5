"""A user's own folder, prepared with our own tool, is what every reader of training reads: one picture, one truth."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.mini.files import bundled_set
from training.data.labelled import labelled_portraits, source_weights
from training.data.landmark_sources import landmark_arrays
from training.data.landmarks import Landmarks
from training.data.picture_files import read_picture, upright_size
from training.find_landmarks import main as find_landmarks
from training.locator.data import cut_faces
from training.mini.engine import check
from training.pack import pack
from training.presets import load_preset

HEIGHT, WIDTH = 440, 512


def save_lying(picture: Image.Image, path) -> None:
    """As a phone stores it that was held upright: turned pixels, and a tag that says so."""
    exif = Image.Exif()
    exif[0x112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(path, quality=95, exif=exif)


@pytest.fixture(scope="module")
def own_folder(tmp_path_factory):
    """One photo as a phone stores it and stored upright, with the landmarks that our tool finds."""
    data = pytest.importorskip("skimage.data")
    folder = tmp_path_factory.mktemp("own")
    (folder / "train").mkdir()
    photo = Image.fromarray(data.astronaut()).crop((0, 0, WIDTH, HEIGHT))
    save_lying(photo, folder / "train/phone.jpg")
    photo.save(folder / "train/plain.jpg", quality=95)
    rows = [["file", "split", "identity", "source"]]
    rows += [[f"train/{name}.jpg", "train", name, "me"] for name in ("phone", "plain")]
    with open(folder / "portraits.csv", "w", newline="") as handle:
        csv.writer(handle).writerows(rows)
    assert find_landmarks(["--portraits", str(folder), "--out", str(folder / "landmarks.npz")]) == 0
    return folder


def test_a_photo_that_lies_on_its_side_is_read_upright_with_its_landmarks(own_folder):
    phone, plain = labelled_portraits(own_folder, split="train")
    assert (phone.identity, phone.source, phone.pose) == ("phone", "me", None)
    assert phone.picture().shape == plain.picture().shape == (1, 3, HEIGHT, WIDTH)
    assert phone.size() == plain.size() == (HEIGHT, WIDTH)
    assert (phone.mesh - plain.mesh).norm(dim=-1).mean() < 2, "two compressions of one photo"


def test_a_packed_copy_is_upright_and_its_landmarks_are_where_our_locator_finds_them(own_folder, tmp_path):
    assert pack(own_folder, tmp_path / "small", side=288) == 2
    locator = Locator.from_file(bundled_set() / "locator.safetensors")
    for portrait in labelled_portraits(tmp_path / "small", split="train"):
        with Image.open(tmp_path / "small" / portrait.file) as picture:
            assert picture.size == (288, 248) and 0x112 not in picture.getexif()
        (face,) = locator.find(portrait.picture())
        assert (face.landmarks - portrait.points).norm(dim=-1).mean() < 2


def test_the_locator_and_the_checks_of_a_run_take_what_find_landmarks_wrote(own_folder, tmp_path):
    locator = Locator.from_file(bundled_set() / "locator.safetensors")
    crops = cut_faces(labelled_portraits(own_folder, split="train"), locator.mean_face)
    assert (crops.pixels[0].float() - crops.pixels[1].float()).abs().mean() < 4, "of 255; the same face, upright"
    told = [f"data.portraits={own_folder}"]
    check(load_preset("mini-face", told), tmp_path)
    with pytest.raises(ValueError, match="which the stage `body` learns from"):
        check(load_preset("mini-pro", told), tmp_path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_the_size_told_from_the_header_is_that_of_the_pixels(tmp_path, suffix, orientation):
    exif = Image.Exif()
    if orientation:
        exif[0x112] = orientation
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / f"a{suffix}", exif=exif)
    assert upright_size(tmp_path / f"a{suffix}") == tuple(read_picture(tmp_path / f"a{suffix}").shape[-2:])


@pytest.fixture
def drawn(tmp_path):
    """Two faces of one source, a body of another, all of split train, and a face that was not found."""
    generator = torch.Generator().manual_seed(0)
    files = ["train/b.png", "train/a.png", "body/c.png", "train/lost.png"]
    found = {file: Landmarks(10 + 20 * torch.rand(478, 2, generator=generator), None) for file in files[:3]}
    found["body/c.png"] = Landmarks(found["body/c.png"].mesh, torch.rand(33, 4, generator=generator))
    rows = ["file,split,identity,source"]
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / file)
        rows.append(f"{file},train,{file[-5]},{'here' if 'train' in file else 'there'}")
    (tmp_path / "portraits.csv").write_text("\n".join(rows))
    np.savez(tmp_path / "landmarks.npz", **landmark_arrays(found))
    return tmp_path, found


def test_portraits_come_in_the_order_of_the_table_with_what_was_written(drawn):
    folder, found = drawn
    portraits = labelled_portraits(folder, split="train", bodies=True)
    assert [p.file for p in portraits] == ["train/b.png", "train/a.png", "body/c.png"]
    assert [p.is_body for p in portraits] == [False, False, True]
    for portrait in portraits:
        assert_close(portrait.mesh, found[portrait.file].mesh)
    assert portraits[0].pose is None
    assert_close(portraits[2].pose, found["body/c.png"].pose)
    assert [p.file for p in labelled_portraits(folder, split="train")] == ["train/b.png", "train/a.png"]
    assert_close(source_weights(portraits), torch.tensor([0.5**0.5, 0.5**0.5, 1.0]))


def test_a_split_without_faces_is_refused_with_the_splits_that_there_are(drawn):
    with pytest.raises(ValueError, match="no face of split 'eval', which has 0 portraits .splits are 'train'"):
        labelled_portraits(drawn[0], split="eval")


def test_a_damaged_picture_and_landmarks_of_another_one_are_named(drawn):
    folder, _ = drawn
    portrait = labelled_portraits(folder, split="train")[0]
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(folder / portrait.file)
    with pytest.raises(ValueError, match="b.png has 12x12 pixels and its face lies outside"):
        portrait.picture()
    (folder / portrait.file).write_bytes(b"no picture")
    with pytest.raises(ValueError, match="b.png is not-a-picture"):
        portrait.picture()
    with pytest.raises(ValueError, match="b.png is damaged"):
        portrait.size()
