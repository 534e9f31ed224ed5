"""The bank and the map: what was made on one body is found on it, and made again on another."""

from dataclasses import replace

import pytest
import torch
from standing import SIZE, STANDING, grid, person
from torch import Tensor
from torch.testing import assert_close

from mirrorppr_core.bodies.families import NAMED, Fitted, motion_of
from mirrorppr_core.bodies.fit import explain, with_sides
from mirrorppr_core.bodies.frames import GROUPS, Body, facing, frames_of, group_of
from mirrorppr_core.bodies.motion import BodyMotion, body_motion, carry
from mirrorppr_core.bodies.part_map import MapPart
from mirrorppr_core.bodies.pose_network import MIRROR_JOINTS
from mirrorppr_core.bodies.unit import measures, shared_unit, unit_of
from mirrorppr_core.geometry.displacement import jacobian_determinant
from mirrorppr_core.mini.operation_file import INNER, TYPES
from mirrorppr_core.records import from_record, to_record

AMPLITUDES = {"lobe": 0.05, "waist": 0.03, "neck": 0.03, "arms": 0.02, "legs": 0.04, "swell": 0.08, "pair": 0.06}


def made(name: str, body: Body, places: Tensor) -> Tensor:
    family = NAMED[name]
    paired = name in ("waist", "neck")
    signs = torch.tensor(
        [1.0 if c.stretch else (1.0 if c.sign > 0 or paired else -1.0) * c.across for c in family.columns]
    )
    fitted = Fitted(name, torch.tensor(family.starts[0]), AMPLITUDES[name] * signs)
    return motion_of(fitted, frames_of(body, unit_of(measures(body))), places)


def told(motion: Tensor, body: Body, places: Tensor) -> BodyMotion:
    return body_motion(motion, places, body, 9.0, still_face=True)[0]


# unit and frames


def test_a_body_twice_as_large_has_twice_the_unit():
    small, large = measures(person()), measures(person(scale=2.0))
    assert unit_of(large) == pytest.approx(2 * unit_of(small))
    assert shared_unit(large, small / unit_of(small)) == pytest.approx(unit_of(large))


def test_the_unit_counts_only_what_both_photos_tell():
    whole, half = measures(person()), measures(person(untold=("hip_r", "hip_l")))
    assert half.isnan().sum() == 1
    assert shared_unit(half, whole / unit_of(whole)) == pytest.approx(unit_of(whole), rel=1e-5)
    nobody = measures(person(untold=tuple(STANDING)))
    assert unit_of(nobody) is None and shared_unit(nobody, whole) is None


def test_an_exemplar_from_the_side_hardly_makes_the_query_larger():
    side = measures(person(shoulder_r=(235, 200), shoulder_l=(265, 200)))
    query = measures(person(untold=("hip_r", "hip_l", "elbow_r", "elbow_l")))
    assert shared_unit(query, side / unit_of(side)) == pytest.approx(1.1 * unit_of(query))


def test_a_query_from_the_side_is_hardly_smaller_than_its_other_measures_say():
    shoulders_only = measures(person(untold=("hip_r", "hip_l", "elbow_r", "elbow_l")))
    query = measures(person(shoulder_r=(235, 200), shoulder_l=(265, 200)))
    assert shared_unit(query, shoulders_only / unit_of(shoulders_only)) == pytest.approx(0.9 * unit_of(query))


def test_beyond_the_crown_the_head_goes_on_as_before():
    """Hair stands above the crown: a place as far above it as the chin lies below is at t = 2."""
    frame = frames_of(person(), 120.0)["head"]
    start, crown = frame.ends()
    _, t = frame.local((2 * crown - start)[None])
    assert float(t) == pytest.approx(2.0, abs=0.2)


def test_every_part_of_a_person_who_shows_has_a_frame_and_a_group():
    names = frames_of(person(), 120.0)
    assert {"trunk", "neck", "head", "shoulder_r", "deltoid_l", "upper_arm_r", "forearm_l", "thigh_r", "shin_l"} <= set(
        names
    )
    assert {group_of(name) for name in names} == set(GROUPS)
    close_up = frames_of(person(untold=tuple(STANDING)), 120.0)
    assert set(close_up) == {"head"}


def test_outward_is_away_from_the_body_on_both_sides():
    frames = frames_of(person(), 120.0)
    for side, left in (("r", 1.0), ("l", -1.0)):
        for part in ("upper_arm", "forearm", "thigh", "shin", "shoulder", "deltoid"):
            assert float(frames[f"{part}_{side}"].outward[0]) * left < -0.9, (part, side)


def test_a_person_from_behind_has_the_sides_swapped():
    order = list(MIRROR_JOINTS)
    front = person()
    behind = replace(front, points=front.points[order], told=front.told[order])
    assert_close(facing(behind).points, front.points)
    assert facing(front) is front


# the bank


@pytest.mark.parametrize("name", AMPLITUDES)
def test_every_operation_of_the_bank_is_recognised_and_explained(name):
    body, places = person(), grid()
    motion = made(name, body, places)
    found = explain(motion, places, frames_of(body, unit_of(measures(body))))
    assert found.fitted[0].name == name and found.share > 0.97


@pytest.mark.parametrize("name", AMPLITUDES)
def test_on_a_larger_person_with_arms_spread_the_same_operation_comes_out(name):
    """Known truth: the operation itself, made on the other body."""
    body, places = person(), grid()
    other = person(scale=1.3, shift=(40.0, 20.0), elbow_r=(110, 270), wrist_r=(60, 350), elbow_l=(390, 280))
    found = told(made(name, body, places), body, places)
    field = carry(found, other, 1.0, (950, 800)).field.dense()[0]
    where = grid((950, 800), 7)
    truth, moved = made(name, other, where), field[:, where[:, 1].long(), where[:, 0].long()].T
    inside = truth.norm(dim=1) > 0.3
    assert (moved - truth)[inside].norm(dim=1).mean() < 0.25 * truth[inside].norm(dim=1).mean()


def test_half_the_motion_is_half_the_operation():
    body, places = person(), grid()
    motion = made("waist", body, places)
    whole, half = (told(share * motion, body, places).fitted[0] for share in (1.0, 0.5))
    assert_close(half.parameters, whole.parameters, atol=1e-3, rtol=0)
    assert_close(half.amplitudes, 0.5 * whole.amplitudes, atol=2e-4, rtol=0)


@pytest.mark.parametrize("strength", [-1.0, 0.5, 2.0])
def test_strength_scales_and_reverses_exactly(strength):
    body, places = person(), grid()
    found = told(made("lobe", body, places), body, places)
    once, other = (carry(found, body, s, SIZE).field for s in (1.0, strength))
    assert_close(other.dense(), strength * once.dense(), atol=1e-4, rtol=1e-4)


def test_an_arm_that_the_exemplar_hides_is_given_what_the_other_one_has():
    body, places = person(untold=("elbow_l", "wrist_l")), grid()
    found = told(made("arms", body, places), body, places)
    moved = carry(found, person(), 1.0, SIZE).field.dense()[0, 0]
    assert moved[200:420, 300:380].abs().amax() > 0.8 * moved[200:420, 120:200].abs().amax() > 0.5


def test_an_edit_of_one_arm_in_full_view_stays_on_that_arm():
    body, places = person(), grid()
    motion = made("arms", body, places) * (places[:, :1] < 250)
    moved = carry(told(motion, body, places), body, 1.0, SIZE).field.dense()[0, 0]
    assert moved[200:420, 300:380].abs().amax() < 0.1 * moved[200:420, 120:200].abs().amax()


def test_a_neck_seen_a_little_off_on_the_exemplar_is_not_carried_to_others():
    body, places = person(), grid()
    off = replace(body, points=body.points + torch.tensor([9.0, 0.0]), chin=body.chin + torch.tensor([9.0, 0.0]))
    moved = carry(told(made("neck", body, places), off, places), body, 1.0, SIZE).field.dense()[0]
    truth = made("neck", body, places)
    again = moved[:, places[:, 1].long(), places[:, 0].long()].T
    assert (again - truth).norm() < 0.2 * truth.norm()


def test_a_brush_of_which_the_photo_shows_the_upper_half_is_taken_to_be_round():
    body, places = person(), grid()
    hips = Fitted("waist", torch.tensor([0.42, 0.0, 0.27, 1.0, 0.2]), torch.tensor([0.06, 0.0, 0.06, 0.0]))
    motion = motion_of(hips, frames_of(body, unit_of(measures(body))), places)
    shown = places[:, 1] < body.middle("hip")[1]
    found = told(motion[shown], body, places[shown])
    (one,) = found.fitted
    assert one.name == "waist" and abs(float(one.parameters[3]) - 1.0) < 0.1
    again = carry(found, body, 1.0, SIZE).field.dense()[0][:, places[:, 1].long(), places[:, 0].long()].T
    assert (again - motion).norm() < 0.3 * motion.norm()


def test_nearly_equal_sides_are_made_one():
    family = NAMED["lobe"]
    fitted = Fitted("lobe", torch.tensor(family.starts[0]), torch.tensor([0.05, 0.0, 0.04, 0.0]))
    assert with_sides(fitted, frames_of(person(), 120.0)).amplitudes.tolist() == pytest.approx([0.045, 0, 0.045, 0])


# the map


def test_a_motion_that_no_operation_is_comes_back_on_its_own_exemplar():
    body, places = person(), grid()
    away = places - torch.tensor([262.0, 300.0])  # a brush that swells the belly
    motion = 0.12 * away * (1 - away.square().sum(1, keepdim=True) / 70**2).clamp_min(0) ** 2
    found = told(motion, body, places)
    moved = carry(found, body, 1.0, SIZE).field.dense()[0][:, places[:, 1].long(), places[:, 0].long()].T
    assert (moved - motion).norm() < 0.35 * motion.norm()


def test_a_brush_on_the_hair_moves_the_hair_of_a_close_up():
    body, places = person(), grid()
    away = places - torch.tensor([285.0, 80.0])
    motion = torch.tensor([3.0, 0.0]) * (1 - away.square().sum(1, keepdim=True) / 25**2).clamp_min(0) ** 2
    found = told(motion, body, places)
    field = carry(found, person(untold=tuple(STANDING)), 1.0, SIZE).field.dense()[0, 0]
    assert "head" in found.groups() and float(field[80, 285]) > 1.5


# carrying

LEGS = {"thigh_r", "thigh_l", "shin_r", "shin_l"}


def test_a_close_up_moves_nothing_and_says_what_is_missing():
    body, places = person(), grid()
    carried = carry(told(made("legs", body, places), body, places), person(untold=tuple(STANDING)), 1.0, SIZE)
    assert not carried.field.displacement.numel() and set(carried.missed) == LEGS


@pytest.mark.parametrize("strength", [1.0, -1.0, 2.0])
def test_at_the_edge_of_the_photo_nothing_is_taken_from_beyond_it(strength):
    """A shoulder that the frame cuts: what lies outside is unknown; the last column repeated shows as streaks."""
    body, places = person(), grid()
    found = told(made("lobe", body, places), body, places)
    field = carry(found, body, strength, (700, 315)).field.dense()[0]
    x = torch.arange(315.0)
    assert field.abs().amax() > 1
    assert (x + field[0] >= 0).all() and (x + field[0] <= 314).all()


def test_what_lies_outside_the_photo_is_reported():
    body, places = person(), grid()
    carried = carry(told(made("legs", body, places), body, places), body, 1.0, (380, 500))
    assert set(carried.beyond) == LEGS


def test_a_motion_far_too_strong_is_softened_and_does_not_fold():
    body, places = person(), grid()
    found = told(made("lobe", body, places), body, places)
    wild = replace(found, fitted=tuple(replace(f, amplitudes=8 * f.amplitudes) for f in found.fitted))
    carried = carry(wild, body, 1.0, SIZE)
    assert carried.softened and float(jacobian_determinant(carried.field.displacement).amin()) > -0.5


def test_nothing_moves_where_it_must_not():
    body, places = person(), grid()
    found = told(made("lobe", body, places), body, places)
    field = carry(found, body, 1.0, SIZE, lambda points: (points[..., 0] > 250).float()[None, None]).field.dense()
    assert field[..., :240].abs().amax() > 1 and (field[..., 262:] == 0).all()


def test_a_limit_to_parts_leaves_the_others_alone():
    body, places = person(), grid()
    found = told(made("lobe", body, places) + made("legs", body, places), body, places)
    legs = carry(found.limited(["legs"]), body, 1.0, SIZE).field.dense()[0]
    assert set(found.groups()) == {"shoulders", "legs"} and found.limited(["legs"]).groups() == ("legs",)
    assert (legs[:, :300] == 0).all() and legs[:, 400:600].abs().amax() > 1
    with pytest.raises(ValueError, match="no body part 'tail': use some of shoulders, arms"):
        found.limited(["tail"])


def test_an_operation_file_gives_the_same_motion():
    body, places, types = person(), grid(), {kind: t for kind, t in TYPES.items() if kind in INNER}
    for motion in (made("arms", body, places), made("arms", body, places).flip(1)):
        found = told(motion, body, places)
        again = from_record(to_record(found, types), types)
        assert_close(carry(again, body, 1.0, SIZE).field.dense(), carry(found, body, 1.0, SIZE).field.dense())


def test_a_damaged_motion_is_refused():
    with pytest.raises(ValueError, match="no family of body operations 'wings': use one of lobe"):
        Fitted("wings", torch.zeros(5), torch.zeros(4))
    with pytest.raises(ValueError, match="waist has 5 parameters and 4 amplitudes"):
        Fitted("waist", torch.zeros(5), torch.zeros(3))
    with pytest.raises(ValueError, match="the map of trunk has coefficients"):
        MapPart("trunk", torch.zeros(2, 3))
    with pytest.raises(ValueError, match="no map of the part 'tail'"):
        MapPart("tail", torch.zeros(2, 3))
