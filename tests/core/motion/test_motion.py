"""The motion between a photo and its retouched version is found, and nothing else is."""

import math

import pytest
import torch
import torch.nn.functional as F
from portraits import PORTRAITS, needs_portraits
from synthetic import bump, jpeg, load_portrait, random_bumps
from torch import Tensor
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import length, pixel_grid, warp
from mirrorppr_core.motion.clean import affine_motion
from mirrorppr_core.motion.estimate import MotionConfig, estimate_motion
from mirrorppr_core.motion.solver import apply_blocks, solve


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """Eileen Collins, NASA, public domain, from scikit-image's package data: (1, 3, 384, 384)."""
    data = pytest.importorskip("skimage.data", reason="scikit-image brings the test photo")
    return torch.from_numpy(data.astronaut()[:384, 64:448].copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def edit() -> torch.Tensor:
    """Two pushes on the face, up to 15 px."""
    jaw = bump(384, 384, centre=(165.0, 170.0), radius=90.0, shift=(15.0, 0.0))
    return jaw + bump(384, 384, centre=(160.0, 70.0), radius=50.0, shift=(0.0, -8.0))


# Without the rim, where a moved picture shows its repeated border.
INNER = (..., slice(8, -8), slice(8, -8))


def end_point_errors(found: torch.Tensor, true: torch.Tensor) -> tuple[float, float]:
    """Mean error in pixels inside the edit and outside it."""
    error, size = length(found - true), length(true)
    return float(error[size > 0.5].mean()), float(error[size < 0.02].mean())


# what is found


def test_a_jpeg_edit_is_found_to_a_fifth_of_a_pixel(photo, edit):
    after = jpeg(warp(photo, edit), 90)
    motion = estimate_motion(source=jpeg(photo, 90), target=after)
    inside, outside = end_point_errors(motion.displacement, edit)
    assert inside < 0.2 and outside < 0.05


def test_warping_the_source_by_the_motion_gives_the_target(photo, edit):
    target = warp(photo, edit)
    motion = estimate_motion(source=photo, target=target)
    rebuilt = warp(photo, motion.displacement)
    assert (rebuilt - target).square().mean() < 0.005 * (photo - target).square().mean()


@needs_portraits
def test_edits_of_unseen_portraits_are_found_to_a_fifth_of_a_pixel():
    files = sorted((PORTRAITS / "eval").glob("*.jpg"))[::30]
    errors = []
    for i, file in enumerate(files):
        true = random_bumps(512, torch.Generator().manual_seed(i), longest_px=(4, 15))
        before = load_portrait(file, 512)
        motion = estimate_motion(source=before, target=jpeg(warp(before, true), 90))
        errors.append(end_point_errors(motion.displacement, true))
    # The median: some edits fall on a plain white background, where nothing can be seen to move.
    inside, outside = torch.tensor(errors).median(dim=0).values
    assert inside < 0.2 and outside < 0.05


def test_the_pairs_of_a_batch_do_not_influence_each_other(photo, edit):
    targets = torch.cat([warp(photo, edit), photo])
    both = estimate_motion(source=photo.expand(2, -1, -1, -1), target=targets)
    alone = estimate_motion(source=photo, target=targets[:1])
    assert_close(both.displacement[:1], alone.displacement, atol=0.02, rtol=0)
    assert both.max_px[0] > 10 and both.max_px[1] == 0


def test_sizes_that_are_no_multiple_of_the_pyramid_are_measured_as_well(photo, edit):
    crop = (..., slice(0, 301), slice(0, 277))
    motion = estimate_motion(source=photo[crop], target=warp(photo, edit)[crop])
    assert motion.displacement.shape == (1, 2, 301, 277)
    inside, outside = end_point_errors(motion.displacement, edit[crop])
    assert inside < 0.2 and outside < 0.05


def test_large_pairs_are_measured_small_and_scaled_up(photo, edit):
    large = F.interpolate(photo, (768, 768), mode="bicubic", align_corners=False).clamp(0, 1)
    true = F.interpolate(edit, (768, 768), mode="bilinear", align_corners=False) * 2
    motion = estimate_motion(source=large, target=warp(large, true), config=MotionConfig(max_side=384))
    inside, outside = end_point_errors(motion.displacement, true)
    assert inside < 0.4 and outside < 0.1  # twice the pixels, twice the error


# what is no edit


def test_identical_photos_give_exactly_zero(photo):
    motion = estimate_motion(source=photo, target=photo)
    assert motion.max_px == 0 and not motion.displacement.any()


def test_resaving_as_jpeg_gives_exactly_zero(photo):
    assert estimate_motion(source=photo, target=jpeg(photo, 85)).max_px == 0


def test_most_of_the_still_picture_is_exactly_zero_beside_an_edit(photo, edit):
    motion = estimate_motion(source=photo, target=jpeg(warp(photo, edit), 90))
    still = length(edit) == 0
    assert (length(motion.displacement)[still] == 0).float().mean() > 0.85


def test_a_plain_picture_does_not_move():
    grey = torch.full((1, 3, 256, 256), 0.5)
    assert estimate_motion(source=grey, target=grey * 0.8).max_px == 0


def test_a_global_shift_is_taken_out_and_reported(photo, edit):
    shift = torch.tensor([0.5, 0.0]).view(1, 2, 1, 1)
    motion = estimate_motion(source=photo[INNER], target=warp(photo, edit + shift)[INNER])
    assert_close(motion.global_affine[0, :, 2], torch.tensor([0.5, 0.0]), atol=0.05, rtol=0)
    inside, outside = end_point_errors(motion.displacement, edit[INNER])
    assert inside < 0.2 and outside < 0.05
    alone = estimate_motion(source=photo[INNER], target=warp(photo, shift.expand_as(edit))[INNER])
    assert alone.max_px == 0


@pytest.mark.parametrize("max_side", [1024, 192])
def test_a_global_rescaling_is_reported_in_pixels_of_the_photo(photo, max_side):
    zoom = 0.003 * (pixel_grid(384, 384) - 191.5)
    config = MotionConfig(max_side=max_side)
    motion = estimate_motion(source=photo[INNER], target=warp(photo, zoom)[INNER], config=config)
    assert_close(affine_motion(motion.global_affine, pixel_grid(368, 368)), zoom[INNER], atol=0.1, rtol=0)
    assert length(motion.displacement).mean() < 0.02


def test_gain_offset_and_slow_colour_changes_are_not_motion(photo):
    x, y = (pixel_grid(384, 384) / 384).split(1, dim=1)
    relit = photo * (0.8 + 0.2 * x) * torch.tensor([1.0, 0.94, 0.86]).view(1, 3, 1, 1) + 0.05 * y
    motion = estimate_motion(source=photo, target=relit)
    assert length(motion.displacement).mean() < 0.02
    assert (length(motion.displacement) > 0.5).float().mean() < 0.01


def test_an_edit_is_found_under_new_colours(photo, edit):
    graded = warp(photo, edit).clamp_min(1e-4) ** torch.tensor([0.85, 0.9, 1.0]).view(1, 3, 1, 1) * 0.95
    motion = estimate_motion(source=photo, target=graded)
    inside, outside = end_point_errors(motion.displacement, edit)
    assert inside < 0.25 and outside < 0.05


# the solver


def laplacian(u: Tensor) -> Tensor:
    """Sum of the differences to the neighbours that exist."""
    padded = F.pad(u, (1, 1, 1, 1), mode="replicate")  # a neighbour that does not exist differs by nothing
    across, down = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:], padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    return across + down - 4 * u


def test_the_solver_solves_its_system():
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(2, 2, 10, 14, generator=generator)
    x, y = gradients.split(1, dim=1)
    blocks = torch.cat([x * x + 0.1, x * y, y * y + 0.1], dim=1)
    true = torch.randn(2, 2, 10, 14, generator=generator)
    bending = torch.full((2, 1, 1, 1), 0.02)
    right = apply_blocks(blocks, true) + bending * laplacian(laplacian(true))
    zero = torch.zeros_like(true)
    found = solve(blocks=blocks, bending=bending, right=right, start=zero, num_steps=300, tolerance=1e-6)
    assert_close(found, true, atol=1e-3, rtol=0)


@pytest.mark.parametrize("seen", [(4.0, 2.0, 1.0), (4.0, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_a_grid_of_one_node_has_an_answer_where_one_direction_or_none_is_seen(seen):
    """The coarsest level of a small close-up: it does not bend, and nothing else holds the other direction."""
    blocks = torch.tensor(seen).view(1, 3, 1, 1)
    true = torch.tensor([0.5, 0.25]).view(1, 2, 1, 1)
    right = apply_blocks(blocks, true)
    zero = torch.zeros(1, 2, 1, 1)
    found = solve(
        blocks=blocks, bending=torch.full((1, 1, 1, 1), 0.02), right=right, start=zero, num_steps=30, tolerance=0
    )
    assert_close(apply_blocks(blocks, found), right, atol=1e-4, rtol=0)


def test_pairs_solved_together_get_what_each_gets_alone():
    generator = torch.Generator().manual_seed(1)
    blocks = torch.tensor([1.0, 0.2, 0.7]).view(1, 3, 1, 1) * torch.rand(2, 1, 6, 9, generator=generator)
    right, start = torch.randn(2, 2, 2, 6, 9, generator=generator)
    bending = torch.tensor([0.02, 0.5]).view(2, 1, 1, 1)
    given = {"blocks": blocks, "bending": bending, "right": right, "start": start}
    alone = solve(**{name: value[1:] for name, value in given.items()}, num_steps=9, tolerance=1e-4)
    assert torch.equal(solve(**given, num_steps=9, tolerance=1e-4)[1:], alone)


def test_a_solution_can_be_used_where_gradients_are_computed():
    blocks, right = torch.ones(1, 3, 4, 4) * torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1), torch.ones(1, 2, 4, 4)
    found = solve(
        blocks=blocks, bending=torch.ones(1, 1, 1, 1), right=right, start=right * 0, num_steps=5, tolerance=1e-4
    )
    weight = torch.ones(1, requires_grad=True)
    (found * weight).sum().backward()
    assert weight.grad.isfinite()


# errors


def test_pairs_of_different_size_are_refused_with_advice(photo):
    with pytest.raises(ValueError, match="Resize the target"):
        estimate_motion(source=photo, target=photo[..., :300])


def test_nan_is_refused_and_the_image_is_named(photo):
    broken = photo.clone()
    broken[0, 0, 5, 5] = math.nan
    with pytest.raises(ValueError, match="target contains NaN"):
        estimate_motion(source=photo, target=broken)


def test_impossible_settings_are_refused_with_advice():
    with pytest.raises(ValueError, match="512-1024 is usual"):
        MotionConfig(max_side=10)
    with pytest.raises(ValueError, match="every level needs 1 or more"):
        MotionConfig(iterations=())
    with pytest.raises(ValueError, match="0.02 and 1.0 are usual"):
        MotionConfig(bending=0)
