"""Paint is told from motion: it is masked, named, and disturbs nothing around it."""

import pytest
import torch
import torch.nn.functional as F
from synthetic import bump
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import length, pixel_grid, warp
from mirrorppr_core.motion.estimate import estimate_motion
from mirrorppr_core.motion.explained import explained_motion
from mirrorppr_core.motion.sharpness import gauss, matched_sharpness
from mirrorppr_core.motion.tone import still_seen, toned_alike


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """Eileen Collins, NASA, public domain, from scikit-image's package data: (1, 3, 384, 384)."""
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the test photo")
    return torch.from_numpy(data.astronaut()[:384, 64:448].copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def edit() -> torch.Tensor:
    return bump(384, 384, centre=(165.0, 130.0), radius=60.0, shift=(7.0, 0.0))


def error_in(found: torch.Tensor, true: torch.Tensor) -> float:
    moved = length(true) > 0.5
    return float(length(found - true)[moved].mean() / length(true)[moved].mean())


def with_strap(photo: torch.Tensor) -> torch.Tensor:
    """A band from the shoulder down, far from the edit."""
    x, y = pixel_grid(384, 384).split(1, dim=1)
    on = ((x - 0.5 * y - 90).abs() < 5) & (y > 260)
    return torch.where(on, torch.tensor([0.1, 0.2, 0.8]).view(1, 3, 1, 1), photo)


def test_a_clean_pair_is_measured_as_ever(photo, edit):
    target = warp(photo, edit)
    found = explained_motion(source=photo, target=target)
    assert not found.painted.any() and not found.unsure.any() and found.softer_px == 0
    assert_close(found.motion.displacement, estimate_motion(source=photo, target=target).displacement, atol=0, rtol=0)


@pytest.mark.parametrize("side", ["added", "removed"])
def test_paint_moves_nothing_and_does_not_disturb_the_motion_elsewhere(photo, edit, side):
    source, target = photo, warp(photo, edit)
    source, target = (source, with_strap(target)) if side == "added" else (with_strap(source), target)
    found = explained_motion(source=source, target=target)
    painted = with_strap(torch.zeros_like(photo)).amax(1, keepdim=True) > 0
    assert found.painted[painted].float().mean() > 0.9 and found.painted.float().mean() < 0.1
    clean = estimate_motion(source=photo, target=warp(photo, edit)).displacement
    assert error_in(found.motion.displacement, edit) < error_in(clean, edit) + 0.05
    assert length(found.motion.displacement)[length(edit) == 0].mean() < 0.05


def test_motion_goes_on_smoothly_behind_paint_on_the_edit(photo, edit):
    target = warp(photo, edit)
    target[..., 120:138, 150:180] = 0.0
    found = explained_motion(source=photo, target=target)
    assert found.painted[..., 124:134, 154:176].all()
    assert error_in(found.motion.displacement, edit) < 0.25


def test_a_part_squeezed_to_half_its_width_is_followed_beyond_what_one_plate_takes(photo):
    face = F.interpolate(photo[..., 60:220, 80:240], scale_factor=2.4, mode="bicubic").clamp(0, 1)
    away = pixel_grid(384, 384) - torch.tensor([204.0, 168.0]).view(1, 2, 1, 1)
    squeeze = away * (1 - away.square().sum(1, keepdim=True) / 36.0**2).clamp(min=0) ** 2
    target = warp(face, squeeze)
    once = estimate_motion(source=face, target=target).displacement
    found = explained_motion(source=face, target=target)
    assert not found.painted.any() and not found.unsure.any()
    assert error_in(once, squeeze) > 0.4 and error_in(found.motion.displacement, squeeze) < 0.15
    assert length(found.motion.displacement)[away.norm(dim=1, keepdim=True) > 70].max() == 0


def test_a_softened_copy_is_compared_with_a_softened_source(photo, edit):
    target = gauss(warp(photo, edit), 2.0)
    found = explained_motion(source=photo, target=target)
    assert 1.2 < found.softer_px < 3.0
    assert error_in(found.motion.displacement, edit) < 0.35
    _, matched, softer = matched_sharpness(gauss(photo, 1.5), photo)
    assert softer < 0 and matched.std() < photo.std()


def test_equal_pictures_are_left_at_their_sharpness(photo):
    assert matched_sharpness(photo, photo)[2] == 0


def test_a_grade_that_clips_is_put_on_the_source_and_white_paint_is_none(photo):
    toned, clipped = toned_alike(photo, (photo * 1.5).clamp(0, 1))
    assert clipped and (toned - (photo * 1.5).clamp(0, 1)).abs().mean() < 0.01
    painted = photo.clone()
    painted[..., 300:340, 100:300] = 1.0
    same, clipped = toned_alike(photo, painted)
    assert not clipped and same is photo


def test_what_clipped_in_every_channel_tells_of_no_motion(photo):
    clipping = (photo * 1.5).clamp(0, 1)
    clipping[..., 100:200, 100:200] = 1.0
    seen = still_seen(clipping)
    assert not seen[..., 97:203, 97:203].any() and seen[..., 300:, :].mean() > 0.5
    red = torch.zeros(1, 3, 64, 64)
    red[:, 0] = 1.0
    red[:, 1] = 0.5
    assert still_seen(red).all()
