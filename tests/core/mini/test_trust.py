"""The network is believed where named operations explain the exemplar, and less where they do not."""

import torch

from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.trust import trust

N, ATOMS = 16, 5


def operation(motion: torch.Tensor, atoms: torch.Tensor) -> Operation:
    return Operation(tokens=torch.zeros(1, 1, 4), motion=motion, shape=torch.zeros(1, 2, N, N), atoms=atoms, set_id="t")


def smooth(seed: int, count: int) -> torch.Tensor:
    coarse = torch.randn(1, 2 * count, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(N, N), mode="bicubic").unflatten(1, (count, 2))


def test_a_named_operation_is_left_to_the_network_whatever_its_strength():
    atoms, both_ways = smooth(0, ATOMS), torch.zeros(ATOMS)
    for strength in (0.2, -1.0):
        assert trust(operation(strength * atoms[:, 2], atoms), both_ways) == 1.0
    assert trust(operation(0.5 * atoms[:, 2] + 0.8 * atoms[:, 4], atoms), both_ways) == 1.0


def test_what_no_atom_explains_is_mostly_copied():
    assert trust(operation(smooth(1, 1)[:, 0], smooth(0, ATOMS)), torch.zeros(ATOMS)) < 0.5
