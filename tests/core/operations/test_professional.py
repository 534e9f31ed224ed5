"""Professional operations: the laws that their fields obey on drawn people, and no folds on real ones."""

import math

import pytest
import torch
from portraits import needs_portraits, real_meshes, real_poses
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import changed_mask, compose, invert, jacobian_determinant, length, warp
from mirrorppr_core.operations.professional import professional_displacement, professional_displacement_at
from mirrorppr_core.operations.professional_table import BODY_PAIRS, GROUPS, OPERATIONS, Push

PAIRED = [name for name, operation in OPERATIONS.items() if operation.paired]
ON_FACE = [name for name, operation in OPERATIONS.items() if not operation.on_body]
ON_BODY = [name for name, operation in OPERATIONS.items() if operation.on_body]
every_operation = pytest.mark.parametrize("name", OPERATIONS)
paired_operation = pytest.mark.parametrize("name", PAIRED)
SIZE = (192, 160)

# An average face, upright, 100 wide, the root of the nose at 0: the landmarks that operations use.
# Of pairs (right, left) the right one, x then y; of the midline y.
FACE_PAIRS = {
    (21, 251): (-48, -15), (33, 263): (-32, 2), (46, 276): (-39, -6), (52, 282): (-28, -11), (54, 284): (-43, -23),
    (55, 285): (-9, -6), (58, 288): (-45, 50), (61, 291): (-20, 52), (67, 297): (-25, -33), (70, 300): (-41, -8),
    (93, 323): (-49, 26), (98, 327): (-13, 35), (103, 332): (-36, -29), (105, 334): (-30, -14), (107, 336): (-11, -12),
    (109, 338): (-14, -35), (122, 351): (-4, 7), (127, 356): (-50, 5), (129, 358): (-16, 30), (132, 361): (-48, 38),
    (133, 362): (-13, 4), (136, 365): (-35, 67), (145, 374): (-23, 5), (148, 377): (-9, 86), (149, 378): (-23, 79),
    (150, 379): (-28, 74), (159, 386): (-24, -1), (162, 389): (-50, -6), (172, 397): (-40, 60), (176, 400): (-17, 83),
    (193, 417): (-6, 1), (234, 454): (-50, 15),
}  # fmt: skip
FACE_MIDLINE = {0: 48, 1: 33, 2: 37, 4: 28, 5: 22, 6: 6, 10: -36, 13: 52, 14: 56, 17: 63, 152: 86, 168: 0}
BODY = {
    8: (-7, 0), 10: (-3, 8), 12: (-20, 25), 14: (-29, 52), 16: (-31, 76),
    24: (-12, 76), 26: (-14, 115), 28: (-14, 150),
}  # fmt: skip


def draw_mesh(seed: int | None = None) -> torch.Tensor:
    """The average face in SIZE, or one that a seed turns, scales, narrows and jitters.  (478, 2)."""
    mesh = torch.zeros(478, 2)
    for (right, left), (x, y) in FACE_PAIRS.items():
        mesh[right], mesh[left] = torch.tensor([float(x), y]), torch.tensor([float(-x), y])
    for index, y in FACE_MIDLINE.items():
        mesh[index, 1] = y
    scale, angle, narrow, noise = 0.8, 0.0, 1.0, torch.zeros(478, 2)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        draws = torch.rand(3, generator=generator).tolist()
        scale, angle, narrow = 0.5 + 0.4 * draws[0], (draws[1] - 0.5) * 1.2, 0.75 + 0.35 * draws[2]
        noise = torch.randn(478, 2, generator=generator)
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return ((mesh + noise) * torch.tensor([narrow, 1.0])) @ turn.mT * scale + torch.tensor([80.0, 75.0])


def draw_pose(seed: int | None = None) -> torch.Tensor:
    """Somebody standing, all visible; a seed moves every joint.  (33, 4)."""
    pose = torch.zeros(33, 4)
    pose[:, 3] = 1
    for (right, left), (x, y) in zip(BODY_PAIRS, (BODY[right] for right, _ in BODY_PAIRS), strict=True):
        pose[right, :2], pose[left, :2] = torch.tensor([float(x), y]), torch.tensor([float(-x), y])
    if seed is not None:
        pose[:, :2] += 2 * torch.randn(33, 2, generator=torch.Generator().manual_seed(seed))
    pose[:, :2] += torch.tensor([80.0, 20.0])
    return pose


def field(name: str, strength: float = 100, *, seed: int | None = None, side: str = "both") -> torch.Tensor:
    mesh, pose = draw_mesh(seed), draw_pose(seed)
    return professional_displacement(mesh, pose, SIZE, operation=name, strength=strength, side=side)


def mirrored(landmarks: torch.Tensor, pairs) -> torch.Tensor:
    """Landmarks of the flipped picture."""
    flipped = landmarks.clone()
    for right, left in pairs:
        flipped[right], flipped[left] = landmarks[left], landmarks[right]
    flipped[:, 0] = SIZE[1] - 1 - flipped[:, 0]
    return flipped


def test_every_operation_is_in_one_of_the_groups_of_the_method_and_none_is_empty():
    assert {operation.group for operation in OPERATIONS.values()} == set(GROUPS)


@every_operation
def test_both_signs_have_a_written_meaning_of_their_own(name):
    operation = OPERATIONS[name]
    assert operation.plus and operation.minus and operation.parts
    assert operation.plus != operation.minus


@every_operation
def test_no_strength_is_exactly_no_motion(name):
    assert not changed_mask(field(name, 0)).any()


@every_operation
def test_opposite_strengths_are_opposite_motions(name):
    assert field(name).abs().max() > 0.2
    assert_close(field(name, -100), -field(name, 100), rtol=0, atol=0)
    assert_close(field(name, 50), field(name, 100) / 2)


@every_operation
def test_motion_stays_near_the_parts_it_names(name):
    moved = changed_mask(field(name))[0, 0]
    rows, columns = moved.nonzero().unbind(1)
    operation = OPERATIONS[name]
    landmarks = draw_pose()[:, :2] if operation.on_body else draw_mesh()
    for side in operation.sides().values():
        for push in side:
            ends = landmarks[list(push.at + push.to)]
            reach = max(push.reach) * (landmarks[push.ruler[0]] - landmarks[push.ruler[1]]).norm()
            spread = (ends - ends.mean(0)).norm(dim=-1).max()
            near = (torch.stack([columns, rows], 1) - ends.mean(0)).norm(dim=-1) <= reach + spread + 1
            rows, columns = rows[~near], columns[~near]
    assert len(rows) == 0


@pytest.mark.parametrize("name", [name for name in ON_FACE if OPERATIONS[name].outside])
def test_the_background_is_straight_at_a_distance_from_the_face(name):
    mesh = draw_mesh()
    width = (mesh[454] - mesh[234]).norm()
    away = OPERATIONS[name].outside * width + 1
    beside = torch.stack([mesh[234] - torch.stack([away, away * 0]), mesh[454] + torch.stack([away, away * 0])])
    below = mesh[152] + torch.stack([away * 0, away])
    points = torch.cat([beside, below[None]])
    assert not professional_displacement_at(points, mesh, None, operation=name, strength=100).any()


@paired_operation
def test_left_and_right_add_up_to_both(name):
    left, right = field(name, side="left"), field(name, side="right")
    assert changed_mask(left).any() and changed_mask(right).any()
    assert_close(left + right, field(name))


@paired_operation
def test_left_is_the_persons_own_left(name):
    columns = changed_mask(field(name, side="left"))[0, 0].nonzero()[:, 1].float()
    assert columns.mean() > 80  # the person faces us


@every_operation
@pytest.mark.parametrize("seed", [None, 1])
def test_the_mirrored_person_gets_the_mirrored_motion(name, seed):
    mesh, pose = mirrored(draw_mesh(seed), FACE_PAIRS), mirrored(draw_pose(seed), BODY_PAIRS)
    twin = professional_displacement(mesh, pose, SIZE, operation=name, strength=100)
    expected = field(name, seed=seed).flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    assert_close(twin, expected, rtol=0, atol=1e-4)


@every_operation
def test_a_picture_twice_as_large_moves_twice_as_far(name):
    mesh, pose = draw_mesh(), draw_pose()
    points = pose[:, :2] if OPERATIONS[name].on_body else mesh
    small = professional_displacement_at(points, mesh, pose, operation=name, strength=100)
    large = professional_displacement_at(points * 2, mesh * 2, pose * 2, operation=name, strength=100)
    assert_close(large, small * 2, rtol=1e-4, atol=1e-4)


@every_operation
@pytest.mark.parametrize("seed", range(4))
def test_drawn_people_do_not_fold(name, seed):
    motion = field(name, seed=seed)
    assert jacobian_determinant(motion).min() > 0.2
    assert jacobian_determinant(-motion).min() > 0.2


@every_operation
@pytest.mark.parametrize("strength", [-100, 100])
def test_the_inverse_restores_a_smooth_picture(name, strength):
    waves = torch.linspace(0, 12, SIZE[0])[:, None].sin() * torch.linspace(0, 10, SIZE[1])[None].cos()
    image = (0.5 + 0.4 * waves).expand(1, 3, *SIZE)
    motion = field(name, strength)
    inverse = invert(motion)
    inside = (..., slice(12, -12), slice(12, -12))  # what left the picture cannot come back
    assert length(compose(motion, inverse))[inside].max() < 0.05
    error = (warp(warp(image, motion), inverse) - image)[inside].square().mean()
    assert -10 * torch.log10(error) > 40


@every_operation
def test_motion_at_points_is_what_the_dense_field_has_there(name):
    pixels = torch.tensor([(x, y) for x in range(3, 157, 7) for y in range(5, 187, 7)])
    people = [(draw_mesh(seed), draw_pose(seed)) for seed in (2, 3)]
    mesh, pose = (torch.stack(parts) for parts in zip(*people, strict=True))
    strength = torch.tensor([100.0, -40.0])
    sparse = professional_displacement_at(
        pixels.float().expand(2, -1, -1), mesh, pose, operation=name, strength=strength
    )
    for row, seed in enumerate((2, 3)):
        dense = field(name, float(strength[row]), seed=seed)[0][:, pixels[:, 1], pixels[:, 0]].mT
        assert_close(sparse[row], dense, rtol=1e-4, atol=1e-4)


@every_operation
def test_gradients_reach_the_landmarks_and_are_finite(name):
    mesh, pose = draw_mesh().requires_grad_(), draw_pose().requires_grad_()
    own = pose if OPERATIONS[name].on_body else mesh
    points = own.detach()[:, :2] + 1
    professional_displacement_at(points, mesh, pose, operation=name, strength=100).square().sum().backward()
    assert own.grad.isfinite().all() and own.grad.any()


def test_a_face_outside_the_picture_moves_nothing():
    away = draw_mesh() - 500
    assert not professional_displacement(away, None, SIZE, operation="scale_nose", strength=100).any()


def test_a_hidden_limb_stays_while_the_other_moves():
    pose = draw_pose()
    pose[[14, 16], 3] = 0.1
    moved = professional_displacement(None, pose, SIZE, operation="body_shape_slim_hand", strength=100)
    seen = field("body_shape_slim_hand", side="left")
    assert_close(moved, seen)


def test_a_pose_that_hides_everything_is_refused():
    pose = draw_pose()
    pose[25:, 3] = 0.1
    with pytest.raises(ValueError, match="does not see them"):
        professional_displacement(None, pose, SIZE, operation="body_shape_slim_leg", strength=100)


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="face_trans.*body_shape_slim_waist"):
        field("slim_face")


@pytest.mark.parametrize("strength", [101, -100.5, float("nan")])
def test_strength_outside_its_range_is_refused(strength):
    with pytest.raises(ValueError, match="-100 to 100"):
        field("face_trans", strength)


def test_sides_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="has no sides"):
        field("jaw_trans", side="left")
    with pytest.raises(ValueError, match="both, left, right"):
        field("mouth_smile", side="middle")


def test_landmarks_that_are_missing_or_malformed_are_refused():
    with pytest.raises(ValueError, match="needs the pose"):
        professional_displacement(draw_mesh(), None, SIZE, operation="body_shape_slim_waist", strength=50)
    with pytest.raises(ValueError, match="needs the mesh"):
        professional_displacement(None, draw_pose(), SIZE, operation="face_trans", strength=50)
    with pytest.raises(ValueError, match="478"):
        professional_displacement(draw_mesh()[:130], None, SIZE, operation="face_trans", strength=50)
    with pytest.raises(ValueError, match="not found"):
        professional_displacement(draw_mesh() * float("nan"), None, SIZE, operation="face_trans", strength=50)


def test_a_push_refuses_what_it_cannot_do():
    with pytest.raises(ValueError, match="above 0"):
        Push(at=(1,), ruler=(1, 2), reach=(0.0, 1.0))
    with pytest.raises(ValueError, match="no outward side"):
        Push(at=(1,), to=(2,), ruler=(1, 2), reach=(1.0, 1.0), shift=(0.1, 0.0))


@needs_portraits
@pytest.mark.parametrize("name", ON_FACE)
def test_no_eval_portrait_folds(name):
    for mesh in real_meshes().values():
        # A quarter of the size, so that 241 portraits take a second; the map is smooth, so it hides no fold.
        motion = professional_displacement(mesh / 4, None, (128, 128), operation=name, strength=100)
        assert jacobian_determinant(motion).min() > 0
        assert jacobian_determinant(-motion).min() > 0


@needs_portraits
@pytest.mark.parametrize("name", ON_BODY)
def test_no_body_portrait_folds(name):
    num_shown = 0
    for pose in real_poses().values():
        small = torch.cat([pose[:, :2] / 4, pose[:, 2:]], 1)
        try:
            motion = professional_displacement(None, small, (128, 128), operation=name, strength=100)
        except ValueError:  # the pose hides what the operation moves
            continue
        num_shown += 1
        assert jacobian_determinant(motion).min() > 0
        assert jacobian_determinant(-motion).min() > 0
    assert num_shown >= 10
