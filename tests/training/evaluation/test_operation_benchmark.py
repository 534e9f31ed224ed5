"""What explaining, averaging and undoing operations is worth: the counting, on answers that are known."""

import numpy as np
import pytest
import torch
from PIL import Image

from mirrorppr_core.geometry.displacement import invert
from mirrorppr_core.geometry.field import Field
from mirrorppr_core.mini.arithmetic import Undone
from mirrorppr_core.mini.editor import Retouched
from mirrorppr_core.operations.llw import apply_llw
from training.evaluation.benchmark_cases import Case, Person
from training.operation_benchmark import _average_report, _explain_report, _reverse_report, averaged, taken_back


class Errs:
    """Knows the truth and goes too far with one pair, not far enough with another, and right with their mean."""

    def __init__(self, truth: torch.Tensor):
        self.truth, self.calls = truth, 0

    def extract(self, exemplar, *, face):
        return "operation"

    def retouch(self, query, operation, config):
        self.calls += 1
        field = Field.from_dense(self.truth * (1.0, 1.3, 0.7)[self.calls % 3])
        return Retouched(image=query, field=field, faces=(), notes=(), num_found=0)


@pytest.fixture
def people(tmp_path):
    y, x = np.mgrid[:256, :256] / 20
    generator = torch.Generator().manual_seed(0)
    made = []
    for name in "abc":
        pixels = np.uint8(127 + 100 * np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1))
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        mesh = 88 + 80 * torch.rand(478, 2, generator=generator)
        made.append(Person(file=f"{name}.png", identity=name, mesh=mesh))
    return made


def test_errors_that_cancel_are_seen_to_cancel(people, tmp_path):
    case = Case(exemplar=people[0], query=people[2], steps=(("mouth_resize", 60.0),))
    truth = apply_llw(torch.zeros(1, 3, 256, 256), people[2].mesh, case.steps).displacement
    row = averaged(Errs(truth), case, people, tmp_path, 2)
    assert row["single"] == pytest.approx(0.3, abs=1e-4) and row["together"] == pytest.approx(0, abs=1e-4)
    assert row["motions"] == pytest.approx(0, abs=1e-4)
    assert _average_report([row])["lower by"] == pytest.approx(1, abs=1e-3)


def test_too_few_readable_pairs_are_no_case(people, tmp_path):
    case = Case(exemplar=people[0], query=people[2], steps=(("mouth_resize", 60.0),))
    truth = torch.zeros(1, 2, 256, 256)
    assert averaged(Errs(truth), case, people, tmp_path, 3) is None


class Undoes(Errs):
    """Does the truth and takes a share of it back."""

    def __init__(self, truth: torch.Tensor, share: float):
        super().__init__(truth)
        self.share = share

    def retouch(self, query, operation, config):
        back = invert(self.share * self.truth, num_iterations=20)
        field = Field.from_dense(back if isinstance(operation, Undone) else self.truth)
        return Retouched(image=query, field=field, faces=(), notes=(), num_found=0)


@pytest.mark.parametrize("share", [1.0, 0.75, 0.0])
def test_what_a_reverse_leaves_is_counted(people, tmp_path, share):
    case = Case(exemplar=people[0], query=people[2], steps=(("mouth_resize", 60.0),))
    truth = apply_llw(torch.zeros(1, 3, 256, 256), people[2].mesh, case.steps).displacement
    row = taken_back(Undoes(truth, share), case, tmp_path)
    assert _reverse_report([row])["motion left, mean"] == pytest.approx(1 - share, abs=0.02)


def test_a_wrong_name_a_refusal_and_a_far_strength_all_count():
    made, found = {"nose_alar": 50.0}, {"nose_alar": 60.0}
    right = {"made": made, "found": found, "first": "nose_alar", "off": 10.0, "named": 1.0, "left_over": 0.1}
    rows = [
        right,
        {**right, "off": 20.0},
        {**right, "first": "x", "off": None, "named": 0.0},
        {"made": made, "refused": "no"},
    ]
    report = _explain_report(rows)["one operation"]
    assert report["cases"] == 4 and report["read"] == 3
    assert report["first_named_is_right"] == 0.5 and report["of_those_strength_within_15"] == 0.5
