"""Landmarks and the face locator, with the weights that come with the package."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

import mirrorppr_core
from mirrorppr_core.faces.landmarks import FACE_POINTS, GROUPS, MIRROR_130, eye_centres, eye_distance, mirror_landmarks
from mirrorppr_core.faces.locator import Locator, LocatorConfig, face_box
from mirrorppr_core.faces.networks import LandmarkNet
from mirrorppr_core.geometry.crop import crop, widened
from mirrorppr_core.geometry.similarity import Similarity, fit_similarity
from training.locator.data import Bend

WEIGHTS = Path(mirrorppr_core.__file__).parent / "weights" / "mini" / "locator.safetensors"


@pytest.fixture(scope="module")
def locator():
    return Locator.from_file(WEIGHTS)


@pytest.fixture(scope="module")
def astronaut():
    """Eileen Collins, (1, 3, 512, 512)."""
    data = pytest.importorskip("skimage.data")
    return torch.from_numpy(data.astronaut()).permute(2, 0, 1)[None].float() / 255


@pytest.fixture(scope="module")
def her_face(locator, astronaut):
    (face,) = locator.find(astronaut)
    return face


def error(landmarks, expected):
    """Mean distance in per cent of the eye distance."""
    return float(100 * (landmarks - expected).norm(dim=-1).mean() / eye_distance(expected))


def turned(degrees, scale=1.0):
    return Similarity(torch.tensor(scale), torch.tensor(math.radians(degrees)), torch.tensor([3.0, -2.0]))


# --- landmarks ------------------------------------------------------------------------------------------------


def test_the_groups_cover_the_130_points_once_each():
    covered = [position for group in GROUPS.values() for position in group]
    assert sorted(covered) == list(range(130)) and len(set(FACE_POINTS)) == 130


def test_mirroring_twice_is_no_change_and_swaps_the_eyes():
    table = torch.tensor(MIRROR_130)
    assert_close(table[table], torch.arange(130))
    assert {MIRROR_130[i] for i in GROUPS["eye_r"]} == set(GROUPS["eye_l"])
    assert {MIRROR_130[i] for i in GROUPS["lips_outer"]} == set(GROUPS["lips_outer"])


def test_a_known_similarity_is_recovered_and_undone():
    points = torch.randn(130, 2, generator=torch.Generator().manual_seed(0)) * 50
    true = turned(40, scale=1.7)
    fitted = fit_similarity(points, true.apply(points))
    assert_close(fitted.linear(), true.linear())
    assert_close(fitted.inverse(fitted.apply(points)), points, atol=1e-3, rtol=1e-4)
    assert_close(fitted.inverted().apply(points), fitted.inverse(points), atol=1e-3, rtol=1e-4)
    assert_close(true.after(fitted).apply(points), true.apply(fitted.apply(points)), atol=1e-3, rtol=1e-4)


def test_the_mean_face_is_symmetric_with_its_eyes_one_unit_apart(locator):
    face = locator.mean_face
    assert face.shape == (130, 2)
    assert_close(eye_centres(face), torch.tensor([[-0.5, 0.0], [0.5, 0.0]]), atol=1e-4, rtol=0)
    assert_close(face[list(MIRROR_130)] * torch.tensor([-1.0, 1.0]), face, atol=1e-4, rtol=0)
    assert face[list(GROUPS["lips_outer"]), 1].min() > face[list(GROUPS["eye_r"]), 1].max()


# --- crops ----------------------------------------------------------------------------------------------------


def test_the_frame_of_the_whole_picture_returns_the_picture(astronaut):
    whole = Similarity(torch.tensor(256.0), torch.tensor(0.0), torch.tensor([255.5, 255.5]))
    assert_close(crop(astronaut, whole, 512), astronaut, atol=1e-4, rtol=0)


def test_a_strongly_reduced_crop_is_averaged_not_aliased():
    stripes = (torch.arange(4096) % 2).float().expand(1, 3, 64, 4096)
    frame = Similarity(torch.tensor(2048.0), torch.tensor(0.0), torch.tensor([2047.5, 31.5]))
    assert_close(crop(stripes, frame, 128), torch.full((1, 3, 128, 128), 0.5))


def test_a_crop_outside_the_picture_repeats_its_border():
    image = torch.rand(1, 3, 40, 60)
    outside = Similarity(torch.tensor(10.0), torch.tensor(0.0), torch.tensor([-500.0, -500.0]))
    assert_close(crop(image, outside, 16), image[:, :, :1, :1].expand(1, 3, 16, 16))


# --- finding --------------------------------------------------------------------------------------------------


def test_the_astronaut_has_one_face_with_eyes_where_we_see_them(her_face):
    right, left = eye_centres(her_face.landmarks)
    assert (right - torch.tensor([203.4, 101.0])).norm() < 2.5
    assert (left - torch.tensor([246.6, 103.6])).norm() < 2.5
    assert her_face.mesh.shape == (478, 2)
    assert_close(her_face.mesh[list(FACE_POINTS)], her_face.landmarks)


@pytest.mark.parametrize("kind", ["flat", "noise", "gradient"])
def test_there_is_no_face_where_there_is_none(locator, kind):
    noise = torch.rand(1, 3, 480, 640, generator=torch.Generator().manual_seed(0))
    images = {"flat": torch.full_like(noise, 0.5), "noise": noise, "gradient": torch.linspace(0, 1, 640) + 0 * noise}
    assert locator.find(images[kind]) == []


def test_looking_twice_gives_the_same_bits(locator, astronaut, her_face):
    (again,) = locator.find(astronaut)
    assert torch.equal(again.landmarks, her_face.landmarks)


@pytest.mark.parametrize("degrees", [-25, 12])
def test_landmarks_turn_with_the_picture(locator, astronaut, her_face, degrees):
    view = Similarity(torch.tensor(200.0), torch.tensor(math.radians(degrees)), torch.tensor([225.0, 150.0]))
    (face,) = locator.find(crop(astronaut, view, 400))
    assert error(face.landmarks, (view.inverse(her_face.landmarks) + 1) * 200 - 0.5) < 4


def test_landmarks_mirror_with_the_picture(locator, astronaut, her_face):
    (face,) = locator.find(astronaut.flip(-1))
    assert error(face.landmarks, mirror_landmarks(her_face.landmarks, width=512)) < 3


@pytest.mark.parametrize("side", [300, 2000])
def test_landmarks_grow_with_the_picture(locator, astronaut, her_face, side):
    resized = F.interpolate(astronaut, size=(side, side), mode="bilinear", antialias=True)
    (face,) = locator.find(resized)
    assert error(face.landmarks, (her_face.landmarks + 0.5) * side / 512 - 0.5) < 4


def test_two_people_are_both_found_the_larger_first(locator, astronaut, her_face):
    small = F.interpolate(astronaut.flip(-1), size=(384, 384), mode="bilinear", antialias=True)
    large, less = locator.find(torch.cat([F.pad(small, (0, 0, 64, 64)), astronaut], dim=-1))
    assert error(large.landmarks, her_face.landmarks + torch.tensor([384.0, 0.0])) < 4
    assert large.size_px > less.size_px and less.box[2] < 384


def test_a_rough_box_is_enough_to_read_a_face(locator, astronaut, her_face):
    box = face_box(her_face.landmarks, locator.mean_face)
    off = Similarity(box.scale * 1.15, box.rotation + 0.2, box.translation + 0.12 * box.scale)
    ((landmarks, disagreement, _),) = locator.read(astronaut, [off])
    assert error(landmarks, her_face.landmarks) < 4 and disagreement < 5


def test_looks_at_no_face_disagree(locator):
    noise = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    box = Similarity(torch.tensor(40.0), torch.tensor(0.0), torch.tensor([64.0, 64.0]))
    assert locator.read(noise, [box])[0][1] > locator.config.max_disagreement


# --- files and bad input --------------------------------------------------------------------------------------


def test_a_saved_locator_comes_back_as_it_was(locator, tmp_path):
    locator.save(tmp_path / "locator.safetensors")
    again = Locator.from_file(tmp_path / "locator.safetensors")
    assert again.config == locator.config and not again.training
    for (name, value), (_, other) in zip(locator.state_dict().items(), again.state_dict().items(), strict=True):
        assert torch.equal(value, other), name
    assert all(value.dtype != torch.half for value in again.state_dict().values())


def test_an_incomplete_file_is_refused_with_the_missing_name(tmp_path):
    path = tmp_path / "locator.safetensors"
    Locator(LocatorConfig()).save(path)
    weights = load_file(path)
    del weights["stage_2.prior"]
    save_file(weights, path, metadata={"part": "locator", "config": "{}"})
    with pytest.raises(ValueError, match="stage_2.prior"):
        Locator.from_file(path)


def test_foreign_damaged_and_absent_files_are_refused(tmp_path):
    path = tmp_path / "locator.safetensors"
    with pytest.raises(FileNotFoundError, match="copy the complete set"):
        Locator.from_file(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="holds no face locator"):
        Locator.from_file(path)
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="damaged"):
        Locator.from_file(path)


def test_batches_and_broken_pixels_are_refused(locator):
    with pytest.raises(ValueError, match="one RGB picture at a time"):
        locator.find(torch.zeros(2, 3, 64, 64))
    with pytest.raises(ValueError, match="NaN"):
        locator.find(torch.full((1, 3, 64, 64), float("nan")))


# --- training -------------------------------------------------------------------------------------------------


def test_training_bends_are_undone_exactly_where_landmarks_lie():
    bend = Bend.draw(8, torch.Generator().manual_seed(0))
    points = torch.rand(8, 130, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    assert_close(bend.apply(bend.inverse(points)), points, atol=1e-3, rtol=0)


def test_an_untrained_landmark_net_answers_with_the_mean_face(locator):
    frame = widened(face_box(locator.mean_face, locator.mean_face), 1.4)
    expected = frame.inverse(locator.mean_face)
    torch.manual_seed(0)
    net = LandmarkNet().eval()
    torch.nn.init.zeros_(net.head.weight)
    torch.nn.init.zeros_(net.head.bias)
    net.start_at(expected)
    with torch.no_grad():
        answer = net(torch.rand(1, 3, 128, 128))[0]
    assert (answer - expected).norm(dim=-1).max() < 0.25  # pulled inwards where the crop ends
