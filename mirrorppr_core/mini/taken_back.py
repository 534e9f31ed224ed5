"""Whether a pair shows an operation that is taken back: the retouched photo was handed over as before.

A named operation is measured on the face before it. Handed over backwards, its pair is explained better by named
operations on the face after, and before lost fine detail when its pixels were moved. Where both say so, the pair is
read from after to before, and photos are retouched with the reverse of that (Operation.undoes). Alone the first errs in
one pair of twenty, the second in one of four that were reduced after the retouch (training/LOG.md).
"""

from __future__ import annotations

from torch import Tensor

from ..faces.locator import Face
from ..faces.view import CanonicalView
from ..geometry.arithmetic import destinations, inverse
from ..geometry.field import Field
from ..motion.copied import made_from_after
from ..operations.atoms import Atom
from ..operations.bank import PhotoFace, bank_motions
from .bank_fit import BankMatch, one_way_of
from .operation import Operation

TAKEN_BACK = "this pair shows a retouch taken back (before was made from after): its exact reverse is applied"
_BETTER = 0.9  # times the share of the motion that named operations leave


def shows_taken_back(
    before: Tensor,
    after: Tensor,
    operation: Operation,
    field: Field,
    face: Face,
    view: CanonicalView,
    atoms: tuple[Atom, ...],
) -> bool:
    """before, after: (1, C, H, W), lying on each other.  operation: as it was read.  field: what it does to before.
    face: in before.  atoms: the named operations of the set."""
    seen = operation.evidence
    if seen is None or seen.hidden or seen.softened or not made_from_after(before, after, field):
        return False
    one_way = one_way_of(atoms)
    landmarks, mesh = (destinations(points, field) for points in (face.landmarks, face.mesh))
    there = view.fit(landmarks)
    back = view.motion_from_photo(inverse(field).field.dense(), there)
    on_after = bank_motions(atoms, PhotoFace(mesh, (field.height, field.width)), there, view)
    return _left(back, on_after, one_way) < _BETTER * _left(operation.motion, operation.atoms, one_way)


def _left(motion: Tensor, atoms: Tensor, one_way: Tensor) -> float:
    match = BankMatch.of(motion, atoms)
    return float(match.left(match.greedy(one_way)))
