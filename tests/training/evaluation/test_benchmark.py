"""Benchmark P: fair cases, and a table that cannot be pleased by doing nothing."""

from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from portraits import PORTRAITS, needs_portraits

from mirrorppr_core.geometry.displacement import jacobian_determinant
from mirrorppr_core.geometry.field import Field, apply_field
from mirrorppr_core.mini.editor import Retouched
from mirrorppr_core.operations.llw import apply_llw
from training.benchmark import cases_of, run_benchmark
from training.evaluation.benchmark_cases import BenchmarkConfig, Case, Person, build_case, list_cases, load_people
from training.evaluation.benchmark_report import COPY_QUERY, MINI, ROWS, CaseResult, write_report
from training.evaluation.known_truth import Score

CONFIG = BenchmarkConfig()


@pytest.fixture
def folder(tmp_path):
    """Two drawn portraits: smooth colours of different phase."""
    y, x = np.mgrid[:256, :256] / 20
    for name, phase in (("a", 0), ("b", 2)):
        channels = [np.sin(x + phase), np.cos(y - phase), np.sin(x + y)]
        Image.fromarray(np.uint8(127 + 100 * np.stack(channels, -1))).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def cases():
    """Two cases of different operations on points that are no face but have something to move."""
    generator = torch.Generator().manual_seed(0)
    a, b = (
        Person(file=f"{name}.png", identity=name, mesh=88 + 80 * torch.rand(478, 2, generator=generator))
        for name in "ab"
    )
    return [
        Case(exemplar=a, query=b, steps=(("mouth_resize", 60.0),)),
        Case(exemplar=b, query=a, steps=(("nose_alar", -80.0), ("eye_resize", 50.0))),
    ]


class DoesNothing:
    def extract(self, exemplar, *, face):
        return None if exemplar.before is exemplar.after else "operation"

    def retouch(self, query, operation, config):
        height, width = query.shape[-2:]
        return Retouched(image=query, field=Field.zero(height, width), faces=(), notes=(), num_found=0)


class KnowsTheAnswer(DoesNothing):
    """Recognises the pictures of the cases; a picture or exemplar it does not know stays as it is."""

    def __init__(self, cases, folder):
        pictures = [build_case(case, folder) for case in cases]
        self.steps = {self.key(p.exemplar_after): case.steps for p, case in zip(pictures, cases, strict=True)}
        self.meshes = {self.key(p.query): case.query.mesh for p, case in zip(pictures, cases, strict=True)}

    @staticmethod
    def key(image):
        return float(image.double().sum())

    def extract(self, exemplar, *, face):
        return self.steps.get(self.key(exemplar.after), ())

    def retouch(self, query, operation, config):
        mesh = self.meshes.get(self.key(query))
        if not operation or mesh is None:
            return super().retouch(query, operation, config)
        field = Field.from_dense(apply_llw(query, mesh, operation).displacement)
        return Retouched(image=apply_field(query, field), field=field, faces=(), notes=(), num_found=0)


class Refuses(DoesNothing):
    def extract(self, exemplar, *, face):
        raise ValueError("no face found")


def test_the_true_motion_scores_zero_and_changes_nothing_outside(cases, folder):
    for result in run_benchmark(KnowsTheAnswer(cases, folder), cases, folder, control_every=1):
        score = result.scores[MINI]
        assert score.relative_epe < 1e-6
        assert score.gain_db > 20 and score.ssim > 0.999
        assert score.changed_beyond == 0
        assert result.controls[MINI].identity_px == 0
        assert result.controls[MINI].shuffled > 0.5


def test_doing_nothing_scores_one_and_gains_nothing(cases, folder):
    for result in run_benchmark(DoesNothing(), cases, folder):
        for row in (COPY_QUERY, MINI):
            assert result.scores[row].relative_epe == pytest.approx(1)
            assert result.scores[row].gain_db == 0
            assert result.scores[row].changed_outside == 0


def test_a_refused_case_counts_as_doing_nothing_and_is_named(cases, folder):
    results = run_benchmark(Refuses(), cases, folder)
    assert all(result.scores[MINI].relative_epe == pytest.approx(1) for result in results)
    assert "a.png -> b.png, mouth_resize enlarge: exemplar: no face found" in write_report(results, CONFIG)


def test_the_report_has_every_row_and_is_the_same_every_time(cases, folder):
    results = run_benchmark(KnowsTheAnswer(cases, folder), cases, folder)
    report = write_report(results, CONFIG)
    assert "| copy query | 1.000 [1.000, 1.000]" in report
    assert "| Mini | 0.000 [0.000, 0.000]" in report
    assert "mouth_resize enlarge (1)" in report and "two operations (1)" in report
    assert write_report(results, CONFIG) == report


def test_intervals_are_over_the_people_whom_queries_show_and_not_over_cases(cases):
    """Twenty cases on one person and one case on another: two measurements, not twenty-one."""
    good, bad = (
        Score(relative_epe=error, gain_db=0, psnr=0, ssim=0, changed_outside=0, changed_beyond=0)
        for error in (0.1, 0.9)
    )
    results = [
        CaseResult(case=case, scores=dict.fromkeys((COPY_QUERY, *ROWS), score), controls={}, extract_seconds=0)
        for case, score in [(cases[0], good)] * 20 + [(cases[1], bad)]
    ]
    report = write_report(results, CONFIG)
    assert "| Mini | 0.138 [0.100, 0.900] | 0.100 [0.100, 0.900] |" in report
    assert "over the 2 people whom the queries show" in report


def test_pictures_are_what_a_file_would_hold(cases, folder):
    pictures = build_case(cases[0], folder)
    for image in (pictures.exemplar_after, pictures.query_after):
        assert ((image * 255) - (image * 255).round()).abs().max() < 1e-4
    still = (pictures.displacement == 0).all(1, keepdim=True).expand_as(pictures.query)
    assert torch.equal(pictures.query_after[still], pictures.query[still])


@needs_portraits
def test_cases_cover_operations_evenly_across_people_who_differ():
    people = load_people(PORTRAITS)
    config = BenchmarkConfig(num_single=32, num_combined=14)
    cases = list_cases(people, config)
    assert [case.steps for case in list_cases(people, config)] == [case.steps for case in cases]
    single = Counter(case.label for case in cases if len(case.steps) == 1)
    assert len(single) == 16 and set(single.values()) == {2}
    for case in cases:
        assert case.exemplar.identity != case.query.identity
        assert case.exemplar.file.startswith("eval/") and case.query.file.startswith("eval/")
        assert all(40 <= abs(strength) <= 100 for _, strength in case.steps)
        assert len({name for name, _ in case.steps}) == len(case.steps)


@needs_portraits
def test_every_true_motion_can_be_seen_and_does_not_fold():
    config = BenchmarkConfig(num_single=16, num_combined=4)
    for case in list_cases(load_people(PORTRAITS), config):
        motion = build_case(case, PORTRAITS).displacement
        assert motion.norm(dim=1).max() >= config.min_motion_px
        assert (jacobian_determinant(motion) > 0).float().mean() > 0.99999  # judged on every second pixel


def test_a_set_trained_without_an_operation_is_judged_by_that_operation_alone(cases):
    assert cases_of(cases, ["mouth_resize"]) == cases[:1]
    assert cases_of(cases, ["eye_resize"]) == []  # there it comes with another one
    assert cases_of(cases, ["nose_alar", "eye_resize"]) == cases[1:]
    with pytest.raises(ValueError, match="use names from"):
        cases_of(cases, ["ear_resize"])


def test_a_benchmark_without_cases_is_refused():
    with pytest.raises(ValueError, match="one or more"):
        BenchmarkConfig(num_single=0, num_combined=0)
