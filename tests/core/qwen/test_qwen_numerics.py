"""The reference's numerics as a switch: right values, reversible, only where nothing is quantised."""

import pytest
import torch
from tiny_qwen import lora_state, transformer
from torch import nn
from torch.testing import assert_close

from mirrorppr_core.qwen.denoise import denoise
from mirrorppr_core.qwen.lora_files import attach, parse_lora
from mirrorppr_core.qwen.numerics import reference_forwards, reference_numerics, reference_time_embedding, sigmoid_gelu
from mirrorppr_core.qwen.schedule import official_sigmas, reference_time
from tests.core.qwen.test_qwen_lora import run


def test_the_activation_has_its_published_values():
    x = torch.tensor([-3, -1, -0.5, 0.5, 1, 3])
    published = torch.tensor([-0.01807, -0.1542, -0.14961, 0.35039, 0.8458, 2.98193])
    assert_close(sigmoid_gelu(x), published, atol=1e-5, rtol=0)


def test_the_time_table_has_its_published_values():
    embedding = reference_time_embedding(torch.ones(1))
    assert embedding.shape == (1, 256)
    assert_close(embedding[0, :4], torch.tensor([0.5624, 0.9750, 0.9942, 0.9048]), atol=1e-4, rtol=0)


def test_inside_the_switch_the_dit_computes_otherwise_and_outside_as_before():
    model = transformer()
    before = run(model)
    with reference_numerics(model):
        assert (run(model) - before).abs().max() > 1e-3
    assert torch.equal(run(model), before)


def test_the_switch_goes_back_even_when_something_fails_inside():
    model = transformer()
    before = run(model)
    with pytest.raises(KeyError), reference_numerics(model):
        raise KeyError
    assert torch.equal(run(model), before)


def test_every_mlp_and_the_time_table_are_replaced_and_nothing_else():
    paths = set(reference_forwards(transformer(), round_time=True))
    blocks = {f"transformer_blocks.{i}.{stream}_mlp.net.0.forward" for i in (0, 1) for stream in ("img", "txt")}
    assert paths == blocks | {"time_text_embed.time_proj.forward"}


def test_times_are_rounded_only_where_asked():
    model, t = transformer(), torch.tensor([0.8765])
    rounding, plain = (
        reference_forwards(model, round_time=flag)["time_text_embed.time_proj.forward"] for flag in (True, False)
    )
    assert torch.equal(plain(t), reference_time_embedding(t))
    assert torch.equal(rounding(t), reference_time_embedding(reference_time(t)))
    assert not torch.equal(rounding(t), plain(t))


def test_the_switch_works_with_a_lora_attached():
    model = transformer()
    attach(model, parse_lora(lora_state(), name="x"))
    before = run(model)
    with reference_numerics(model):
        changed = run(model)
    assert not torch.equal(changed, before) and torch.equal(run(model), before)


class _Packed(torch.Tensor):
    """Stands for the tensor subclasses in which quantisers keep their bits."""


@pytest.mark.parametrize(
    "quantise",
    [
        lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight.to(torch.float8_e4m3fn), requires_grad=False)),
        lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight.char(), requires_grad=False)),
        lambda layer: setattr(layer, "weight", nn.Parameter(layer.weight.as_subclass(_Packed), requires_grad=False)),
    ],
    ids=["fp8", "int8", "packed"],
)
def test_a_quantised_dit_is_refused_untouched(quantise):
    model = transformer()
    quantise(model.transformer_blocks[1].txt_mlp.net[0].proj)
    with (
        pytest.raises(ValueError, match=r"blocks.1.txt_mlp.net.0 of this model is quantised"),
        reference_numerics(model),
    ):
        pass
    assert not any("forward" in vars(part) for part in model.modules())


def test_a_layer_of_another_class_counts_as_quantised():
    model = transformer()
    model.transformer_blocks[0].img_mlp.net[0].proj = nn.Identity()
    with pytest.raises(ValueError, match="Identity"):
        reference_forwards(model, round_time=False)


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="Sequential is not a Qwen-Image DiT"):
        reference_forwards(nn.Sequential(nn.Linear(2, 2)), round_time=False)


def test_a_model_that_is_patched_already_is_refused():
    model = transformer()
    with reference_numerics(model):
        with pytest.raises(ValueError, match="already replaces"), reference_numerics(model):
            pass
        assert any("forward" in vars(part) for part in model.modules()), "the first patch stays"


def test_a_model_whose_host_undid_its_patch_is_not_taken_for_patched():
    """ComfyUI puts the class's own method back as an attribute of the module."""
    model = transformer()
    time_proj = model.time_text_embed.time_proj
    time_proj.forward = time_proj.forward
    with reference_numerics(model):
        changed = run(model)
    assert not torch.equal(run(model), changed)


def test_a_dit_in_bfloat16_is_told_times_as_the_reference_rounds_them():
    """As sigma itself, bfloat16 would lose up to four thousandths near the start of the walk."""

    class Listener(torch.nn.Module):
        dtype, told = torch.bfloat16, []

        def forward(self, *, hidden_states, timestep, **_):
            self.told.append(timestep)
            return (torch.zeros_like(hidden_states),)

    listener, sigmas = Listener(), official_sigmas(4, height=64, width=64)
    latent = torch.zeros(1, 16, 8, 8)
    denoise(listener, noise=latent, query=latent, text=torch.zeros(1, 3, 8), sigmas=sigmas)
    assert torch.equal(torch.cat(listener.told), reference_time(sigmas[:-1]))
