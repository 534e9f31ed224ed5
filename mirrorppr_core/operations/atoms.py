"""The named operations of the face as atoms: one motion each, at full strength.

LLW has two atoms, one for each sign, because its two directions differ; professional operations are linear, paired
ones have an atom for each side. What an atom looks like on a face is in bank.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from .llw_table import OPERATIONS as LLW
from .professional_table import OPERATIONS as PROFESSIONAL

FULL_STRENGTH = 100.0
KNOWN_OPERATIONS: tuple[str, ...] = (*LLW, *(n for n, operation in PROFESSIONAL.items() if not operation.on_body))


@dataclass(frozen=True)
class Atom:
    """One motion of the bank: an operation at full strength in one direction or on one side."""

    operation: str
    strength: float = FULL_STRENGTH
    side: str = "both"


def atoms_of(operations: tuple[str, ...]) -> tuple[Atom, ...]:
    """The atoms of these operations, in order. Raises ValueError for a name that is not of the face."""
    unknown = [name for name in operations if name not in KNOWN_OPERATIONS]
    if unknown:
        raise ValueError(f"operations {unknown} are unknown: use some of {', '.join(KNOWN_OPERATIONS)}")
    atoms = []
    for name in operations:
        if name in LLW:
            atoms += [Atom(name), Atom(name, -FULL_STRENGTH)]
        elif PROFESSIONAL[name].paired:
            atoms += [Atom(name, side="right"), Atom(name, side="left")]
        else:
            atoms.append(Atom(name))
    return tuple(atoms)


def mirrored_order(atoms: tuple[Atom, ...]) -> list[int]:
    """For each atom the place of the one that it becomes on the mirrored face."""
    other = {"both": "both", "left": "right", "right": "left"}
    places = {atom: place for place, atom in enumerate(atoms)}
    return [places[Atom(a.operation, a.strength, other[a.side])] for a in atoms]
