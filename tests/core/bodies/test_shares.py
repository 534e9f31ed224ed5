"""Whose motion it is, the face's or the body's, where both of them move."""

import pytest
import torch
from torch import Tensor

from mirrorppr_core.bodies.shares import face_share, from_middle, moves_alone, only_reaches_in
from mirrorppr_core.geometry.displacement import pixel_grid
from mirrorppr_core.mini.pipeline import MirrorPPR

AWAY = (pixel_grid(64, 64) - 31.5) / 16  # half sizes of a face in the middle


def from_below() -> Tensor:
    """The motion of shoulders: it grows from the chin downwards, to 3 cells."""
    return (AWAY[:, 1:] - 0.4).clamp_min(0) * 2.0


def on_the_mouth(longest: float) -> Tensor:
    return longest * torch.exp(-(AWAY - torch.tensor([0.0, 0.4]).view(2, 1, 1)).square().sum(1, keepdim=True) / 0.03)


def test_what_only_reaches_into_the_face_from_below_is_not_the_faces():
    assert not moves_alone(from_below(), AWAY)


@pytest.mark.parametrize("longest", [1.3, 2.0])
def test_a_smile_beside_larger_motion_of_the_shoulders_is_the_faces(longest):
    assert moves_alone(torch.maximum(from_below(), on_the_mouth(longest)), AWAY)


def test_a_tremble_on_the_face_is_nothing():
    assert not moves_alone(torch.maximum(from_below(), on_the_mouth(0.1)), AWAY)
    assert not moves_alone(torch.zeros(1, 1, 64, 64), AWAY)


VIEW = MirrorPPR.bundled().extractor.sight.view


def brush(x: float, y: float, radius: float) -> Tensor:
    """A soft round brush at a place of the view, all in half sizes of the face."""
    away = from_middle(VIEW) - torch.tensor([x, y]).view(2, 1, 1)
    return (1 - away.square().sum(1, keepdim=True) / radius**2).clamp_min(0) ** 2


def test_a_chin_or_a_jaw_made_slimmer_is_the_faces():
    for motion in (brush(0.0, 0.9, 0.5), torch.maximum(brush(-0.9, 0.5, 0.5), brush(0.9, 0.5, 0.5))):
        assert not only_reaches_in(motion, VIEW) and float(face_share(motion, VIEW).amax()) == 1


def test_a_neck_or_hair_made_slimmer_is_not_the_faces_though_it_reaches_in():
    for motion in (brush(0.0, 1.5, 0.6), torch.maximum(brush(-1.35, -0.4, 0.7), brush(1.35, -0.4, 0.7))):
        assert float((motion * (from_middle(VIEW).norm(dim=1) < 1)).amax()) > 0
        assert only_reaches_in(motion, VIEW) and not face_share(motion, VIEW).any()


def test_a_smile_beside_fuller_hair_is_the_faces():
    share = face_share(torch.maximum(brush(-1.35, -0.4, 0.7), 0.6 * brush(0.0, 0.4, 0.3)), VIEW)
    away = from_middle(VIEW).norm(dim=1, keepdim=True)
    assert float(share[away < 0.9].amin()) == 1
