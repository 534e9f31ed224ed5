"""Tools whose truth is known, and the list of cases drawn from them."""

import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core.bodies.frames import Body
from mirrorppr_core.bodies.pose_network import JOINTS, MEDIAPIPE_POSE
from mirrorppr_core.operations.body_forms import FORMS, Style, form_displacement_at
from training.body.style_cases import Shown, StyleConfig, list_style_cases
from training.body.tools import BODY_OPERATIONS, BRUSHES, KINDS, drawn_edit, motion_at

STANDING = {
    "shoulder_r": (190, 160), "shoulder_l": (310, 160), "elbow_r": (175, 250), "elbow_l": (325, 250),
    "wrist_r": (170, 330), "wrist_l": (330, 330), "hip_r": (215, 300), "hip_l": (285, 300),
    "knee_r": (212, 400), "knee_l": (288, 400), "ankle_r": (210, 490), "ankle_l": (290, 490),
}  # fmt: skip


def shown(name: str, scale: float = 1.0) -> Shown:
    pose = torch.zeros(33, 4)
    points, told = torch.zeros(len(JOINTS), 2), torch.zeros(len(JOINTS))
    for joint, place in STANDING.items():
        k = JOINTS.index(joint)
        points[k], told[k] = scale * torch.tensor(place, dtype=torch.float32), 1.0
    for joint, place in (("eye_r", (238, 80)), ("eye_l", (262, 80)), ("nose", (250, 92))):
        points[JOINTS.index(joint)], told[JOINTS.index(joint)] = scale * torch.tensor(place, dtype=torch.float32), 1.0
    pose[list(MEDIAPIPE_POSE), :2], pose[list(MEDIAPIPE_POSE), 3] = points, told
    pose[[9, 10]] = torch.tensor([[260.0, 105, 0, 1], [240, 105, 0, 1]]) * torch.tensor([scale, scale, 1, 1])
    eyes, chin = (scale * torch.tensor(p) for p in ((250.0, 80.0), (250.0, 120.0)))
    return Shown(
        pose=pose, body=Body(points, told, eyes, chin, 24.0 * scale), file=name, identity=name, size=(512, 512)
    )


def some_edits():
    generator = torch.Generator().manual_seed(0)
    for kind in KINDS:
        for name in BRUSHES if kind == "brush" else BODY_OPERATIONS:
            yield drawn_edit(kind, name, 80.0, generator)


@pytest.mark.parametrize("edit", some_edits(), ids=lambda edit: edit.group)
def test_opposite_strengths_are_exact_opposites(edit):
    from dataclasses import replace

    person = shown("a")
    points = torch.rand(500, 2, generator=torch.Generator().manual_seed(1)) * 500
    forth = motion_at(edit, person, points, on_query=False)
    back = motion_at(replace(edit, strength=-edit.strength), person, points, on_query=False)
    assert_close(forth, -back)
    assert forth.norm(dim=1).amax() > 0.5


def test_a_slimmer_waist_takes_pixels_from_outside():
    person = shown("a")
    points = torch.tensor([[215.0, 235.0], [285.0, 235.0]])  # right and left flank
    moved = form_displacement_at(points, person.body, person.unit, operation="body_shape_slim_waist", strength=100.0)
    assert moved[0, 0] < -1 and moved[1, 0] > 1


def test_an_edit_of_one_side_leaves_the_other_alone():
    person = shown("a")
    points = torch.tensor([[175.0, 200.0], [325.0, 200.0]])
    for name in ("body_shape_thin_shoulders", "body_shape_slim_hand"):
        how = {"operation": name, "strength": 100.0, "side": "right"}
        moved = form_displacement_at(points, person.body, person.unit, **how).norm(dim=1)
        assert moved[0] > 0.5 and moved[1] == 0


def test_a_form_that_is_none_and_a_style_without_width_are_refused():
    person = shown("a")
    with pytest.raises(ValueError, match="no measured form: use one of body_shape_right_shoulder"):
        form_displacement_at(torch.zeros(1, 2), person.body, 80.0, operation="eyes", strength=1.0)
    with pytest.raises(ValueError, match="use factors above 0"):
        Style(amplitude=0.0)
    assert set(FORMS) == set(BODY_OPERATIONS)


def test_the_list_holds_every_kind_and_is_a_function_of_the_seed():
    people = [shown("a"), shown("b", 1.02), shown("c", 0.95)]
    first, again = (list_style_cases(people, StyleConfig(num_each=1)) for _ in range(2))
    assert [case.label for case in first] == [case.label for case in again]
    assert {case.edit.kind for case in first} == set(KINDS)
    assert all(case.exemplar.identity != case.query.identity for case in first)
