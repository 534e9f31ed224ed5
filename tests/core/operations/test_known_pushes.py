"""Our own body operations are known again on an exemplar, and done to another body as what they are."""

from dataclasses import replace

import pytest
import torch
from standing import SIZE, grid, person
from torch import Tensor
from torch.testing import assert_close

from mirrorppr_core.bodies.frames import Body
from mirrorppr_core.bodies.motion import body_motion, carry
from mirrorppr_core.bodies.named import GROUP_OF, NamedBodyOperation
from mirrorppr_core.bodies.pose_network import MEDIAPIPE_POSE
from mirrorppr_core.mini.operation_file import INNER, TYPES
from mirrorppr_core.operations.body_forms import FORMS, form_displacement_at
from mirrorppr_core.operations.known_pushes import KnownPushes
from mirrorppr_core.operations.on_body import as_pose
from mirrorppr_core.operations.professional import professional_displacement_at
from mirrorppr_core.operations.professional_table import OPERATIONS
from mirrorppr_core.records import from_record, to_record

KNOWN = KnownPushes()
# Narrower hips and longer arms, so that shoulder width and u differ from one to the other.
OTHER = person(scale=1.2, shift=(-20.0, 10.0), shoulder_r=(210, 200), shoulder_l=(290, 200), elbow_r=(160, 320))


def pushed(name: str, body: Body, places: Tensor, *, strength: float = 80.0, side: str = "both") -> Tensor:
    pose = as_pose(body.points, body.told, MEDIAPIPE_POSE)
    pose[[9, 10], :2], pose[[9, 10], 3] = body.eyes + (body.chin - body.eyes) / 1.7, 1.0
    return professional_displacement_at(places, None, pose, operation=name, strength=strength, side=side)


def told(motion: Tensor, body: Body, places: Tensor):
    return body_motion(motion, places, body, 9.0, still_face=True, known=KNOWN)[0]


def test_every_body_operation_of_the_table_is_known():
    assert set(GROUP_OF) == {name for name, operation in OPERATIONS.items() if operation.on_body}


@pytest.mark.parametrize("name", GROUP_OF)
def test_an_own_operation_comes_out_on_another_body_as_if_made_there(name):
    body, places = person(), grid()
    found = told(pushed(name, body, places), body, places)
    assert [one.name for one in found.named] == [name] and not found.fitted and not found.part_map.parts
    assert found.named[0].right == pytest.approx(0.8, abs=0.06) and found.groups() == (GROUP_OF[name][0],)
    where = grid((900, 620), 7)
    moved = (
        carry(found, OTHER, 1.0, (900, 620), None, KNOWN).field.dense()[0][:, where[:, 1].long(), where[:, 0].long()].T
    )
    truth = pushed(name, OTHER, where)
    inside = truth.norm(dim=1) > 0.3
    assert (moved - truth)[inside].norm(dim=1).mean() < 0.15 * truth[inside].norm(dim=1).mean()


@pytest.mark.parametrize("name", GROUP_OF)
def test_joints_that_were_seen_in_the_wrong_place_are_put_where_the_motion_says(name):
    body, places = person(), grid()
    off = 9.0 * torch.randn(body.points.shape, generator=torch.Generator().manual_seed(3))  # of a shoulder width of 120
    found = told(pushed(name, body, places), replace(body, points=body.points + off), places)
    assert [one.name for one in found.named] == [name]
    assert found.named[0].right == pytest.approx(0.8, abs=0.08) == found.named[0].left
    assert found.named[0].reach == pytest.approx(1.0, abs=0.12)


def test_where_hips_cannot_be_told_a_waist_is_that_of_somebody_upright():
    body, places = person(), grid()
    found = told(pushed("body_shape_slim_waist", body, places), body, places)
    moved = carry(found, person(untold=("hip_r", "hip_l")), 1.0, SIZE, None, KNOWN).field.dense()
    full = carry(found, body, 1.0, SIZE, None, KNOWN).field.dense()
    assert (moved - full).norm() < 0.3 * full.norm()


def test_a_motion_beside_the_photo_of_all_operations_is_none_of_them():
    places = torch.tensor([[2000.0, 2000.0], [2010.0, 2000.0]])
    assert KNOWN.explained(torch.ones(2, 2), places, person()) is None


def test_of_an_operation_on_one_side_the_other_side_stays():
    body, places = person(), grid()
    found = told(pushed("body_shape_slim_hand", body, places, side="right"), body, places)
    assert found.named[0].right > 0.7 and abs(found.named[0].left) < 0.02


def test_a_side_that_the_exemplar_does_not_show_gets_what_the_other_one_has():
    body, places = person(untold=("elbow_l", "wrist_l")), grid()
    found = told(pushed("body_shape_slim_hand", body, places), body, places)
    assert found.named[0].left == found.named[0].right > 0.7


@pytest.mark.parametrize("name", FORMS)
def test_the_forms_of_another_tool_are_not_taken_for_ours(name):
    body, places = person(), grid()
    motion = form_displacement_at(places, body, 90.0, operation=name, strength=100)
    assert not told(motion, body, places).named


def test_strength_and_reversal_are_exact_and_a_file_gives_the_same():
    body, places, types = person(), grid(), {kind: t for kind, t in TYPES.items() if kind in INNER}
    found = told(pushed("body_shape_slim_waist", body, places), body, places)
    once = carry(found, OTHER, 1.0, (900, 620), None, KNOWN).field.dense()
    back = carry(found, OTHER, -0.5, (900, 620), None, KNOWN).field.dense()
    assert_close(back, -0.5 * once, atol=1e-4, rtol=1e-4)
    again = from_record(to_record(found, types), types)
    assert_close(carry(again, OTHER, 1.0, (900, 620), None, KNOWN).field.dense(), once)


LEGS = {"thigh_r", "thigh_l", "shin_r", "shin_l"}


def test_what_the_other_body_does_not_tell_stays_and_is_reported():
    body, places = person(), grid()
    found = told(pushed("body_shape_slim_leg", body, places), body, places)
    carried = carry(found, person(untold=("knee_r", "knee_l")), 1.0, SIZE, None, KNOWN)
    assert not carried.field.displacement.numel() and set(carried.missed) == LEGS
    assert not found.limited(["arms"]).moves and found.limited(["legs"]).named == found.named


def test_no_operation_of_ours_is_refused_by_name():
    with pytest.raises(ValueError, match="no body operation 'wings': use one of body_shape_right_shoulder"):
        NamedBodyOperation(name="wings", reach=1.0, right=1.0, left=1.0)
    with pytest.raises(ValueError, match="reaches lie between 0.2 and 5"):
        NamedBodyOperation(name="body_shape_slim_leg", reach=-1.0, right=1.0, left=1.0)
    body, places = person(), grid()
    found = told(pushed("body_shape_slim_leg", body, places), body, places)
    with pytest.raises(ValueError, match="nobody said what that is"):
        carry(replace(found), body, 1.0, SIZE)


def test_no_motion_is_no_operation():
    assert KNOWN.explained(torch.zeros(5, 2), torch.rand(5, 2), person()) is None
