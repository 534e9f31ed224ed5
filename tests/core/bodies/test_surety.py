"""Joints that are hardly told, wrong, or raised: less of the motion, none of it, or all of it along the limb."""

import pytest
import torch
from standing import SIZE, grid, person
from torch.testing import assert_close

from mirrorppr_core.bodies.families import NAMED, Fitted, motion_of
from mirrorppr_core.bodies.frames import frames_of
from mirrorppr_core.bodies.motion import body_motion, carry
from mirrorppr_core.bodies.plausible import misfit
from mirrorppr_core.bodies.pose import Pose
from mirrorppr_core.bodies.pose_network import JOINTS
from mirrorppr_core.bodies.sources import body_of
from mirrorppr_core.bodies.unit import measures, unit_of
from mirrorppr_core.faces.locator import Face

ARMS = Fitted("arms", torch.tensor(NAMED["arms"].starts[0]), torch.tensor([0.02, -0.02] * 4))


def unsure(told: float, *names: str):
    body = person()
    for name in names:
        body.told[JOINTS.index(name)] = told
    return body


def arms_of(body):
    """What slims both arms of somebody who stands straight, told on this body's joints."""
    frames, places = frames_of(person(), unit_of(measures(person()))), grid()
    return body_motion(motion_of(ARMS, frames, places), places, body, 9.0, still_face=True)[0]


@pytest.mark.parametrize(("told", "share"), [(1.0, 1.0), (0.96, 0.9), (0.75, 0.75), (0.5, 0.646)])
def test_a_limb_that_is_hardly_told_moves_less_and_the_other_one_in_full(told, share):
    found = arms_of(person())
    full = carry(found, person(), 1.0, SIZE).field.dense()
    less = carry(found, unsure(told, "elbow_r"), 1.0, SIZE).field.dense()
    assert_close(less[..., 260:], full[..., 260:], atol=0.02, rtol=0)
    assert_close(less[..., :225], share * full[..., :225], atol=0.05, rtol=0)


def test_along_a_raised_arm_the_motion_turns_with_it():
    raised = {"elbow_r": (120.0, 115.0), "wrist_r": (110.0, 20.0)}
    found, other = arms_of(person()), person(**raised)
    moved = carry(found, other, 1.0, SIZE).field.dense()[0]
    frame = frames_of(other, unit_of(measures(other)))["upper_arm_r"]
    place = frame.origin + 0.5 * frame.length * frame.along + 0.13 * frame.unit * frame.outward
    there = moved[:, int(place[1]), int(place[0])]
    assert float(there @ frame.outward) > 0.8 * 0.02 * frame.unit and abs(float(there @ frame.along)) < 0.3


def test_a_limb_that_is_far_too_long_is_a_mistake_and_is_left_alone():
    found = arms_of(person())
    moved = carry(found, person(wrist_r=(480.0, 640.0)), 1.0, SIZE).field.dense()[0]
    assert (moved[:, 460:] == 0).all() and moved[:, :300].abs().amax() > 1


def face_at(eyes: tuple[float, float], mean_face: torch.Tensor, size: float = 28.0) -> Face:
    points = mean_face * size + torch.tensor(eyes)
    box = (*points.amin(0).tolist(), *points.amax(0).tolist())
    return Face(points, torch.zeros(478, 2), score=1.0, disagreement=1.0, box=box)


MEAN_FACE = torch.randn(130, 2, generator=torch.Generator().manual_seed(0)) * 0.4


def test_joints_that_cannot_be_the_faces_are_told_by_size_or_place():
    body = person()
    pose = Pose(points=body.points, told=body.told, source="given")
    face = face_at((250.0, 100.0), MEAN_FACE)
    assert misfit(body_of(pose, face, MEAN_FACE)) is None
    tiny = Pose(points=body.points * 0.1 + torch.tensor([225.0, 180.0]), told=body.told, source="given")
    assert "times as large as the face says" in misfit(body_of(tiny, face, MEAN_FACE))
    elsewhere = Pose(points=body.points + torch.tensor([0.0, 200.0]), told=body.told, source="given")
    assert "eye distances from the eyes" in misfit(body_of(elsewhere, face, MEAN_FACE))


def test_only_our_own_networks_numbers_count_as_probabilities():
    body, face = person(), face_at((250.0, 100.0), MEAN_FACE)
    for source, expected in (("mini", 0.6), ("given", 1.0), ("mediapipe", 1.0)):
        seen = body_of(Pose(points=body.points, told=0.6 * body.told, source=source), face, MEAN_FACE)
        assert float(seen.told[JOINTS.index("hip_r")]) == pytest.approx(expected)
    unseen = body_of(Pose(points=body.points, told=0.4 * body.told, source="mini"), face, MEAN_FACE)
    assert not unseen.told.any()
    lost = Pose(points=body.points * float("nan"), told=body.told, source="given")
    assert not body_of(lost, face, MEAN_FACE).told.any()
