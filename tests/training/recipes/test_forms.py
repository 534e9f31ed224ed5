"""Body operations in another tool's form: the same names and directions, core's motion, and drawn beside ours."""

import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core.bodies.frames import facing
from mirrorppr_core.bodies.unit import measures, unit_of
from mirrorppr_core.operations.body_forms import form_displacement_at
from tests.core.operations.test_professional import SIZE, draw_pose
from training.recipes.forms import body_of_pose
from training.recipes.recipe import (
    ALL_OPERATIONS,
    BODY_TOOLS,
    PROFESSIONAL_BODY,
    Recipe,
    Step,
    draw_recipe,
    recipe_displacement,
)
from training.shards.spec import DatasetSpec


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def form(name: str, strength: float = 80.0, side: str = "both") -> Recipe:
    return Recipe(steps=(Step(operation=name, strength=strength, side=side, tool="forms"),))


@pytest.mark.parametrize("name", PROFESSIONAL_BODY)
def test_on_the_lattice_a_form_is_what_core_says(name):
    pose = draw_pose()
    body = body_of_pose(pose)
    dense = recipe_displacement(form(name), None, pose, SIZE)[0]
    y, x = torch.meshgrid(torch.arange(0, SIZE[0], 7), torch.arange(0, SIZE[1], 7), indexing="ij")
    places = torch.stack([x, y], dim=-1).flatten(0, 1).float()
    truth = form_displacement_at(places, body, unit_of(measures(facing(body))), operation=name, strength=80.0)
    assert float(truth.norm(dim=1).amax()) > 0.5
    assert_close(dense[:, places[:, 1].long(), places[:, 0].long()].T, truth, atol=0.15, rtol=0)


@pytest.mark.parametrize("name", PROFESSIONAL_BODY)
def test_strength_reverses_a_form_and_the_sides_add_up(name):
    pose = draw_pose()
    whole = recipe_displacement(form(name), None, pose, SIZE)
    assert_close(recipe_displacement(form(name, -80.0), None, pose, SIZE), -whole)
    sides = [recipe_displacement(form(name, side=side), None, pose, SIZE) for side in ("left", "right")]
    assert_close(sides[0] + sides[1], whole, atol=1e-4, rtol=0)


def test_drawn_recipes_have_every_tool_on_bodies_and_pushes_elsewhere():
    steps = [
        step
        for seed in range(60)
        for step in draw_recipe(seeded(seed), ALL_OPERATIONS[-8:], body_tools=BODY_TOOLS).steps
    ]
    assert {step.tool for step in steps if step.operation in PROFESSIONAL_BODY} == set(BODY_TOOLS)
    assert {step.tool for step in steps if step.operation not in PROFESSIONAL_BODY} <= {"pushes"}


def test_one_tool_alone_draws_the_recipes_that_it_always_drew():
    for seed in range(20):
        ours, other = (draw_recipe(seeded(seed), PROFESSIONAL_BODY, body_tools=(tool,)) for tool in BODY_TOOLS)
        assert [(s.operation, s.strength, s.side) for s in ours.steps] == [
            (s.operation, s.strength, s.side) for s in other.steps
        ]


def test_a_form_survives_json_and_what_has_none_is_refused():
    recipe = form("body_shape_slim_leg", side="left")
    assert Recipe.from_json(recipe.to_json()) == recipe
    with pytest.raises(ValueError, match="use one of pushes, forms; what is not of the body has pushes alone"):
        Step(operation="eye_resize", strength=50, tool="forms")
    with pytest.raises(ValueError, match="use one of pushes, forms"):
        Step(operation="body_shape_slim_leg", strength=50, tool="magic")
    with pytest.raises(ValueError, match="body_tools=.*use one or more of pushes, forms"):
        DatasetSpec(portraits="p", landmarks="mini", operations=PROFESSIONAL_BODY, num_pairs=1, body_tools=("magic",))
