"""MAE encoder, R-Former and connector compute what the method's specification says."""

import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close
from toys import TINY, randomise, seeded

from mirrorppr_core.networks.config import ConnectorConfig, MAEConfig
from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.networks.mae import MAEEncoder, normalise, sincos_positions, to_patches
from mirrorppr_core.networks.rformer import RFormer

# A golden vector of the released connector's shape, made from the specification without our code.
GOLDEN_STATISTICS = {"mean": -0.014780, "std": 1.002634, "abs_max": 4.379632}
GOLDEN_START, GOLDEN_END = (-0.54252, 0.72801, -0.30024, 0.30600), (0.25822, 0.77213, 1.04351)


def golden_weights(module: nn.Module) -> nn.Module:
    """Weights that are a function of their names alone."""
    state = {}
    for name, value in module.state_dict().items():
        z = np.random.RandomState(zlib.crc32(name.encode())).standard_normal(value.numel())
        if name.endswith("gamma") or (value.ndim == 1 and name.endswith(".weight")):
            z = 1 + 0.1 * z
        elif name.endswith(".weight"):
            z = z / np.sqrt(value.numel() / value.shape[0])
        else:
            z = 0.1 * z
        state[name] = torch.from_numpy(z.astype(np.float32)).reshape(value.shape)
    module.load_state_dict(state)
    return module.eval()


def pair(seed: int = 0) -> dict[str, Tensor]:
    generator, tokens, n = seeded(seed), TINY.mae.grid**2, TINY.view.size
    before, after = torch.randn(2, 2, tokens, TINY.mae.width, generator=generator).unbind()
    return {"before": before, "after": after, "motion": torch.randn(2, 4, n, n, generator=generator)}


@torch.no_grad()
def test_the_connector_gives_the_golden_vector():
    with torch.device("meta"):  # the initialisation would cost more than the test
        connector = Connector(ConnectorConfig(width=768, depth=6, heads=12, output=3584))
    connector = golden_weights(connector.to_empty(device="cpu"))
    tokens = torch.from_numpy(np.random.RandomState(12).standard_normal(8 * 768).astype(np.float32)).view(1, 8, 768)
    out = connector(tokens)
    assert out.shape == (1, 8, 3584)
    measured = {"mean": out.mean().item(), "std": out.std().item(), "abs_max": out.abs().max().item()}
    assert measured == pytest.approx(GOLDEN_STATISTICS, abs=1e-4)
    assert_close(out[0, 0, :4], torch.tensor(GOLDEN_START), atol=1e-4, rtol=0)
    assert_close(out[0, -1, -3:], torch.tensor(GOLDEN_END), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_connector_treats_its_tokens_as_a_set():
    connector = randomise(Connector(TINY.connector))
    tokens, order = torch.randn(1, 4, 16, generator=seeded()), [2, 0, 3, 1]
    assert_close(connector(tokens[:, order]), connector(tokens)[:, order])
    changed = tokens.clone()
    changed[:, 0] += 1
    assert (connector(changed)[:, 1] - connector(tokens)[:, 1]).abs().amax() > 1e-4, "tokens must see each other"


@torch.no_grad()
def test_the_mae_encoder_is_that_of_transformers_in_raster_order(tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.ViTMAEConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=64,
        patch_size=16, mask_ratio=0.0, layer_norm_eps=1e-12,
    ).save_pretrained(tmp_path)  # fmt: skip
    ours = randomise(MAEEncoder(MAEConfig(image_size=64, width=32, depth=2, heads=4)))
    save_file(ours.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    theirs = transformers.ViTMAEModel.from_pretrained(tmp_path).eval()
    image = torch.rand(2, 3, 64, 64, generator=seeded(1))
    raster = torch.arange(16).expand(2, -1).float()
    expected = theirs(normalise(image), noise=raster).last_hidden_state
    assert_close(ours.encode(ours.embed(image)), expected, atol=1e-5, rtol=0)
    assert_close(ours(image), expected[:, 1:], atol=1e-5, rtol=0)


def test_a_fresh_mae_has_the_fixed_positions_of_the_paper():
    positions = sincos_positions(4, 16)
    assert not positions[:, 0].any(), "the class token has no place"
    grid = positions[0, 1:].view(4, 4, 16)
    assert_close(grid[1, :, :8], grid[3, :, :8])  # the first half tells x alone
    assert_close(grid[:, 1, 8:], grid[:, 3, 8:])  # the second half tells y alone
    assert_close(grid[2, 3, :4], torch.sin(3 / 10000 ** (torch.arange(4) / 4)))


def test_patches_are_read_row_by_row():
    image = torch.zeros(1, 3, 32, 48)
    image[:, :, 16:, 32:] = 1  # the last of 2 x 3
    assert to_patches(image, 16).mean(-1).tolist() == [[0, 0, 0, 0, 0, 1]]


def test_the_mae_refuses_another_size():
    with pytest.raises(ValueError, match=r"\(64, 96\), needs 64x64: use CanonicalView.see"):
        MAEEncoder(TINY.mae)(torch.rand(1, 3, 64, 96))


@torch.no_grad()
def test_the_r_former_is_its_definition_written_out():
    torch.manual_seed(0)
    rformer, inputs = randomise(RFormer(TINY)), pair()
    w, side, cells = rformer.state_dict(), TINY.mae.grid, TINY.view.size // TINY.mae.grid

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[name + ".weight"], w[name + ".bias"])

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps=1e-12)

    before, after = (linear(inputs[k], "embeddings.projection") for k in ("before", "after"))
    motion = inputs["motion"] * torch.tensor([4.0, 4.0, 0.25, 0.25]).view(4, 1, 1)  # motion up, face shape down
    blocks = F.unfold(motion, cells, stride=cells).transpose(1, 2)  # (B, side * side, C * cells * cells)
    after = after + linear(blocks, "embeddings.motion_projection")
    queries, separator = (w[f"embeddings.{k}"].expand(2, -1, -1) for k in ("latent_motion_token", "sep_token"))
    x = torch.cat([queries, before, separator, after], dim=1) + w["embeddings.position_embeddings"]
    assert x.shape[1] == 4 + side**2 + 1 + side**2
    y, layer = norm(x, "encoder.layer.0.layernorm_before"), "encoder.layer.0."
    q, k, v = (
        linear(y, f"{layer}attention.attention.{name}").view(2, -1, 2, 8).transpose(1, 2)
        for name in ("query", "key", "value")
    )
    mixed = (q @ k.mT / 8**0.5).softmax(-1) @ v
    x = x + linear(mixed.transpose(1, 2).flatten(2), layer + "attention.output.dense")
    y = norm(x, layer + "layernorm_after")
    x = x + linear(F.gelu(linear(y, layer + "intermediate.dense")), layer + "output.dense")
    assert_close(rformer(**inputs), norm(x, "layernorm")[:, :4], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("given", ["before", "after", "motion"])
def test_the_operation_tokens_depend_on_all_that_the_r_former_reads(given):
    rformer, inputs = randomise(RFormer(TINY)), pair()
    changed = {**inputs, given: inputs[given].flip(1)}
    assert (rformer(**changed) - rformer(**inputs)).abs().amax() > 1e-3


@torch.no_grad()
def test_the_order_of_the_pair_matters():
    rformer, inputs = randomise(RFormer(TINY)), pair()
    swapped = {**inputs, "before": inputs["after"], "after": inputs["before"]}
    assert (rformer(**swapped) - rformer(**inputs)).abs().amax() > 1e-3


def test_motion_is_required_where_the_r_former_was_trained_with_it_and_only_there():
    inputs = pair()
    without = RFormer(replace(TINY, rformer=replace(TINY.rformer, motion_channels=0)))
    assert without(inputs["before"], inputs["after"]).shape == (2, 4, 16)
    with pytest.raises(ValueError, match="trained with measured motion"):
        RFormer(TINY)(inputs["before"], inputs["after"])
