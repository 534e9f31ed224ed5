"""The endless family of random tools: one programme on every face, and batches that are a function of the step."""

import pytest
import torch
from toys import SEEING

from mirrorppr_core.faces.landmarks import MIRROR_130
from mirrorppr_core.faces.view import CanonicalView
from training.mini.drawn_faces import drawn_mean_face
from training.tools.family import ToolFaces, ToolSource
from training.tools.stage import CarryStage
from training.tools.steps import draw_steps
from training.tools.webs import draw_webs


@pytest.fixture(scope="module")
def view() -> CanonicalView:
    return CanonicalView(SEEING.view, drawn_mean_face())


@pytest.fixture(scope="module")
def faces(view) -> ToolFaces:
    points = view.template + 1.2 * torch.randn(12, *view.template.shape, generator=torch.Generator().manual_seed(0))
    return ToolFaces(points, torch.ones(12), tuple(f"person {i // 2}" for i in range(12)))


@pytest.mark.parametrize("draw", [draw_steps, draw_webs])
def test_a_tool_done_to_a_face_twice_as_large_moves_twice_as_far(draw):
    face = drawn_mean_face()
    tools, points = draw(torch.Generator().manual_seed(0), 40, face), face[None, None, ::7]
    once, twice = tools.motion(face[None, None], points), tools.motion(2 * face[None, None], 2 * points)
    finite = once.isfinite().flatten(1).all(1)
    assert finite.float().mean() > 0.9
    torch.testing.assert_close(twice[finite], 2 * once[finite], rtol=1e-2, atol=1e-3)


def test_mirrored_steps_do_the_same_to_both_sides_of_a_mirrored_face():
    face, turn = drawn_mean_face(), torch.tensor([-1.0, 1.0])
    steps = draw_steps(torch.Generator().manual_seed(1), 60, face)
    steps = steps[steps.mirrored.bool() & ~steps.own_axis.bool()]
    here = steps.motion(face[None, None], face[None, None])
    there = steps.motion((face * turn)[list(MIRROR_130)][None, None], face[None, None] * turn) * turn
    torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)


def test_a_batch_follows_from_seed_and_step_alone_in_parts_as_in_one(faces, view):
    source, again = ToolSource(faces, view, seed=3), ToolSource(faces, view, seed=3)
    again.batch(0, 4, 0, 1)  # whatever was drawn before
    whole = source.batch(5, 4, 0, 1)
    parts = [again.batch(5, 4, part, 2) for part in (0, 1)]
    for name in ("motions", "exemplar_points", "query_points", "target"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(part, name) for part in parts]))
    assert not torch.equal(whole.target, ToolSource(faces, view, seed=4).batch(5, 4, 0, 1).target)


def test_nobody_trains_and_judges(faces):
    training, held_out = faces.divided(held_out=0.3, seed=0)
    assert not set(training.identity) & set(held_out.identity)
    assert len(training.identity) + len(held_out.identity) == 12


def test_the_stage_begins_as_the_plain_copy_and_learns(faces, view):
    torch.manual_seed(0)
    stage, source = CarryStage(view), ToolSource(faces, view, seed=0)
    batch = source.batch(0, 16, 0, 1)
    _, numbers = stage(batch, torch.Generator())
    assert numbers["relEPE"] == pytest.approx(numbers["copied"])
    optimizer = torch.optim.Adam(stage.parameters(), lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        stage(batch, torch.Generator())[0].backward()
        optimizer.step()
    assert stage(batch, torch.Generator())[1]["relEPE"] < 0.9 * numbers["copied"]
