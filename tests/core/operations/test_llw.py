"""Simulated retouches: the published operations to the bit, and our clean version of them."""

import numpy as np
import pytest
import torch
from PIL import Image
from portraits import PORTRAITS, SHARED, needs_portraits, real_meshes
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import jacobian_determinant, pixel_grid
from mirrorppr_core.operations.llw import OPERATIONS, apply_llw, llw_displacement, llw_displacement_at, llw_sequence_at
from mirrorppr_core.operations.llw_exact import follow, llw_motion, mls_displacement
from mirrorppr_core.operations.llw_official import convex_hull, fill_hull
from mirrorppr_core.operations.llw_table import ControlPoints

GOLDEN = SHARED / "reference" / "llw_golden.npz"
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason=f"{GOLDEN} is absent: set MIRRORPPR_SHARED")
every_operation = pytest.mark.parametrize("name", OPERATIONS)
SIZE = (256, 256)


@pytest.fixture
def mesh():
    """478 points in the middle of the frame. No face, but every operation has something to move."""
    generator = torch.Generator().manual_seed(0)
    return 88 + 80 * torch.rand(478, 2, generator=generator)


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN)


@pytest.fixture(scope="module")
def eval_meshes():
    return torch.stack(list(real_meshes().values()))


@needs_golden
@pytest.mark.parametrize("portrait", [0, 1])
@every_operation
def test_official_mode_gives_the_published_bytes(golden, portrait, name):
    mesh = torch.from_numpy(golden[f"landmarks{portrait}"]).float() - 0.5  # integers count from the edge
    with Image.open(PORTRAITS / str(golden["files"][portrait])) as picture:
        image = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None] / 255
    for strength in golden["strengths"].tolist():
        key = f"{portrait}_{name}_{strength}_official"
        step = llw_displacement(mesh, (512, 512), operation=name, strength=strength, mode="official")
        positions = (step.deformation + pixel_grid(512, 512))[0, :, 4::8, 4::8]
        assert_close(positions, torch.from_numpy(golden[f"map_{key}"]), atol=1e-3, rtol=0)
        assert_close(step.mask[0, 0, 4::8, 4::8], torch.from_numpy(golden[f"mask_{key}"]), atol=0, rtol=0)
        result = apply_llw(image, mesh, [(name, strength)], mode="official").image
        pixels = (result[0, :, 4::8, 4::8] * 255).round().byte().permute(1, 2, 0)
        assert torch.equal(pixels, torch.from_numpy(golden[f"rgb_{key}"]))


@needs_golden
@pytest.mark.parametrize("portrait", [0, 1])
@every_operation
def test_exact_mode_is_the_published_deformation_without_its_bias(golden, portrait, name):
    """Given the same integer landmarks and grid. The mask differs: ours holds where points move to."""
    mesh = torch.from_numpy(golden[f"landmarks{portrait}"]).float()
    for strength in golden["strengths"].tolist():
        motion = llw_motion(mesh[None], (512, 512), operation=name, strength=strength, grid_share=30 / 512)
        pixels = pixel_grid(512, 512)
        edited = motion.mask(pixels)[0, 0, 4::8, 4::8] > 0
        positions = (motion.deformation(pixels) + pixels)[0, :, 4::8, 4::8]
        expected = torch.from_numpy(golden[f"map_{portrait}_{name}_{strength}_exact"])
        assert_close(positions[:, edited], expected[:, edited], atol=1e-3, rtol=0)


@every_operation
def test_exact_strength_zero_moves_nothing_at_all(mesh, name):
    assert not llw_displacement(mesh, SIZE, operation=name, strength=0).displacement.any()


def test_official_strength_zero_moves_towards_the_centre(mesh):
    step = llw_displacement(mesh, SIZE, operation="eye_resize", strength=0, mode="official")
    expected = (torch.arange(256) + 0.5 - 128) / (256 // 30) + 0.5  # x, away from the border
    assert_close(step.deformation[0, 0, 128, 30:-30], expected[30:-30], atol=1e-4, rtol=0)


@every_operation
def test_opposite_strengths_move_opposite_ways(mesh, name):
    motions = [llw_displacement(mesh, SIZE, operation=name, strength=s).displacement for s in (10, -10)]
    assert (motions[0] * motions[1]).sum() < 0


@every_operation
@pytest.mark.parametrize("mode", ["exact", "official"])
def test_nothing_moves_beyond_the_feather(mesh, name, mode):
    mesh = mesh / 4 + 96  # the whole "face" within 118..138
    step = llw_displacement(mesh, SIZE, operation=name, strength=100, mode=mode)
    outside = torch.ones(SIZE, dtype=torch.bool)
    outside[84:172, 84:172] = False
    assert step.displacement.any()
    assert not step.displacement[..., outside].any()


def test_control_points_land_on_their_destinations():
    source = torch.tensor([[[10.0, 20], [40, 25], [30, 60], [55, 50]]])
    destination = source + torch.tensor([[[3.0, -1], [0, 0], [2, 2], [0, 0]]])
    motion = mls_displacement(destination, ControlPoints(source, destination))
    assert_close(destination + motion, source, atol=1e-3, rtol=0)


def test_moving_least_squares_reproduces_any_similarity():
    generator = torch.Generator().manual_seed(1)
    source, points = 100 * torch.rand(1, 12, 2, generator=generator), 100 * torch.rand(1, 50, 2, generator=generator)
    turn = torch.tensor([[0.9, -0.3], [0.3, 0.9]])
    shift = torch.tensor([4.0, -7.0])
    motion = mls_displacement(points, ControlPoints(source @ turn + shift, source))
    assert_close(points + motion, points @ turn + shift, atol=1e-3, rtol=0)


@every_operation
def test_the_motion_at_points_is_the_dense_motion_there(mesh, name):
    dense = llw_displacement(mesh, SIZE, operation=name, strength=80).displacement
    everywhere = pixel_grid(*SIZE).flatten(2)[0].T  # (H * W, 2)
    at_points = llw_displacement_at(everywhere, mesh, SIZE, operation=name, strength=80)
    assert_close(at_points.T.reshape(1, 2, *SIZE), dense, atol=1e-4, rtol=0)


def test_faces_in_a_batch_get_what_each_gets_alone(mesh):
    meshes, strengths = torch.stack([mesh, mesh.flip(0)]), torch.tensor([70.0, -40])
    points = 256 * torch.rand(2, 30, 2, generator=torch.Generator().manual_seed(2))
    together = llw_displacement_at(points, meshes, SIZE, operation="nose_alar", strength=strengths)
    for face in range(2):
        alone = llw_displacement_at(
            points[face], meshes[face], SIZE, operation="nose_alar", strength=float(strengths[face])
        )
        assert_close(together[face], alone, atol=1e-4, rtol=0)


def test_a_photo_of_twice_the_size_gets_twice_the_motion(mesh):
    points = 256 * torch.rand(50, 2, generator=torch.Generator().manual_seed(3))
    small = llw_displacement_at(points, mesh, SIZE, operation="mouth_resize", strength=60)
    large = llw_displacement_at(2 * points, 2 * mesh, (512, 512), operation="mouth_resize", strength=60)
    assert_close(large, 2 * small, atol=1e-2, rtol=0)


@needs_portraits
def test_landmarks_follow_the_motion(eval_meshes):
    mesh = eval_meshes[:8]
    motion = llw_motion(mesh, (512, 512), operation="mouth_resize", strength=60.0)
    moved = follow(mesh, motion.at)
    assert_close(moved + motion.at(moved), mesh, atol=0.02, rtol=0)
    assert (moved - mesh).norm(dim=-1).amax() > 1


@needs_portraits
def test_a_sequence_at_points_is_the_dense_sequence_there(eval_meshes):
    steps = [("mouth_resize", 70), ("lip_thickness", -60)]
    dense = apply_llw(torch.zeros(1, 3, 512, 512), eval_meshes[0], steps).displacement
    everywhere = pixel_grid(512, 512).flatten(2)[0].T
    at_points = llw_sequence_at(everywhere, eval_meshes[0], (512, 512), steps).T.reshape(1, 2, 512, 512)
    error = (at_points - dense).norm(dim=1).mean() / dense.norm(dim=1).mean()
    assert error < 0.02  # the dense one samples its first field between pixels


@needs_portraits
@every_operation
@pytest.mark.parametrize("strength", [-100, 100])
def test_no_real_face_folds_at_full_strength(eval_meshes, name, strength):
    for mesh in eval_meshes[::4]:
        motion = llw_displacement(mesh, (512, 512), operation=name, strength=strength).displacement
        assert jacobian_determinant(motion).min() > 0


@needs_portraits
@pytest.mark.parametrize(
    "steps",
    [
        [("nose_length", -100), ("mouth_position", -100)],
        [("mouth_position", 100), ("mouth_resize", -100)],
        [("eye_distance", -100), ("nose_alar", 100)],
    ],
)
def test_no_real_face_folds_under_two_strong_steps(eval_meshes, steps):
    everywhere = pixel_grid(512, 512).flatten(2)[0].T
    for mesh in eval_meshes[::24]:
        motion = llw_sequence_at(everywhere, mesh, (512, 512), steps).T.reshape(1, 2, 512, 512)
        assert jacobian_determinant(motion).min() > 0


@needs_portraits
def test_a_strong_motion_moves_no_pixel_outside_the_box_of_its_rings(eval_meshes):
    motion = llw_motion(eval_meshes[:1], (512, 512), operation="mouth_position", strength=-100)
    moved = motion.displacement(pixel_grid(512, 512)).clone()
    left, top, right, bottom = motion.rings[0].box
    assert moved.any()
    moved[..., top:bottom, left:right] = 0
    assert not moved.any()


def test_the_exact_result_is_the_photo_where_nothing_moved(mesh):
    image = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(4))
    edited = apply_llw(image, mesh / 4 + 96, [("eye_resize", 50), ("nose_alar", -50)])
    still = (edited.displacement == 0).all(1, keepdim=True).expand_as(image)
    assert still.any() and not still.all()
    assert torch.equal(edited.image[still], image[still])


def test_a_filled_hull_has_its_outline():
    plane = torch.zeros(12, 12)
    fill_hull(plane, convex_hull(torch.tensor([[2, 2], [9, 2], [9, 8], [2, 8], [5, 5]])))
    expected = torch.zeros(12, 12)
    expected[2:9, 2:10] = 255
    assert torch.equal(plane, expected)


def test_an_unknown_operation_is_refused_with_the_list(mesh):
    with pytest.raises(ValueError, match="eye_resize, eye_distance, .*mouth_resize"):
        llw_displacement(mesh, SIZE, operation="chin_resize", strength=50)


@pytest.mark.parametrize("strength", [101, -100.5, float("nan")])
def test_a_strength_beyond_the_slider_is_refused(mesh, strength):
    with pytest.raises(ValueError, match="-100 to 100"):
        llw_displacement(mesh, SIZE, operation="eye_resize", strength=strength)


def test_a_mesh_with_missing_points_is_refused(mesh):
    mesh[7] = float("nan")
    with pytest.raises(ValueError, match="not found"):
        llw_displacement(mesh, SIZE, operation="eye_resize", strength=50)
