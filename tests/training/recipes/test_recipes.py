"""Recipes: data that travels, motions that are core's, and what is refused."""

import json

import pytest
import torch
from portraits import PORTRAITS, needs_portraits, real_meshes
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import invert, length, warp
from mirrorppr_core.geometry.field import Field
from mirrorppr_core.operations.llw import apply_llw, llw_displacement
from mirrorppr_core.operations.professional import professional_displacement
from tests.core.operations.test_professional import draw_mesh, draw_pose
from training.data.picture_files import read_picture
from training.recipes.recipe import (
    ALL_OPERATIONS,
    PROFESSIONAL_BODY,
    PROFESSIONAL_FACE,
    SIMULATED,
    WEAKEST,
    Recipe,
    Step,
    apply_recipe,
    can_do,
    draw_recipe,
    operations_for,
    operations_named,
    recipe_displacement,
    recipe_field,
    recipe_folds,
)

SIZE = (192, 160)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one(operation: str, strength: float, side: str = "both", mode: str = "exact") -> Recipe:
    return Recipe(steps=(Step(operation=operation, strength=strength, side=side),), mode=mode)


def full_mesh() -> torch.Tensor:
    """The drawn face, with the points it leaves out put near its features: enough for LLW to have what to move."""
    mesh = draw_mesh()
    generator = seeded(7)
    left_out = (mesh == mesh[7]).all(1)
    mesh[left_out] = torch.tensor([80.0, 95.0]) + 45 * (torch.rand(int(left_out.sum()), 2, generator=generator) - 0.5)
    return mesh


def dense(step: Step, mesh, pose, size) -> torch.Tensor:
    if step.operation in SIMULATED:
        return llw_displacement(mesh, size, operation=step.operation, strength=step.strength).displacement
    return professional_displacement(mesh, pose, size, operation=step.operation, strength=step.strength, side=step.side)


@pytest.fixture(scope="module")
def eval_face():
    """The face of one real portrait, cut out, with its mesh."""
    file, mesh = next(iter(real_meshes().items()))
    (left, top), (right, bottom) = (mesh.amin(0) - 5).long().tolist(), (mesh.amax(0) + 5).long().tolist()
    image = read_picture(PORTRAITS / file)[..., max(top, 0) : bottom, max(left, 0) : right]
    return image, mesh - torch.tensor([max(left, 0.0), max(top, 0.0)])


def picture(seed: int = 0, size=SIZE) -> torch.Tensor:
    coarse = torch.rand(1, 3, size[0] // 8, size[1] // 8, generator=seeded(seed))
    return torch.nn.functional.interpolate(coarse, size, mode="bilinear")


def test_every_operation_is_in_one_group_and_has_a_name_of_its_own():
    assert all((SIMULATED, PROFESSIONAL_FACE, PROFESSIONAL_BODY))
    assert len(set(ALL_OPERATIONS)) == len(ALL_OPERATIONS)


def test_operations_are_named_by_group_or_one_by_one():
    assert operations_named("simulated") == SIMULATED
    assert operations_named("all") == ALL_OPERATIONS
    assert operations_named("jaw_trans, eye_resize,jaw_trans") == ("jaw_trans", "eye_resize")


@pytest.mark.parametrize("text", ["chin_resize", "eye_resize,chin_resize", "", " , "])
def test_unknown_operations_are_answered_with_the_known_ones(text):
    with pytest.raises(ValueError, match="(?s)unknown operation.*simulated.*eye_resize.*body_shape_slim_waist"):
        operations_named(text)


@pytest.mark.parametrize("name", ["chin_resize", "face", "eye_resize,nose_length", ""])
def test_a_step_is_one_operation_and_no_group(name):
    with pytest.raises(ValueError, match="unknown operation.*eye_resize.*body_shape_slim_waist"):
        Step(operation=name, strength=50)


@pytest.mark.parametrize("strength", [101, -100.5, float("nan"), float("inf")])
def test_strengths_outside_the_slider_are_refused(strength):
    with pytest.raises(ValueError, match="-100 to 100"):
        Step(operation="eye_resize", strength=strength)


def test_sides_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="both sides at once"):
        Step(operation="eye_resize", strength=50, side="left")
    with pytest.raises(ValueError, match="both, left, right"):
        Step(operation="mouth_smile", strength=50, side="up")


def test_a_recipe_needs_steps_and_a_mode_that_knows_them():
    with pytest.raises(ValueError, match="at least one Step"):
        Recipe(steps=())
    with pytest.raises(ValueError, match="exact, official"):
        one("eye_resize", 50, mode="fast")
    with pytest.raises(ValueError, match="jaw_trans.*mode='exact'"):
        one("jaw_trans", 50, mode="official")


def test_a_recipe_survives_the_way_through_json():
    recipe = Recipe(
        steps=(Step(operation="eye_resize", strength=-40), Step(operation="mouth_smile", strength=70, side="left"))
    )
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert recipe.one_sided and not one("mouth_smile", 70).one_sided


@pytest.mark.parametrize("stored", [{}, {"mode": "exact", "steps": [{"operation": "eye_resize"}]}, {"steps": 3}])
def test_what_is_no_recipe_is_refused_with_the_form_of_one(stored):
    with pytest.raises(ValueError, match="not a recipe.*'strength'"):
        Recipe.from_json(stored)


def test_drawn_recipes_are_a_function_of_the_seed():
    draws = [[draw_recipe(seeded(seed), ALL_OPERATIONS) for seed in range(20)] for _ in range(2)]
    assert draws[0] == draws[1]
    assert len(set(draws[0])) > 15


def test_drawn_recipes_keep_to_what_was_asked_for():
    recipes = [draw_recipe(seeded(seed), PROFESSIONAL_FACE, max_steps=2) for seed in range(200)]
    steps = [step for recipe in recipes for step in recipe.steps]
    assert {len(recipe.steps) for recipe in recipes} == {1, 2}
    assert all(len({step.operation for step in recipe.steps}) == len(recipe.steps) for recipe in recipes)
    assert {step.operation for step in steps} == set(PROFESSIONAL_FACE)
    strengths = [step.strength for step in steps]
    assert min(map(abs, strengths)) >= WEAKEST == 30 and max(map(abs, strengths)) <= 100
    assert min(strengths) < 0 < max(strengths)
    assert {step.side for step in steps} == {"both", "left", "right"}


def test_draws_that_cannot_be_made_are_refused():
    with pytest.raises(ValueError, match="no operations to draw from"):
        draw_recipe(seeded(), ())
    with pytest.raises(ValueError, match="1 or more"):
        draw_recipe(seeded(), SIMULATED, max_steps=0)
    with pytest.raises(ValueError, match="mode='exact'"):
        draw_recipe(seeded(), ALL_OPERATIONS, mode="official")


@pytest.mark.parametrize("name", ALL_OPERATIONS)
def test_a_step_moves_as_the_dense_field_of_core_does(name):
    """LLW exactly; professional ones are interpolated on a lattice."""
    mesh, pose = full_mesh(), draw_pose()
    for step in (Step(operation=name, strength=100), Step(operation=name, strength=-60)):
        found = recipe_displacement(Recipe(steps=(step,)), mesh, pose, SIZE)
        assert_close(found, dense(step, mesh, pose, SIZE), atol=1e-3 if name in SIMULATED else 0.05, rtol=0)


@needs_portraits
@pytest.mark.parametrize("name", PROFESSIONAL_FACE)
def test_the_lattice_is_fine_enough_on_real_faces(name):
    for mesh in list(real_meshes().values())[::120]:  # 3 faces
        step = Step(operation=name, strength=100)
        error = recipe_displacement(Recipe(steps=(step,)), mesh, None, (512, 512)) - dense(step, mesh, None, (512, 512))
        assert length(error).amax() < 0.06


def test_steps_act_on_landmarks_that_the_steps_before_have_moved():
    mesh = full_mesh()
    image = picture()
    steps = [("mouth_resize", 60.0), ("nose_length", -70.0), ("eye_resize", 80.0)]
    recipe = Recipe(steps=tuple(Step(operation=name, strength=strength) for name, strength in steps))
    expected = apply_llw(image, mesh, steps)
    found = apply_recipe(image, recipe, mesh, None)
    # Core samples the first fields between pixels, which rounds their kinks.
    assert length(found.displacement - expected.displacement).mean() < 0.03 * length(expected.displacement).mean()
    apart = sum(dense(step, mesh, None, SIZE) for step in recipe.steps)
    assert length(apart - found.displacement).amax() > 4 * length(expected.displacement - found.displacement).amax()


def test_the_picture_is_resampled_once_with_the_displacement_that_is_returned():
    image, mesh = picture(), full_mesh()
    recipe = Recipe(steps=(Step(operation="jaw_trans", strength=90), Step(operation="nose_alar", strength=50)))
    pair = apply_recipe(image, recipe, mesh, None)
    assert_close(pair.after, warp(image, pair.displacement), atol=1e-5, rtol=0)
    still = (pair.displacement == 0).all(1, keepdim=True).expand_as(image)
    assert still.any() and torch.equal(pair.after[still], image[still])
    assert torch.equal(pair.before, image)


def test_bytes_stay_bytes():
    image = (picture() * 255).round().byte()
    pair = apply_recipe(image, one("face_trans", 80), full_mesh(), None)
    expected = apply_recipe(image.float() / 255, one("face_trans", 80), full_mesh(), None)
    assert pair.after.dtype == torch.uint8
    assert_close(pair.after.float() / 255, expected.after, atol=0.51 / 255, rtol=0)


def test_the_field_is_the_displacement_on_a_box():
    recipe = one("nasal_tip", 100)
    field = recipe_field(recipe, full_mesh(), None, SIZE)
    assert field.displacement.shape[-2] < SIZE[0] / 3
    assert torch.equal(field.dense(), recipe_displacement(recipe, full_mesh(), None, SIZE))


def test_official_mode_is_the_published_sequence():
    image, mesh = (picture() * 255).round() / 255, full_mesh()
    recipe = Recipe(
        steps=(Step(operation="eye_resize", strength=70), Step(operation="lip_thickness", strength=-50)),
        mode="official",
    )
    expected = apply_llw(image, mesh, [("eye_resize", 70), ("lip_thickness", -50)], mode="official")
    found = apply_recipe(image, recipe, mesh, None)
    assert torch.equal(found.after, expected.image) and torch.equal(found.displacement, expected.displacement)
    as_bytes = apply_recipe((image * 255).round().byte(), recipe, mesh, None)
    assert torch.equal(as_bytes.after, (expected.image * 255).round().byte())


def test_the_two_sides_of_an_operation_add_up_to_both():
    name = "eyebrow_height_left+eyebrow_height_right"
    left, right, both = (recipe_displacement(one(name, 80, side), draw_mesh(), None, SIZE)
                         for side in ("left", "right", "both"))  # fmt: skip
    assert_close(left + right, both, atol=0.02, rtol=0)
    assert left[..., :70].abs().amax() == 0 and right[..., 90:].abs().amax() == 0


@pytest.mark.parametrize("name", PROFESSIONAL_FACE + PROFESSIONAL_BODY)
def test_professional_operations_never_fold(name):
    for seed in (None, 1, 2):
        mesh, pose = draw_mesh(seed), draw_pose(seed)
        for strength in (-100, 100):
            assert not recipe_folds(recipe_field(one(name, strength), mesh, pose, SIZE))


def test_a_fold_is_told():
    ramp = torch.zeros(1, 2, 20, 20)
    ramp[:, 0, 5:15, 5:15] = -1.5 * torch.arange(10.0)
    assert recipe_folds(ramp) and recipe_folds(Field.from_dense(ramp))
    assert not recipe_folds(ramp / 3) and not recipe_folds(torch.zeros(1, 2, 20, 20))


@needs_portraits
@pytest.mark.parametrize("name", SIMULATED + PROFESSIONAL_FACE)
def test_the_inverse_restores_a_face_to_40_db(name, eval_face):
    """A step and its inverse are two resamplings, on top of which a face must not change."""
    image, mesh = eval_face
    motion = recipe_displacement(one(name, 60), mesh, None, tuple(image.shape[-2:]))
    restored = warp(warp(image, motion), invert(motion, num_iterations=12))
    assert -10 * torch.log10((restored - image).square().mean()) > 40


@pytest.mark.parametrize("name", PROFESSIONAL_BODY)
def test_the_inverse_restores_a_body_to_40_db(name):
    image, inside = picture(), (..., slice(12, -12), slice(12, -12))  # what left the picture cannot come back
    motion = recipe_displacement(one(name, 100), None, draw_pose(), SIZE)
    restored = warp(warp(image, motion), invert(motion, num_iterations=12))
    assert -10 * torch.log10((restored - image)[inside].square().mean()) > 40


def test_missing_landmarks_are_named_before_any_work():
    with pytest.raises(ValueError, match="needs the mesh.*no face"):
        apply_recipe(picture(), one("eye_resize", 50), None, draw_pose())
    with pytest.raises(ValueError, match="needs the pose.*no body"):
        recipe_displacement(one("body_shape_slim_waist", 50), draw_mesh(), None, SIZE)


def test_operations_are_offered_where_the_portrait_shows_what_they_move():
    assert operations_for(ALL_OPERATIONS, draw_mesh(), None) == SIMULATED + PROFESSIONAL_FACE
    assert operations_for(ALL_OPERATIONS, None, draw_pose()) == PROFESSIONAL_BODY
    hidden = draw_pose()
    hidden[25:, 3] = 0.1  # no knees
    assert "body_shape_slim_leg" not in operations_for(PROFESSIONAL_BODY, None, hidden)


def test_one_visible_arm_is_enough_for_its_own_side_only():
    pose = draw_pose()
    pose[[14, 16], 3] = 0.1  # the person's right arm
    arm = "body_shape_slim_hand"
    assert arm in operations_for(PROFESSIONAL_BODY, None, pose)
    assert can_do(one(arm, 50), None, pose) and can_do(one(arm, 50, "left"), None, pose)
    assert not can_do(one(arm, 50, "right"), None, pose)
    assert not can_do(one("eye_resize", 50), None, pose)
