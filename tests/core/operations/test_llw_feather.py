"""The feather of an exact LLW edit is the published one where that holds, and as wide as needed elsewhere."""

import math

import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import jacobian_determinant, pixel_grid
from mirrorppr_core.operations.llw_feather import FEATHER_SIGMA, RingMask, draw_ring, shrinking

SHORT_SIDE = 512
SIGMA = SHORT_SIDE * FEATHER_SIGMA


def circle(radius: float = 60.0) -> torch.Tensor:
    """40 points around the middle of the frame.  (1, 40, 2)."""
    angle = torch.arange(40) * (2 * math.pi / 40)
    return 256 + radius * torch.stack([angle.cos(), angle.sin()], 1)[None]


def shift(ring: RingMask, length: float) -> torch.Tensor:
    """Everything from `length` px to the right, whatever the ring."""
    return torch.tensor([length, 0.0]).view(1, 2, 1, 1) * torch.ones_like(ring.values)


def fitted(points: torch.Tensor, length: float) -> RingMask:
    """The ring that lets a shift through."""
    published = draw_ring(points, SHORT_SIDE)
    return draw_ring(points, SHORT_SIDE, shrinking(published, shift(published, length)).widening)


def least_area(ring: RingMask, length: float) -> float:
    """Of the shift under the ring, at every pixel of the frame."""
    motion = torch.tensor([length, 0.0]).view(1, 2, 1, 1) * ring.at(pixel_grid(SHORT_SIDE, SHORT_SIDE))
    return float(jacobian_determinant(motion).min())


@pytest.mark.parametrize("length", [0.0, 3.0])
def test_a_weak_motion_keeps_the_published_feather_to_the_bit(length):
    published = draw_ring(circle(), SHORT_SIDE)
    areas = shrinking(published, shift(published, length))
    assert areas.widening == 1 and areas.calm == 1
    assert torch.equal(fitted(circle(), length).values, published.values)


@pytest.mark.parametrize("length", [12.0, 18.0, 25.0])
def test_a_motion_that_would_fold_gets_a_feather_in_which_it_does_not(length):
    assert least_area(draw_ring(circle(), SHORT_SIDE), length) < 0
    assert least_area(fitted(circle(), length), length) > 0.15


def test_a_wider_feather_leaves_its_share_to_what_lies_a_sigma_inside():
    position = torch.tensor([256 + 100 - SIGMA, 256]).view(1, 2, 1, 1)
    published = draw_ring(circle(100.0), SHORT_SIDE).at(position)
    widened = draw_ring(circle(100.0), SHORT_SIDE, torch.tensor([2.5])).at(position)
    assert_close(widened, published, atol=0.06, rtol=0)  # a hull that does not grow keeps 0.2 less


def test_the_motion_does_not_jump_where_the_widening_begins():
    positions = pixel_grid(40, 200) + torch.tensor([200.0, 236.0]).view(2, 1, 1)  # from the middle past the rim
    lengths = torch.linspace(5, 15, 41).tolist()
    motions = torch.stack([length * fitted(circle(), length).at(positions) for length in lengths])
    assert motions.diff(dim=0).abs().amax() < 4 * (lengths[1] - lengths[0])


def test_a_grid_that_folds_by_itself_is_weakened_until_it_does_not():
    ring = draw_ring(circle(), SHORT_SIDE)
    squeeze = (256 - ring.places) * torch.tensor([1.5, 0.0]).view(2, 1, 1)  # area 1 - 1.5
    areas = shrinking(ring, squeeze)
    assert areas.widening == 1
    assert_close(1 - 1.5 * areas.calm, torch.tensor([0.2]), atol=1e-3, rtol=0)


@pytest.mark.parametrize("widening", [1.0, 2.5])
def test_the_mask_is_zero_beyond_its_box(widening):
    ring = draw_ring(circle(), SHORT_SIDE, torch.tensor([widening]))
    values = ring.at(pixel_grid(SHORT_SIDE, SHORT_SIDE)).clone()
    left, top, right, bottom = ring.box
    assert values.amax() > 0.99
    values[..., top:bottom, left:right] = 0
    assert not values.any()


def test_faces_of_a_batch_are_widened_each_for_itself():
    points = torch.cat([circle(), circle(45.0)])
    together = draw_ring(points, SHORT_SIDE, torch.tensor([1.0, 2.0]))
    for face, widening in enumerate((1.0, 2.0)):
        alone = draw_ring(points[face : face + 1], SHORT_SIDE, torch.tensor([widening]))
        assert_close(together.values[face : face + 1], alone.values, atol=1e-5, rtol=0)


def test_gradients_pass_through_the_widening():
    points = circle().requires_grad_()
    published = draw_ring(points, SHORT_SIDE)
    areas = shrinking(published, shift(published, 15.0))
    widened = draw_ring(points, SHORT_SIDE, areas.widening)
    (widened.at(pixel_grid(SHORT_SIDE, SHORT_SIDE)).sum() * areas.calm.sum()).backward()
    assert points.grad.isfinite().all() and points.grad.any()
