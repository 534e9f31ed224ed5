"""What a user is told of a body: the parts that were read, those that were moved, and those that a photo lacks."""

from dataclasses import replace

import pytest
import torch
from standing import SIZE, grid, person

from mirrorppr_core.bodies.families import FAMILIES, NAMED, Fitted, motion_of
from mirrorppr_core.bodies.frames import facing, frames_of
from mirrorppr_core.bodies.motion import BodyMotion, body_motion, carry
from mirrorppr_core.bodies.part_map import PartMap
from mirrorppr_core.bodies.unit import measures, unit_of
from mirrorppr_core.bodies.words import in_words, named, notes_on

PARTS = {
    "lobe": "both shoulders",
    "waist": "trunk with the waist",
    "neck": "neck",
    "arms": "both upper arms and both forearms",
    "legs": "both thighs and both shins",
    "swell": "trunk with the waist",
    "pair": "trunk with the waist",
}
ARM = ("elbow_l", "wrist_l")
FROM_SIDE = {"shoulder_r": (245.0, 200.0), "shoulder_l": (262.0, 200.0)}


def doing(name: str, *, left: float = 1.0) -> BodyMotion:
    """A family of the bank as it was read on somebody who stands straight.  left: times as much on the left side."""
    family = NAMED[name]
    sides = [left if column.part.endswith("_l") else 1.0 for column in family.columns]
    fitted = Fitted(name, torch.tensor(family.starts[0]), 0.03 * torch.tensor(sides))
    unit = unit_of(measures(person()))
    return BodyMotion(
        measures=measures(person()) / unit, fitted=(fitted,), part_map=PartMap(), still_face=True, largest=0.03,
        joints="mini",
    )  # fmt: skip


def told(motion: BodyMotion, body, size=SIZE, source: str = "given") -> tuple[str, ...]:
    return notes_on(motion, carry(motion, body, 1.0, size), source)


@pytest.mark.parametrize("name", [family.name for family in FAMILIES if family.name in PARTS])
def test_of_every_family_the_parts_are_named_at_extraction_and_at_the_query(name):
    motion = doing(name)
    assert in_words(motion) == f"beside the face: {PARTS[name]}, by the joints of our own network"
    assert told(motion, person()) == (f"beside the face: {PARTS[name]} moved, by the joints of the pose given",)


def test_one_side_alone_is_named_as_such():
    assert in_words(doing("arms", left=0.0)).startswith("beside the face: right upper arm and right forearm, by")


def test_what_an_earlier_release_read_names_no_source():
    assert in_words(replace(doing("waist"), joints="")) == "beside the face: trunk with the waist"
    with pytest.raises(ValueError, match="joints='ours': use one of mini, mediapipe, given"):
        replace(doing("waist"), joints="ours")


def test_a_hidden_limb_is_named_and_the_others_are_moved():
    notes = told(doing("arms"), person(untold=ARM))
    assert notes[0].startswith("beside the face: right upper arm and right forearm moved")
    assert notes[1].startswith("what the exemplar did to left upper arm and left forearm cannot be told in this photo")


def test_a_limb_that_the_frame_cuts_off_is_named():
    notes = told(doing("legs"), person(), size=(560, 500))
    assert notes[1].startswith("what the exemplar did to both shins lies mostly outside this photo")


def test_a_photo_from_the_side_and_an_exemplar_from_the_side_are_said():
    front, side = doing("waist"), person(**FROM_SIDE)
    assert any("this photo shows the person from the side" in note for note in told(front, side))
    turned = replace(front, measures=measures(side) / unit_of(measures(side)))
    assert any("the exemplar shows the person from the side" in note for note in told(turned, person()))
    assert len(told(turned, side)) == 1, "both from the side: nothing to say"


def test_somebody_from_behind_is_moved_as_the_picture_shows_and_named_so():
    order = {"shoulder_r": "shoulder_l", "elbow_r": "elbow_l", "wrist_r": "wrist_l", "hip_r": "hip_l"}
    places = {name: tuple(person().joint(name).tolist()) for pair in order.items() for name in pair}
    behind = person(**{a: places[b] for a, b in order.items()}, **{b: places[a] for a, b in order.items()})
    assert facing(behind) is not behind
    motion = doing("arms", left=0.0)
    seen, other = carry(motion, person(), 1.0, SIZE).field.dense(), carry(motion, behind, 1.0, SIZE).field.dense()
    assert torch.allclose(seen, other, atol=1e-4)


def test_joints_and_limbs_are_named_as_people_name_them():
    assert named(("wrist_r",)) == "right wrist"
    assert named(("upper_arm_r", "shin_l", "knee_l", "upper_arm_l")) == "both upper arms, left shin and left knee"


def test_a_map_names_the_parts_that_it_moves_most():
    body, places = person(), grid()
    frames = frames_of(body, unit_of(measures(body)))
    legs = Fitted("legs", torch.tensor(NAMED["legs"].starts[0]), torch.tensor([0.03, -0.03] * 4))
    brush = motion_of(legs, frames, places) * (places[:, :1] < 250)  # the right leg alone
    found, _ = body_motion(brush, places, body, 9.0, still_face=True)
    assert set(found.parts()) == {"thigh_r", "shin_r"}
