"""Which of two pictures is the copy, told by the detail that moving pixels costs."""

import pytest
import torch
from torch import Tensor

from mirrorppr_core.geometry.arithmetic import inverse
from mirrorppr_core.geometry.displacement import pixel_grid
from mirrorppr_core.geometry.field import Field, apply_field
from mirrorppr_core.motion.copied import made_from_after
from mirrorppr_core.motion.sharpness import gauss

SIZE = 400


@pytest.fixture(scope="module")
def original() -> Tensor:
    """Fine detail everywhere, in 8 bits."""
    generator = torch.Generator().manual_seed(0)
    return eight_bits(gauss(torch.rand(1, 3, SIZE, SIZE, generator=generator), 0.6))


@pytest.fixture(scope="module")
def motion() -> Field:
    """A swelling of up to 4 px."""
    away = pixel_grid(SIZE, SIZE) - SIZE / 2
    inside = (1 - away.square().sum(1, keepdim=True) / 60**2).clamp(min=0) ** 2
    return Field.from_dense(-0.2 * away * inside)


@pytest.fixture(scope="module")
def copy(original, motion) -> Tensor:
    return eight_bits(apply_field(original, motion))


def eight_bits(photo: Tensor) -> Tensor:
    return (photo.clamp(0, 1) * 255).round() / 255


def grain(photo: Tensor) -> Tensor:
    return eight_bits(photo + 0.05 * torch.randn(photo.shape, generator=torch.Generator().manual_seed(1)))


def test_a_copy_is_known_from_its_original(original, copy, motion):
    assert not made_from_after(original, copy, motion)
    assert made_from_after(copy, original, inverse(motion).field)


def test_bytes_tell_as_floats_do(original, copy, motion):
    before, after = ((photo * 255).round().byte() for photo in (copy, original))
    assert made_from_after(before, after, inverse(motion).field)


@pytest.mark.parametrize("worse", [grain, lambda photo: gauss(photo, 0.7)], ids=["grain", "softened"])
def test_where_the_whole_picture_has_other_detail_nothing_is_told(original, copy, motion, worse):
    back = inverse(motion).field
    assert not made_from_after(worse(copy), original, back) and not made_from_after(copy, worse(original), back)
    assert not made_from_after(worse(original), copy, motion) and not made_from_after(original, worse(copy), motion)


def test_what_does_not_move_or_hardly_tells_nothing(original, motion):
    assert not made_from_after(original, original, Field.zero(SIZE, SIZE))
    assert not made_from_after(original, original, motion.scaled(0.02))
