"""From one before/after pair to a retouched photo, with real faces and random small networks.

How good the retouch is depends on training; what is held here must be true of any weights.
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close
from toys import SEEING, astronaut, hopper, push, retouched_mouth, save_set, seeded

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import jacobian_determinant
from mirrorppr_core.mini.editor import RetouchConfig, Retouched
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.pipeline import MirrorPPR

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MirrorPPR:
    return MirrorPPR.from_folder(save_set(tmp_path_factory.mktemp("set"), config=SEEING))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory) -> MirrorPPR:
    """The same but for a field network as it is before training."""
    return MirrorPPR.from_folder(save_set(tmp_path_factory.mktemp("set"), config=SEEING, trained=False))


@pytest.fixture(scope="module")
def operation(model) -> Operation:
    return model.extract(Exemplar(astronaut(), retouched_mouth(astronaut())))


@pytest.fixture(scope="module")
def result(model, operation) -> Retouched:
    return model.retouch(hopper(), operation)


def two_people() -> Tensor:
    """Grace Hopper left, Eileen Collins right."""
    return torch.cat([hopper()[..., :512, :], astronaut()], dim=3)


def floats(photo: Tensor) -> Tensor:
    return photo.float() / 255


# what is extracted


def test_extractor_and_editor_of_a_set_see_with_one_locator_encoder_and_body_network(model):
    assert model.extractor.sight is model.editor.sight


def test_an_operation_tells_how_far_the_exemplar_moved(operation):
    assert operation.largest_px == pytest.approx((5**2 + 3**2) ** 0.5, rel=0.15)
    assert not operation.is_identity and not [note for note in operation.notes if not note.startswith("confidence")]
    assert operation.tokens.shape == (1, SEEING.rformer.num_queries, SEEING.rformer.width)


def test_applied_to_its_own_exemplar_the_copied_motion_gives_the_after_back(model, operation):
    before, after = floats(astronaut()), floats(retouched_mouth(astronaut()))
    again = model.retouch(before, operation, RetouchConfig(refine=False)).image
    assert (again - after).square().sum() < 0.1 * (before - after).square().sum()


def test_a_pair_without_change_is_an_operation_that_changes_nothing(model):
    nothing = model.extract(Exemplar(astronaut(), astronaut()))
    assert nothing.is_identity and "no change found" in nothing.notes[0]
    result = model.retouch(hopper(), nothing)
    assert torch.equal(result.image, hopper()) and result.field.max_px == 0
    assert result.notes == nothing.notes


@pytest.mark.parametrize("look", [lambda x: (0.85 * x + 0.05).clamp(0, 1), lambda x: F.avg_pool2d(x, 3, 1, padding=1)])
def test_a_change_of_colour_or_softness_alone_moves_nothing_and_says_so(model, look):
    photo = floats(astronaut())
    operation = model.extract(Exemplar(photo, look(photo)))
    assert operation.is_identity and operation.largest_px == 0
    assert "nothing on the face moved" in operation.notes[0]


def test_what_changed_outside_the_face_is_reported_as_left_behind(model):
    after = push(retouched_mouth(astronaut()), centre=(330, 420), radius=60, shift=(9.0, 0.0))
    assert "body or the background was moved too" in model.extract(Exemplar(astronaut(), after)).notes[0]


def test_of_several_people_the_one_who_changed_is_meant(model, operation):
    before = two_people()
    after = torch.cat([hopper()[..., :512, :], retouched_mouth(astronaut())], dim=3)
    found = model.extract(Exemplar(before, after))
    assert (found.motion - operation.motion).norm() < 0.2 * operation.motion.norm()
    both = push(after, centre=(262, 280), radius=40, shift=(6.0, 0.0))
    with pytest.raises(ValueError, match="shows 2 faces and more than one of them changed.*1: x .*2: x "):
        model.extract(Exemplar(before, both))
    assert not model.extract(Exemplar(before, both), face="2").is_identity


# what is changed, and what is not


def test_pixels_outside_the_field_keep_their_bits(result):
    still = (result.field.dense() == 0).all(dim=1)[0]
    assert torch.equal(result.image[0][:, still], hopper()[0][:, still])
    assert still.float().mean() > 0.5 and (result.image != hopper()).any() and result.field.max_px > 1
    assert result.image.shape == hopper().shape and result.image.dtype == torch.uint8


def test_inputs_are_left_as_they_were(model, operation):
    query, motion = hopper(), operation.motion.clone()
    model.retouch(query, operation)
    assert torch.equal(query, hopper()) and torch.equal(operation.motion, motion)


def test_strength_zero_returns_the_photo(model, operation):
    result = model.retouch(hopper(), operation, RetouchConfig(strength=0.0))
    assert torch.equal(result.image, hopper()) and result.field.max_px == 0


@pytest.mark.parametrize("strength", [-1.0, 0.5])
def test_the_field_is_linear_in_the_strength_and_negative_reverses(model, operation, result, strength):
    field = model.retouch(hopper(), operation, RetouchConfig(strength=strength)).field
    assert_close(field.dense(), strength * result.field.dense(), atol=1e-4, rtol=1e-4)


def test_the_strongest_retouch_hardly_folds_and_says_where_it_does(model, operation):
    strong = model.retouch(hopper(), operation, RetouchConfig(strength=2.0))
    dense = strong.field.dense()
    folded, moved = int((jacobian_determinant(dense) <= 0).sum()), int((dense != 0).any(1).sum())
    # Of a random network, whose motions are wild; cells are repaired, not single pixels.
    assert folded < 0.02 * moved and strong.field.max_px > 10
    assert any(f"folds over itself at {folded} pixels" in note for note in strong.notes) == bool(folded)


def test_a_motion_that_would_fold_is_softened_and_says_so(model, operation):
    wild = replace(operation, motion=6 * operation.motion)
    result = model.retouch(hopper(), wild, RetouchConfig(refine=False))
    assert any("was softened" in note for note in result.notes)


def test_the_same_seed_gives_the_same_photo(model, operation, result):
    assert torch.equal(model.retouch(hopper(), operation, RetouchConfig(seed=0)).image, result.image)
    assert not torch.equal(model.retouch(hopper(), operation, RetouchConfig(seed=1)).image, result.image)


def test_bytes_and_floats_give_the_same_photo_within_rounding(model, operation, result):
    as_float = model.retouch(floats(hopper()), operation).image
    assert as_float.dtype == torch.float32
    assert (as_float - floats(result.image)).abs().amax() <= 0.5 / 255 + 1e-3


def test_alpha_moves_with_the_colours(model, operation, result):
    opaque = torch.cat([hopper(), torch.full_like(hopper()[:, :1], 255)], dim=1)
    kept = model.retouch(opaque, operation).image
    assert torch.equal(kept[:, :3], result.image) and (kept[:, 3] == 255).all()
    like_red = torch.cat([hopper(), hopper()[:, :1]], dim=1)
    assert torch.equal(model.retouch(like_red, operation).image[:, 3], result.image[:, 0])


def test_an_untrained_network_is_the_training_free_copy(untrained, operation):
    operation = replace(operation, named=1.0)  # the network is believed wholly
    plain = untrained.retouch(hopper(), operation, RetouchConfig(refine=False, seed=1)).field
    refined = untrained.retouch(hopper(), operation, RetouchConfig(num_steps=3, seed=2)).field
    assert plain.max_px > 1
    assert_close(refined.dense(), plain.dense(), atol=1e-3, rtol=0)


def test_a_photo_of_six_megapixels_gets_the_same_retouch_larger(model, operation, result):
    large = F.interpolate(floats(hopper()), (3000, 2560), mode="bicubic").clamp(0, 1)
    large = (large[..., :2000, :] * 255).round().byte()
    moved = model.retouch(large, operation, RetouchConfig(refine=False))
    small = model.retouch(hopper(), operation, RetouchConfig(refine=False))
    assert moved.image.shape == large.shape and moved.image.dtype == torch.uint8
    assert moved.field.max_px == pytest.approx(5 * small.field.max_px, rel=0.15)


def test_each_step_is_reported_and_a_raised_interruption_ends_the_walk(model, operation):
    seen = []

    def cancel(step: int, estimate: Tensor) -> None:
        seen.append(tuple(estimate.shape))
        if step == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        model.retouch(hopper(), operation, RetouchConfig(num_steps=8), on_step=cancel)
    assert seen == [(1, 2, 64, 64)] * 3


# who is meant


def test_several_faces_without_a_choice_are_listed_from_the_left(model, operation):
    with pytest.raises(ValueError, match=r"2 faces found and no choice made: 1: x \d+-\d+, y .*; 2: x .*or mask"):
        model.retouch(two_people(), operation)
    with pytest.raises(ValueError, match=r"face='3': use only, largest, all or a number from 1 \(leftmost\) to 2"):
        model.retouch(two_people(), operation, RetouchConfig(face="3"))


def moved_halves(
    model: MirrorPPR, operation: Operation, face: str = "only", region: Tensor | None = None
) -> list[bool]:
    result = model.retouch(two_people(), operation, RetouchConfig(face=face, refine=False), region=region)
    return [bool((half != 0).any()) for half in result.field.dense().chunk(2, dim=3)]


@pytest.mark.parametrize(
    ("face", "moved"), [("1", [True, False]), ("2", [False, True]), ("largest", [True, False]), ("all", [True, True])]
)
def test_a_choice_retouches_exactly_who_is_chosen(model, operation, face, moved):
    assert moved_halves(model, operation, face) == moved


def test_a_mask_says_who_is_meant(model, operation):
    right = torch.zeros(512, 1024)
    right[:, 512:] = 1
    assert moved_halves(model, operation, region=right) == [False, True]
    with pytest.raises(ValueError, match="the mask covers none of the 2 face"):
        moved_halves(model, operation, region=torch.zeros(512, 1024))
    with pytest.raises(ValueError, match="the mask is 100x50 but the query is 1024x512"):
        moved_halves(model, operation, region=torch.ones(50, 100))


def test_a_photo_without_a_face_is_refused(model, operation):
    empty = torch.rand(1, 3, 16, 16, generator=seeded())
    empty = F.interpolate(empty, (400, 400), mode="bicubic").clamp(0, 1)
    with pytest.raises(ValueError, match="no face found.*crop closer"):
        model.retouch(empty, operation)
    with pytest.raises(ValueError, match="no face found"):
        model.extract(Exemplar(empty, empty))


# bad input


def with_nan(photo: Tensor) -> Tensor:
    photo = floats(photo)
    photo[0, 0, 3, 3] = float("nan")
    return photo


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (astronaut(), astronaut()[..., :300], "before is 512x512 but after is 300x512, of another shape"),
        (astronaut(), hopper()[..., :512, :], "do not look like the same photo"),
        (astronaut(), astronaut().flip(-1), "exemplar after is mirrored"),
        (
            astronaut()[..., :120],
            astronaut()[..., :120],
            "exemplar before is 120x512.*at least 256 and the shorter 128",
        ),
        (astronaut(), with_nan(astronaut()), "exemplar after contains NaN"),
    ],
)
def test_what_cannot_be_a_pair_is_refused(model, before, after, message):
    with pytest.raises(ValueError, match=message):
        model.extract(Exemplar(before, after))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (hopper()[..., :100], "query is 100x600 pixels.*at least 256"),
        (with_nan(hopper()), "query contains NaN"),
        (hopper()[0], "need one RGB or RGBA picture"),
    ],
)
def test_a_query_that_is_no_photo_is_refused(model, operation, query, message):
    with pytest.raises(ValueError, match=message):
        model.retouch(query, operation)


def test_an_operation_of_another_set_is_refused(model, operation):
    with pytest.raises(ValueError, match="extracted by set fedcba987654 but this model is set 0123456789ab"):
        model.retouch(hopper(), replace(operation, set_id="fedcba987654"))


@pytest.mark.parametrize("strength", [2.1, -3.0, float("nan"), float("inf")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(ValueError, match="must lie between -2 and 2; 1 repeats the exemplar's retouch"):
        RetouchConfig(strength=strength)


def test_a_number_of_steps_out_of_range_is_refused():
    for num_steps in (0, 51):
        with pytest.raises(ValueError, match="use 1 to 50, 2 is usual"):
            RetouchConfig(num_steps=num_steps)
