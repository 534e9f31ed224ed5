"""Files of a matched set: what was saved is what loads, and every wrong file says what it is."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from host import ROOT
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close
from toys import TINY, random_lora, save_set, seeded

from mirrorppr_core.mini.field_dit import FieldDiT
from mirrorppr_core.mini.files import PARTS, load_connector, load_editor, load_extractor, load_part, save_part
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.networks.lora import merge
from mirrorppr_core.weights_file import filled


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return save_set(tmp_path_factory.mktemp("set"))


@pytest.fixture
def folder(complete, tmp_path):
    """A set that a test may spoil."""
    return shutil.copytree(complete, tmp_path / "mini")


def rewrite(path, *, state=None, **metadata):
    """Change the tensors or the metadata of a file and keep the rest; a value of None removes an entry."""
    with safe_open(str(path), framework="pt") as file:
        old = file.metadata() or {}
    kept = {k: v for k, v in {**old, **metadata}.items() if v is not None}
    save_file(load_file(str(path)) if state is None else state, str(path), metadata=kept)


def test_a_part_comes_back_in_half_precision_with_its_settings_and_set(tmp_path):
    state = {k: torch.randn(v.shape, generator=seeded()) for k, v in Connector(TINY.connector).state_dict().items()}
    save_part(tmp_path / "c.safetensors", "connector", state, TINY, "abc", "def")
    part = load_part(tmp_path / "c.safetensors", "connector")
    assert (part.config, part.set_id, part.locator_sha256) == (TINY, "abc", "def")
    assert all(torch.equal(value, state[name].half().float()) for name, value in part.state.items())
    assert part.state.keys() == state.keys()


def test_a_loaded_set_is_frozen_in_evaluation_mode_and_float32(folder):
    model = MirrorPPR.from_folder(folder)
    modules = [model.extractor.sight.mae, model.extractor.rformer, model.connector.connector, model.editor.field_dit]
    for module in modules:
        assert not module.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_the_editor_is_the_dit_with_the_lora_merged(folder, strength):
    expected = FieldDiT(TINY)
    expected.load_state_dict(load_part(folder / "dit.safetensors", "dit").state)
    merge(expected, load_part(folder / "lora.safetensors", "lora").state, TINY.lora, strength=strength)
    loaded = load_editor(folder / "dit.safetensors", lora_strength=strength).field_dit.state_dict()
    for name, value in expected.state_dict().items():
        assert_close(loaded[name], value)


@pytest.mark.parametrize("part", PARTS)
def test_a_set_with_a_missing_part_names_it(folder, part):
    (folder / f"{part}.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{part}.safetensors is missing from .*mini/.*opy the complete set"):
        MirrorPPR.from_folder(folder)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("content", ["truncated", "text", "empty"])
def test_a_damaged_file_is_refused_by_name(folder, part, content):
    path = folder / f"{part}.safetensors"
    data = path.read_bytes()
    path.write_bytes({"truncated": data[: len(data) // 2], "text": b"<html>not found</html>", "empty": b""}[content])
    with pytest.raises(ValueError, match=rf"{part}.safetensors is damaged or not a safetensors file.*again"):
        MirrorPPR.from_folder(folder)


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_are_not_numbers_are_refused(folder, part):
    path = folder / f"{part}.safetensors"
    state = load_file(str(path))
    name = next(k for k in sorted(state) if state[k].is_floating_point())
    state[name].view(-1)[0] = float("nan")
    rewrite(path, state=state)
    with pytest.raises(ValueError, match=rf"{part}.safetensors contains NaN or infinite weights"):
        MirrorPPR.from_folder(folder)


def test_a_file_in_the_wrong_slot_says_what_it_holds(folder):
    with pytest.raises(ValueError, match="mae.safetensors holds the part 'mae' but this slot needs 'connector'"):
        load_connector(folder / "mae.safetensors")
    shutil.copyfile(folder / "mae.safetensors", folder / "locator.safetensors")
    with pytest.raises(ValueError, match="locator.safetensors holds no face locator"):
        load_editor(folder / "dit.safetensors")


def test_a_safetensors_file_of_something_else_is_refused(folder):
    save_file({"weight": torch.zeros(3)}, str(folder / "rformer.safetensors"))
    with pytest.raises(ValueError, match="is not a MirrorPPR file: choose a rformer.safetensors of a MirrorPPR set"):
        load_extractor(folder / "rformer.safetensors")


def test_another_format_version_is_refused(folder):
    rewrite(folder / "dit.safetensors", version="2")
    with pytest.raises(ValueError, match="format version 2, this code reads 1: update the node pack"):
        load_editor(folder / "dit.safetensors")


def test_settings_of_another_release_are_refused(folder):
    values = {**json.loads(TINY.to_json()), "novelty": 1}
    rewrite(folder / "connector.safetensors", config=json.dumps(values))
    with pytest.raises(ValueError, match=r"fields \['novelty'\] do not fit this version"):
        load_connector(folder / "connector.safetensors")


@pytest.mark.parametrize("missing", ["config", "set_hash", "locator_sha256"])
def test_an_incomplete_header_is_refused(folder, missing):
    rewrite(folder / "connector.safetensors", **{missing: None})
    with pytest.raises(ValueError, match=r"connector.safetensors has an incomplete header"):
        load_connector(folder / "connector.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("proj.0.bias"), r"1 tensors missing \['proj.0.bias'\]"),
        (lambda s: s.update(extra=torch.zeros(1).half()), r"1 unknown \['extra'\]"),
        (lambda s: s.update({"proj.0.bias": torch.zeros(5).half()}), r"1 of another shape or kind \['proj.0.bias'\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named_never_skipped(folder, change, message):
    state = load_file(str(folder / "connector.safetensors"))
    change(state)
    rewrite(folder / "connector.safetensors", state=state)
    with pytest.raises(ValueError, match=message):
        load_connector(folder / "connector.safetensors")


@pytest.mark.parametrize("part", ["mae", "rformer", "lora", "dit", "connector"])
def test_a_set_mixed_of_two_runs_is_refused(folder, tmp_path, part):
    other = save_set(tmp_path / "other", set_id="fedcba987654")
    shutil.copyfile(other / f"{part}.safetensors", folder / f"{part}.safetensors")
    with pytest.raises(ValueError, match="different sets.*(0123456789ab.*fedcba987654|fedcba987654.*0123456789ab)"):
        MirrorPPR.from_folder(folder)


def test_another_locator_is_refused(folder):
    """It would see other landmarks, and every cell of the canonical view would lie elsewhere."""
    path = folder / "locator.safetensors"
    rewrite(path, note="retrained")
    with pytest.raises(ValueError, match="locator.safetensors is not the one the set was trained with"):
        load_editor(folder / "dit.safetensors")


def test_a_lora_of_another_model_is_refused(folder):
    state = {name.replace("blocks.0", "blocks.5"): v for name, v in random_lora(FieldDiT(TINY), TINY.lora).items()}
    seen_by = load_part(folder / "dit.safetensors", "dit").locator_sha256
    save_part(folder / "lora.safetensors", "lora", state, TINY, "0123456789ab", seen_by)
    with pytest.raises(ValueError, match="do not exist in this DiT"):
        load_editor(folder / "dit.safetensors")


def test_only_parts_of_a_set_can_be_saved(tmp_path):
    with pytest.raises(ValueError, match="use one of mae, rformer, connector, dit, lora"):
        save_part(tmp_path / "x.safetensors", "vae", {}, TINY, "abc", "")


def test_loading_does_not_start_the_compiler_of_torch():
    """Its import takes longer than torch's own; torch does it at the first use of the device "meta"."""
    text = (
        "import sys; from mirrorppr_core.mini.pipeline import MirrorPPR; MirrorPPR.bundled(); "
        "print('torch._dynamo' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert told.stdout == "False\n", told.stderr


def test_a_network_far_larger_than_its_file_is_not_made():
    with pytest.raises(ValueError, match="ask for far more numbers than the file holds"):
        filled(lambda: nn.Linear(20_000, 20_000), {"weight": torch.zeros(2, 2)}, "dit.safetensors")


def test_a_network_keeps_what_it_computes_itself():
    class Tabled(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_buffer("table", torch.arange(3.0), persistent=False)

    network = filled(Tabled, {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}, "dit.safetensors")
    assert torch.equal(network.table, torch.arange(3.0)) and torch.equal(network.weight, torch.ones(2, 2))
