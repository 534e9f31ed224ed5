"""How far the network is believed: wholly where operations that have a name explain the exemplar, else by a quarter.

    answer = trust * network + (1 - trust) * copied motion

The network was trained on operations that have a name. For a retouch that none of them explains it takes look-alikes
for it, and errs more than the plain copy (training/LOG.md). How much stays unexplained tells the two kinds apart: named
operations leave little of the motion, other tools most of it.
"""

from __future__ import annotations

from torch import Tensor

from .bank_fit import BankMatch
from .operation import Operation

_KNOWN, _UNKNOWN = 0.5, 0.65  # share of the motion that the few best atoms leave: below, above
_LEAST = 0.25


def trust(operation: Operation, one_way: Tensor) -> float:
    """Between _LEAST and 1.  one_way: (M,) 1 for atoms that only exist in their own direction (bank_fit.py)."""
    match = BankMatch.of(operation.motion, operation.atoms)
    left = float(match.left(match.greedy(one_way)))
    known = min(1.0, max(0.0, (_UNKNOWN - left) / (_UNKNOWN - _KNOWN)))
    return _LEAST + (1 - _LEAST) * known
