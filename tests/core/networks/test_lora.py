"""LoRA: peft's adapters in training and our merge at inference are the same model."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from toys import TINY, random_lora, randomise, seeded

from mirrorppr_core.mini.field_dit import FieldDiT
from mirrorppr_core.networks.config import LoRAConfig
from mirrorppr_core.networks.lora import inject, merge
from tests.core.networks.test_dit import field_inputs
from training.export import disk_name


def backbone() -> FieldDiT:
    torch.manual_seed(0)
    return randomise(FieldDiT(TINY))


def injected() -> FieldDiT:
    pytest.importorskip("peft")
    network = backbone()
    inject(network, TINY.lora)
    return network


def factors(network: nn.Module) -> dict[str, Tensor]:
    """The adapters as they are written to disk."""
    return {disk_name(name): value.detach().clone() for name, value in network.named_parameters() if "lora_" in name}


def weights(network: nn.Module) -> Tensor:
    return torch.cat([p.flatten() for p in network.parameters()])


@torch.no_grad()
def test_a_fresh_adapter_changes_nothing():
    network = injected()
    assert all(not value.any() for name, value in factors(network).items() if ".lora_B." in name)
    assert torch.equal(network(**field_inputs()), backbone()(**field_inputs()))


def test_the_trainable_set_is_exactly_the_adapters():
    network = injected()
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    assert trainable == {name for name, _ in network.named_parameters() if ".lora_A." in name or ".lora_B." in name}
    targets_of_a_block = len(TINY.lora.targets)
    assert len(trainable) == 2 * targets_of_a_block * TINY.dit.depth


@torch.no_grad()
def test_merged_weights_compute_what_the_trained_adapters_compute():
    trained, merged = injected(), backbone()
    generator = seeded(5)
    for name, value in trained.named_parameters():
        if "lora_" in name:
            value.copy_(0.2 * torch.randn(value.shape, generator=generator))
    assert merge(merged, factors(trained), TINY.lora) == len(TINY.lora.targets) * TINY.dit.depth
    expected = trained(**field_inputs())
    assert_close(merged(**field_inputs()), expected, atol=1e-4, rtol=0)
    assert (expected - backbone()(**field_inputs())).abs().amax() > 1e-2, "the adapters must matter"


def test_merging_is_linear_in_the_strength():
    once, half_twice, untouched = backbone(), backbone(), backbone()
    state = random_lora(once, TINY.lora)
    merge(once, state, TINY.lora)
    for _ in range(2):
        merge(half_twice, state, TINY.lora, strength=0.5)
    merge(untouched, state, TINY.lora, strength=0.0)
    assert_close(weights(half_twice), weights(once))
    assert torch.equal(weights(untouched), weights(backbone()))


def test_a_target_that_names_no_layer_is_refused():
    pytest.importorskip("peft")
    with pytest.raises(ValueError, match=r"\['to_nowhere'\] name no linear layer of FieldDiT"):
        inject(backbone(), LoRAConfig(rank=2, alpha=2, targets=("to_q", "to_nowhere")))


def without_partner(state: dict[str, Tensor]) -> None:
    del state[next(name for name in state if ".lora_A." in name)]


def with_alpha(state: dict[str, Tensor]) -> None:
    state["dit.transformer_blocks.0.attn.to_q.alpha"] = torch.tensor(2.0)


def empty(state: dict[str, Tensor]) -> None:
    state.clear()


def of_a_deeper_model(state: dict[str, Tensor]) -> None:
    for name in [name for name in state if "to_q" in name]:
        state[name.replace("blocks.0", "blocks.7")] = state[name]


def of_a_wider_model(state: dict[str, Tensor]) -> None:
    last = max(name for name in state if ".lora_B." in name)
    state[last] = torch.zeros(99, 2)


def of_another_rank(state: dict[str, Tensor]) -> None:
    for name in state:
        state[name] = torch.cat([state[name]] * 2, dim=0 if ".lora_A." in name else 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_partner, "unpaired or foreign keys"),
        (with_alpha, "unpaired or foreign keys"),
        (empty, "unpaired or foreign keys"),
        (of_a_deeper_model, r"1 of 9 layers do not exist in this DiT \(first: dit.transformer_blocks.7"),
        (of_a_wider_model, r"factors \(2, \d+\) and \(99, 2\), this DiT needs"),
        (of_another_rank, "belongs to another model"),
    ],
)
def test_a_lora_of_another_model_is_refused_and_applied_not_even_in_part(spoil, message):
    network = backbone()
    state = random_lora(network, TINY.lora)
    spoil(state)
    with pytest.raises(ValueError, match=message):
        merge(network, state, TINY.lora)
    assert torch.equal(weights(network), weights(backbone()))
