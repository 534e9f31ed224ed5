"""Measuring body retouches: Benchmark B."""

import pytest
import torch
from portraits import PORTRAITS, needs_portraits

from mirrorppr_core.geometry.displacement import length
from training.body.benchmark import (
    BODY_OPERATIONS,
    Body,
    BodyBenchmarkConfig,
    build_case,
    is_plausible,
    list_cases,
    load_bodies,
    write_report,
)
from training.evaluation.benchmark_report import MINI, CaseResult
from training.evaluation.known_truth import Score


def body(name: str, *, legs: bool) -> Body:
    pose = torch.full((33, 4), 60.0)
    pose[:, 3] = 0
    places = {12: (200, 150), 11: (300, 150), 14: (190, 220), 13: (310, 220), 24: (220, 300), 23: (280, 300),
              10: (240, 90), 9: (260, 90), 26: (220, 390), 25: (280, 390), 28: (220, 470), 27: (280, 470)}  # fmt: skip
    for joint, place in places.items():
        pose[joint] = torch.tensor([*place, 0.0, 1.0 if legs or joint < 25 else 0.0])
    return Body(file=f"body/{name}.jpg", identity=name, pose=pose)


def test_a_pose_with_a_shoulder_above_the_mouth_is_a_mistake():
    pose, mesh = torch.zeros(33, 4), torch.zeros(478, 2)
    pose[[11, 12], 1] = torch.tensor([10.0, 10.0])
    assert is_plausible(pose, mesh)
    pose[12, 1] = -1
    assert not is_plausible(pose, mesh)


def test_cases_are_a_function_of_the_seed_and_show_what_both_people_show():
    bodies = [body(name, legs=name == "a") for name in "abc"]
    config = BodyBenchmarkConfig(num_each=2)
    cases = list_cases(bodies, config)
    assert cases == list_cases(bodies, config)
    assert {case.operation for case in cases} == set(BODY_OPERATIONS) - {"body_shape_slim_leg"}
    assert all(case.exemplar.identity != case.query.identity and 60 <= abs(case.strength) <= 100 for case in cases)
    assert {case.strength > 0 for case in cases} == {True, False}


def test_the_report_counts_refusals_and_names_what_no_portrait_shows():
    case = list_cases([body(name, legs=False) for name in "ab"], BodyBenchmarkConfig(num_each=1))[0]
    score = Score(relative_epe=0.5, gain_db=3.0, psnr=40.0, ssim=0.9, changed_outside=0.0, changed_beyond=0.0,
                  seconds=0.5, refused="no face")  # fmt: skip
    result = CaseResult(case=case, scores={MINI: score}, controls={}, extract_seconds=1.0)
    report = write_report([result], BodyBenchmarkConfig())
    assert "body_shape_slim_leg | 0 | no two portraits show it" in report
    assert "| all | 1 | 0.500 [0.500, 0.500] |" in report and "query unchanged: 1." in report


def test_strengths_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="need 0 < min <= max <= 100"):
        BodyBenchmarkConfig(min_strength=90, max_strength=80)


@needs_portraits
def test_the_real_cases_show_what_they_move():
    config = BodyBenchmarkConfig(num_each=1)
    case = list_cases(load_bodies(PORTRAITS), config)[0]
    pictures = build_case(case, PORTRAITS)
    assert float(length(pictures.displacement).amax()) >= config.min_motion_px and 0.005 < pictures.region.mean() < 0.9
    outside = pictures.region[0, 0] == 0
    assert ((pictures.query_after - pictures.query).abs() < 0.2)[0][:, outside].all()
