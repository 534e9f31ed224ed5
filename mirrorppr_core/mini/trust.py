"""How far the network is believed: wholly where operations that have a name explain the exemplar, else less.

    answer = trust * network + (1 - trust) * carried motion      carry.py; the plain copy where a set comes without

The network was trained on operations that have a name. For a retouch that none of them explains it takes look-alikes
for it, and errs more than the plain copy (training/LOG.md).

    one pair        how much of its motion the few best named operations leave unexplained: mostly 0.07 to 0.25 of a
                    named operation's, up to 0.5 where it moves less than a pixel, 0.17 to 0.94 of other tools'
    several pairs   whether named operations, found on one pair, foretell the others better than its plain copy does.
                    That tells the two kinds apart: their error is 0.2 to 0.7 of the copy's for named operations, 0.96
                    to 2 of it for other tools (nine in ten of each, without pictures, training/LOG.md)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .bank_fit import BankMatch, mixed
from .operation import Operation

# Share of the motion that the few best atoms leave, and how far the network is believed there; likely up to _UNLIKELY.
_KNOWN, _LIKELY, _UNKNOWN = (0.3, 1.0), (0.45, 0.7), (0.65, 0.1)
_UNLIKELY = 0.5
_FORETELLS, _FAILS = 0.75, 0.95  # error of named operations on the other pairs, in errors of the copy


def trust(operation: Operation, one_way: Tensor) -> float:
    """Between 0 and 1.  one_way: (M,) 1 for atoms that only exist in their own direction (bank_fit.py)."""
    if operation.named is not None:
        return operation.named
    match = BankMatch.of(operation.motion, operation.atoms)
    left = float(match.left(match.greedy(one_way)))
    (known, whole), (likely, partly), (unknown, least) = _KNOWN, _LIKELY, _UNKNOWN
    doubted = _between(left, _UNLIKELY, unknown), _between(left, known, likely)
    return least + (partly - least) * doubted[0] + (whole - partly) * doubted[1]


def named_by_pairs(operations: Sequence[Operation], one_way: Tensor) -> float:
    """How far named operations are what the pairs show, from 0 to 1.  operations: two or more, one for each pair."""
    explained = [_Named.of(one, one_way) for one in operations]
    pairs = [(a, b) for a in range(len(operations)) for b in range(len(operations)) if a != b]
    named = sum(_error(explained[a].on(operations[b].atoms), operations[b].motion) for a, b in pairs)
    copied = sum(_error(operations[a].motion, operations[b].motion) for a, b in pairs)
    return _between(named / max(copied, 1e-9), _FORETELLS, _FAILS)


@dataclass(frozen=True)
class _Named:
    """amounts: (1, M) of the named operations found on a pair.  left: (1, 2, N, N) cells, what they do not explain."""

    amounts: Tensor
    left: Tensor

    @classmethod
    def of(cls, operation: Operation, one_way: Tensor) -> _Named:
        match = BankMatch.of(operation.motion, operation.atoms)
        amounts = match.greedy(one_way) * torch.where(match.size > 0, 1 / match.size.clamp(min=1e-6), 0.0)
        return cls(amounts, operation.motion - mixed(amounts, operation.atoms))

    def on(self, atoms: Tensor) -> Tensor:
        """The motion on another face, whose atoms (1, M, 2, N, N) are given."""
        return mixed(self.amounts, atoms) + self.left


def _error(made: Tensor, true: Tensor) -> float:
    return float((made - true).norm(dim=1).mean())


def _between(value: float, best: float, worst: float) -> float:
    """1 up to the best value, 0 from the worst."""
    return min(1.0, max(0.0, (worst - value) / (worst - best)))
