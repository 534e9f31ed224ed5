"""A set's list of hashes: no damaged weight is ever used, whatever bit it was."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from toys import TINY, save_set

from mirrorppr_core.mini.files import bundled_set, load_connector, load_editor, load_part, load_sight
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.mini.set_list import LIST, file_sha256, write_list


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return save_set(tmp_path_factory.mktemp("set"))


@pytest.fixture
def bare(complete, tmp_path):
    """A set without a list, as older ones are."""
    return shutil.copytree(complete, tmp_path / "mini")


@pytest.fixture
def listed(bare):
    write_list(bare, "0123456789ab")
    return bare


def rewrite(path, *, change=lambda state: None, **metadata):
    with safe_open(str(path), framework="pt") as file:
        old = file.metadata() or {}
    state = load_file(str(path))
    save_file(change(state) or state, str(path), metadata={**old, **metadata})


def test_the_bundled_set_lists_all_its_files_and_each_is_the_one_it_lists():
    listed = json.loads((bundled_set() / LIST).read_text())["sha256"]
    assert listed == {path.name: file_sha256(path) for path in bundled_set().glob("*.safetensors")}


def test_the_bundled_set_without_its_list_is_refused(monkeypatch, listed):
    monkeypatch.setattr("mirrorppr_core.mini.files.bundled_set", lambda: listed)
    (listed / LIST).unlink()
    with pytest.raises(FileNotFoundError, match="set.json is missing from the bundled weights: install the node pack"):
        load_sight(listed)


def test_a_listed_set_loads_without_a_note(listed):
    assert MirrorPPR.from_folder(listed).extractor.sight.notes == ()


def test_a_set_without_a_list_loads_and_is_said_to_be_unchecked(bare):
    (note,) = MirrorPPR.from_folder(bare).extractor.sight.notes
    assert note == "the set in mini/ comes without set.json: whether its weights are undamaged could not be checked"


@pytest.mark.parametrize("part", ["locator", "mae", "rformer", "connector", "dit", "lora"])
def test_one_flipped_bit_among_the_numbers_of_a_part_is_found(listed, part):
    path = listed / f"{part}.safetensors"
    content = bytearray(path.read_bytes())
    content[-len(content) // 3] ^= 1  # the least of a half-precision number: nobody would see it
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{part}.safetensors is not the file the set in mini/ was made with"):
        MirrorPPR.from_folder(listed)


def test_shuffled_weights_are_found(listed):
    """They are finite, of the right shapes, and change nine pixels of ten."""

    def shuffled(state):
        name = max(state, key=lambda one: state[one].numel())
        state[name] = state[name].flatten()[torch.randperm(state[name].numel())].view_as(state[name]).contiguous()

    rewrite(listed / "dit.safetensors", change=shuffled)
    with pytest.raises(ValueError, match="dit.safetensors is not the file"):
        load_editor(listed / "dit.safetensors")


def test_a_file_the_list_does_not_name_is_refused(listed):
    told = json.loads((listed / LIST).read_text())
    del told["sha256"]["connector.safetensors"]
    (listed / LIST).write_text(json.dumps(told))
    with pytest.raises(ValueError, match="connector.safetensors does not belong to the set in mini/ by its set.json"):
        load_connector(listed / "connector.safetensors")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[1]", b"\xff\xfe", b"[" * 5000, b'{"format": "mirrorppr-set"}',
        b'{"format": "mirrorppr-set", "version": 1, "set": "0123456789ab", "sha256": []}',
        b'{"format": "mirrorppr-set", "version": 1, "set": "0123456789ab", "sha256": {"dit.safetensors": "no"}}',
        b'{"format": "mirrorppr-set", "version": 2, "set": "0123456789ab", "sha256": {}}',
    ],
)  # fmt: skip
def test_a_damaged_list_is_refused_and_never_taken_for_none(listed, content):
    (listed / LIST).write_bytes(content)
    with pytest.raises(ValueError, match="set.json of the set in mini/ is damaged.*copy the complete set again"):
        MirrorPPR.from_folder(listed)


def test_the_list_of_another_set_is_refused(listed):
    write_list(listed, "fedcba987654")
    with pytest.raises(ValueError, match="mixed: its set.json belongs to another set"):
        MirrorPPR.from_folder(listed)


# What stands without a list too.


def test_weights_stored_in_another_precision_are_refused(bare):
    rewrite(bare / "dit.safetensors", change=lambda state: {name: value.float() for name, value in state.items()})
    with pytest.raises(
        ValueError, match="dit.safetensors stores .* as torch.float32, a set stores it as torch.float16"
    ):
        load_editor(bare / "dit.safetensors")


def test_saturated_weights_are_blamed_on_the_file(bare):
    def saturated(state):
        next(iter(state.values())).view(-1)[0] = 65504

    rewrite(bare / "connector.safetensors", change=saturated)
    with pytest.raises(ValueError, match="connector.safetensors contains weights of 65504, where half precision ends"):
        load_connector(bare / "connector.safetensors")


def test_whole_numbers_where_fractions_belong_are_refused(bare):
    rewrite(bare / "connector.safetensors", change=lambda state: {k: v.to(torch.int16) for k, v in state.items()})
    with pytest.raises(ValueError, match="connector.safetensors does not fit: .* of another shape or kind"):
        load_connector(bare / "connector.safetensors")


def changed_config(**parts):
    """TINY's JSON with some settings replaced: part -> {setting: value}."""
    values = json.loads(TINY.to_json())
    for part, settings in parts.items():
        values[part] = {**values[part], **settings} if isinstance(settings, dict) else settings
    return json.dumps(values)


@pytest.mark.parametrize(
    "config",
    [
        "", "{", "[]", "null", "[" * 10_000, '{"a":' * 10_000, "1" * 5000,
        changed_config(dit={"adaptation_width": 2**31}), changed_config(dit={"bank_width": 16000}),
        changed_config(dit={"depth": 10**9}), changed_config(dit={"depth": -1}), changed_config(dit={"heads": 0}),
        changed_config(dit={"heads": "two"}), changed_config(dit={"heads": True}), changed_config(dit={"heads": 2.0}),
        changed_config(dit={"rope_axes": [16, -8, 4]}), changed_config(dit={"rope_axes": 12}),
        changed_config(dit={"operations": ["x" * 9999]}), changed_config(dit={"operations": [[]]}),
        changed_config(dit=None), changed_config(name=["n"]), changed_config(view={"size": 2**20}),
        changed_config(view={"side": 1e300}), changed_config(view={"smoothing": float("nan")}),
        changed_config(mae={"image_size": 10**7, "patch": 16}), changed_config(lora={"targets": "all"}),
        changed_config(dit={"operations": ["eye_rmsize"]}), changed_config(dit={"operations": ["\ud800"]}),
    ],
)  # fmt: skip
def test_a_damaged_configuration_is_one_short_sentence_and_asks_for_no_memory(bare, config):
    rewrite(bare / "dit.safetensors", config=config)
    with pytest.raises(ValueError, match="dit.safetensors") as told:
        load_editor(bare / "dit.safetensors")
    assert len(str(told.value)) <= 500


def test_a_network_of_gigabytes_is_refused_by_the_file_s_own_shapes(bare, monkeypatch):
    """Every setting is within its limits; together they would be 96 GB."""
    rewrite(bare / "dit.safetensors", config=changed_config(dit={"adaptation_width": 16384, "depth": 100}))
    with pytest.raises(ValueError, match="dit.safetensors does not fit"):
        load_editor(bare / "dit.safetensors")


@pytest.mark.parametrize("config", ["{}", "[]", "", '{"finder_px": 256}', "[" * 9999])
def test_a_damaged_configuration_of_the_locator_is_one_sentence(bare, config):
    rewrite(bare / "locator.safetensors", config=config)
    with pytest.raises(ValueError, match="locator.safetensors: .*Copy or download it again"):
        load_sight(bare)


def test_keys_and_names_of_any_length_leave_the_message_short(bare):
    rewrite(bare / "connector.safetensors", change=lambda state: {f"{k}{'y' * 3000}": v for k, v in state.items()})
    with pytest.raises(ValueError, match="does not fit") as told:
        load_connector(bare / "connector.safetensors")
    assert len(str(told.value)) <= 500
    rewrite(bare / "mae.safetensors", part="p" * 5000)
    with pytest.raises(ValueError, match="holds the part") as told:
        load_part(bare / "mae.safetensors", "mae")
    assert len(str(told.value)) <= 500


def test_a_set_that_lost_a_file_of_its_list_is_refused_by_name(tmp_path):
    copied = shutil.copytree(bundled_set(), tmp_path / "set")
    (copied / "carry.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="carry.safetensors is missing"):
        MirrorPPR.from_folder(copied)
