"""Motion that only imitates paint beside the face is left out; everything else is kept, bit for bit."""

import torch
from torch import Tensor

from mirrorppr_core.geometry.displacement import pixel_grid
from mirrorppr_core.motion.smears import without_smears

SIDE = 160
NOTHING = torch.zeros(1, 1, SIDE, SIDE, dtype=torch.bool)


def box(left: int, top: int, right: int, bottom: int) -> Tensor:
    mask = NOTHING.clone()
    mask[..., top:bottom, left:right] = True
    return mask


def pushed(x: float, y: float, *, px: float, width: float) -> Tensor:
    """A soft push of so many pixels, which bends by 0.86 * px / width at most."""
    away = (pixel_grid(SIDE, SIDE) - torch.tensor([x, y]).view(1, 2, 1, 1)).square().sum(1, keepdim=True)
    window = torch.exp(-away / width**2)
    return torch.cat([px * window * (window > 1e-3), torch.zeros_like(window)], dim=1)


FACE, PAINT = box(50, 10, 110, 80), box(60, 110, 120, 130)
SMEAR, EDIT = pushed(52, 118, px=9.0, width=9.0), pushed(80, 45, px=4.0, width=12.0)


def test_without_paint_nothing_is_asked():
    assert without_smears(SMEAR, NOTHING, FACE) is SMEAR


def test_what_bends_at_the_end_of_paint_is_left_out_and_the_edit_on_the_face_keeps_its_bits():
    made = without_smears(SMEAR + EDIT, PAINT, FACE)
    assert made[..., 95:140, 20:100].abs().max() < 0.3
    assert torch.equal(made[..., :78, :], (SMEAR + EDIT)[..., :78, :])


def test_a_mild_motion_beside_paint_is_a_retouch():
    """A shoulder that was pushed in, and a strap removed from it."""
    shoulder = pushed(45, 120, px=4.0, width=25.0)
    assert without_smears(shoulder, PAINT, FACE) is shoulder


def test_what_does_not_touch_the_paint_stays():
    elsewhere = pushed(135, 40, px=9.0, width=9.0)
    assert without_smears(elsewhere, PAINT, FACE) is elsewhere


def test_strong_edits_of_the_face_stay_though_something_was_painted_on_it():
    lips = pushed(80, 70, px=9.0, width=9.0)
    assert without_smears(lips, box(75, 60, 90, 70), FACE) is lips


def test_the_longest_part_of_what_reaches_the_face_is_asked_once_more():
    wall = pushed(40, 141, px=30.0, width=30.0)
    assert bool(((wall.norm(dim=1, keepdim=True) > 0.3) & FACE).any())
    made = without_smears(wall, PAINT, FACE)
    assert made.norm(dim=1).amax() < 0.1 * wall.norm(dim=1).amax()


def test_sides_of_odd_length_are_kept():
    odd = SMEAR[..., :159, :157]
    assert without_smears(odd, PAINT[..., :159, :157], FACE[..., :159, :157]).shape == odd.shape
