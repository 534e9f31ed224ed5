"""Self-augmentation: one A for both pictures, one sampling, and the motion goes with it."""

import math

import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core.faces.landmarks import FACE_POINTS, MIRROR_130
from mirrorppr_core.geometry.displacement import warp
from mirrorppr_core.operations.professional_table import BODY_PAIRS, FACE_PAIRS
from tests.core.operations.test_professional import draw_mesh, draw_pose
from training.recipes.augment import MIRROR_478, MIRROR_POSE, AugmentConfig, View, draw_view, see, see_motion, source_of
from training.recipes.photometry import Look, PhotometricConfig, apply_look, draw_look
from training.recipes.recipe import Recipe, Step, apply_recipe, recipe_displacement

PHOTO = (192, 160)
FACE = (38.0, 45.0, 122.0, 146.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def picture(seed: int = 0, size=PHOTO) -> torch.Tensor:
    coarse = torch.rand(1, 3, size[0] // 16, size[1] // 16, generator=seeded(seed))
    return torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False).clamp(0, 1)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean().clamp_min(1e-12)))


def plain(**changes) -> AugmentConfig:
    return AugmentConfig(**{"area": (1.0, 1.0), "stretch": (1.0, 1.0), "degrees": (0,), "flip": 0.0, **changes})


def test_the_whole_photo_is_the_photo():
    image = picture()
    assert_close(see(image, View.whole(PHOTO)), image, atol=1e-5, rtol=0)
    assert_close(see(image, draw_view(seeded(), PHOTO, size=PHOTO, config=plain())), image, atol=1e-4, rtol=0)


def test_a_flip_is_the_mirror_image():
    image = picture()
    view = draw_view(seeded(), PHOTO, size=PHOTO, config=plain(flip=1.0))
    assert view.flipped
    assert_close(see(image, view), image.flip(-1), atol=1e-4, rtol=0)
    assert_close(see_motion(torch.ones(1, 2, *PHOTO), view)[0, :, 5, 5], torch.tensor([-1.0, 1.0]))


def test_a_flip_exchanges_the_sides_of_a_person():
    view = draw_view(seeded(), PHOTO, size=PHOTO, config=plain(flip=1.0))
    mesh = view.landmarks(draw_mesh())
    assert mesh[33, 0] < mesh[263, 0], "the right eye stays on the left of the picture"
    assert_close(mesh[33], torch.tensor([PHOTO[1] - 1.0, 0.0]) + draw_mesh()[263] * torch.tensor([-1.0, 1.0]))
    pose = view.landmarks(draw_pose())
    assert pose[12, 0] < pose[11, 0] and (pose[:, 3] == 1).all()


def test_a_one_sided_operation_on_a_flipped_face_is_the_other_side_of_the_original():
    view = draw_view(seeded(), PHOTO, size=PHOTO, config=plain(flip=1.0))
    left, right = (Recipe(steps=(Step(operation="mouth_smile", strength=80, side=side),)) for side in ("left", "right"))
    seen = see_motion(recipe_displacement(left, draw_mesh(), None, PHOTO), view)
    assert_close(seen, recipe_displacement(right, view.landmarks(draw_mesh()), None, PHOTO), atol=0.05, rtol=0)


def test_the_mirror_tables_are_involutions_that_agree_with_core():
    for table in (MIRROR_478, MIRROR_POSE):
        assert [table[table[i]] for i in range(len(table))] == list(range(len(table)))
    assert all(MIRROR_478[right] == left for right, left in FACE_PAIRS)
    assert all(MIRROR_POSE[right] == left for right, left in BODY_PAIRS)
    assert [MIRROR_478[i] for i in FACE_POINTS] == [FACE_POINTS[i] for i in MIRROR_130]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("size", [(96, 96), (128, 112), (224, 224)])
def test_the_motion_goes_with_the_pictures(seed, size):
    """warp(A(before), A(d)) shows what A(after) shows, when A shrinks, enlarges, turns and flips."""
    pair = apply_recipe(picture(seed), Recipe(steps=(Step(operation="face_trans", strength=90),)), draw_mesh(), None)
    view = draw_view(seeded(seed), PHOTO, keep=FACE, size=size)
    before, after = see(pair.before, view), see(pair.after, view)
    motion = see_motion(pair.displacement, view)
    assert psnr(warp(before, motion), after) > 42
    assert psnr(before, after) < 40, "or the test would pass without the motion"


def test_landmarks_go_with_the_pictures():
    image = torch.zeros(1, 3, *PHOTO)
    spot = torch.tensor([[70.0, 90.0]])
    image[..., 88:93, 68:73] = 1
    for seed in range(8):
        view = draw_view(seeded(seed), PHOTO, keep=FACE, size=(128, 128))
        seen = see(image, view)[0, 0]
        y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
        centre = torch.stack([(x * seen).sum(), (y * seen).sum()]) / seen.sum()
        assert_close(view.points(spot)[0], centre, atol=0.15, rtol=0)


def test_pictures_of_a_pair_differ_only_where_the_photo_did():
    pair = apply_recipe(picture(), Recipe(steps=(Step(operation="nasal_tip", strength=90),)), draw_mesh(), None)
    view = draw_view(seeded(3), PHOTO, keep=FACE, size=(96, 96))
    before, after, motion = see(pair.before, view), see(pair.after, view), see_motion(pair.displacement, view)
    far = torch.nn.functional.max_pool2d((motion != 0).any(1, keepdim=True).float(), 9, 1, 4) == 0
    far = far.expand_as(before)
    assert far.any() and torch.equal(before[far], after[far])


@pytest.mark.parametrize("size", [(128, 128), (96, 144), None])
def test_the_face_stays_in_the_picture(size):
    for seed in range(60):
        view = draw_view(seeded(seed), PHOTO, keep=FACE, size=size)
        corners = torch.tensor([(x, y) for x in (FACE[0], FACE[2]) for y in (FACE[1], FACE[3])])
        placed = view.points(corners)
        assert placed.min() > -1, seed
        assert (placed < torch.tensor([view.size[1], view.size[0]])).all(), seed


def test_a_box_larger_than_the_photo_allows_makes_the_crop_grow():
    view = draw_view(seeded(), PHOTO, keep=(0.0, 0.0, 159.0, 191.0), size=(128, 128), config=plain())
    placed = view.points(torch.tensor([[0.0, 0.0], [159.0, 191.0]]))
    assert placed.min() > -1 and placed.max() < 128


def test_free_shapes_are_multiples_of_16_of_the_area_asked_for():
    shapes = {draw_view(seeded(seed), (1000, 1000)).size for seed in range(40)}
    assert len(shapes) > 10
    for height, width in shapes:
        assert height % 16 == width % 16 == 0
        assert 0.9 < height * width / 1024**2 <= 1
    aspects = [width / height for height, width in shapes]
    assert min(aspects) < 0.8 and max(aspects) > 1.5


def test_draws_cover_the_ranges_of_the_method():
    views = [draw_view(seeded(seed), (512, 512), size=(256, 256)) for seed in range(300)]
    assert 0.35 < sum(view.flipped for view in views) / 300 < 0.65
    degrees = {round(math.degrees(math.atan2(-view.linear[0][1], view.linear[1][1]))) for view in views}
    assert degrees == {-15, -10, -5, 0, 5, 10, 15}
    areas = [abs(a * d - b * c) * 256**2 / 512**2 for view in views for (a, b), (c, d) in [view.linear]]
    assert 0.5 < min(areas) < 0.65 and max(areas) > 0.9


def test_a_view_is_a_function_of_the_seed():
    assert draw_view(seeded(5), PHOTO, size=(64, 64)) == draw_view(seeded(5), PHOTO, size=(64, 64))
    assert draw_view(seeded(5), PHOTO, size=(64, 64)) != draw_view(seeded(6), PHOTO, size=(64, 64))


@pytest.mark.parametrize("shrink", [1.5, 2.0, 3.0, 5.5])
def test_shrinking_averages_instead_of_skipping(shrink):
    """A pattern finer than the output's pixels turns grey."""
    pattern = torch.zeros(1, 1, 176, 176)
    pattern[..., ::2, :] = 1
    side = int(176 / shrink)
    view = View(linear=((shrink, 0.0), (0.0, shrink)), shift=(shrink / 2 - 0.5,) * 2, size=(side, side))
    seen = see(pattern, view)[..., 2:-2, 2:-2]
    limit = 0.1 if shrink >= 2 else 0.3
    assert (seen - 0.5).abs().max() < limit


@pytest.mark.parametrize("seed", range(4))
def test_the_whole_view_is_what_its_positions_give(seed):
    view = draw_view(seeded(seed), PHOTO, size=(96, 80), config=AugmentConfig(flip=0.5 * (seed % 2)))
    source = source_of(picture(seed), view)
    assert source.mode == "bilinear"
    assert_close(source.through(view), source.at(view.positions((0, 0, 80, 96))), atol=1e-4, rtol=0)


def test_bytes_and_floats_give_the_same_picture():
    image = (picture() * 255).round().byte()
    view = draw_view(seeded(2), PHOTO, size=(96, 96))
    assert_close(see(image, view), see(image.float() / 255, view))


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"area": (0.0, 1.0)}, "area"),
        ({"area": (0.5, 1.5)}, "area"),
        ({"aspect": (3.0, 0.3)}, "aspect"),
        ({"degrees": ()}, r"\(0,\) for none"),
        ({"degrees": (90,)}, "-45 to 45"),
        ({"flip": 1.5}, "probability"),
        ({"output_area": 100}, "output_area"),
    ],
)
def test_impossible_ranges_are_refused(settings, advice):
    with pytest.raises(ValueError, match=advice):
        AugmentConfig(**settings)


def test_a_look_is_a_function_of_the_seed_and_equal_pixels_stay_equal():
    config = PhotometricConfig(jpeg_share=0.0, noise_share=1.0, blur_share=1.0)
    look = draw_look(seeded(4), config)
    assert look == draw_look(seeded(4), config)
    before, after = picture(1, (64, 64)), picture(1, (64, 64))
    after[..., :20] = 0.5
    one, other = apply_look(torch.cat([before, after]), look).split(1)
    assert torch.equal(one[..., 28:], other[..., 28:]) and not torch.equal(one, other)
    assert torch.equal(one, apply_look(before, look)), "alone or together"
    assert psnr(one, before) < 40 and 0 <= one.min() and one.max() <= 1


def test_a_plain_look_changes_nothing_and_grey_is_grey():
    image = picture(2, (64, 64))
    off = {"blur_share": 0.0, "noise_share": 0.0, "jpeg_share": 0.0, "brightness": (1.0, 1.0), "contrast": (1.0, 1.0)}
    look = draw_look(seeded(), PhotometricConfig(**off, colour=(1.0, 1.0), cast=0.0, grey_share=0.0))
    assert_close(apply_look(image, look), image, atol=1e-5, rtol=0)
    grey = apply_look(image, draw_look(seeded(), PhotometricConfig(**off, colour=(1.0, 1.0), cast=0.0, grey_share=1.0)))
    assert_close(grey[:, 0], grey[:, 2], atol=1e-5, rtol=0)


def test_jpeg_is_the_real_thing():
    identity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    image = picture(3, (64, 64))
    coarse, fine = (
        apply_look(image, Look(matrix=identity, offset=(0.0, 0.0, 0.0), jpeg_quality=quality)) for quality in (10, 95)
    )
    assert psnr(fine, image) > 35 > psnr(coarse, image)


@pytest.mark.parametrize("settings", [{"grey_share": 2.0}, {"noise": (0.2, 0.1)}, {"jpeg_quality": (0, 95)}])
def test_impossible_looks_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        PhotometricConfig(**settings)
