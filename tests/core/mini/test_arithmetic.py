"""Operations made of operations: each law is held on fields, within 0.05 px on a face in 1024 px.

The leaves are named operations, made exactly on the landmarks that they are given: real motions that follow the face.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toys import LOCATOR, astronaut

from mirrorppr_core.faces.landmarks import BROWS, EYE_L, EYE_R, LIPS, NOSE
from mirrorppr_core.faces.locator import Face, Locator
from mirrorppr_core.faces.parts import PARTS
from mirrorppr_core.faces.search import locate
from mirrorppr_core.geometry.arithmetic import apart, destinations, sequence
from mirrorppr_core.geometry.displacement import length
from mirrorppr_core.geometry.field import Field
from mirrorppr_core.mini.arithmetic import (
    AnyOperation,
    Apply,
    Blended,
    Combined,
    Limited,
    LookBefore,
    Scaled,
    Undone,
    averaged,
    combined,
    field_of,
)
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.operations.professional import professional_displacement
from mirrorppr_core.operations.sliders import Sliders

pytest.importorskip("skimage")
SIZE, EXACT_PX = 1024, 0.05
MOUTH = Sliders.of({"mouth_breadth": 80, "high_mouth": -90})
NOSE_TIP = Sliders.of({"nasal_tip": 60, "nose_longer": 100})
JAW = Sliders.of({"mandible_both": -100, "jaw_trans": 60})
EYES = Sliders.of({"eye_trans_both": 70})


@pytest.fixture(scope="module")
def face() -> Face:
    """Eileen Collins, as large as in a portrait of 1024 px."""
    found = locate(Locator.from_file(LOCATOR), astronaut())[0]
    mesh, landmarks = (p - found.mesh.mean(0) for p in (found.mesh, found.landmarks))
    factor = 520 / found.size_px
    landmarks, mesh = landmarks * factor + SIZE / 2, mesh * factor + SIZE / 2
    box = (*landmarks.amin(0).tolist(), *landmarks.amax(0).tolist())
    return replace(found, landmarks=landmarks, mesh=mesh, box=box)


KEPT: dict[tuple[Sliders, bytes], Field] = {}


def apply(leaf: Sliders, strength: float, face: Face) -> Field:
    """Computed on every second pixel, which the smooth motion does not mind, and kept."""
    key = (leaf, face.mesh.numpy().tobytes())
    if key not in KEPT:
        half, mesh = (SIZE // 2, SIZE // 2), (face.mesh + 0.5) / 2 - 0.5
        total = torch.zeros(1, 2, *half)
        for one in leaf.amounts:
            how = {"operation": one.operation, "strength": one.percent, "side": one.side}
            total += professional_displacement(mesh, None, half, **how)
        KEPT[key] = Field.from_dense(total).resized(SIZE, SIZE)
    return KEPT[key].scaled(strength)


@pytest.fixture(scope="module")
def field(face):
    return lambda operation, strength=1.0: field_of(operation, face, apply, strength=strength)


def test_the_leaves_move_far_enough_to_tell(field):
    assert all(field(one).max_px > 4 for one in (MOUTH, NOSE_TIP, JAW, EYES))


# scale


def test_scaled_to_nothing_it_moves_nothing_and_to_all_it_is_the_operation(field):
    for operation in (MOUTH, Combined(steps=(MOUTH, NOSE_TIP)), Undone(of=MOUTH)):
        assert field(Scaled(of=operation, factor=0)).max_px == 0
        assert apart(field(Scaled(of=operation, factor=1)), field(operation)) == 0


def test_scales_multiply(field):
    twice = Scaled(of=Scaled(of=MOUTH, factor=0.5), factor=0.6)
    assert apart(field(twice), field(Scaled(of=MOUTH, factor=0.3))) < 1e-4
    assert apart(field(MOUTH, 0.5), field(Scaled(of=MOUTH, factor=0.5))) < 1e-4


@pytest.mark.parametrize("factor", [-0.1, 2.1, float("nan")])
def test_a_scale_outside_0_to_200_per_cent_is_refused(factor):
    with pytest.raises(ValueError, match="use 0 to 200 %, or undo it"):
        Scaled(of=MOUTH, factor=factor)


def test_scales_that_multiply_to_more_than_200_per_cent_are_refused(field):
    with pytest.raises(ValueError, match="multiply to 300 %: 200 % is the most"):
        field(Scaled(of=MOUTH, factor=1.5), 2.0)


# undo


@pytest.mark.parametrize(
    "operation", [MOUTH, NOSE_TIP, JAW, EYES, Sliders(MOUTH.amounts + NOSE_TIP.amounts + JAW.amounts)]
)
@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_an_operation_and_its_undoing_leave_nothing(field, operation, strength):
    assert field(Combined(steps=(operation, Undone(of=operation))), strength).max_px < EXACT_PX


def test_undoing_first_leaves_nothing_either(field):
    assert field(Combined(steps=(Undone(of=MOUTH), MOUTH))).max_px < EXACT_PX


def test_a_sequence_is_undone_as_a_whole(field):
    both = combined([MOUTH, JAW, NOSE_TIP])
    assert field(combined([both, Undone(of=both)])).max_px < 2 * EXACT_PX  # six fields, each looked up between pixels


def test_undone_twice_it_is_the_operation(field):
    assert apart(field(Undone(of=Undone(of=MOUTH))), field(MOUTH)) < EXACT_PX
    assert apart(field(Undone(of=MOUTH), -1.0), field(MOUTH)) == 0


def test_the_opposite_motion_is_not_the_inverse_which_is_why_there_is_one(face, field):
    opposite = Field.from_dense(-field(MOUTH).dense())
    assert apart(opposite, field(Undone(of=MOUTH))) > 1


def test_the_face_before_is_the_one_that_the_photo_before_shows(face, field):
    """On a retouched face the locator errs by more than on an ordinary one: here by 6 px."""
    done = apply(MOUTH, 1.0, face)
    found = replace(face, landmarks=destinations(face.landmarks, done) + 6, mesh=destinations(face.mesh, done) + 6)
    looked_at = []

    def look(made: Field, near: Face) -> tuple[Face, Apply]:
        looked_at.append(near)
        return face, apply

    def left(look: LookBefore | None) -> float:
        return sequence(done, field_of(Undone(of=MOUTH), found, apply, look=look)).max_px

    assert left(look) < EXACT_PX < 1 < left(None)
    assert float((looked_at[0].mesh - face.mesh).norm(dim=1).median()) < 9  # it is told about where to look


def test_where_the_photo_before_shows_no_face_the_landmarks_are_carried_back(face):
    undone = Undone(of=MOUTH)
    assert apart(field_of(undone, face, apply, look=lambda made, near: None), field_of(undone, face, apply)) == 0


def test_after_other_steps_there_is_no_photo_to_look_at(face):
    def look(made: Field, near: Face) -> None:
        raise AssertionError("nobody has seen the photo in between")

    field_of(Combined(steps=(JAW, Undone(of=MOUTH))), face, apply, look=look)


# combine


def test_brackets_do_not_matter(field):
    left = Combined(steps=(Combined(steps=(MOUTH, JAW)), NOSE_TIP))
    right = Combined(steps=(MOUTH, Combined(steps=(JAW, NOSE_TIP))))
    assert apart(field(left), field(right)) < EXACT_PX
    assert combined([combined([MOUTH, JAW]), NOSE_TIP]) == combined([MOUTH, combined([JAW, NOSE_TIP])])


def test_a_step_acts_on_the_face_that_the_steps_before_have_made(face, field):
    seen = []

    def watching(leaf: Sliders, strength: float, now: Face) -> Field:
        seen.append(now.landmarks)
        return apply(leaf, strength, now)

    field_of(Combined(steps=(MOUTH, EYES)), face, watching)
    moved = (seen[1] - seen[0]).norm(dim=1)
    assert torch.equal(seen[0], face.landmarks)
    assert moved[list(LIPS)].max() > 5 and moved[list(EYE_R + EYE_L)].max() == 0


def test_one_step_alone_is_the_operation(field):
    assert apart(field(Combined(steps=(MOUTH,))), field(MOUTH)) == 0


# blend


def test_a_blend_of_the_same_is_the_same(field):
    assert apart(field(Blended(of=(MOUTH, MOUTH), weights=(0.3, 0.9))), field(MOUTH)) < 1e-4
    assert apart(field(averaged([MOUTH] * 5)), field(MOUTH)) < 1e-4


def test_a_blend_is_the_weighted_mean_of_the_motions(field):
    blended = field(Blended(of=(MOUTH, JAW), weights=(1, 3)))
    mean = Field.from_dense(0.25 * field(MOUTH).dense() + 0.75 * field(JAW).dense())
    assert apart(blended, mean) < 1e-4
    assert apart(field(Blended(of=(MOUTH, JAW), weights=(1, 0))), field(MOUTH)) == 0


@pytest.mark.parametrize("weights", [(0, 0), (1,), (-1, 2), (float("nan"), 1)])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(ValueError, match="give each one a weight from 0, not all 0"):
        Blended(of=(MOUTH, JAW), weights=weights)


# limit


def bits(field: Field, points: Tensor) -> Tensor:
    x, y = points.round().long().T
    return field.dense()[0, :, y, x]


EVERYTHING = Sliders(MOUTH.amounts + NOSE_TIP.amounts + JAW.amounts + EYES.amounts)
OWN = {"mouth": LIPS, "nose": NOSE[1:], "eyes": EYE_R + EYE_L, "brows": BROWS}


@pytest.mark.parametrize("part", ["mouth", "nose", "eyes"])
def test_limited_to_a_part_the_other_parts_keep_their_bits(face, field, part):
    limited, whole = field(Limited(of=EVERYTHING, parts=(part,))), field(EVERYTHING)
    own = face.landmarks[list(OWN[part])]
    assert bits(limited, own).abs().max() > 0.5 * bits(whole, own).abs().max()
    for other in {"mouth", "nose", "eyes"} - {part}:
        middle = face.landmarks[list(OWN[other])].mean(0, keepdim=True)
        around = middle + torch.randn(20, 2, generator=torch.Generator().manual_seed(0)) * 4
        around = around if other != "eyes" else face.landmarks[list(EYE_R)].mean(0, keepdim=True)
        assert (bits(limited, around) == 0).all(), other


def test_the_parts_add_up_to_the_whole(face, field):
    total = sum(field(Limited(of=EVERYTHING, parts=(part,))).dense() for part in PARTS)
    assert float(length(total - field(EVERYTHING).dense()).amax()) < EXACT_PX
    assert apart(field(Limited(of=EVERYTHING)), field(EVERYTHING)) == 0


def test_limited_to_one_side_the_other_keeps_its_bits(face, field):
    left = field(Limited(of=EYES, side="left"))
    assert (bits(left, face.landmarks[list(EYE_R)]) == 0).all()
    assert apart(left, Field.from_dense(apply(EYES, 1, face).dense() * 0)) > 5


def test_where_a_mask_is_black_pixels_keep_their_bits(field):
    mask = torch.zeros(SIZE, SIZE)
    mask[:, SIZE // 2 :] = 1
    limited = field(Limited(of=JAW, region=mask))
    assert (limited.dense()[..., : SIZE // 2] == 0).all()
    assert torch.equal(limited.dense()[..., SIZE // 2 :], field(JAW).dense()[..., SIZE // 2 :])


def test_a_mask_of_another_photo_is_refused(field):
    with pytest.raises(ValueError, match="limited by a mask of 300x200 but the query is 1024x1024"):
        field(Limited(of=JAW, region=torch.ones(200, 300)))


# sets and emptiness


def extracted(set_id: str) -> Operation:
    zeros = torch.zeros(1, 2, 4, 4)
    return Operation(tokens=torch.zeros(1, 1, 1), motion=zeros, shape=zeros, atoms=zeros[:, None], set_id=set_id)


@pytest.mark.parametrize(
    "make", [lambda several: combined(several), lambda several: averaged(several)], ids=["combined", "averaged"]
)
def test_operations_of_different_sets_are_refused(make):
    several: list[AnyOperation] = [extracted("aaa"), Scaled(of=extracted("bbb"), factor=0.5)]
    with pytest.raises(ValueError, match=r"different sets \(aaa, bbb\): extract them all with one set"):
        make(several)
    assert make([extracted("aaa"), MOUTH]).set_id == "aaa"
    with pytest.raises(ValueError, match="connect one or more"):
        make([])


def test_only_what_moves_nothing_leaves_every_photo_as_it_is():
    assert combined([extracted("a"), Sliders(())]).is_identity
    assert not combined([extracted("a"), MOUTH]).is_identity
