"""Weights files: known by their headers, refused with what they are and where they belong, loaded when used."""

import json
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_qwen import TINY_FACE, TINY_PRO, lora_state, save_set, transformer, vae

from mirrorppr_core.networks.config import ConnectorConfig
from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.qwen.config import FACE, PRO
from mirrorppr_core.qwen.files import CONFIG_KEY, SLOTS, QwenSet, choose_dtype, expected_tensors, identify, require
from mirrorppr_core.qwen.fingerprints import KNOWN, fingerprint

PUBLISHED = {kind: md5 for md5, kind in KNOWN.items()}


def mae_decoder():
    """The part of the released MAE file that nobody uses: a plain ViT of 8 layers, width 512."""
    tensors = {
        "decoder.mask_token": (1, 1, 512), "decoder.decoder_pos_embed": (1, 197, 512),
        "decoder.decoder_embed.weight": (512, 1024), "decoder.decoder_embed.bias": (512,),
        "decoder.decoder_pred.weight": (768, 512), "decoder.decoder_pred.bias": (768,),
        "decoder.decoder_norm.weight": (512,), "decoder.decoder_norm.bias": (512,),
    }  # fmt: skip
    linear = {
        "attention.attention.query": (512, 512), "attention.attention.key": (512, 512),
        "attention.attention.value": (512, 512), "attention.output.dense": (512, 512),
        "intermediate.dense": (2048, 512), "output.dense": (512, 2048),
    }  # fmt: skip
    for layer in range(8):
        prefix = f"decoder.decoder_layers.{layer}."
        for name, shape in linear.items():
            tensors |= {f"{prefix}{name}.weight": shape, f"{prefix}{name}.bias": shape[:1]}
        for name in ("layernorm_before", "layernorm_after"):
            tensors |= {f"{prefix}{name}.weight": (512,), f"{prefix}{name}.bias": (512,)}
    return tensors


def full_dit():
    from diffusers import QwenImageTransformer2DModel

    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in QwenImageTransformer2DModel().state_dict().items()}


def wide_connector():
    with torch.device("meta"):
        state = Connector(ConnectorConfig(width=3584, depth=6, heads=56, output=3584)).state_dict()
    return {name: tuple(value.shape) for name, value in state.items()}


def write_header(path, tensors, dtype="BF16"):
    """A file with these tensors whose data are a hole on the disk: the header is all that identifying reads."""
    header, end = {}, 0
    for name, shape in tensors.items():
        size = 2 * int(torch.tensor(shape).prod())
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


@pytest.mark.parametrize(
    "kind, count, rebuild",
    [
        ("rformer-face", 72, lambda: expected_tensors("rformer", FACE)),
        ("rformer-pro", 79, lambda: expected_tensors("rformer", PRO)),
        ("connector", 89, lambda: expected_tensors("connector", FACE)),
        ("connector-3584", 89, wide_connector),
        ("mae", 526, lambda: expected_tensors("mae", FACE) | mae_decoder()),
        ("learnable-query", 1, lambda: {"learnable_query": (256, 3584)}),
        ("dit", 1933, full_dit),
    ],
)
def test_the_networks_rebuilt_from_their_description_have_the_published_fingerprint(kind, count, rebuild):
    tensors = rebuild()
    assert (len(tensors), fingerprint(tensors)) == (count, PUBLISHED[kind])


@pytest.mark.parametrize(
    "slot, tensors",
    [
        ("mae", lambda: expected_tensors("mae", FACE) | mae_decoder()),
        ("mae", lambda: expected_tensors("mae", FACE)),
        ("rformer", lambda: expected_tensors("rformer", FACE)),
        ("rformer", lambda: expected_tensors("rformer", PRO)),
        ("connector", lambda: expected_tensors("connector", FACE)),
    ],
    ids=["mae", "mae without its decoder", "face", "pro", "connector"],
)
@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_a_released_file_is_known_by_its_header_alone(tmp_path, slot, tensors, dtype):
    file = require(write_header(tmp_path / "any name.safetensors", tensors(), dtype), slot)
    assert file.stored_dtypes == {dtype}


def test_the_rformers_header_says_whether_the_set_is_face_or_pro(tmp_path):
    for config in (FACE, PRO):
        file = identify(write_header(tmp_path / f"{config.kind}.safetensors", expected_tensors("rformer", config)))
        assert file.config == config


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory):
    """A file of every kind that a user may have lying around."""
    folder = tmp_path_factory.mktemp("kinds")
    tiny = save_set(folder / "tiny")
    paths = {slot: tiny / name for slot, name in SLOTS.items()}
    paths["older connector"] = write_header(folder / "c.safetensors", wide_connector())
    paths["DiT"] = write_header(folder / "dit.safetensors", full_dit())
    for name, module in (("one-file DiT", transformer()), ("VAE", vae())):
        prefix = "model.diffusion_model." if name == "one-file DiT" else ""
        paths[name] = folder / f"{name}.safetensors"
        save_file({prefix + key: value.contiguous() for key, value in module.state_dict().items()}, str(paths[name]))
    paths["text encoder"] = write_header(folder / "t.safetensors", {"visual.patch_embed.proj.weight": (2, 3)})
    paths["query table"] = write_header(folder / "q.safetensors", {"learnable_query": (256, 3584)})
    paths["stranger"] = write_header(folder / "s.safetensors", {"unet.conv": (4, 4)})
    paths["other R-Former"] = write_header(folder / "r.safetensors", {"embeddings.latent_motion_token": (1, 4, 8)})
    paths["Mini"] = folder / "mini.safetensors"
    save_file({"x": torch.zeros(1)}, str(paths["Mini"]), metadata={"format": "mirrorppr", "part": "rformer"})
    return paths


WORDS = {
    "mae": "the MAE, which belongs to the mae slot", "rformer": "an R-Former, which belongs to the rformer slot",
    "connector": "the connector, which belongs to", "lora": "a LoRA, which belongs to the lora slot",
    "older connector": "width 3584", "DiT": "the Qwen-Image DiT, which belongs to ComfyUI's diffusion_models",
    "one-file DiT": "the Qwen-Image DiT", "VAE": "an image VAE", "text encoder": "Qwen2.5-VL text encoder",
    "query table": "experimental", "stranger": "not a file that MirrorPPR knows .1 tensors, the first is 'unet.conv'",
    "other R-Former": "R-Former of other dimensions", "Mini": "MirrorPPR Mini set .rformer.",
}  # fmt: skip


@pytest.mark.parametrize("slot", SLOTS)
def test_every_wrong_file_is_refused_from_every_slot_with_what_it_is(one_of_each, slot):
    for kind, path in one_of_each.items():
        if kind == slot:
            assert require(path, slot).kind == slot
            continue
        with pytest.raises(ValueError, match=WORDS[kind]) as refusal:
            require(path, slot)
        assert SLOTS[slot] in str(refusal.value)


def test_damaged_empty_and_missing_files_are_refused_with_a_remedy(tmp_path):
    pointer, cut = tmp_path / "pointer.safetensors", tmp_path / "cut.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    whole = save_set(tmp_path) / SLOTS["rformer"]
    cut.write_bytes(whole.read_bytes()[:-100])
    for path in (pointer, cut):
        with pytest.raises(ValueError, match="Download it again"):
            identify(path)
    with pytest.raises(FileNotFoundError, match="fetch"):
        identify(tmp_path / "nothing.safetensors")


def test_a_quantised_copy_of_a_part_is_refused(tmp_path):
    path = write_header(tmp_path / "c.safetensors", expected_tensors("connector", FACE), "I16")
    with pytest.raises(ValueError, match="stored as I16"):
        require(path, "connector")


@pytest.mark.parametrize("config", [TINY_FACE, TINY_PRO], ids=["face", "pro"])
def test_a_set_is_found_below_its_root_and_in_its_own_folder(tmp_path, config):
    folder = save_set(tmp_path, config)
    below, itself = QwenSet.from_folder(tmp_path), QwenSet.from_folder(folder)
    assert below.config == itself.config == config
    assert below.set_id == itself.set_id and len(below.set_id) == 12


def test_two_trainings_have_two_set_ids(tmp_path):
    ids = {QwenSet.from_folder(save_set(tmp_path / str(seed), seed=seed)).set_id for seed in (0, 1)}
    assert len(ids) == 2


def test_a_root_with_two_sets_or_none_asks_for_one(tmp_path):
    with pytest.raises(ValueError, match="neither"):
        QwenSet.from_folder(tmp_path)
    save_set(tmp_path, TINY_FACE)
    save_set(tmp_path, TINY_PRO)
    with pytest.raises(ValueError, match="mirrorppr_face/ and mirrorppr_pro/"):
        QwenSet.from_folder(tmp_path)
    (tmp_path / "mirrorppr_pro" / SLOTS["lora"]).unlink()
    with pytest.raises(FileNotFoundError, match="0 candidates for lora"):
        QwenSet.from_folder(tmp_path / "mirrorppr_pro")


@pytest.mark.parametrize("slot", ["mae", "connector", "lora"])
def test_face_and_pro_parts_do_not_mix(tmp_path, slot):
    face, pro = save_set(tmp_path, TINY_FACE), save_set(tmp_path, TINY_PRO)
    paths = {name: face / path for name, path in SLOTS.items()} | {slot: pro / SLOTS[slot]}
    with pytest.raises(ValueError, match="Face and Pro were trained apart"):
        QwenSet.from_files(**paths)


def test_parts_of_other_dimensions_do_not_mix(tmp_path):
    tiny = save_set(tmp_path)
    paths = {name: tiny / path for name, path in SLOTS.items()}
    full = write_header(tmp_path / "full.safetensors", expected_tensors("connector", FACE))
    with pytest.raises(ValueError, match="different dimensions"):
        QwenSet.from_files(**paths | {"connector": full})


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_weights_load_in_the_wanted_precision_whatever_is_on_disk(tmp_path, stored, wanted):
    files = QwenSet.from_folder(save_set(tmp_path, dtype=stored))
    for load in (files.load_mae, files.load_rformer, files.load_connector):
        parameters = list(load(dtype=wanted).parameters())
        assert all(p.dtype == wanted and not p.requires_grad and not p.is_meta for p in parameters)


def test_a_set_is_checked_without_reading_its_weights_and_loads_exactly_them(tmp_path):
    files = QwenSet.from_folder(save_set(tmp_path))
    stored = load_file(files.rformer.path)
    for name, value in files.load_rformer(dtype=torch.float32).state_dict().items():
        assert torch.equal(value, stored[name])


def test_weights_that_are_not_numbers_are_refused_by_name(tmp_path):
    files = QwenSet.from_folder(save_set(tmp_path))
    state = load_file(files.connector.path)
    state["proj.0.bias"][3] = torch.nan
    save_file(state, str(files.connector.path), metadata={CONFIG_KEY: TINY_FACE.to_json()})
    with pytest.raises(ValueError, match="connector.safetensors contains NaN or infinite weights .proj.0.bias."):
        files.load_connector(dtype=torch.float32)


def test_the_loader_reports_the_patch_order_test(tmp_path):
    for config in (TINY_FACE, TINY_PRO):
        verdict = QwenSet.from_folder(save_set(tmp_path, config)).judge_patch_order()
        assert "patch-order test" in str(verdict)


def test_a_cpu_computes_in_float32():
    assert choose_dtype("cpu") == torch.float32


def test_a_lora_file_is_recognised_in_any_key_style(tmp_path):
    styles = ("{}.lora_A.weight", "diffusion_model.{}.lora_down.weight", "lora_unet_{}.lora_up.weight")
    for index, style in enumerate(styles):
        path = tmp_path / f"{index}.safetensors"
        save_file({style.format(key.split(".lora")[0]): torch.zeros(2, 2) for key in lora_state()}, str(path))
        assert require(path, "lora").kind == "lora"
