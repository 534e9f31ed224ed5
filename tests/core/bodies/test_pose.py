"""Joints of a person in a photo: laws that hold whatever the network has learnt."""

import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core.bodies import pose
from mirrorppr_core.bodies.pose import (
    JOINTS,
    Pose,
    find_pose,
    load_pose_net,
    peak_places,
    save_pose_net,
    told_joints,
)
from mirrorppr_core.bodies.pose_network import MEDIAPIPE_POSE, MIRROR_JOINTS, PoseNet, cells
from mirrorppr_core.faces.locator import Face

FACE = Face(landmarks=torch.zeros(130, 2), mesh=torch.zeros(478, 2), score=1.0, disagreement=1.0, box=(80, 40, 110, 72))


def network(seed: int = 0, *, told: float = 2.0) -> PoseNet:
    """Untrained, with sharp heat maps. told: logit of every joint."""
    torch.manual_seed(seed)
    net = PoseNet().eval()
    with torch.no_grad():
        net.maps.weight.mul_(40)
        net.trust.copy_(torch.tensor([0.0, 0.0, 0.0, told]))
    return net


def photo(height: int = 240, width: int = 180) -> torch.Tensor:
    coarse = torch.rand(1, 3, 8, 6, generator=torch.Generator().manual_seed(3))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")


def test_mirrored_names_differ_in_the_side_alone():
    swapped = {"_r": "_l", "_l": "_r"}
    for joint, partner in enumerate(MIRROR_JOINTS):
        name = JOINTS[joint]
        assert MIRROR_JOINTS[partner] == joint and JOINTS[partner] == name[:-2] + swapped.get(name[-2:], name[-2:])
    assert len(set(MEDIAPIPE_POSE)) == len(JOINTS) == 17


def test_the_pose_of_a_mirrored_photo_is_the_mirrored_pose():
    net, image = network(), photo()
    own, other = find_pose(net, image, None), find_pose(net, image.flip(-1), None)
    back = other.points[list(MIRROR_JOINTS)] * torch.tensor([-1.0, 1.0]) + torch.tensor([179.0, 0.0])
    assert_close(own.points, back, atol=0.5, rtol=0)
    assert_close(own.told, other.told[list(MIRROR_JOINTS)], atol=1e-3, rtol=0)


@pytest.mark.parametrize("face", [None, FACE])
def test_a_photo_twice_as_large_has_the_same_pose_twice_as_large(face, monkeypatch):
    """Where the close looks of an untrained network go is chaos, so here they stay with the whole photo."""
    monkeypatch.setattr(pose, "_close_frame", lambda points, told, image, spot: pose._whole_frame(image, spot))
    net, image = network(), photo()
    large = image.repeat_interleave(2, -1).repeat_interleave(2, -2)
    twice = face and Face(face.landmarks, face.mesh, 1.0, 1.0, tuple(2 * v + 0.5 for v in face.box))
    small, grown = find_pose(net, image, face), find_pose(net, large, twice)
    off = ((grown.points + 0.5) / 2 - 0.5 - small.points).norm(dim=1)
    assert (off < 1).float().mean() > 0.9  # an untrained network may see a joint at two places alike


def test_the_face_says_who_is_meant():
    net = network()
    wide = photo(120, 900)
    assert find_pose(net, wide, FACE).points[:, 0].amax() < 80 + 16 * 30  # no body reaches further from its face


def test_where_nothing_can_be_told_there_is_no_body():
    assert find_pose(network(told=-3), photo(), FACE) is None
    assert find_pose(network(told=-3), photo(), None) is None


def test_photos_of_any_size_have_a_pose():
    for size in ((40, 30), (31, 700), (900, 33)):
        assert find_pose(network(), photo(*size), None).points.isfinite().all()


def test_a_second_peak_does_not_pull_a_joint():
    grid = cells(48, torch.zeros(1)).flatten(0, 1)
    peaks = torch.stack([-200 * (grid - torch.tensor(p)).square().sum(-1) for p in ([-0.5, 0.1], [0.7, 0.1])])
    heat = (peaks[0].exp() + 0.6 * peaks[1].exp()).expand(1, 17, -1)
    places = peak_places(heat)
    assert_close(places[0, 0], torch.tensor([-0.5, 0.1]), atol=0.01, rtol=0)


def test_told_is_a_probability_and_disagreement_of_the_mirror_image_lowers_it():
    net = network()
    with torch.no_grad():
        net.trust.copy_(torch.tensor([0.0, 0.0, -1.0, 0.0]))
    pixels = torch.rand(2, 5, 192, 192, generator=torch.Generator().manual_seed(1))
    _, told = told_joints(net, pixels)
    assert told.shape == (2, 17) and (told > 0).all() and (told < 1).all()
    _, symmetric = told_joints(net, (pixels + pixels.flip(-1)) / 2)
    middle = [j for j, partner in enumerate(MIRROR_JOINTS) if j == partner]  # at one place in both, or nearly
    assert symmetric[:, middle].mean() > told[:, middle].mean()


def test_a_pose_of_another_number_of_joints_is_refused_with_their_names():
    with pytest.raises(ValueError, match=r"17 points x, y .* nose, eye_r, eye_l"):
        Pose(points=torch.zeros(18, 2), told=torch.zeros(18), source="given")
    with pytest.raises(ValueError, match="use one of mini, mediapipe, given"):
        Pose(points=torch.zeros(17, 2), told=torch.zeros(17), source="guessed")


def test_the_file_of_a_network_is_the_network_and_nothing_else_is_taken_for_it(tmp_path):
    net, image = network(), photo()
    save_pose_net(net, tmp_path / "body.safetensors")
    assert (tmp_path / "body.safetensors").stat().st_size <= 6_000_000
    loaded = load_pose_net(tmp_path / "body.safetensors")
    assert_close(find_pose(loaded, image, FACE).told, find_pose(net, image, FACE).told, atol=0.02, rtol=0)
    net.maps = torch.nn.Conv2d(48, 16, 1)
    save_pose_net(net, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="other.safetensors does not fit: .* of another shape"):
        load_pose_net(tmp_path / "other.safetensors")
