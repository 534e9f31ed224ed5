"""Photos and poses that a body retouch cannot do in full: a note or a refusal with the fix; no limb is torn off."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import astronaut, hopper, push, retouched_mouth

from mirrorppr_core.bodies.frames import GROUPS
from mirrorppr_core.bodies.pose import Pose
from mirrorppr_core.bodies.pose_network import JOINTS, MIRROR_JOINTS
from mirrorppr_core.bodies.sources import PoseChoice, seen_pose
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import jacobian_determinant
from mirrorppr_core.geometry.field import Field
from mirrorppr_core.geometry.similarity import fit_similarity
from mirrorppr_core.mini.arithmetic import Limited
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.sliders import Sliders

SHOULDERS = torch.tensor([[-2.5, 4.0], [2.5, 4.0], [-3.0, 8.0], [3.0, 8.0]])
MINI = PoseChoice("mini")


@pytest.fixture(scope="module")
def model() -> MirrorPPR:
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    return MirrorPPR.bundled()


@pytest.fixture(scope="module")
def narrower(model):
    once = push(astronaut(), centre=(110, 300), radius=60, shift=(-9.0, 0.0))
    after = push(once, centre=(330, 300), radius=60, shift=(9.0, 0.0))
    return model.extract(Exemplar(astronaut(), after), poses=[MINI])


@pytest.fixture(scope="module")
def smile(model):
    return model.extract(Exemplar(astronaut(), retouched_mouth(astronaut())), poses=[MINI])


def box_of(model: MirrorPPR, photo: Tensor) -> tuple[int, ...]:
    (face,) = model.extractor.sight.faces(photo)
    return tuple(int(v) for v in face.box)


def given(model: MirrorPPR, photo: Tensor, *, times: float = 1.0, shift: float = 0.0) -> PoseChoice:
    """Shoulders and elbows where a person of this face has them, or so many times as far, or moved down (pixels)."""
    (face,) = model.extractor.sight.faces(photo)
    placed = fit_similarity(model.extractor.sight.locator.mean_face, face.landmarks)
    points, told = torch.zeros(17, 2), torch.zeros(17)
    points[5:9], told[5:9] = placed.apply(times * SHOULDERS) + torch.tensor([0.0, shift]), 1.0
    points[:5], told[:5] = face.landmarks.mean(0), 1.0
    return PoseChoice(given=(Pose(points=points, told=told, source="given"),))


def folds(field: Field) -> float:
    return float(jacobian_determinant(field.dense()).amin())


def test_a_close_up_without_a_body_is_returned_with_a_note(model, narrower):
    x0, y0, x1, y1 = box_of(model, hopper())
    face = hopper()[..., y0 - 10 : y1 - 5, x0 - 15 : x1 + 15].float() / 255
    photo = F.interpolate(face, scale_factor=3.0, mode="bicubic").clamp(0, 1)
    result = model.retouch(photo, narrower, pose=MINI)
    assert torch.equal(result.image, photo)
    assert any("cannot be told in this photo" in note for note in result.notes)


def test_a_body_cut_at_the_frame_is_moved_inside_it_without_a_fold(model, narrower):
    x0, _, x1, y1 = box_of(model, hopper())
    photo = hopper()[..., : y1 + 200, x0 - 60 :].contiguous()  # below the shoulders and through one of them
    result = model.retouch(photo, narrower, pose=given(model, photo))
    assert 1 < result.field.max_px < 40 and folds(result.field) > 0


def test_of_two_people_who_touch_only_the_one_who_is_meant_is_retouched(model, narrower):
    left, right = hopper()[..., :512, 60:452], astronaut()[..., :420]
    photo = torch.cat([left, right], dim=3)
    first, second = sorted(model.extractor.sight.faces(photo), key=lambda face: face.box[0])
    result = model.retouch(photo, narrower, RetouchConfig(face="1"), pose=MINI)
    moved, (x0, y0, x1, y1) = result.field.dense(), (int(v) for v in second.box)
    assert result.field.max_px > 2 and (moved[..., y0:y1, x0:x1] == 0).all(), "the other one's face"
    far = int(second.box[0] + 0.5 * second.size_px)
    assert (moved[..., far:] == 0).all() and folds(result.field) > 0
    assert first.box[2] < second.box[0]


@pytest.mark.parametrize(
    ("times", "shift", "message"),
    [
        (0.15, 0.0, "cannot be this person's"),
        (4.0, 0.0, "cannot be this person's"),
        (1.0, 700.0, "cannot be this person's"),
    ],
)
def test_joints_of_somebody_else_or_of_another_size_are_refused_with_the_fix(model, narrower, times, shift, message):
    pose = given(model, hopper(), times=times, shift=shift)
    with pytest.raises(ValueError, match=message) as told:
        model.retouch(hopper(), narrower, pose=pose)
    assert "give the pose of the same picture and person, or none" in str(told.value)


def test_a_pose_of_somebody_who_is_elsewhere_in_the_photo_is_refused(model, narrower):
    (pose,) = given(model, hopper()).given
    elsewhere = replace(pose, points=pose.points + torch.tensor([400.0, 0.0]))
    with pytest.raises(ValueError, match="holds 1 people and none at the face that is meant"):
        model.retouch(hopper(), narrower, pose=PoseChoice(given=(elsewhere,)))


@pytest.mark.parametrize("seed", range(3))
def test_joints_in_a_jumble_move_little_or_nothing_and_tear_nothing(model, narrower, seed):
    (pose,) = given(model, hopper()).given
    points, told = pose.points.clone(), torch.ones(17)
    jumbled = torch.rand(12, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([512.0, 600.0])
    points[5:] = jumbled
    try:
        result = model.retouch(hopper(), narrower, pose=PoseChoice(given=(Pose(points, told, "given"),)))
    except ValueError as error:
        assert "cannot be this person's" in str(error)
    else:
        assert folds(result.field) > -0.05 and result.field.max_px < 60


def test_a_body_operation_leaves_the_face_and_a_face_operation_the_body(model, narrower, smile):
    x0, y0, x1, y1 = box_of(model, hopper())
    body = model.retouch(hopper(), narrower, pose=MINI).field.dense()
    face = model.retouch(hopper(), smile, pose=MINI).field.dense()
    (found,) = model.extractor.sight.faces(hopper())
    x, y = found.landmarks.round().long().unbind(1)
    assert body.abs().amax() > 2 and (body[..., y, x] == 0).all(), "all of the outline too"
    assert smile.body is None and face.abs().amax() > 1
    size = y1 - y0
    assert (face[..., y1 + size :, :] == 0).all()


def test_an_operation_can_be_limited_to_a_part_of_the_body(model, narrower):
    groups = narrower.body.groups()
    assert "shoulders" in groups or "arms" in groups
    whole = model.retouch(hopper(), narrower, pose=MINI).field.dense()
    same = model.retouch(hopper(), Limited(of=narrower, of_body=GROUPS), pose=MINI).field.dense()
    legs = model.retouch(hopper(), Limited(of=narrower, of_body=("legs",)), pose=MINI).field.dense()
    own = model.retouch(hopper(), Limited(of=narrower, of_body=groups), pose=MINI).field.dense()
    assert torch.equal(same, whole) and (legs == 0).all() and own.abs().amax() > 2
    with pytest.raises(ValueError, match="choose one or more of shoulders, arms"):
        Limited(of=narrower, of_body=("tail",))


def test_sliders_too_are_limited_to_parts_of_the_body(model):
    both, pose = Sliders.of({"body_shape_thin_shoulders": 60, "body_shape_slim_hand": 60}), given(model, hopper())
    joints = replace(pose.given[0], told=(torch.arange(17) < 13).float())
    joints.points[9:11] = joints.points[7:9] + torch.tensor([0.0, 60.0])
    joints.points[11:13] = joints.points[5:7] + torch.tensor([[40.0, 200.0], [-40.0, 200.0]])
    choice = PoseChoice(given=(joints,))
    alone = model.retouch(hopper(), Sliders.of({"body_shape_slim_hand": 60}), pose=choice).field.dense()
    arms = model.retouch(hopper(), Limited(of=both, of_body=("arms",)), pose=choice).field.dense()
    assert alone.abs().amax() > 1 and torch.equal(arms, alone)


def test_the_opposite_strength_is_the_opposite_field_of_the_body(model, narrower):
    forth = model.retouch(hopper(), narrower, RetouchConfig(strength=0.5), pose=MINI).field.dense()
    back = model.retouch(hopper(), narrower, RetouchConfig(strength=-0.5), pose=MINI).field.dense()
    assert forth.abs().amax() > 1 and torch.allclose(back, -forth, atol=1e-3)


def as_seen(model: MirrorPPR, photo: Tensor) -> Pose:
    """The joints of the photo's one person, as our own network tells them and somebody else hands them over."""
    (face,) = model.extractor.sight.faces(photo)
    return replace(seen_pose(model.extractor.sight.body, photo, face), source="given")


NONSENSE = {
    "scattered around the head": lambda p, seed: p.new_tensor([256.0, 260.0]) + (scatter(seed) - 0.5) * 420,
    "scattered over the photo": lambda p, seed: scatter(seed) * torch.tensor([512.0, 600.0]),
    "all in one point": lambda p, seed: p[:1].expand(12, 2),
    "twice as large": lambda p, seed: p[:2].mean(0) + 2 * (p - p[:2].mean(0)),
    "upside down": lambda p, seed: torch.stack([p[:, 0], 300 - p[:, 1]], 1),
    "across and down exchanged": lambda p, seed: p.flip(1),
}


def scatter(seed: int) -> Tensor:
    return torch.rand(12, 2, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", NONSENSE)
@pytest.mark.parametrize("seed", range(3))
def test_a_pose_that_makes_no_sense_is_refused_with_the_fix(model, narrower, kind, seed):
    pose = as_seen(model, hopper())
    points = pose.points.clone()
    points[5:] = NONSENSE[kind](points[5:], seed)
    with pytest.raises(ValueError, match="cannot be this person's") as told:
        model.retouch(hopper(), narrower, pose=PoseChoice(given=(replace(pose, points=points, told=torch.ones(17)),)))
    assert "give the pose of the same picture and person, or none" in str(told.value)


def test_the_true_joints_and_the_same_with_sides_swapped_do_the_same(model, narrower):
    pose, order = as_seen(model, hopper()), list(MIRROR_JOINTS)
    true, swapped = (
        model.retouch(hopper(), narrower, pose=PoseChoice(given=(one,)))
        for one in (pose, replace(pose, points=pose.points[order], told=pose.told[order]))
    )
    exchanged = "the joints given for the query have right and left exchanged: they are used the other way round"
    assert true.field.max_px > 2 and torch.equal(true.image, swapped.image)
    assert set(swapped.notes) == {*true.notes, exchanged}


def test_one_joint_that_cannot_be_right_is_named_and_the_others_are_used(model, narrower):
    pose = as_seen(model, hopper())
    points = pose.points.clone()
    points[JOINTS.index("elbow_l")] = torch.tensor([0.0, 0.0])
    told = torch.maximum(pose.told, (torch.arange(17) == JOINTS.index("elbow_l")).float())
    result = model.retouch(hopper(), narrower, pose=PoseChoice(given=(replace(pose, points=points, told=told),)))
    note = "of the joints given for the query these cannot be right and are not used: left elbow"
    assert note in result.notes
    assert result.field.max_px > 1 and folds(result.field) > 0
