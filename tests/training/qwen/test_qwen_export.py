"""A finished run as one set: complete, counted, and the same model for ComfyUI, for diffusers and for the trainer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from host import COMFYUI, ROOT
from qwen_training_toys import ToyBucket, ToyEncoder, joint_stage, tiny_train_config
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from tiny_qwen import TINY_FACE, TINY_PRO, save_set, transformer
from torch.testing import assert_close

from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.qwen.config import FACE, PRO
from mirrorppr_core.qwen.denoise import velocity
from mirrorppr_core.qwen.files import SLOTS, QwenSet, expected_tensors, identify
from mirrorppr_core.qwen.lora_files import attach, read_lora
from mirrorppr_core.qwen.networks import OfficialRFormer
from training.qwen.batches import QwenSource
from training.qwen.config import QWEN_FACE, QWEN_PRO, QwenTrainConfig
from training.qwen_export import (
    FORMATS,
    HASH_KEY,
    SET_KEY,
    check_released,
    export,
    newest_joint,
    set_parts,
    shapes,
    trained_config,
)
from training.runs.stored import FORMAT

CONFIG = tiny_train_config()


@pytest.fixture(scope="module")
def module():
    """A joint stage after a few large steps, so that its LoRA is far from zero."""
    module = joint_stage(CONFIG)
    data = QwenSource(buckets=(ToyBucket(),), model=TINY_FACE, seed=0, encoder=ToyEncoder())
    learning = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=0.05)
    for step in range(4):
        optimizer.zero_grad()
        module(data.batch(step, 2, 0, 1), torch.Generator().manual_seed(step))[0].backward()
        optimizer.step()
    return module.eval()


@pytest.fixture(scope="module")
def run(module, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    trained = {name: p.detach().contiguous() for name, p in module.named_parameters() if p.requires_grad}
    settings = {"engine": "qwen", "model": json.loads(CONFIG.to_json())}
    about = {"format": FORMAT, "settings": settings}
    save_file(trained, str(folder / "joint.safetensors"), metadata={"training": json.dumps(about)})
    return folder


@pytest.fixture(scope="module")
def mae(tmp_path_factory) -> Path:
    return save_set(tmp_path_factory.mktemp("mae")) / SLOTS["mae"]


@pytest.fixture(scope="module")
def sets(run, mae, tmp_path_factory):
    """Path of the LoRA file by format; the tiny dimensions are nobody's, so `released` is written part by part."""
    ours = export(run / "joint.safetensors", CONFIG, mae=mae, out=tmp_path_factory.mktemp("ours"), dtype=torch.float32)
    released = tmp_path_factory.mktemp("released") / "lora.safetensors"
    save_file(set_parts(load_file(str(newest_joint(run))), CONFIG, form="released")["lora"], str(released))
    return {"ours": ours.folder / SLOTS["lora"], "released": released, "exported": ours}


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    made = {"x": (2, 16, 8, 8), "query": (2, 16, 8, 8), "text": (2, 9, 32)}
    return {name: torch.randn(shape, generator=generator) for name, shape in made.items()} | {
        "t": torch.tensor([0.3, 0.9])
    }


@torch.no_grad()
def said(dit) -> torch.Tensor:
    given = inputs()
    return velocity(dit, given["x"], query=given["query"], text=given["text"], t=given["t"])


# --- one set --------------------------------------------------------------------------------------------------------


def test_a_set_reads_back_with_every_bit_that_was_trained(module, sets):
    files = QwenSet.from_folder(sets["exported"].folder)
    assert files.config == TINY_FACE
    for part, loaded in (
        (module.rformer, files.load_rformer(dtype=torch.float32)),
        (module.connector, files.load_connector(dtype=torch.float32)),
        (module.mae, files.load_mae(dtype=torch.float32)),
    ):
        for name, value in part.state_dict().items():
            assert torch.equal(value, loaded.state_dict()[name]), name
    lora = read_lora(files.lora.path)
    assert len(lora.layers) == sets["exported"].num_lora_layers == len(module.adapted)
    assert set(lora.layers) == set(module.adapted)


def test_every_file_names_its_set_and_the_run_it_came_from(sets, run, mae, tmp_path):
    folder = sets["exported"].folder
    for slot in ("rformer", "connector", "lora"):
        with safe_open(str(folder / SLOTS[slot]), framework="pt") as file:
            assert file.metadata()[SET_KEY] == sets["exported"].set_id
            assert file.metadata()[HASH_KEY] == CONFIG.config_hash
    other = load_file(str(run / "joint.safetensors"))
    other["connector.proj.0.bias"] += 1
    save_file(other, str(tmp_path / "joint.safetensors"))
    again = export(tmp_path / "joint.safetensors", CONFIG, mae=mae, out=tmp_path, dtype=torch.float32)
    assert again.set_id != sets["exported"].set_id


def test_the_same_run_exports_to_the_same_bytes(sets, run, mae, tmp_path):
    first = sets["exported"].folder
    for attempt in range(3):
        again = export(run / "joint.safetensors", CONFIG, mae=mae, out=tmp_path / str(attempt), dtype=torch.float32)
        for slot in SLOTS.values():
            assert (again.folder / slot).read_bytes() == (first / slot).read_bytes(), slot


def test_half_precision_files_are_half_as_large_and_close(run, mae, sets, tmp_path):
    half = export(run / "joint.safetensors", CONFIG, mae=mae, out=tmp_path)
    for slot in ("rformer", "lora"):
        full_file, half_file = (folder / SLOTS[slot] for folder in (sets["exported"].folder, half.folder))
        full, halved = load_file(str(full_file)), load_file(str(half_file))
        assert {value.dtype for value in halved.values()} == {torch.bfloat16}
        for name, value in full.items():
            assert_close(halved[name].float(), value, atol=1e-5, rtol=2**-8)


# --- the LoRA is the same everywhere --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_our_engine_computes_what_the_trained_module_does(module, sets, form):
    dit, before = transformer(), said(transformer())
    assert attach(dit, read_lora(sets[form])) == len(module.adapted)
    assert_close(said(dit), said(module.transformer), atol=1e-5, rtol=1e-5)
    assert (said(dit) - before).abs().max() > 0.1, "the LoRA would not be missed"


@pytest.mark.parametrize("form", FORMATS)
def test_diffusers_loads_every_layer_and_computes_the_same(module, sets, form):
    from diffusers.loaders import QwenImageLoraLoaderMixin as Loader
    from peft.tuners.lora import LoraLayer

    dit = transformer()
    state, metadata = Loader.lora_state_dict(str(sets[form]), return_lora_metadata=True)
    Loader.load_lora_into_transformer(state, transformer=dit, metadata=metadata)  # as load_lora_weights does
    assert sum(isinstance(part, LoraLayer) for part in dit.modules()) == len(module.adapted)
    assert_close(said(dit), said(module.transformer), atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def comfyui(sets, tmp_path_factory) -> dict[str, dict[str, torch.Tensor]]:
    """What ComfyUI's own code makes of each LoRA file, and of one whose keys it does not know."""
    if not COMFYUI.exists():
        pytest.fail("run `make setup`") if os.environ.get("CI") else pytest.skip("the real ComfyUI is not installed")
    folder = tmp_path_factory.mktemp("comfyui")
    raw_peft = {f"base_model.model.{name}": value for name, value in load_file(str(sets["ours"])).items()}
    for name, state in (("dit", transformer().state_dict()), ("inputs", inputs()), ("foreign", raw_peft)):
        save_file(state, str(folder / f"{name}.safetensors"))
    loras = {**{form: sets[form] for form in FORMATS}, "foreign": folder / "foreign.safetensors"}
    files = [
        ROOT / "tests" / "helpers" / "packs" / "tiny_qwen_shim" / "__init__.py",
        folder / "dit.safetensors",
        folder / "inputs.safetensors",
    ]
    for name, lora in loras.items():
        files += [lora, folder / f"{name}.out"]
    environment = os.environ | {"PYTHONPATH": str(COMFYUI), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tests" / "helpers" / "comfy_lora.py"), *map(str, files)]
    subprocess.run(command, cwd=COMFYUI, check=True, env=environment, timeout=300, capture_output=True)
    return {name: load_file(str(folder / f"{name}.out")) for name in loras}


@pytest.mark.parametrize("form", FORMATS)
def test_the_stock_comfyui_uses_every_key_and_computes_the_same(module, comfyui, form):
    found = comfyui[form]
    assert found["counts"].tolist() == [2 * len(module.adapted), len(module.adapted)]
    assert_close(found["without"], said(transformer()), atol=1e-5, rtol=1e-5)
    assert_close(found["with"], said(module.transformer), atol=1e-5, rtol=1e-5)
    assert torch.equal(found["with"], found["node"])


def test_keys_that_comfyui_does_not_know_would_show_in_that_count(comfyui):
    assert comfyui["foreign"]["counts"].tolist()[1] == 0
    assert torch.equal(comfyui["foreign"]["with"], comfyui["foreign"]["without"])


# --- the released format --------------------------------------------------------------------------------------------


def header_only(path: Path, tensors: dict[str, tuple[int, ...]]) -> Path:
    """A safetensors file of zeros that takes no room on the disk."""
    header, place = {}, 0
    for name, shape in tensors.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + place)
    return path


@pytest.mark.parametrize("config", [QWEN_FACE, QWEN_PRO], ids=["face", "pro"])
def test_the_real_dimensions_have_the_released_names_shapes_and_fingerprints(config, tmp_path):
    with torch.device("meta"):
        networks = {"rformer": OfficialRFormer(config.model), "connector": Connector(config.model.connector)}
        down, up = torch.empty(32, 3072), torch.empty(3072, 32)
    state = {f"{part}.{name}": p for part, network in networks.items() for name, p in network.named_parameters()}
    for half, factor in (("A", down), ("B", up)):
        state[f"transformer.transformer_blocks.0.attn.to_q.lora_{half}.default.weight"] = factor
    parts = {slot: shapes(tensors) for slot, tensors in set_parts(state, config, form="released").items()}
    check_released(parts, config.model)
    kinds = {slot: identify(header_only(tmp_path / f"{slot}.safetensors", parts[slot])).kind for slot in parts}
    assert kinds == {"rformer": f"rformer-{config.model.kind}", "connector": "connector", "lora": "lora"}
    assert set(parts["lora"]) == {f"transformer_blocks.0.attn.to_q.lora_{half}.default.weight" for half in "AB"}


def test_the_released_format_takes_no_other_dimensions_and_no_other_mae(run, mae, tmp_path):
    with pytest.raises(ValueError, match="rformer has other dimensions than the released one.*--format ours"):
        export(run / "joint.safetensors", CONFIG, mae=mae, out=tmp_path, form="released")
    for config in (FACE, PRO):
        right = {part: expected_tensors(part, config) for part in ("rformer", "connector")}
        check_released(right, config)
        right["connector"]["proj.0.bias"] = (7,)
        with pytest.raises(ValueError, match="connector has other dimensions"):
            check_released(right, config)
    assert list(tmp_path.iterdir()) == []


# --- what cannot be exported ----------------------------------------------------------------------------------------


def test_parts_that_are_missing_foreign_or_of_another_size_are_named(run):
    state = load_file(str(newest_joint(run)))
    factor = "transformer.transformer_blocks.0.attn.to_q.lora_A.default.weight"

    def without(name):
        return {key: value for key, value in state.items() if key != name}

    cases = (
        ({**state, "decoder.predict.bias": torch.zeros(1)}, CONFIG, "decoder.predict.bias is no part of a set"),
        (without("rformer.layernorm.bias"), CONFIG, "rformer does not fit.*1 of .*first: layernorm.bias"),
        (state, tiny_train_config(TINY_PRO), "rformer does not fit its configuration"),
        (without(factor), CONFIG, "1 of .* LoRA layers lack a factor"),
        ({**without(factor), factor: torch.zeros(5, 32)}, CONFIG, "configuration says 4"),
        ({**state, "transformer.proj_out.weight": torch.zeros(1)}, CONFIG, "no plain LoRA"),
    )
    for wrong, config, message in cases:
        with pytest.raises(ValueError, match=message):
            set_parts(wrong, config, form="ours")


def test_a_run_without_a_joint_stage_and_an_unknown_format_are_refused(run, mae, tmp_path):
    with pytest.raises(FileNotFoundError, match="train one first"):
        newest_joint(tmp_path)
    with pytest.raises(ValueError, match="use one of ours, released"):
        export(newest_joint(run), replace(CONFIG), mae=mae, out=tmp_path, form="gguf")


def test_a_result_says_how_it_was_trained(run, tmp_path):
    assert trained_config(newest_joint(run)) == CONFIG
    save_file({"x": torch.zeros(1)}, str(tmp_path / "joint.safetensors"))
    with pytest.raises(ValueError, match="for Mini use python -m training.export"):
        trained_config(tmp_path / "joint.safetensors")
    with pytest.raises(ValueError, match="'weighting'. do not fit this version"):
        QwenTrainConfig.from_json(CONFIG.to_json().replace('"weighting": "bell"', '"weightin": "bell"'))


def test_the_newest_joint_stage_is_exported(tmp_path):
    for number, name in enumerate(("joint-pro", "joint")):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
        os.utime(tmp_path / f"{name}.safetensors", (number, number))
    assert newest_joint(tmp_path).stem == "joint"
