"""The network is believed where named operations explain the exemplar, and less where they do not."""

from dataclasses import replace

import torch

from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.trust import named_by_pairs, trust

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


def test_several_pairs_tell_a_named_operation_by_what_it_does_to_each_face():
    faces = [smooth(seed, ATOMS) for seed in (0, 1, 2)]
    pairs = [operation(0.7 * atoms[:, 2] - 0.4 * atoms[:, 3], atoms) for atoms in faces]
    assert named_by_pairs(pairs, torch.zeros(ATOMS)) == 1.0


def test_several_pairs_tell_another_tool_though_look_alikes_explain_each_of_them():
    faces = [smooth(seed, ATOMS) for seed in (0, 1, 2)]
    tool = smooth(9, 1)[:, 0]  # the same motion on every face, which every face's atoms explain in another way
    pairs = [operation(tool + 0.3 * atoms[:, 1], atoms) for atoms in faces]
    assert named_by_pairs([operation(tool, atoms) for atoms in faces], torch.zeros(ATOMS)) == 0.0
    assert 0.0 <= named_by_pairs(pairs, torch.zeros(ATOMS)) <= 1.0


def test_what_the_pairs_told_is_what_counts():
    atoms = smooth(0, ATOMS)
    known = operation(atoms[:, 2], atoms)
    assert trust(replace(known, named=0.2), torch.zeros(ATOMS)) == 0.2
