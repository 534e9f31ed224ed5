"""The benchmark of generality: tools of its own, fair cases, and a table that tells a better answer from a worse."""

import os
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core.faces.landmarks import FACE_POINTS
from mirrorppr_core.mini.pipeline import MirrorPPR
from training.evaluation.benchmark_cases import load_people
from training.evaluation.generality import (
    COPY,
    GEOMETRY,
    MINI,
    NUM_EXEMPLARS,
    GeneralityCase,
    GeneralityResult,
    copied_errors,
    generality_report,
    list_generality_cases,
    score_case,
)
from training.evaluation.held_out_tools import _SPOTS, FAMILIES, area, held_out_tool

SHARED = Path(os.environ.get("MIRRORPPR_SHARED", Path(__file__).parents[4] / "shared"))
PORTRAITS = SHARED / "portraits"
needs_portraits = pytest.mark.skipif(
    not (PORTRAITS / "landmarks.npz").exists(), reason=f"{PORTRAITS} is absent: set MIRRORPPR_SHARED"
)


@pytest.fixture(scope="module")
def mesh() -> torch.Tensor:
    return torch.rand(478, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("family", FAMILIES)
def test_one_programme_is_one_rule_for_every_face(family, mesh):
    """A face twice as large moves twice as far, wherever it stands: every unit of a tool is a length of the face."""
    points = mesh[::7]
    for seed in range(4):
        tool = held_out_tool(family, seed)
        moved = tool.motion(mesh, points)
        assert_close(held_out_tool(family, seed).motion(mesh, points), moved)
        if family != "brush":  # its motion is cut off where it is too small to see, which is no length of the face
            larger = tool.motion(2 * mesh + 3, 2 * points + 3)
            assert_close(larger, 2 * moved, atol=1e-3, rtol=1e-3)


def test_programmes_differ(mesh):
    for family in FAMILIES:
        moved = torch.stack([held_out_tool(family, seed).motion(mesh, mesh) for seed in range(5)])
        assert len(torch.unique(moved.sum((1, 2)))) > 1


def test_tools_are_anchored_where_mini_has_no_landmarks():
    anchors = {point for groups in _SPOTS.values() for group in groups for point in group}
    assert len(anchors - set(FACE_POINTS)) > len(anchors) / 2


def test_the_area_of_a_square():
    assert float(area(torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]]))) == 4


def test_the_report_counts_people_and_not_cases():
    people = [type("P", (), {"identity": name, "file": name})() for name in "abcd"]
    case = GeneralityCase(family="brush", seed=0, people=tuple(people))
    errors = {(row, n): 0.1 * n for row in (GEOMETRY, COPY, MINI) for n in NUM_EXEMPLARS}
    gains = {key: 5.0 for key in errors}
    report = generality_report(
        [GeneralityResult(case=case, errors=errors, gains=gains, refused="1 exemplars: no face")]
    )
    assert "| 1 | Mini | 0.100 [0.100, 0.100] | +5.0 [+5.0, +5.0] |" in report
    assert "1 refused" in report and "brush (1)" in report


@pytest.fixture(scope="module")
def model() -> MirrorPPR:
    return MirrorPPR.bundled()


@needs_portraits
def test_motion_copied_to_the_same_face_is_right(model):
    view = model.extractor.sight.view
    person = load_people(PORTRAITS)[0]
    case = GeneralityCase(family="bands", seed=3, people=(person,) * 4)
    assert max(copied_errors(case, view).values()) < 0.1


@needs_portraits
def test_cases_show_four_people_and_one_is_scored_in_every_row(model):
    cases = list_generality_cases(load_people(PORTRAITS), model.extractor.sight.view, per_family=1)
    assert [case.family for case in cases] == list(FAMILIES)
    for case in cases:
        assert len({person.identity for person in case.people}) == 4
    result = score_case(model, cases[2], PORTRAITS)
    assert not result.refused
    assert all(0 < result.errors[MINI, num] < 1 for num in NUM_EXEMPLARS)
    assert result.gains[MINI, 1] > 0
