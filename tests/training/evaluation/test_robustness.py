"""Disturbed photos: the truth goes along exactly, and what a disturbance costs is told fairly."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import bump
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import length, warp
from mirrorppr_core.geometry.field import Field
from mirrorppr_core.mini.editor import Retouched
from training.evaluation.benchmark_cases import Case, Person, build_case
from training.evaluation.benchmark_report import MINI
from training.evaluation.disturbances import COMBINED, SINGLE, Disturbance
from training.robustness import EXEMPLAR, QUERY, added, measure, write_report

NAMES = [disturbance.name for disturbance in (*SINGLE, *COMBINED)]


def drawn(size: int = 256, phase: float = 0.0) -> torch.Tensor:
    """A smooth colourful picture, (1, 3, size, size), multiples of 1/255."""
    y, x = torch.meshgrid(torch.arange(size) / 12.0, torch.arange(size) / 12.0, indexing="ij")
    picture = torch.stack([(x + phase).sin(), (y - phase).cos(), (x + y).sin()])[None] * 0.35 + 0.5
    return (picture * 255).round() / 255


def middle(image: torch.Tensor, share: float = 0.5) -> torch.Tensor:
    rows, columns = (round(side * (1 - share) / 2) for side in image.shape[-2:])
    return image[..., rows:-rows, columns:-columns]


@pytest.mark.parametrize("disturbance", [d for d in SINGLE if d.name.startswith(("turned", "half", "twice"))])
def test_the_carried_motion_takes_the_disturbed_query_to_the_disturbed_target(disturbance):
    query = drawn()
    motion = bump(256, 256, centre=(120, 136), radius=60, shift=(7.0, -4.0))
    predicted = warp(disturbance.picture(query), disturbance.motion(motion))
    target = disturbance.picture(warp(query, motion))
    assert (middle(predicted) - middle(target)).abs().max() < 0.02
    assert (middle(disturbance.picture(query)) - middle(target)).abs().max() > 0.15  # it is seen if it is not carried


def test_motion_grows_with_the_picture_and_keeps_its_length_when_turned():
    motion = bump(128, 128, centre=(64, 60), radius=40, shift=(5.0, 2.0))
    longest = float(length(motion).max())
    assert float(length(Disturbance(name="larger", scale=2.0).motion(motion)).max()) == pytest.approx(
        2 * longest, rel=0.01
    )
    turned = Disturbance(name="turned", degrees=20).motion(motion)
    assert float(length(turned).max()) == pytest.approx(longest, rel=0.01)


def test_turning_by_a_positive_angle_is_clockwise():
    motion = torch.zeros(1, 2, 65, 65)
    motion[:, 0] = 1.0  # everything comes from the right
    turned = Disturbance(name="turned", degrees=30).motion(motion)[0, :, 32, 32]
    assert_close(turned, torch.tensor([3**0.5 / 2, 0.5]))  # now from the lower right, since y points down


@pytest.mark.parametrize("name", ["JPEG 60", "20 % brighter", "20 % darker", "grey"])
def test_colours_do_not_move(name):
    disturbance = next(d for d in SINGLE if d.name == name)
    motion = torch.rand(1, 2, 32, 32)
    assert torch.equal(disturbance.motion(motion), motion)
    picture = disturbance.picture(drawn(64))
    assert picture.shape == (1, 3, 64, 64) and not torch.equal(picture, drawn(64))


@pytest.mark.parametrize("disturbance", [*SINGLE, *COMBINED], ids=NAMES)
def test_disturbed_pictures_are_what_a_file_would_hold_and_come_out_the_same_every_time(disturbance):
    picture = disturbance.picture(drawn(96))
    assert ((picture * 255) - (picture * 255).round()).abs().max() < 1e-4
    assert picture.amin() >= 0 and picture.amax() <= 1
    assert torch.equal(picture, disturbance.picture(drawn(96)))


def test_an_undisturbed_picture_is_the_picture():
    assert torch.equal(Disturbance(name="none").picture(drawn()), drawn())


def test_impossible_disturbances_are_refused():
    with pytest.raises(ValueError, match="-45 to 45"):
        Disturbance(name="on its head", degrees=180)
    with pytest.raises(ValueError, match="1 to 100"):
        Disturbance(name="no quality", jpeg=0)


@pytest.fixture
def folder(tmp_path):
    for name, phase in (("a", 0.0), ("b", 2.0)):
        pixels = (drawn(phase=phase)[0].permute(1, 2, 0) * 255).round().byte().numpy()
        Image.fromarray(np.ascontiguousarray(pixels)).save(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture
def cases():
    generator = torch.Generator().manual_seed(0)
    a, b = (Person(file=f"{n}.png", identity=n, mesh=88 + 80 * torch.rand(478, 2, generator=generator)) for n in "ab")
    return [
        Case(exemplar=a, query=b, steps=(("mouth_resize", 60.0),)),
        Case(exemplar=b, query=a, steps=(("nose_alar", -80.0),)),
    ]


class DoesNothing:
    """Refuses exemplars larger than 256 px; queries are returned unchanged."""

    def extract(self, exemplar, *, face):
        if exemplar.before.shape[-1] > 256:
            raise ValueError("too large")
        return "operation"

    def retouch(self, query, operation, config):
        return Retouched(image=query, field=Field.zero(*query.shape[-2:]), faces=(), notes=(), num_found=0)


class KnowsTheQuery(DoesNothing):
    """Right on the two queries as they are, and does nothing to any other picture."""

    def __init__(self, cases, folder):
        built = [build_case(case, folder) for case in cases]
        self.motions = {float(pictures.query.double().sum()): pictures.displacement for pictures in built}

    def retouch(self, query, operation, config):
        motion = self.motions.get(float(query.double().sum()))
        done = super().retouch(query, operation, config)
        return done if motion is None else replace(done, field=Field.from_dense(motion))


def test_doing_nothing_costs_nothing_more_on_a_worse_photo(cases, folder):
    results = measure(DoesNothing(), cases, folder, [SINGLE[0], SINGLE[2], SINGLE[4]])
    for result in results:
        assert len(result.trials) == 6
        assert all(trial.errors[MINI] == pytest.approx(1) for trial in (result.clean, *result.trials))
    assert added(results, 0, MINI).value == pytest.approx(0)


def test_what_a_disturbance_costs_is_the_difference_to_the_same_case_undisturbed(cases, folder):
    darker = Disturbance(name="darker", brightness=0.5)
    results = measure(KnowsTheQuery(cases, folder), cases, folder, [darker])
    assert all(result.clean.errors[MINI] < 1e-6 for result in results)
    assert [trial.side for trial in results[0].trials] == [QUERY, EXEMPLAR]
    assert added(results, 0, MINI).value == pytest.approx(1)  # the darker query is one it does not know
    assert added(results, 1, MINI).value == pytest.approx(0)  # a darker exemplar is all one to it
    report = write_report(results, [darker])
    assert "| darker | +1.000 [+1.000, +1.000]" in report and "**no**" in report
    assert report == write_report(results, [darker])


def test_refusals_are_counted_and_cost_what_doing_nothing_costs(cases, folder):
    larger = Disturbance(name="larger", scale=1.5)
    results = measure(KnowsTheQuery(cases, folder), cases, folder, [larger])
    assert [trial.refused for trial in results[0].trials] == ["", "exemplar: too large"]
    assert added(results, 1, MINI).value == pytest.approx(1)
    assert "| larger | +1.000 [+1.000, +1.000] | +1.000 [+1.000, +1.000] | 2 | **no** |" in write_report(
        results, [larger]
    )
