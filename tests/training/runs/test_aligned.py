"""Weights mapped from files begin anywhere in memory; the trainer's do not."""

import torch
from torch import nn

from training.runs.aligned import ALIGNMENT, aligned


def mapped(module: nn.Module, offset: int) -> nn.Module:
    """The module with its weights `offset` numbers behind the beginning of a piece of memory, as in a file."""
    for parameter in module.parameters():
        whole = torch.zeros(offset + parameter.numel())
        whole[offset:] = parameter.detach().flatten()
        parameter.data = whole[offset:].view_as(parameter)
    return module


def test_weights_are_moved_and_keep_every_bit():
    module = mapped(nn.Linear(7, 5), 3)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    assert all(p.data_ptr() % ALIGNMENT for p in module.parameters())
    assert aligned(module) is module
    assert not any(p.data_ptr() % ALIGNMENT for p in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_what_is_in_place_stays_where_it_is():
    module = nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16))
    places = [value.data_ptr() for value in module.state_dict().values()]
    aligned(module)
    assert [value.data_ptr() for value in module.state_dict().values()] == places
