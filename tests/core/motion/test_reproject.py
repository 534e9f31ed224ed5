"""An editor's picture gives its shape, and nothing else, to the photographer's own pixels."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from portraits import PORTRAITS, needs_portraits, real_meshes
from synthetic import bump, face_bumps, jpeg, load_portrait, vae_like

from mirrorppr_core.commands.cli import main
from mirrorppr_core.geometry.displacement import compose, jacobian_determinant, length, pixel_grid, warp
from mirrorppr_core.motion.bridging import bridge
from mirrorppr_core.motion.reproject import MAX_ASPECT_ERROR, reproject
from mirrorppr_core.motion.reproject import ReprojectConfig as Config
from training.evaluation.metrics import psnr, ssim

skimage_data = pytest.importorskip("skimage.data", reason="scikit-image brings the test photo")
MOUTH = (226.0, 152.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    """Eileen Collins, NASA, public domain, from scikit-image's package data: (1, 3, 512, 512)."""
    return torch.from_numpy(skimage_data.astronaut().copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def edit() -> torch.Tensor:
    """A push at the jaw and one at the hair, up to 12 px."""
    jaw = bump(512, 512, centre=(215.0, 170.0), radius=90.0, shift=(12.0, 0.0))
    return jaw + bump(512, 512, centre=(225.0, 60.0), radius=60.0, shift=(0.0, -8.0))


@pytest.fixture(scope="module")
def edited(photo, edit) -> torch.Tensor:
    return vae_like(warp(photo, edit), seeded())


@pytest.fixture(scope="module")
def smile(photo) -> torch.Tensor:
    """The photo with something new: a white bar across the mouth."""
    x, y = pixel_grid(512, 512).split(1, dim=1)
    bar = ((x - MOUTH[0]).abs() < 14) & ((y - MOUTH[1]).abs() < 5)
    return torch.where(bar, torch.tensor([0.95, 0.93, 0.9]).view(1, 3, 1, 1), photo)


def enlarged(image: torch.Tensor, side: int) -> torch.Tensor:
    return F.interpolate(image, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)


def to_8_bit(image: torch.Tensor) -> torch.Tensor:
    return (image * 255).round().to(torch.uint8)


def end_point_errors(found: torch.Tensor, true: torch.Tensor) -> tuple[float, float]:
    """Mean error in pixels inside the edit and outside it."""
    error, size = length(found - true), length(true)
    return float(error[size > 0.5].mean()), float(error[size < 0.02].mean())


# what comes back


def test_the_motion_of_a_degraded_edit_is_found(photo, edit, edited):
    inside, outside = end_point_errors(reproject(photo, edited).field.dense(), edit)
    assert inside < 0.35 and outside < 0.05


def test_the_result_is_far_closer_to_the_true_retouch_than_the_edited_picture(photo, edit, edited):
    true, result = warp(photo, edit), reproject(photo, edited).image
    assert ssim(edited, true) < 0.94 and ssim(result, true) > 0.97
    assert psnr(result, true) > psnr(edited, true) + 2


@needs_portraits
def test_edits_of_unseen_portraits_meet_the_same_bounds_at_1024_px():
    errors = []
    for seed, (name, mesh) in enumerate(list(real_meshes().items())[::80]):
        before = load_portrait(PORTRAITS / name, 1024)
        true = face_bumps(1024, mesh * 2, seeded(seed), longest_px=(8, 25))
        result = reproject(before, vae_like(warp(before, true), seeded(seed)))
        errors.append(end_point_errors(result.field.dense(), true))
    # The mean: a push at the jaw moves plain wall as well, where nobody can tell by how much.
    inside, outside = torch.tensor(errors).mean(dim=0)
    assert inside < 0.35 and outside < 0.05


@pytest.mark.parametrize("degrade", [lambda p, _: p, vae_like, lambda p, _: jpeg(p, 75)])
def test_an_edit_that_changes_no_shape_gives_back_the_photo_bit_for_bit(photo, degrade):
    result = reproject(photo, degrade(photo, seeded()))
    assert torch.equal(result.image, photo)
    assert result.field.max_px == 0 and not result.mask.any() and "nothing moved" in result.notes


def test_a_plain_picture_comes_back_as_it_is():
    grey = torch.full((1, 3, 300, 300), 0.5)
    result = reproject(grey, grey * 0.8)
    assert torch.equal(result.image, grey) and not result.residual.any()


def test_pixels_outside_the_mask_keep_their_bits(photo, edited):
    result = reproject(photo, edited)
    still = result.mask.expand_as(photo) == 0
    assert torch.equal(result.image[still], photo[still]) and still.float().mean() > 0.7


def test_nothing_folds(photo, edited):
    assert jacobian_determinant(reproject(photo, edited).field.dense()).min() > 0


def test_a_small_edited_picture_moves_the_pixels_of_a_large_photo(photo, edit, edited):
    large = to_8_bit(enlarged(photo, 1536))
    result = reproject(large, edited)
    assert result.image.shape == large.shape and result.image.dtype == torch.uint8
    true = F.interpolate(edit, (1536, 1536), mode="bilinear", align_corners=False) * 3
    inside, outside = end_point_errors(result.field.dense(), true)
    assert inside < 3 * 0.35 and outside < 3 * 0.05  # a pixel of the edited picture is three of the photo


def test_a_large_edited_picture_of_a_small_photo_is_reduced(photo, edit):
    result = reproject(photo, enlarged(warp(photo, edit), 1024))
    assert result.image.shape == photo.shape
    assert end_point_errors(result.field.dense(), edit)[0] < 0.35


def test_alpha_moves_with_the_colours_and_that_of_the_edited_picture_does_not_matter(photo, edited):
    x = pixel_grid(512, 512)[:, :1] / 511
    result = reproject(torch.cat([photo, x], dim=1), torch.cat([edited, torch.zeros_like(x)], dim=1))
    assert torch.equal(result.image[:, :3], reproject(photo, edited).image)
    assert not torch.equal(result.image[:, 3:], x)


def test_the_size_may_be_rounded_as_editors_do(photo, edit):
    photo, true = photo[..., 4:404, :].contiguous(), edit[..., 4:404, :].contiguous()
    rounded = F.interpolate(warp(photo, true), (400, 504), mode="bilinear", align_corners=False, antialias=True)
    inside, outside = end_point_errors(reproject(photo, rounded).field.dense(), true)
    assert inside < 0.4 and outside < 0.05


# what is no edit


@pytest.mark.parametrize(("zoom", "shift"), [(0.01, (3.0, -2.0)), (-0.02, (0.0, 4.0)), (0.0, (2.5, 1.0))])
def test_a_slip_of_the_whole_picture_is_taken_out_and_noted(photo, edit, zoom, shift):
    slip = zoom * (pixel_grid(512, 512) - 255.5) + torch.tensor(shift).view(1, 2, 1, 1)
    result = reproject(photo, vae_like(warp(photo, compose(edit, slip)), seeded()))
    inside, outside = end_point_errors(result.field.dense(), edit)
    assert inside < 0.4 and outside < 0.05
    assert "shifted or zoomed" in result.notes[0]


def test_a_slip_alone_gives_back_the_photo(photo):
    slip = 0.01 * (pixel_grid(512, 512) - 255.5)
    assert torch.equal(reproject(photo, vae_like(warp(photo, slip), seeded())).image, photo)


def test_a_head_made_smaller_is_an_edit_and_no_slip(photo):
    away = pixel_grid(512, 512) - torch.tensor([225.0, 130.0]).view(1, 2, 1, 1)
    head = 0.05 * away * torch.sigmoid((120 - length(away)) / 10)
    result = reproject(photo, warp(photo, head * (length(head) > 0.02)))
    assert result.field.max_px == pytest.approx(float(length(head).max()), rel=0.15)


# what no motion explains


def test_the_residual_shows_what_is_new_and_nothing_else(photo, smile):
    residual = reproject(photo, vae_like(smile, seeded())).residual
    new = (smile != photo).any(dim=1, keepdim=True)
    assert residual[new].mean() > 0.1
    assert (residual[~new] > 0).float().mean() < 0.002


def test_a_pure_warp_under_other_colours_leaves_next_to_no_residual(photo, edit):
    graded = warp(photo, edit) ** torch.tensor([0.8, 0.9, 1.1]).view(1, 3, 1, 1) * 0.9
    assert reproject(photo, graded).residual.mean() < 0.001


def test_the_residual_is_pasted_only_if_asked_for(photo, smile):
    degraded = vae_like(smile, seeded())
    assert torch.equal(reproject(photo, degraded).image, photo)
    result = reproject(photo, degraded, Config(paste_residual=True))
    new = (smile != photo).any(dim=1, keepdim=True).expand_as(photo)
    assert (result.image - smile)[new].abs().mean() < 0.3 * (photo - smile)[new].abs().mean()
    still = result.mask.expand_as(photo) == 0
    assert torch.equal(result.image[still], photo[still]) and still.float().mean() > 0.98


def test_what_is_pasted_has_the_colours_of_the_photo(photo, smile):
    blue = smile * torch.tensor([0.8, 0.9, 1.0]).view(1, 3, 1, 1)
    result = reproject(photo, blue, Config(paste_residual=True))
    x, y = map(int, MOUTH)
    core = (..., slice(y - 2, y + 3), slice(x - 9, x + 10))
    assert (result.image[core] - smile[core]).abs().mean() < (blue[core] - smile[core]).abs().mean() / 2


def test_pasting_works_on_large_8_bit_photos_and_after_a_slip(photo, smile):
    slip = 0.01 * (pixel_grid(512, 512) - 255.5)
    large = to_8_bit(enlarged(photo, 1024))
    result = reproject(large, vae_like(warp(smile, slip), seeded()), Config(paste_residual=True))
    wanted = to_8_bit(enlarged(smile, 1024)).float()
    x, y = (int(2 * c) for c in MOUTH)
    core = (..., slice(y - 5, y + 6), slice(x - 20, x + 21))
    assert (result.image[core] - wanted[core]).abs().mean() < 0.25 * (large[core] - wanted[core]).abs().mean()


def test_motion_is_led_across_what_it_cannot_explain():
    motion = 0.1 * pixel_grid(64, 64)
    doubted = torch.zeros(1, 1, 64, 64)
    doubted[..., 24:40, 24:40] = 1
    torn = motion + doubted * torch.randn(1, 2, 64, 64, generator=seeded())
    assert (bridge(torn, doubted) - motion).abs().max() < 0.2
    assert torch.equal(bridge(torn, doubted * 0), torn)


# errors


def test_another_photo_is_refused(photo):
    other = torch.from_numpy(skimage_data.cat().copy()).permute(2, 0, 1)[None] / 255
    other = F.interpolate(other[..., :300, :300], (512, 512), mode="bilinear")
    for wrong in (other, photo.flip(-1), 1 - photo):
        with pytest.raises(ValueError, match="does not show the same photo"):
            reproject(photo, wrong)


def test_another_aspect_ratio_is_refused_with_both_sizes(photo):
    narrow = photo[..., : round(512 * (1 - 2 * MAX_ASPECT_ERROR))]
    with pytest.raises(ValueError, match=f"original is 512x512 but edited is {narrow.shape[-1]}x512"):
        reproject(photo, narrow)


@pytest.mark.parametrize("name", ["original", "edited"])
def test_small_and_broken_pictures_are_refused_and_named(photo, name):
    good = {"original": photo, "edited": photo}
    with pytest.raises(ValueError, match=f"{name} is 200x200 pixels: the longer side must be at least 256"):
        reproject(**good | {name: photo[..., :200, :200]})
    with pytest.raises(ValueError, match=f"{name} contains NaN"):
        reproject(**good | {name: photo * float("nan")})


# the command


@pytest.fixture
def files(tmp_path, photo, edited):
    for name, image in (("original.png", enlarged(photo, 768)), ("edited.png", edited)):
        Image.fromarray(to_8_bit(image)[0].permute(1, 2, 0).numpy()).save(tmp_path / name)
    return tmp_path


def run(capsys, files, **changes) -> tuple[int, dict]:
    """Exit status and the printed JSON object; options are file names, True is a switch."""
    named = {"original": "original.png", "edited": "edited.png", "out": "result.png"} | changes
    words = [w for key, name in named.items() for w in ([f"--{key}"] + ([str(files / name)] * (name is not True)))]
    return main(["reproject", *words]), json.loads(capsys.readouterr().out)


def test_the_command_writes_a_picture_of_the_size_of_the_original(files, capsys):
    status, report = run(capsys, files, residual="residual.png")
    result, original = (np.asarray(Image.open(files / name)) for name in ("result.png", "original.png"))
    assert status == 0 and report["size"] == [768, 768]
    assert report["largest_displacement_px"] == pytest.approx(18, rel=0.1)
    assert result.shape == original.shape and 0.02 < (result != original).any(-1).mean() < 0.3
    assert np.asarray(Image.open(files / "residual.png")).shape == original.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"original": "gone.png"}, "gone.png: no such file"),
        ({"edited": "broken.png"}, "damaged or not a picture"),
        ({"edited": "wide.png"}, "another aspect ratio"),
        ({"edited": "small.png"}, "at least 256"),
        ({"edited": "noise.png"}, "does not show the same photo"),
        ({"out": "result.jpg"}, "does not end in .png"),
        ({"out": "original.png"}, "would replace"),
        ({"out": "broken.png/result.png"}, "cannot write to"),
        ({"residual": "result.png"}, "a file each"),
    ],
)
def test_bad_files_are_refused_and_nothing_is_written(files, capsys, changes, message):
    (files / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (600, 400)).save(files / "wide.png")
    Image.new("RGB", (200, 200)).save(files / "small.png")
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((512, 512), Image.Resampling.BICUBIC).save(files / "noise.png")
    before = {path: path.read_bytes() for path in files.iterdir()}
    status, report = run(capsys, files, **changes)
    assert status == 2 and message in report["error"]
    assert {path: path.read_bytes() for path in files.iterdir()} == before
