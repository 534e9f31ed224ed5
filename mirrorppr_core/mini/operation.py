"""A retouching operation, lifted off one before/after pair and ready for any number of portraits.

tokens say what the operation means (R-Former); motion is its measured geometry in the canonical view, which makes
weakening, strengthening and reversing exact; shape is the exemplar's face, against which the query's is compared, and
atoms are what every named operation would have done to it (operations/bank.py).
body is the part of the motion beside the face (bodies/motion.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..bodies.motion import BodyMotion
from ..exemplar import Exemplar


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What speaks against a reading, each 0 where nothing does (confidence.py)."""

    misplaced: float  # share by which the motion changes when it is laid where another look at the face says
    noise: float  # the shortest motion that could be told, over the longest that was found, at most 1
    hidden: float  # share of the face that is painted or that no motion explains
    softened: float  # pixels by which the sharpness of before and after differs


@dataclass(frozen=True, kw_only=True)
class Operation:
    """tokens: (1, Q, D).  motion: (1, 2, N, N) cells.  shape: (1, 2, N, N) cells.  atoms: (1, M, 2, N, N) cells.

    set_id: the matched set that made it; other sets refuse it.  notes: what the user should know, in plain words.
    largest_px: longest displacement of the exemplar's pixels, as the operation knows it.
    body: None where only the face moved.
    exemplars: the pairs it was read from, and thumbnails: (2, 3, S, S) uint8, the straightened face before and after;
    both are for keeping and for looking at, and change nothing.  pairs: how many it was read from (several.py).
    seen: (I, 4, N, N), motion and shape of each of them, None where it is one pair alone.
    named, whole: from 0 to 1, how far they show operations that have a name (trust.py), and how far the motion keeps
    its form from face to face (transport.py); both only where several pairs tell.
    evidence: None where the face did not move, or in files of an earlier release.  confidence: that it gives an
    ordinary portrait a good retouch; None where there is no evidence.
    undoes: where the pair shows an operation taken back (taken_back.py), that one, as its reverse is what is applied;
    the rest is the pair as it was handed over.
    """

    tokens: Tensor
    motion: Tensor
    shape: Tensor
    atoms: Tensor
    set_id: str
    largest_px: float = 0.0
    notes: tuple[str, ...] = ()
    body: BodyMotion | None = None
    exemplars: tuple[Exemplar, ...] = ()
    thumbnails: Tensor | None = None
    pairs: int = 1
    seen: Tensor | None = None
    named: float | None = None
    whole: float | None = None
    evidence: Evidence | None = None
    confidence: float | None = None
    undoes: Operation | None = None

    def __post_init__(self) -> None:
        if self.undoes is not None and (self.undoes.set_id != self.set_id or self.undoes.undoes is not None):
            raise ValueError(
                f"undoes={self.undoes.set_id}: an operation of the same set {self.set_id}, and a plain one"
            )
        for name, value in (("named", self.named), ("whole", self.whole)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name}={value}: how far that holds of an operation is a number from 0 to 1")

    @property
    def is_identity(self) -> bool:
        """True when nothing moved between before and after: applying it changes nothing."""
        moved = (self.motion != 0).any()
        return not bool(moved) and (self.body is None or not self.body.moves)
