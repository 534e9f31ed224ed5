"""A pair that is handed over backwards, retouched photo first, is read from after to before and undone."""

from dataclasses import replace

import pytest
import torch
from toys import astronaut, hopper

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import compose, length
from mirrorppr_core.mini.arithmetic import Limited, Undone
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.operation_file import save_operation
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.mini.reuse import load_operation
from mirrorppr_core.mini.taken_back import TAKEN_BACK
from mirrorppr_core.operations.llw import apply_llw

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def model() -> MirrorPPR:
    return MirrorPPR.bundled()


@pytest.fixture(scope="module")
def pair(model) -> Exemplar:
    """A nose made narrower."""
    before = astronaut() / 255
    mesh = model.extractor.sight.faces(before)[0].mesh
    after = apply_llw(before, mesh, (("nose_alar", -90.0),)).image
    return Exemplar(before, (after * 255).round() / 255)


@pytest.fixture(scope="module")
def forwards(model, pair) -> Operation:
    return model.extract(pair)


@pytest.fixture(scope="module")
def backwards(model, pair) -> Operation:
    return model.extract(Exemplar(pair.after, pair.before))


def test_a_pair_in_its_order_is_read_as_it_is(forwards):
    assert forwards.undoes is None and TAKEN_BACK not in forwards.notes


def test_backwards_it_undoes_the_operation_that_it_shows_in_its_order(forwards, backwards):
    assert torch.equal(backwards.undoes.motion, forwards.motion)
    assert torch.equal(backwards.undoes.tokens, forwards.tokens)
    assert backwards.notes[0] == TAKEN_BACK and backwards.confidence == forwards.confidence


def test_backwards_after_forwards_leaves_a_twentieth_of_the_motion_at_most(model, forwards, backwards):
    done = model.retouch(hopper(), forwards)
    undone = model.retouch(done.image, backwards)
    assert done.field.max_px > 3
    left = length(compose(done.field.dense(), undone.field.dense()))
    assert left.mean() < 0.05 * length(done.field.dense()).mean()


def test_the_reverse_of_a_pair_backwards_is_the_pair_in_its_order(model, forwards, backwards):
    wanted = model.retouch(hopper(), forwards).field.dense()
    assert torch.equal(model.retouch(hopper(), Undone(of=backwards)).field.dense(), wanted)
    assert torch.equal(model.retouch(hopper(), backwards, RetouchConfig(strength=-1.0)).field.dense(), wanted)


def test_a_file_keeps_what_is_undone_and_pictures_only_as_handed_over(model, backwards, tmp_path):
    save_operation(tmp_path / "a.safetensors", backwards)
    again = load_operation(tmp_path / "a.safetensors", model.extractor).operation
    assert torch.equal(again.undoes.motion, backwards.undoes.motion)
    assert again.thumbnails is not None and again.undoes.thumbnails is None and again.undoes.exemplars == ()
    assert torch.equal(model.retouch(hopper(), again).image, model.retouch(hopper(), backwards).image)


def test_of_several_pairs_each_is_read_as_it_was_handed_over(model, pair, backwards):
    flipped = Exemplar(*(photo.flip(-1) for photo in (pair.after, pair.before)))
    both = model.extract([Exemplar(pair.after, pair.before), flipped])
    assert both.pairs == 2 and both.undoes is None


def test_limited_to_the_eyes_a_nose_is_hardly_brought_back(model, backwards):
    limited = model.retouch(hopper(), Limited(of=backwards, parts=("eyes",))).field
    assert limited.max_px < 0.5 * model.retouch(hopper(), backwards).field.max_px


def test_what_is_undone_is_of_the_same_set_and_plain(model, backwards):
    with pytest.raises(ValueError, match="an operation of the same set .*, and a plain one"):
        replace(backwards, undoes=replace(backwards.undoes, set_id="another"))
    with pytest.raises(ValueError, match="an operation of the same set .*, and a plain one"):
        replace(backwards, undoes=backwards)
