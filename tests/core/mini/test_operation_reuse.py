"""Kept operations in use: files applied by their own and by other sets, sliders, undoing on a real photo."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from toys import SEEING, astronaut, hopper, retouched_mouth, save_set

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import compose, length
from mirrorppr_core.mini.arithmetic import Combined, Limited, Scaled, Undone, averaged, feathered
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.operation import Evidence, Operation
from mirrorppr_core.mini.operation_file import SavedOperation, digest_of, save_operation, write_file
from mirrorppr_core.mini.person import Frame
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.mini.reuse import load_operation
from mirrorppr_core.operations.sliders import Sliders

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MirrorPPR:
    return MirrorPPR.from_folder(save_set(tmp_path_factory.mktemp("set"), config=SEEING, trained=False))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> MirrorPPR:
    folder = save_set(tmp_path_factory.mktemp("other"), config=SEEING, trained=False, set_id="ba9876543210")
    return MirrorPPR.from_folder(folder)


@pytest.fixture(scope="module")
def exemplar() -> Exemplar:
    return Exemplar(astronaut(), retouched_mouth(astronaut()))


@pytest.fixture(scope="module")
def operation(model, exemplar) -> Operation:
    return model.extract(exemplar)


def test_there_is_one_number_for_the_longest_motion(model, exemplar):
    extracted = model.extractor.extract(exemplar)
    assert extracted.operation.largest_px == extracted.field.max_px


def test_an_extracted_operation_keeps_its_pair_and_small_pictures_of_the_face(operation, exemplar):
    assert operation.exemplars == (exemplar,)
    assert operation.thumbnails.shape == (2, 3, 128, 128) and operation.thumbnails.dtype == torch.uint8
    assert (operation.thumbnails[0] != operation.thumbnails[1]).any()


def test_a_loaded_operation_gives_the_same_photo(model, operation, tmp_path):
    save_operation(tmp_path / "a.safetensors", operation)
    again = load_operation(tmp_path / "a.safetensors", model.extractor)
    assert again.notes == operation.notes
    assert torch.equal(model.retouch(hopper(), again.operation).image, model.retouch(hopper(), operation).image)


def test_another_set_extracts_it_again_if_the_exemplar_is_kept_and_refuses_it_otherwise(other, operation, tmp_path):
    save_operation(tmp_path / "with.safetensors", Scaled(of=operation, factor=0.5), pictures="exemplar")
    save_operation(tmp_path / "without.safetensors", operation)
    again = load_operation(tmp_path / "with.safetensors", other.extractor)
    assert again.operation.set_id == other.editor.set_id and again.operation.factor == 0.5
    assert "extracted again from the exemplar in the file" in again.notes[0]
    assert other.retouch(hopper(), again.operation).field.max_px > 1
    with pytest.raises(ValueError, match="of set ba9876543210, and the file holds no exemplar.*load that set"):
        load_operation(tmp_path / "without.safetensors", other.extractor)
    with pytest.raises(ValueError, match="extracted by set 0123456789ab but this model is set ba9876543210"):
        other.retouch(hopper(), load_operation(tmp_path / "without.safetensors").operation)


def test_a_file_of_another_engine_is_extracted_again_or_refused(model, operation, tmp_path):
    for name, pictures in (("with", "exemplar"), ("without", "none")):
        saved = SavedOperation(operation=operation, name="look", engine="qwen", set_id="qwen set")
        write_file(
            tmp_path / f"{name}.safetensors", saved, {"qwen": Operation, "evidence": Evidence}, pictures=pictures
        )
    again = load_operation(tmp_path / "with.safetensors", model.extractor)
    assert_close(again.operation.motion, operation.motion)
    assert "of the engine qwen" in again.notes[0]
    for path, extractor in (("with", None), ("without", model.extractor)):
        with pytest.raises(ValueError, match="an operation of the engine 'qwen', which Mini cannot apply"):
            load_operation(tmp_path / f"{path}.safetensors", extractor)


def test_a_damaged_operation_that_names_this_set_is_refused(model, operation):
    small = replace(operation, motion=operation.motion[..., :32, :32])
    with pytest.raises(ValueError, match="names this set but does not fit it"):
        model.retouch(hopper(), small)


def test_operations_that_do_the_same_have_one_digest(operation):
    assert digest_of(operation) == digest_of(replace(operation, exemplars=(), thumbnails=None))
    assert digest_of(operation) != digest_of(Scaled(of=operation, factor=0.5))


# the editor's own fields obey the laws


@pytest.fixture(scope="module")
def bundled() -> MirrorPPR:
    return MirrorPPR.bundled()


@pytest.fixture(scope="module")
def shown(bundled, exemplar) -> Operation:
    return bundled.extract(exemplar)


def test_on_a_real_photo_an_operation_and_its_undoing_leave_nothing(model, operation):
    result = model.retouch(hopper(), Combined(steps=(operation, Undone(of=operation))))
    assert model.retouch(hopper(), operation).field.max_px > 2
    assert result.field.max_px < 0.05 and result.notes == operation.notes


@pytest.mark.parametrize("first", ["the operation", "its reverse"])
def test_an_operation_and_its_reverse_one_after_the_other_leave_a_twentieth_of_the_motion_at_most(
    bundled, shown, first
):
    forth, back = (shown, Undone(of=shown)) if first == "the operation" else (Undone(of=shown), shown)
    done = bundled.retouch(hopper(), forth)
    undone = bundled.retouch(done.image, back)
    left = compose(done.field.dense(), undone.field.dense())
    assert done.field.max_px > 3
    assert length(left).mean() < 0.05 * length(done.field.dense()).mean()
    assert undone.notes == done.notes == shown.notes


def test_the_photo_before_is_looked_at_except_in_a_sequence_which_knows_its_face_better(bundled, shown):
    done = bundled.retouch(hopper(), shown).image
    known = Frame(face=bundled.editor.sight.faces(done)[0])
    alone = bundled.retouch(done, Undone(of=shown)).field.dense()
    frame = bundled.editor.retouch(done, Undone(of=shown), bundled.connector.connector, frame=known).field.dense()
    assert 0.02 < length(alone - frame).mean() / length(alone).mean() < 0.5


def test_scaled_it_is_the_strength(model, operation):
    half = model.retouch(hopper(), Scaled(of=operation, factor=0.5)).field
    assert_close(half.dense(), model.retouch(hopper(), operation, RetouchConfig(strength=0.5)).field.dense())


def test_strengths_that_multiply_to_more_than_200_per_cent_are_refused(model, operation):
    with pytest.raises(ValueError, match="multiply to 400 %: 200 % is the most"):
        model.retouch(hopper(), Scaled(of=operation, factor=2.0), RetouchConfig(strength=2.0))


def test_the_average_of_one_operation_is_the_operation(model, operation):
    mean = model.retouch(hopper(), averaged([operation] * 3)).field
    assert float(length(mean.dense() - model.retouch(hopper(), operation).field.dense()).amax()) < 1e-3


# sliders


def test_sliders_need_no_exemplar_and_belong_to_every_set(model, other):
    sliders = Sliders.of({"mouth_resize": 60, "eye_trans_both": 40})
    one, two = (any_set.retouch(hopper(), sliders) for any_set in (model, other))
    assert one.field.max_px > 2 and torch.equal(one.image, two.image) and one.notes == ()
    assert model.retouch(hopper(), Sliders(())).field.max_px == 0


def test_a_slider_on_one_side_leaves_the_other_as_it_is(model):
    sides = [model.retouch(hopper(), Sliders.of({f"eye_trans_{side}": 60})).field for side in ("left", "right", "both")]
    left, right, both = (field.dense() for field in sides)
    assert_close(left + right, both, atol=0.05, rtol=0)
    assert ((left != 0) & (right != 0)).float().mean() < 0.01


def test_sliders_of_the_body_need_shoulders(model, bundled):
    with pytest.raises(ValueError, match="body_shape_thin_shoulders moves the body.*shows the shoulders"):
        model.retouch(hopper(), Sliders.of({"body_shape_thin_shoulders": 50}))  # the toy set has no body network
    result = bundled.retouch(astronaut(), Sliders.of({"body_shape_thin_shoulders": 60}))
    assert result.field.max_px > 3
    left, top, right, bottom = result.field.box
    assert top > 100 and bottom - top > 100  # below the face


def test_a_mask_is_feathered_inwards(model, operation):
    mask = torch.zeros(600, 512)
    mask[:, 250:] = 1
    soft = feathered(mask, 20)
    assert (soft[:, :250] == 0).all() and (soft[:, 275:505] == 1).all() and 0 < soft[300, 255] < 0.5
    limited = model.retouch(hopper(), Limited(of=operation, region=soft))
    assert torch.equal(limited.image[..., :250], hopper()[..., :250])
    assert feathered(mask, 0) is mask
