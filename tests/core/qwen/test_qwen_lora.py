"""LoRA files in every style that is in use: read as the same thing, counted, refused when they only half fit."""

import pytest
import torch
from safetensors.torch import save_file
from tiny_qwen import LORA_TARGETS, NUM_BLOCKS, TEXT_WIDTH, lora_state, transformer
from torch.testing import assert_close

from mirrorppr_core.qwen.lora_files import attach, comfy_state, detach, parse_lora, read_lora

RANK, ALPHA = 4, 8.0
STYLES = {
    "bare": "{dotted}.lora_{ab}.weight",
    "adapter name": "{dotted}.lora_{ab}.default.weight",
    "diffusers": "transformer.{dotted}.lora_{ab}.weight",
    "diffusers with adapter": "transformer.{dotted}.lora_{ab}.default.weight",
    "diffusers, older": "transformer.{dotted}.lora.{updown}.weight",
    "ComfyUI": "diffusion_model.{dotted}.lora_{ab}.weight",
    "DiffSynth": "pipe.dit.{dotted}.lora_{ab}.default.weight",
    "raw peft": "base_model.model.{dotted}.lora_{ab}.weight",
    "up and down": "{dotted}.lora_{updown}.weight",
    "no weight suffix": "{dotted}.lora_{ab}",
    "kohya": "lora_unet_{underscored}.lora_{updown}.weight",
    "lycoris": "lycoris_{underscored}.lora_{updown}.weight",
}


def factors(rank=RANK):
    """(down, up) by module."""
    state = lora_state(rank=rank)
    modules = sorted({key.split(".lora_")[0] for key in state})
    return {m: (state[f"{m}.lora_A.default.weight"], state[f"{m}.lora_B.default.weight"]) for m in modules}


def in_style(style, *, alpha=None):
    state = {}
    for module, (down, up) in factors().items():
        names = {"dotted": module, "underscored": module.replace(".", "_")}
        state[style.format(ab="A", updown="down", **names)] = down
        key = style.format(ab="B", updown="up", **names)
        state[key] = up
        if alpha is not None:
            stem = key.rsplit(".lora", 1)[0]
            state[f"{stem}.alpha"] = torch.tensor(alpha)
    return state


def modules_of(model):
    return [name.removesuffix(".weight") for name in model.state_dict()]


@pytest.mark.parametrize("alpha", [None, ALPHA])
@pytest.mark.parametrize("style", STYLES)
def test_every_key_style_is_the_same_lora(style, alpha):
    lora = parse_lora(in_style(STYLES[style], alpha=alpha), name="x")
    matched = lora.matched_to(modules_of(transformer()))
    assert set(matched) == set(factors())
    for module, (down, up) in factors().items():
        found = matched[module]
        assert torch.equal(found.down, down) and torch.equal(found.up, up)
        assert found.scale == (1.0 if alpha is None else ALPHA / RANK)


def test_module_names_may_carry_comfyuis_prefix():
    lora = parse_lora(lora_state(), name="x")
    modules = [f"diffusion_model.{name}" for name in modules_of(transformer())]
    assert set(lora.matched_to(modules)) == {f"diffusion_model.{module}" for module in factors()}


def test_comfyui_gets_its_own_keys_with_the_scale_folded_in():
    lora = parse_lora(in_style(STYLES["kohya"], alpha=ALPHA), name="x")
    state = comfy_state(lora.matched_to(modules_of(transformer())))
    down, up = factors()["transformer_blocks.0.attn.to_q"]
    assert len(state) == 2 * len(factors())
    assert torch.equal(state["diffusion_model.transformer_blocks.0.attn.to_q.lora_A.weight"], down)
    assert_close(state["diffusion_model.transformer_blocks.0.attn.to_q.lora_B.weight"], up * ALPHA / RANK)


def test_rank_and_targets_are_read_off_the_file():
    for style in ("bare", "kohya"):
        lora = parse_lora(in_style(STYLES[style]), name="x")
        assert lora.ranks == (RANK,)
        named = {target if style == "bare" else target.replace(".", "_") for target in LORA_TARGETS}
        assert lora.targets == {target: NUM_BLOCKS for target in named}


def test_convolution_shaped_factors_are_flattened():
    state = {key: value[..., None, None] for key, value in lora_state().items()}
    assert all(f.down.ndim == f.up.ndim == 2 for f in parse_lora(state, name="x").layers.values())


def test_a_lora_that_matches_nothing_or_only_in_part_is_refused_with_the_count():
    model, state = transformer(), lora_state()
    foreign = {f"double_blocks.0.{key}": value for key, value in state.items()}
    deeper = {key.replace("blocks.1.", "blocks.7."): value for key, value in state.items()}
    for wrong, count in ((foreign, 0), (deeper, len(factors()) // 2)):
        with pytest.raises(ValueError, match=f"{count} of {len(factors())} layers exist"):
            attach(model, parse_lora(wrong, name="x"))


def test_damaged_and_foreign_files_are_refused(tmp_path):
    state = lora_state()
    half = {key: value for key, value in state.items() if "lora_B" not in key or "to_q" not in key}
    with pytest.raises(ValueError, match="lacks its up factor"):
        parse_lora(half, name="x")
    with pytest.raises(ValueError, match="do not multiply"):
        parse_lora({key: value[:3] if "lora_A" in key else value for key, value in state.items()}, name="x")
    with pytest.raises(ValueError, match="not a plain LoRA .1 of"):
        parse_lora(state | {"transformer_blocks.0.attn.to_q.dora_scale": torch.ones(2)}, name="x")
    with pytest.raises(ValueError, match="several adapters"):
        parse_lora(state | {key.replace("default", "other"): value for key, value in state.items()}, name="x")
    path = tmp_path / "connector.safetensors"
    save_file({"proj.0.weight": torch.zeros(2, 2)}, str(path))
    with pytest.raises(ValueError, match="not a plain LoRA"):
        read_lora(path)


def run(model):
    generator = torch.Generator().manual_seed(0)
    return model(
        hidden_states=torch.randn(1, 8, 64, generator=generator),
        encoder_hidden_states=torch.randn(1, 5, TEXT_WIDTH, generator=generator),
        timestep=torch.tensor([0.5]), img_shapes=[[(1, 2, 2), (1, 2, 2)]], return_dict=False,
    )[0]  # fmt: skip


def merged(strength):
    """The same by plain arithmetic: W + strength * alpha / rank * up @ down."""
    model = transformer()
    for module, (down, up) in factors().items():
        model.get_submodule(module).weight += strength * ALPHA / RANK * up @ down
    return run(model)


@pytest.mark.parametrize("strength", [1.0, 0.3, -1.0])
def test_attaching_with_peft_is_adding_to_the_weights_and_detaching_takes_it_back(strength):
    model = transformer()
    before = run(model)
    lora = parse_lora(in_style(STYLES["bare"], alpha=ALPHA), name="x")
    assert attach(model, lora, strength=strength) == len(factors())
    assert_close(run(model), merged(strength), atol=1e-5, rtol=1e-5)
    assert (run(model) - before).abs().max() > 0.05
    detach(model)
    assert torch.equal(run(model), before)


def test_another_lora_that_is_on_the_model_already_keeps_working():
    model, plain = transformer(), transformer()
    other = {key.replace(".default", ""): value for key, value in lora_state(seed=9).items()}
    model.load_lora_adapter(other, prefix=None, adapter_name="other")
    alone = run(model)
    attach(model, parse_lora(lora_state(), name="x"))
    for module, (down, up) in factors().items():
        weight = plain.get_submodule(module).weight
        weight += up @ down + other[f"{module}.lora_B.weight"] @ other[f"{module}.lora_A.weight"]
    assert_close(run(model), run(plain), atol=1e-5, rtol=1e-5)
    detach(model)
    assert torch.equal(run(model), alone)
    assert model.active_adapters() == ["other"]


def test_detaching_leaves_the_modules_as_they_were():
    model = transformer()
    names = list(model.state_dict())
    attach(model, parse_lora(lora_state(), name="x"))
    detach(model)
    assert list(model.state_dict()) == names


def test_strength_zero_changes_nothing():
    model = transformer()
    assert attach(model, parse_lora(lora_state(), name="x"), strength=0.0) == 0
    assert torch.equal(run(model), run(transformer()))
