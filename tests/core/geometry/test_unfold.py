"""The repair of folding motion: only where it folds, only where something moves."""

import pytest
import torch
from toys import drawn_view, seeded

from mirrorppr_core.geometry.displacement import jacobian_determinant, pixel_grid
from mirrorppr_core.geometry.unfold import area, unfold

FLAT = torch.zeros(1, 2, 32, 32)


def pinch(strength: float) -> torch.Tensor:
    """(1, 2, 32, 32): everything within 8 cells of the middle is drawn from across it; folds above about 1."""
    away = pixel_grid(32, 32) - 15.5
    weight = (1 - away.square().sum(1, keepdim=True) / 64).clamp(min=0) ** 2
    return -strength * weight * away


def test_motion_that_does_not_fold_is_returned_to_the_bit():
    assert torch.equal(unfold(pinch(0.5), FLAT), pinch(0.5))
    assert torch.equal(unfold(FLAT, FLAT), FLAT)


@pytest.mark.parametrize("strength", [1.5, 3.0])
def test_motion_that_folds_no_longer_does(strength):
    folding = pinch(strength)
    assert jacobian_determinant(folding).amin() < 0 or area(folding).amin() < 0
    repaired = unfold(folding, FLAT)
    assert area(repaired).amin() > 0 and jacobian_determinant(repaired).amin() > 0


def test_cells_that_do_not_move_still_do_not():
    still = (pinch(3.0) == 0).all(dim=1, keepdim=True).expand(1, 2, 32, 32)
    assert still.any() and not unfold(pinch(3.0), FLAT)[still].any()


def test_far_from_the_fold_nothing_changes():
    far = pinch(0.5).roll(-9, dims=-1)
    both = far + pinch(3.0).roll(9, dims=-1)
    assert torch.equal(unfold(both, FLAT)[..., :14], both[..., :14])


def test_area_is_one_on_the_template_and_the_product_of_stretches():
    assert torch.equal(area(FLAT), torch.ones(1, 1, 31, 31))
    stretch = pixel_grid(32, 32) * torch.tensor([0.5, 0.2]).view(1, 2, 1, 1)
    torch.testing.assert_close(area(stretch), torch.full((1, 1, 31, 31), 1.5 * 1.2))


def test_folding_is_judged_on_the_face_not_on_the_template():
    view = drawn_view()
    landmarks = view.template + 0.3 * torch.randn(130, 2, generator=seeded())
    shape, _ = view.shapes(landmarks[None])
    repaired = unfold(pinch(2.0), shape)
    assert (area(shape + repaired) / area(shape)).amin() > 0
