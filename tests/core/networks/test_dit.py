"""The dual-stream DiT is Qwen-Image's block by block, and a fresh field network is the training-free copy."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from toys import TINY, randomise, seeded

from mirrorppr_core.mini.field_dit import FieldCondition, FieldDiT
from mirrorppr_core.networks.config import DiTConfig
from mirrorppr_core.networks.dit import DualStreamDiT, apply_rope, rope_table
from mirrorppr_core.operations.atoms import atoms_of

SMALL = DiTConfig(depth=2, heads=2, head_dim=16, text_width=24, rope_axes=(4, 6, 6))


def small_dit() -> DualStreamDiT:
    torch.manual_seed(0)
    return randomise(DualStreamDiT(SMALL, in_channels=64, out_channels=64))


def field_inputs(batch: int = 2) -> dict:
    generator, n = seeded(3), TINY.view.size
    copied, query, exemplar = torch.randn(3, batch, 2, n, n, generator=generator).unbind()
    features = torch.randn(batch, TINY.mae.grid**2, TINY.mae.width, generator=generator)
    atoms = torch.randn(2, batch, len(atoms_of(TINY.dit.operations)), 2, n, n, generator=generator)
    points = 16 + 8 * torch.randn(2, batch, 130, 2, generator=generator)
    return {
        "noisy": torch.randn(batch, 2, n, n, generator=generator),
        "condition": FieldCondition(
            copied=copied, query_shape=query, exemplar_shape=exemplar, query_points=points[0],
            exemplar_points=points[1], query_atoms=atoms[0], exemplar_atoms=atoms[1], features=features,
        ),
        "tokens": torch.randn(batch, TINY.rformer.num_queries, TINY.dit.text_width, generator=generator),
        "t": torch.rand(batch, generator=generator),
    }  # fmt: skip


@pytest.fixture(scope="module")
def qwen():
    """diffusers' transformer at our size: patch 2 and 16 channels give 64 outputs per token."""
    transformers = pytest.importorskip("diffusers.models.transformers.transformer_qwenimage")
    return transformers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=64, out_channels=16, num_layers=SMALL.depth, attention_head_dim=SMALL.head_dim,
        num_attention_heads=SMALL.heads, joint_attention_dim=SMALL.text_width, axes_dims_rope=SMALL.rope_axes,
    ).eval()  # fmt: skip


def test_weights_pass_between_ours_and_diffusers_by_name(qwen):
    ours = small_dit()
    assert list(ours.state_dict()) and set(ours.state_dict()) == set(qwen.state_dict())
    qwen.load_state_dict(ours.state_dict(), strict=True)
    ours.load_state_dict(qwen.state_dict(), strict=True)


@pytest.mark.parametrize(("height", "width", "text"), [(8, 8, 5), (4, 10, 7), (12, 2, 1)])
def test_it_computes_what_diffusers_computes(qwen, height, width, text):
    ours, generator = small_dit(), seeded(1)
    qwen.load_state_dict(ours.state_dict())
    image = torch.randn(2, height * width, 64, generator=generator)
    tokens = torch.randn(2, text, SMALL.text_width, generator=generator)
    t = torch.tensor([0.3, 1.0])
    with torch.no_grad():
        theirs = qwen(
            hidden_states=image,
            encoder_hidden_states=tokens,
            encoder_hidden_states_mask=torch.ones(2, text, dtype=torch.bool),
            timestep=t,
            img_shapes=[[(1, height, width)]] * 2,
            return_dict=False,
        )[0]
        mine = ours(image=image, text=tokens, t=t, height=height, width=width)
    assert_close(mine, theirs, atol=1e-5, rtol=0)
    assert mine.std() > 0.1, "weights this small would hide a difference"


def test_a_fresh_block_is_the_identity():
    torch.manual_seed(0)
    block = DualStreamDiT(SMALL, in_channels=8, out_channels=8).transformer_blocks[0]
    image, text, time = torch.randn(1, 6, 32), torch.randn(1, 3, 32), torch.randn(1, 32)
    image_out, text_out = block(
        image=image, text=text, time=time, rope=rope_table(SMALL.rope_axes, text_length=3, height=2, width=3)
    )
    assert torch.equal(image_out, image) and torch.equal(text_out, text)


def test_rotation_keeps_lengths_and_depends_on_distance_alone():
    x = torch.randn(1, 1, 16, generator=seeded()).expand(1, 1, 4 * 8, 16)
    turned = apply_rope(x, rope_table(SMALL.rope_axes, text_length=0, height=4, width=8))[0, 0]
    assert_close(turned.norm(dim=-1), x[0, 0].norm(dim=-1))
    products = (turned @ turned.T).view(4, 8, 4, 8)
    assert_close(products[0, 0, 1, 2], products[2, 5, 3, 7])
    assert (products[0, 0, 1, 2] - products[0, 0, 2, 1]).abs() > 1e-3


def test_text_positions_follow_the_image_on_every_axis():
    rope = rope_table(SMALL.rope_axes, text_length=2, height=4, width=8)
    one_radian_a_position = rope[:, [0, 2, 5]]  # the first channel pair of frame, row and column
    positions = torch.tensor([[4.0, 4, 4], [5, 5, 5], [0, -2, -4]])  # two text tokens, the first image token
    assert_close(one_radian_a_position[:3], torch.polar(torch.ones(3, 3), positions))


def test_an_untrained_field_network_returns_the_copied_motion():
    torch.manual_seed(0)
    inputs = field_inputs()
    assert_close(FieldDiT(TINY)(**inputs), inputs["condition"].copied, atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_field_network_answers_with_a_gain_a_shift_and_a_rest():
    torch.manual_seed(0)
    network, inputs = FieldDiT(TINY), field_inputs()
    copied, answer = inputs["condition"].copied, network.head[2].bias  # the same in every cell
    answer.copy_(torch.tensor([0.0, 0.0, 2.0, 0.0, 0.0, 0.0]))  # look two cells to the right
    assert_close(network(**inputs)[..., :-2], copied[..., 2:], atol=1e-5, rtol=0)
    answer.copy_(torch.tensor([9.0, -9.0, 0.0, 0.0, 0.0, 0.0]))  # as far as a gain goes, both ways
    limits = torch.tensor([3.0, -3.0]).exp().view(2, 1, 1)
    assert_close(network(**inputs), limits * copied, atol=1e-4, rtol=1e-4)
    answer.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 0.3, -0.4]))
    assert_close(network(**inputs), copied + torch.tensor([0.3, -0.4]).view(2, 1, 1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_what_the_bank_explains_is_made_of_the_querys_atoms_and_the_rest_is_copied():
    torch.manual_seed(0)
    network, inputs = FieldDiT(TINY), field_inputs()
    condition = inputs["condition"]
    count = condition.query_atoms.shape[1]
    network.bank_fit.answer.bias.copy_(torch.cat([torch.full((count,), -9.0), torch.ones(count), torch.tensor([0.2])]))
    known = 0.5 * condition.exemplar_atoms[:, 3] - 0.2 * condition.exemplar_atoms[:, 20]
    other = condition.copied[:, :, :, :8]  # something that no atom shows
    known[..., :8] += 0.3 * other
    inputs["condition"] = replace(condition, copied=known)
    made, left = network.split(inputs["condition"], inputs["tokens"])
    expected = 0.5 * condition.query_atoms[:, 3] - 0.2 * condition.query_atoms[:, 20]
    assert float((made - expected).norm() / expected.norm()) < 0.25, "noise and priors cost a little"
    explained = 0.5 * condition.exemplar_atoms[:, 3] - 0.2 * condition.exemplar_atoms[:, 20]
    assert float((left - 1.2 * (known - explained)).norm() / known.norm()) < 0.25
    assert_close(network(**inputs), made + left, atol=1e-5, rtol=0)
    assert_close(network.without_dit(inputs["condition"], inputs["tokens"]), made + left, atol=1e-5, rtol=0)


def test_the_codes_of_many_faces_start_white():
    torch.manual_seed(0)
    network, generator = FieldDiT(TINY), seeded(5)
    points = 16 + 8 * torch.randn(1, 130, 2, generator=generator) + torch.randn(80, 130, 2, generator=generator)
    network.start_from_faces(points)
    codes = network.code(points)
    assert_close(codes.T @ codes / len(codes), torch.eye(TINY.dit.geometry_codes), atol=1e-2, rtol=0)
    assert codes.mean(0).abs().amax() < 1e-2


@pytest.mark.parametrize("name", ["noisy", "tokens", "t", "copied", "query_shape", "exemplar_shape", "query_points",
                                  "exemplar_points", "query_atoms", "exemplar_atoms", "features"])  # fmt: skip
def test_everything_the_field_network_is_given_matters(name):
    torch.manual_seed(0)
    network, inputs = randomise(FieldDiT(TINY)), field_inputs()
    before = network(**inputs)
    target = inputs if name in inputs else vars(inputs["condition"])
    # Landmarks count by their distances, which a swap of x and y would leave alone.
    changed = target[name].flip(-2 if "points" in name else -1) if name != "t" else 1 - target[name]
    target[name] = changed * torch.tensor([1.0, 1.5]) if "points" in name else changed
    assert (network(**inputs) - before).abs().amax() > 1e-3


def test_samples_of_a_batch_do_not_see_each_other():
    torch.manual_seed(0)
    network, inputs = randomise(FieldDiT(TINY)), field_inputs()
    both = network(**inputs)
    second = FieldCondition(**{k: v[1:] for k, v in vars(inputs["condition"]).items()})
    alone = network(noisy=inputs["noisy"][1:], condition=second, tokens=inputs["tokens"][1:], t=inputs["t"][1:])
    assert_close(alone, both[1:], atol=1e-4, rtol=1e-4)  # sums run in another order for another batch size
