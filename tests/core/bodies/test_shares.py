"""Whose motion it is, the face's or the body's, where both of them move."""

import pytest
import torch
from torch import Tensor

from mirrorppr_core.bodies.transfer import moves_alone
from mirrorppr_core.geometry.displacement import pixel_grid

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
