"""Displacement fields obey the laws of warping, and large photos are touched only where they move."""

import math

import pytest
import torch
import torch.nn.functional as F
from synthetic import bump
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import (
    changed_mask,
    compose,
    folds,
    invert,
    jacobian_determinant,
    pixel_grid,
    resize_displacement,
    sample,
    warp,
)
from mirrorppr_core.geometry.field import Field, apply_field


def picture(height: int = 96, width: int = 128, channels: int = 3, seed: int = 0) -> torch.Tensor:
    """Smooth random colours: what bilinear and bicubic sampling reproduce well."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, height // 16, width // 16, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@pytest.fixture
def push() -> torch.Tensor:
    return bump(96, 128, centre=(60.0, 50.0), radius=30.0, shift=(6.0, -4.0))


# sampling and warping


def test_sampling_at_its_own_pixels_returns_the_image():
    image = picture()
    assert_close(sample(image, pixel_grid(96, 128)), image, atol=1e-5, rtol=0)


def test_the_border_goes_on_outside_the_image():
    image = picture()
    outside = torch.tensor([-50.0, 10.0]).view(1, 2, 1, 1)
    assert_close(sample(image, outside)[..., 0, 0], image[..., 10, 0])


def test_a_warp_of_zero_pixels_returns_the_same_bits():
    image = torch.rand(2, 3, 33, 47)
    assert torch.equal(warp(image, torch.zeros(2, 2, 33, 47)), image)


def test_a_whole_pixel_shift_moves_the_picture_by_one_pixel():
    image = picture()
    displacement = torch.zeros(1, 2, 96, 128)
    displacement[:, 0] = 1.0  # every pixel comes from its right neighbour
    assert_close(warp(image, displacement)[..., :-1], image[..., 1:], atol=1e-5, rtol=0)


def test_pixels_that_do_not_move_keep_their_bits(push):
    image = torch.rand(1, 3, 96, 128)
    still = changed_mask(push).expand_as(image) == 0
    warped = warp(image, push)
    assert torch.equal(warped[still], image[still])
    assert not torch.equal(warped[~still], image[~still])


def test_only_warped_pixels_are_clamped(push):
    hdr = picture() + 5
    warped = warp(hdr, push)
    still = changed_mask(push).expand_as(hdr) == 0
    assert torch.equal(warped[still], hdr[still]) and warped[~still].max() == 1


def test_one_field_serves_a_batch_of_images(push):
    images = torch.cat([picture(seed=1), picture(seed=2)])
    assert torch.equal(warp(images, push)[1:], warp(images[1:], push))


def test_where_the_map_shrinks_the_picture_fine_stripes_turn_grey_instead_of_aliasing():
    stripes = (torch.arange(200) % 2).float().expand(1, 3, 40, 200).contiguous()
    squeeze = torch.zeros(1, 2, 40, 200)
    squeeze[:, 0] = torch.arange(200.0) * 1.5  # out(x) = in(2.5 x), in the first 80 columns
    inside = warp(stripes, squeeze)[..., 4:70]
    aliased = sample(stripes, pixel_grid(40, 200) + squeeze)[..., 4:70]
    assert inside.std() < 0.35 * aliased.std()
    assert_close(inside.mean(), torch.tensor(0.5), atol=0.02, rtol=0)


def test_where_the_map_does_not_shrink_the_result_is_plain_sharp_sampling(push):
    image = torch.rand(1, 3, 96, 128)
    gentle = push * 0.2
    moved = changed_mask(gentle).expand_as(image) == 1
    plain = sample(image, pixel_grid(96, 128) + gentle).clamp(0, 1)
    assert torch.equal(warp(image, gentle)[moved], plain[moved])


def test_gradients_reach_the_displacement(push):
    push.requires_grad_()
    warp(picture(), push).sum().backward()
    assert push.grad.isfinite().all() and push.grad.abs().max() > 0


# arithmetic of fields


def test_resizing_a_field_scales_its_magnitude(push):
    double = resize_displacement(push, 192, 256)
    assert_close(double.amax(), 2 * push.amax(), atol=0.05, rtol=0)
    assert_close(resize_displacement(double, 96, 128), push, atol=0.08, rtol=0)


def test_resizing_commutes_with_warping(push):
    image = picture()
    large = F.interpolate(image, (192, 256), mode="bicubic", align_corners=False).clamp(0, 1)
    small_of_large = F.avg_pool2d(warp(large, resize_displacement(push, 192, 256)), 2)
    assert_close(small_of_large, warp(F.avg_pool2d(large, 2), push), atol=0.02, rtol=0)


def test_composing_two_fields_equals_two_warps(push):
    image = picture()
    second = bump(96, 128, centre=(70.0, 45.0), radius=25.0, shift=(-3.0, 5.0))
    once, twice = warp(image, compose(push, second)), warp(warp(image, push), second)
    assert_close(once, twice, atol=0.01, rtol=0)


def test_composing_with_zero_changes_no_bit(push):
    nothing = torch.zeros_like(push)
    assert torch.equal(compose(push, nothing), push)
    assert torch.equal(compose(nothing, push), push)


def test_the_inverse_undoes_the_motion(push):
    inverse = invert(push)
    assert compose(push, inverse).norm(dim=1).max() < 0.02
    assert compose(inverse, push).norm(dim=1).max() < 0.1  # bilinear reading of the inverse
    image = picture()
    assert_close(warp(warp(image, push), inverse), image, atol=0.02, rtol=0)


def test_the_inverse_holds_where_the_map_stretches_to_three_times():
    x = torch.arange(128.0)
    steep, slow = ((x - 20) / 15).clamp(0, 1), ((110 - x) / 75).clamp(0, 1)
    push = torch.zeros(1, 2, 96, 128)
    push[:, 0] = 20 * torch.where(x < 35, steep**2 * (3 - 2 * steep), slow**2 * (3 - 2 * slow))
    assert push.diff(dim=-1).max() > 1.9 and jacobian_determinant(push).min() > 0.5
    assert compose(push, invert(push)).abs().max() < 1e-3


def test_jacobian_is_the_area_scale_of_the_map():
    zoom = pixel_grid(20, 30) * torch.tensor([0.5, -0.2]).view(1, 2, 1, 1)
    assert_close(jacobian_determinant(zoom), torch.full((1, 1, 20, 30), 1.5 * 0.8), atol=1e-5, rtol=0)


def test_jacobian_finds_a_fold_of_a_single_pixel():
    fold = torch.zeros(1, 2, 9, 9)
    assert jacobian_determinant(fold).min() == 1
    fold[0, 0, 4, 4] = -1.5  # jumps over its left neighbour
    assert jacobian_determinant(fold).min() < 0


def test_changed_mask_sees_the_smallest_motion():
    displacement = torch.zeros(1, 2, 4, 4)
    displacement[0, 1, 2, 3] = 1e-30
    assert changed_mask(displacement).sum() == 1
    assert changed_mask(displacement, threshold_px=0.1).sum() == 0


# fields on large photos


def test_a_field_keeps_only_the_box_that_moves(push):
    field = Field.from_dense(push)
    assert torch.equal(field.dense(), push)
    assert field.displacement.numel() < push.numel() / 3
    assert math.isclose(field.max_px, math.hypot(6, 4), abs_tol=0.01)


def test_a_field_without_motion_is_empty_and_applies_to_nothing():
    image = picture()
    for field in (Field.zero(96, 128), Field.from_dense(torch.zeros(1, 2, 96, 128))):
        assert field.max_px == 0 and field.resized(48, 64).max_px == 0
        assert torch.equal(apply_field(image, field), image)


def test_cropping_a_field_is_cropping_its_dense_form(push):
    crop = Field.from_dense(push).crop(left=50, top=-5, height=60, width=40)
    assert torch.equal(crop.dense()[..., 5:, :], push[..., :55, 50:90])
    assert Field.from_dense(push).crop(left=0, top=0, height=10, width=10).max_px == 0


@pytest.mark.parametrize("size", [(192, 256), (48, 64), (131, 175), (97, 128)])
def test_resizing_a_field_agrees_with_resizing_it_dense(push, size):
    field = Field.from_dense(push).resized(*size)
    dense = resize_displacement(push, *size)
    assert_close(field.dense(), dense, atol=0.12, rtol=0)
    assert field.displacement[..., 0, :].abs().max() < 0.02  # faded out before the box ends


def test_a_field_at_the_border_of_the_photo_keeps_its_motion_there_when_resized():
    shift = Field.from_dense(torch.full((1, 2, 20, 30), 2.0))
    assert_close(shift.resized(40, 60).dense(), torch.full((1, 2, 40, 60), 4.0))


def test_scaling_a_field_scales_the_motion(push):
    assert torch.equal(Field.from_dense(push).scaled(-0.5).dense(), push * -0.5)


@pytest.mark.parametrize("tile", [1024, 16, 7])
def test_applying_by_tiles_equals_warping_the_whole_photo(push, tile):
    image = torch.rand(2, 4, 96, 128)  # alpha moves with the colours
    tiled = apply_field(image, Field.from_dense(push), tile=tile)
    assert_close(tiled, warp(image, push), atol=2e-4, rtol=0)
    still = changed_mask(push).expand_as(image) == 0
    assert torch.equal(tiled[still], image[still])


def test_tiles_at_the_border_of_the_photo_agree_with_the_whole():
    image = picture()
    zoom = (pixel_grid(96, 128) - 40) * 0.6  # shrinks, and reads from far outside the photo
    assert_close(apply_field(image, Field.from_dense(zoom), tile=20), warp(image, zoom), atol=2e-4, rtol=0)


def test_eight_bit_photos_stay_eight_bit_and_are_rounded(push):
    image = (picture() * 255).round().to(torch.uint8)
    before = image.clone()
    result = apply_field(image, Field.from_dense(push))
    as_float = apply_field(image.float() / 255, Field.from_dense(push))
    assert result.dtype == torch.uint8 and torch.equal(image, before)
    assert torch.equal(result, (as_float * 255).round().to(torch.uint8))


# errors


def test_a_field_of_another_size_is_refused_with_advice(push):
    with pytest.raises(ValueError, match="resize_displacement"):
        warp(picture(64, 64), push)
    with pytest.raises(ValueError, match="field.resized"):
        apply_field(picture(64, 64), Field.from_dense(push))


def test_nan_in_a_field_is_refused(push):
    push[0, 0, 3, 3] = math.nan
    for operation in (invert, jacobian_determinant, Field.from_dense, lambda d: warp(picture(), d)):
        with pytest.raises(ValueError, match="NaN"):
            operation(push)


def test_a_box_that_leaves_the_photo_is_refused(push):
    with pytest.raises(ValueError, match="leaves the 64x64 photo"):
        Field(displacement=push, left=0, top=0, height=64, width=64)


def test_integer_pixels_are_refused_with_advice(push):
    with pytest.raises(ValueError, match="float32"):
        warp(torch.zeros(1, 3, 96, 128, dtype=torch.uint8), push)
    with pytest.raises(ValueError, match="uint8"):
        apply_field(torch.zeros(1, 3, 96, 128, dtype=torch.int16), Field.from_dense(push))


def test_folds_are_what_the_areas_say():
    """Gentle motions are judged by their extremes, the others by every area: the answer is the same."""
    answers = []
    for seed in range(40):
        coarse = torch.randn(1, 2, 6, 7, generator=torch.Generator().manual_seed(seed)) * (0.5 + seed / 8)
        motion = torch.nn.functional.interpolate(coarse, (48, 56), mode="bicubic")
        answers.append(folds(motion))
        assert answers[-1] == bool((jacobian_determinant(motion) <= 0).any())
    assert 5 < sum(answers) < 35
