"""The canonical view: every face lands in one frame, motion travels there and back, nothing else moves."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toys import drawn_face, seeded

from mirrorppr_core.faces.landmarks import MIRROR_130, mirror_landmarks
from mirrorppr_core.faces.view import CanonicalView, ViewConfig
from mirrorppr_core.geometry.displacement import pixel_grid, warp
from mirrorppr_core.geometry.field import apply_field
from mirrorppr_core.geometry.similarity import Similarity

HEIGHT, WIDTH = 300, 360


@pytest.fixture(scope="module")
def view() -> CanonicalView:
    return CanonicalView(ViewConfig(), drawn_face())


def on_photo(*, scale: float = 60.0, degrees: float = 0.0, shift: tuple[float, float] = (180.0, 140.0)) -> Similarity:
    """Eye distances to photo pixels."""
    return Similarity(torch.tensor(scale), torch.tensor(math.radians(degrees)), torch.tensor(shift))


def somebody(seed: int = 0) -> Tensor:
    """Landmarks (130, 2) of a face unlike the template, in eye distances: another build and some noise."""
    face = drawn_face() * torch.tensor([1.1, 0.93])
    return face + 0.02 * torch.randn(130, 2, generator=seeded(seed))


def smooth_motion(strength: float = 1.5) -> Tensor:
    """(1, 2, 64, 64) cells, exactly zero outside a disk in the middle."""
    away = (pixel_grid(64, 64) - torch.tensor([30.0, 34.0]).view(1, 2, 1, 1)) / 14
    weight = (1 - away.square().sum(1, keepdim=True)).clamp(min=0) ** 2
    return strength * weight * torch.tensor([1.0, -0.5]).view(1, 2, 1, 1)


def test_the_mean_face_has_no_shape(view):
    face = view.fit(on_photo(degrees=20).apply(drawn_face()))
    assert face.shape.abs().amax() < 1e-3
    assert face.pixels_per_cell == pytest.approx(60 * 4 / 64, rel=1e-4)  # the view is 4 eye distances wide


def test_the_view_carries_the_template_to_the_landmarks(view):
    landmarks = on_photo().apply(somebody())
    face = view.fit(landmarks)
    grid = (view.template[None, None] + 0.5) * 2 / 64 - 1
    seen = torch.nn.functional.grid_sample(face.positions, grid, align_corners=False)[0, :, 0].T
    error = (seen - landmarks).norm(dim=1).mean() / 60
    without_shape = (face.similarity.apply(view.template) - landmarks).norm(dim=1).mean() / 60
    assert error < 0.5 * without_shape and error < 0.03, "in eye distances; smoothing leaves some, not all"


def test_a_face_moved_turned_and_enlarged_has_the_same_shape(view):
    here, there = on_photo(), on_photo(scale=85, degrees=25, shift=(150, 160))
    assert_close(view.fit(here.apply(somebody())).shape, view.fit(there.apply(somebody())).shape, atol=1e-4, rtol=0)


def test_motion_survives_the_way_to_the_photo_and_back(view):
    face, motion = view.fit(on_photo(degrees=15).apply(somebody())), smooth_motion()
    field = view.motion_to_photo(motion, face, height=HEIGHT, width=WIDTH)
    back = view.motion_from_photo(field.dense(), face)
    assert (back - motion).norm(dim=1).amax() < 0.03 * motion.norm(dim=1).amax()
    assert field.max_px == pytest.approx(float(motion.norm(dim=1).amax()) * face.pixels_per_cell, rel=0.03)


@pytest.mark.parametrize(("width", "most"), [(0.06, 0.2), (0.09, 0.08), (0.12, 0.05)])
def test_fine_edits_survive_the_view(view, width, most):
    """A dab so many eye distances wide on a mouth corner. tests/benchmarks/bench_fine_edits.py measures real faces."""
    landmarks = on_photo(degrees=15).apply(somebody())
    face, deviation = view.fit(landmarks), 60 * width
    away = (pixel_grid(HEIGHT, WIDTH) - landmarks[40].view(1, 2, 1, 1)).square().sum(1, keepdim=True)
    dab = torch.exp(-away / (2 * deviation**2)) * torch.tensor([2.0, -1.0]).view(1, 2, 1, 1)
    back = view.motion_to_photo(view.motion_from_photo(dab, face), face, height=HEIGHT, width=WIDTH).dense()
    assert (back - dab).norm(dim=1).sum() < most * dab.norm(dim=1).sum()


def test_no_motion_is_the_zero_field(view):
    face = view.fit(on_photo().apply(somebody()))
    field = view.motion_to_photo(torch.zeros(1, 2, 64, 64), face, height=HEIGHT, width=WIDTH)
    assert field.displacement.numel() == 0 and field.max_px == 0


def test_pixels_of_unmoved_cells_get_exact_zeros_and_keep_their_bits(view):
    face, photo = view.fit(on_photo().apply(somebody())), torch.rand(1, 3, HEIGHT, WIDTH, generator=seeded())
    field = view.motion_to_photo(smooth_motion(), face, height=HEIGHT, width=WIDTH)
    far = (pixel_grid(HEIGHT, WIDTH) - face.positions[..., 34, 30].view(1, 2, 1, 1)).norm(dim=1)
    still = (far > 20 * face.pixels_per_cell)[0]  # the disk has a radius of 14 cells
    assert (field.dense()[0][:, still] == 0).all()
    moved = apply_field(photo, field)
    assert torch.equal(moved[0][:, still], photo[0][:, still]) and not torch.equal(moved, photo)


def test_a_turned_and_enlarged_face_gets_the_turned_and_enlarged_motion(view):
    here, there = on_photo(), on_photo(scale=80, degrees=30, shift=(170, 150))
    motion = smooth_motion()
    faces = [view.fit(place.apply(somebody())) for place in (here, there)]
    fields = [view.motion_to_photo(motion, face, height=HEIGHT, width=WIDTH).dense() for face in faces]
    between = there.after(here.inverted())  # photo to photo
    points = here.apply(torch.tensor([[0.0, 0.0], [0.2, 0.3], [-0.3, 0.2]]))

    def at(field: Tensor, where: Tensor) -> Tensor:
        grid = (where + 0.5) * 2 / torch.tensor([WIDTH, HEIGHT]) - 1
        return torch.nn.functional.grid_sample(field, grid[None, None], align_corners=False)[0, :, 0].T

    expected = at(fields[0], points) @ between.linear().T
    assert expected.norm(dim=1).amin() > 1
    assert_close(at(fields[1], between.apply(points)), expected, atol=0.1, rtol=0)


def test_a_mirrored_face_has_the_mirrored_shape_and_motion(view):
    landmarks = on_photo(degrees=10).apply(somebody())
    face, mirrored = view.fit(landmarks), view.fit(mirror_landmarks(landmarks, WIDTH))
    sign = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)
    assert_close(mirrored.shape, face.shape.flip(-1) * sign, atol=1e-3, rtol=0)
    motion = smooth_motion()
    one = view.motion_to_photo(motion, face, height=HEIGHT, width=WIDTH).dense()
    other = view.motion_to_photo(motion.flip(-1) * sign, mirrored, height=HEIGHT, width=WIDTH).dense()
    assert_close(other, one.flip(-1) * sign, atol=0.1, rtol=0)
    assert_close(drawn_face()[list(MIRROR_130)] * torch.tensor([-1.0, 1.0]), drawn_face())


def test_a_view_of_a_reduced_crop_sees_the_same_face(view):
    face = view.fit(on_photo(scale=90, shift=(180.0, 150.0)).apply(somebody()))
    coarse = torch.rand(1, 3, 10, 12, generator=seeded())
    photo = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)
    crop = torch.nn.functional.avg_pool2d(photo[..., 20:, 30:], 2)
    seen = view.see(crop, face.cropped(left=30, top=20, factor=2), size=64)
    inside = ((face.positions >= 33).all(1) & (face.positions < 297).all(1))[0]
    assert (seen - view.see(photo, face, size=64))[0][:, inside].abs().amax() < 0.02


def test_seeing_a_fine_pattern_averages_it_instead_of_skipping_pixels(view):
    photo = torch.zeros(1, 3, 1200, 1440)
    photo[..., ::2, ::2] = 1
    face = view.fit(on_photo(scale=240, shift=(720, 560)).apply(somebody()))  # 15 pixels a cell
    middle = view.see(photo, face, size=64)[..., 20:44, 20:44]
    assert (middle - 0.25).abs().amax() < 0.05


def test_a_face_at_the_edge_of_the_photo_moves_only_inside_it(view):
    face = view.fit(on_photo(shift=(10, 280)).apply(somebody()))
    field = view.motion_to_photo(smooth_motion(), face, height=HEIGHT, width=WIDTH)
    left, top, right, bottom = field.box
    assert 0 <= left < right <= WIDTH and 0 <= top < bottom <= HEIGHT and field.max_px > 1
    outside = view.fit(on_photo(shift=(-900, 140)).apply(somebody()))
    assert view.motion_to_photo(smooth_motion(), outside, height=HEIGHT, width=WIDTH).max_px == 0


def test_a_warp_by_the_carried_motion_moves_what_is_seen_by_the_motion(view):
    """The two directions of the view mean the same thing: straighten the warped photo, or warp the straightened."""
    face, motion = view.fit(on_photo(scale=64, degrees=5).apply(drawn_face())), smooth_motion(2.0)
    coarse = torch.rand(1, 3, 20, 24, generator=seeded(4))
    photo = torch.nn.functional.interpolate(coarse, (HEIGHT, WIDTH), mode="bicubic").clamp(0, 1)
    field = view.motion_to_photo(motion, face, height=HEIGHT, width=WIDTH)
    before = view.see(photo, face, size=64)
    straightened = view.see(apply_field(photo, field), face, size=64)
    expected = warp(before, motion, mode="bilinear")
    assert (straightened - expected).abs().mean() < 0.15 * (expected - before).abs().mean()
