"""Several exemplars of one look: what must be true of the operation that they make together."""

from dataclasses import replace
from unittest.mock import Mock, patch

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toys import SEEING, astronaut, hopper, save_set

from mirrorppr_core.bodies.motion import BodyMotion
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.field import Field, apply_field
from mirrorppr_core.mini.arithmetic import Blended, averaged
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.mini.several import MAX_PAIRS, agreement, mean_of, refined, together
from mirrorppr_core.operations.professional import professional_displacement
from mirrorppr_core.operations.sliders import Sliders

N, ATOMS = 16, 3


def push(x: int, y: int, way: tuple[float, float]) -> Tensor:
    """A soft push around one cell."""
    rows, columns = torch.meshgrid(torch.arange(N), torch.arange(N), indexing="ij")
    window = torch.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 8.0)
    return torch.tensor(way).view(1, 2, 1, 1) * window


def operation(motion: Tensor, seed: int = 0, **more) -> Operation:
    g = torch.Generator().manual_seed(seed)
    return Operation(
        tokens=torch.randn(1, 2, 4, generator=g),
        motion=motion,
        shape=torch.randn(1, 2, N, N, generator=g),
        atoms=torch.randn(1, ATOMS, 2, N, N, generator=g),
        set_id="toy",
        **more,
    )


BOTH_WAYS = torch.zeros(ATOMS)  # every atom may be taken in either direction
MOUTH, EYE = push(8, 11, (1.0, 0.2)), push(4, 5, (0.0, 1.0))


def noisy(motion: Tensor, seed: int) -> Tensor:
    return motion + 0.1 * torch.randn(motion.shape, generator=torch.Generator().manual_seed(seed))


def test_the_average_of_readings_is_a_reading_with_less_noise_and_all_their_notes():
    several = [operation(noisy(MOUTH, seed), seed, notes=(f"note {seed}",)) for seed in range(5)]
    made = averaged(several)
    assert isinstance(made, Operation) and made.notes == tuple(f"note {seed}" for seed in range(5))
    assert (made.motion - MOUTH).norm() < 0.6 * (several[0].motion - MOUTH).norm()
    assert_close(averaged(several[::-1]).motion, made.motion)


def test_what_was_not_extracted_is_averaged_as_motion_and_different_sets_not_at_all():
    assert isinstance(averaged([operation(MOUTH), Sliders.of({"mouth_breadth": 30})]), Blended)
    with pytest.raises(ValueError, match="different sets"):
        averaged([operation(MOUTH), replace(operation(MOUTH, 1), set_id="another")])


def test_one_pair_gives_the_operation_that_it_always_gave():
    alone = operation(MOUTH, notes=("part of the face was repainted",))
    result = together([alone], one_way=BOTH_WAYS)
    assert result.motion is alone.motion
    assert result.notes == alone.notes


def test_the_order_of_the_pairs_does_not_matter():
    pairs = [operation(noisy(MOUTH, seed), seed) for seed in range(3)]
    one, other = (together(some, one_way=BOTH_WAYS) for some in (pairs, pairs[::-1]))
    for name in ("motion", "shape", "atoms", "tokens"):
        assert_close(getattr(one, name), getattr(other, name))


def test_what_was_measured_badly_fades_among_several_pairs():
    pairs = [operation(noisy(MOUTH, seed), seed) for seed in range(6)]
    errors = [(pair.motion - MOUTH).norm() for pair in pairs]
    assert (together(pairs, one_way=BOTH_WAYS).motion - MOUTH).norm() < 0.5 * min(errors)


def test_a_named_operation_found_on_every_face_is_found_on_the_mean_face():
    """Motion that is 0.7 of the second atom on each face is 0.7 of the second atom of the operation together."""
    pairs = [operation(MOUTH, seed) for seed in range(3)]
    pairs = [replace(one, atoms=0.1 * one.atoms + torch.stack([EYE, MOUTH, -EYE], dim=1)) for one in pairs]
    pairs = [replace(one, motion=0.7 * one.atoms[:, 1]) for one in pairs]
    result = together(pairs, one_way=BOTH_WAYS)
    assert_close(result.motion, 0.7 * result.atoms[:, 1])


def test_a_pair_that_shows_something_else_is_named_and_left_out():
    pairs = [operation(noisy(MOUTH, 1), 1), operation(noisy(EYE, 2), 2), operation(noisy(MOUTH, 3), 3)]
    result = together(pairs, one_way=BOTH_WAYS)
    assert [note[:39] for note in result.notes] == ["pair 2 is left out: it shows something "]
    assert_close(result.motion, together([pairs[0], pairs[2]], one_way=BOTH_WAYS).motion)
    assert result.pairs == 2


def test_pairs_of_which_no_two_agree_are_refused_by_number():
    with pytest.raises(ValueError, match="pairs 1 and 3 show different retouches"):
        together([operation(MOUTH), operation(0 * MOUTH), operation(EYE)], one_way=BOTH_WAYS)


def test_a_pair_without_change_is_named_and_changes_nothing():
    alone = operation(MOUTH, 1)
    result = together([alone, operation(0 * MOUTH, 2)], one_way=BOTH_WAYS)
    assert_close(result.motion, alone.motion)
    assert result.notes == ("pair 2 is left out: nothing moved between before and after",)


def test_pairs_without_any_change_make_an_operation_that_leaves_every_photo_as_it_is():
    assert together([operation(0 * MOUTH), operation(0 * MOUTH)], one_way=BOTH_WAYS).is_identity


def test_notes_say_which_pair_they_are_about():
    result = together([operation(MOUTH, 1), operation(MOUTH, 2, notes=("teeth were repainted",))], one_way=BOTH_WAYS)
    assert result.notes == ("pair 2: teeth were repainted",)


def test_a_correction_counts_as_one_more_pair():
    old = mean_of([operation(MOUTH, 1), operation(MOUTH, 2)], torch.ones(2))
    better = refined(old, operation(1.3 * MOUTH, 3), one_way=BOTH_WAYS)
    assert_close(better.motion, 1.1 * MOUTH)
    assert better.pairs == 3


def test_of_motion_beside_the_face_the_first_pair_counts_unless_most_pairs_do_not_show_it():
    first, second = Mock(spec=BodyMotion), Mock(spec=BodyMotion)
    pairs = [operation(MOUTH, 1), operation(MOUTH, 2, body=first), operation(MOUTH, 3, body=second)]
    with patch("mirrorppr_core.mini.several.agreement", return_value=torch.ones(3, 3)):
        shown = together(pairs, one_way=BOTH_WAYS)
        assert shown.body is first and shown.notes[-1].startswith("beside the face the first pair that shows motion")
        hidden = together([pairs[0], pairs[1], replace(pairs[2], body=None)], one_way=BOTH_WAYS)
        assert hidden.body is None
        assert hidden.notes == ("what moved beside the face in 1 of 3 pairs is left out: most do not show it",)


def test_a_correction_that_shows_only_the_face_leaves_what_the_operation_moves_beside_it():
    body = Mock(spec=BodyMotion)
    with patch("mirrorppr_core.mini.several.agreement", return_value=torch.ones(2, 2)):
        better = refined(operation(MOUTH, 1, body=body), operation(1.2 * MOUTH, 2), one_way=BOTH_WAYS)
    assert better.body is body and better.pairs == 2


def test_a_correction_of_something_else_is_refused():
    with pytest.raises(ValueError, match="another retouch than the operation"):
        refined(operation(MOUTH), operation(EYE), one_way=BOTH_WAYS)
    with pytest.raises(ValueError, match="shows no change"):
        refined(operation(MOUTH), operation(0 * MOUTH), one_way=BOTH_WAYS)


def test_a_motion_agrees_with_itself_whatever_its_strength():
    operations = [operation(MOUTH), operation(3 * MOUTH), operation(-MOUTH)]
    assert_close(agreement(operations)[0], torch.tensor([1.0, 1.0, -1.0]))


# with real faces


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MirrorPPR:
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    return MirrorPPR.from_folder(save_set(tmp_path_factory.mktemp("set"), config=SEEING))


def mouth_pair(model: MirrorPPR, photo: Tensor) -> Exemplar:
    """The same named operation on anybody."""
    mesh, size = model.extractor.sight.faces(photo)[0].mesh, (photo.shape[-2], photo.shape[-1])
    moved = professional_displacement(mesh, None, size, operation="mouth_breadth", strength=100)
    after = apply_field(photo, Field.from_dense(moved))
    return Exemplar(photo, after)


def test_the_same_pair_twice_counts_once(model):
    pair = mouth_pair(model, astronaut())
    once, twice = model.extract(pair), model.extract([pair, pair])
    assert_close(twice.motion, once.motion)
    assert "pair 2 is left out: it is pair 1 once more" in twice.notes


def test_pairs_may_have_different_sizes(model):
    assert model.extract([mouth_pair(model, astronaut()), mouth_pair(model, hopper())]).pairs == 2


def test_a_pair_that_cannot_be_read_is_left_out_and_named_with_its_reason(model):
    good, broken = mouth_pair(model, astronaut()), Exemplar(hopper(), astronaut())
    made, alone = model.extract([broken, good]), model.extract(good)
    assert made.pairs == 1
    assert torch.equal(made.motion, alone.motion)
    (note,) = (note for note in made.notes if "left out" in note)
    assert note.startswith("pair 1 is left out: exemplar before and after do not look like")


def test_pairs_none_of_which_can_be_read_are_refused_by_number_and_reason(model):
    broken, blank = Exemplar(hopper(), astronaut()), Exemplar(*(torch.zeros(3, 300, 300),) * 2)
    with pytest.raises(ValueError, match="^pair 1 of 2: exemplar before and after do not look.*; pair 2 of 2: "):
        model.extract([broken, blank])


def test_pairs_without_change_beside_one_that_cannot_be_read_are_told_from_it(model):
    still, broken = Exemplar(astronaut(), astronaut()), Exemplar(hopper(), astronaut())
    made = model.extract([still, broken])
    assert made.is_identity
    assert any(note.startswith("pair 2 is left out: exemplar") for note in made.notes)


def test_none_and_too_many_pairs_are_refused(model):
    pair = mouth_pair(model, astronaut())
    with pytest.raises(ValueError, match="no exemplar pair"):
        model.extract([])
    with pytest.raises(ValueError, match="too many: take the 8"):
        model.extract([pair] * (MAX_PAIRS + 1))


def test_a_corrected_result_joins_the_operation(model):
    operation = model.extract(mouth_pair(model, astronaut()))
    assert model.refine(operation, mouth_pair(model, hopper())).pairs == 2
    with pytest.raises(ValueError, match="only an operation that was extracted"):
        model.refine(Sliders.of({"mouth_breadth": 50}), mouth_pair(model, hopper()))
    with pytest.raises(ValueError, match="do not look like the same photo|both must be the same photo"):
        model.refine(operation, Exemplar(astronaut(), hopper()[..., : astronaut().shape[-2], : astronaut().shape[-1]]))
