"""Joints that cannot be the face's person: by how people are built, and by what our own network surely sees."""

import re
from dataclasses import replace

import pytest
import torch
from standing import person

from mirrorppr_core.bodies.frames import Body
from mirrorppr_core.bodies.plausible import contradicted, misfit, without_limbs
from mirrorppr_core.bodies.pose import Pose
from mirrorppr_core.bodies.pose_network import JOINTS, MIRROR_JOINTS
from mirrorppr_core.bodies.sources import in_sight

BODY = slice(5, 17)
FEET = {"ankle_r": (220, 340), "ankle_l": (280, 340)}
LEGS = ("knee_r", "knee_l", "ankle_r", "ankle_l")
HIPS = ("hip_r", "hip_l")


def moved(change) -> Body:
    """Somebody who stands, with the joints below the head somewhere else.  change: (12, 2) -> (12, 2)."""
    body = person()
    points = body.points.clone()
    points[BODY] = change(points[BODY])
    return replace(body, points=points)


def about_the_eyes(times: float) -> Body:
    return moved(lambda points: person().eyes + times * (points - person().eyes))


def seen(body: Body, told: float = 0.98) -> Pose:
    return Pose(points=body.points, told=told * (body.told > 0), source="mini")


@pytest.mark.parametrize(
    "joints",
    [
        {},
        {"knee_r": (205, 400), "knee_l": (295, 400), "ankle_r": (205, 500), "ankle_l": (295, 500)},
        {"shoulder_r": (245, 190), "shoulder_l": (255, 190), "hip_r": (245, 360), "hip_l": (262, 362)},
        {"elbow_r": (120, 115), "wrist_r": (110, 20), "elbow_l": (380, 115), "wrist_l": (390, 20)},
        {"elbow_r": (185, 230), "wrist_r": (200, 225), "wrist_l": (250, 250)},
        {"shoulder_r": (205, 175), "shoulder_l": (300, 215), "elbow_r": (180, 280), "elbow_l": (330, 300)},
        {"hip_r": (230, 240), "hip_l": (270, 240), "knee_r": (220, 300), "knee_l": (280, 300), **FEET},
    ],
    ids=["standing", "seated", "from the side", "arms raised", "arms to the camera", "head tilted", "from above"],
)
def test_people_as_they_stand_sit_and_turn_are_believed(joints):
    assert misfit(person(**joints)) is None
    assert without_limbs(person(**joints)).told.equal(person().told)


@pytest.mark.parametrize("times", [0.6, 1.4])
def test_children_and_people_with_a_small_head_are_believed(times):
    assert misfit(about_the_eyes(times)) is None


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (moved(lambda p: p[:1].expand(12, 2)), "in one point"),
        (moved(lambda p: torch.stack([p[:, 0], 200 - p[:, 1]], 1)), "the shoulders do not lie below the face"),
        (moved(lambda p: p + torch.tensor([150.0, 0.0])), "the head does not lie above the shoulders"),
        (moved(lambda p: p + torch.tensor([0.0, 200.0])), "eye distances from the eyes"),
        (moved(lambda p: p.flip(1) * torch.tensor([0.8, 1.0])), "the shoulders"),
        (about_the_eyes(0.2), "eye distances from the eyes|times as large"),
        (about_the_eyes(2.5), "eye distances from the eyes|times as large|longer than anybody's"),
        (person(hip_r=(100, 370), hip_l=(400, 370)), "the hips lie 10.7 eye distances apart"),
        (person(hip_r=(215, 40), hip_l=(285, 40)), "the hips do not lie below the shoulders"),
        (person(wrist_r=(480, 640), wrist_l=(20, 640)), "both forearms would be longer"),
    ],
)
def test_what_nobody_looks_like_is_not_believed(body, why):
    assert re.search(why, str(misfit(body)))


def test_of_joints_scattered_around_the_head_hardly_any_are_believed():
    generator = torch.Generator().manual_seed(0)
    scattered = [
        moved(lambda p: torch.rand(12, 2, generator=generator) * 300 + torch.tensor([100.0, 60.0])) for _ in range(60)
    ]
    proportions = [misfit(body) is None for body in scattered]
    assert sum(proportions) < 15
    both = [
        fits and not contradicted(body, seen(person())).another_body
        for fits, body in zip(proportions, scattered, strict=True)
    ]
    assert sum(both) <= 1


def test_one_limb_that_is_too_long_loses_its_far_joint_and_the_rest_is_believed():
    wrong = person(wrist_r=(480.0, 640.0))
    assert misfit(wrong) is None
    told = without_limbs(wrong).told
    assert told[JOINTS.index("wrist_r")] == 0 and int((told != wrong.told).sum()) == 1


def test_where_little_is_given_little_can_be_wrong():
    nobody = replace(person(), told=torch.zeros(17))
    assert misfit(nobody) is None and contradicted(nobody, seen(person())).joints == ()
    shoulders = person(untold=("elbow_r", "elbow_l", "wrist_r", "wrist_l", *HIPS, *LEGS), shoulder_r=(246, 190))
    close_together = replace(shoulders, points=shoulders.points.clone())
    close_together.points[JOINTS.index("shoulder_l")] = torch.tensor([254.0, 190.0])
    assert misfit(close_together) is None, "from the side shoulders alone tell no size"


def test_the_same_joints_and_the_same_with_sides_swapped_are_not_contradicted():
    body, order = person(), list(MIRROR_JOINTS)
    swapped = replace(body, points=body.points[order], told=body.told[order])
    for given in (body, swapped):
        found = contradicted(given, seen(body))
        assert found.joints == () and found.apart == 0 and not found.another_body


def test_one_joint_elsewhere_is_named_and_the_others_are_believed():
    found = contradicted(person(wrist_l=(230.0, 260.0)), seen(person()))
    assert found.joints == ("wrist_l",) and not found.another_body


def test_a_body_elsewhere_is_another_body_unless_the_network_is_unsure():
    shifted = moved(lambda points: points + torch.tensor([60.0, 60.0]))
    assert contradicted(shifted, seen(person())).another_body
    assert not contradicted(shifted, seen(person(), told=0.5)).another_body
    assert contradicted(shifted, seen(person(), told=0.5)).joints == ()


def test_joints_that_the_network_guesses_beyond_the_photo_contradict_nobody():
    photo = torch.zeros(1, 3, 230, 500)  # ends between the elbows and the hips
    given, own = person(hip_r=(40.0, 330.0)), seen(person())
    assert "hip_r" in contradicted(given, own).joints
    assert float(own.points[JOINTS.index("hip_r"), 1]) > 230
    guessed = in_sight(own, photo)
    assert contradicted(given, guessed).joints == ()
    assert torch.equal(guessed.told > 0, (own.told > 0) & (own.points[:, 1] < 229.5))
