"""Stored before/after pairs as quadruplets: shards of training.synthesize, and the released layouts.

    pair                  before and after of one picture, no landmarks
    quadruplet, its own   exemplar: the pair as it is; query: the same pair under a random A (augment.py)
    quadruplet, cross     exemplar: the pair of another person with exactly the same retouch; query: this pair under A
    quadruplet, given     the layout itself says which pair is the exemplar of which (SimFace-100, crops of one photo)

Online data lay one recipe on two people. Stored pairs cannot be retouched anew, so a cross-identity sample needs two
that happen to have the same recipe to the last percent: most released pairs do (whole levels of few operations); of
synthesized ones only part of the single-step recipes, the more the larger the set. Where there is no such partner the
pair serves itself. What must stay in a crop is where before and after differ. Query and target then share one `Look`.

Sample i of a set is a function of (the pairs, seed, i): pair i modulo their number in an order of each pass, seen under
an A of its own. A set of `samples=0` is every pair once. Sizes are (H, W) in pixels; n pairs.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..data.order import place_of, seed_of
from ..recipes.augment import AugmentConfig, draw_view, see
from ..recipes.photometry import PhotometricConfig, apply_look, draw_look
from ..recipes.quadruplets import PLAIN
from ..recipes.recipe import ALL_OPERATIONS

CHANGED = 3 / 255  # smaller differences are rounding, or a JPEG of its own
_HOLD = 2.0**64
_MOST_TRIES = 20  # pairs in a row that cannot be read, before the folder is called broken


class UnusablePair(ValueError):
    """A pair whose pictures are damaged, missing, equal or of two sizes. Another takes its place, and it is said."""


@dataclass(frozen=True, kw_only=True)
class LoadedPair:
    """before, after: (1, 3, H, W) uint8 or float.  keep: left, top, right, bottom of what was retouched, pixels."""

    before: Tensor
    after: Tensor
    keep: tuple[float, float, float, float]
    may_flip: bool  # False where a flip would make it another retouch


@dataclass(frozen=True)
class PairFacts:
    """What is known of n pairs without opening them. Names are numbers (`number_of`), so that millions fit.

    identity: (n,) uint64.  retouch: (n,) uint64, equal where the same was done; 0 is known to equal nothing.
    operations: (n,) uint64, bit k for recipes.ALL_OPERATIONS[k]; 0 where the layout does not tell.
    exemplar: (n,) int64, the pair that shows the operation of this one: itself, another one, or -1 for a pair that is
    only ever an exemplar.
    """

    identity: np.ndarray
    retouch: np.ndarray
    operations: np.ndarray
    exemplar: np.ndarray

    def __len__(self) -> int:
        return len(self.identity)

    @property
    def digest(self) -> str:
        """Twelve hex digits that change with the pairs or their order."""
        digest = hashlib.sha256()
        for array in (self.identity, self.retouch, self.operations, self.exemplar):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]


class Pairs(Protocol):
    """A folder of pairs; picklable. digest: changes with what is in it."""

    facts: PairFacts
    digest: str

    def load(self, number: int) -> LoadedPair:
        """Raises UnusablePair where this one alone is unusable, and always the same way."""
        ...


@dataclass(frozen=True)
class StoredQuadruplet:
    """Pictures (1, 3, H, W) in [0, 1].  pairs: the numbers of the exemplar's and the query's pair."""

    before: Tensor
    after: Tensor
    query: Tensor
    target: Tensor
    pairs: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class PairBucket:
    """Samples of one shape (qwen_data.Bucket) from pairs.

    rows: the pairs that serve as queries.  partners: those that may be exemplars of others, sorted by their retouch,
    which is in partner_retouch.
    """

    pairs: Pairs
    rows: np.ndarray = field(repr=False)
    partners: np.ndarray = field(repr=False)
    partner_retouch: np.ndarray = field(repr=False)
    length: int
    seed: int
    exemplar_size: tuple[int, int]
    query_size: tuple[int, int]
    cross_identity: float
    view: AugmentConfig = AugmentConfig()
    look: PhotometricConfig | None = PhotometricConfig()

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> StoredQuadruplet:
        if not 0 <= index < self.length:
            raise IndexError(f"sample {index} of {self.length}")
        for attempt in range(_MOST_TRIES):
            place, count = index + attempt, len(self.rows)
            chosen = int(self.rows[place_of(place % count, count, seed_of("pass", self.seed, place // count))])
            try:
                return self._made(chosen, torch.Generator().manual_seed(seed_of("pair", self.seed, index, attempt)))
            except UnusablePair as error:
                print(f"{error}; the next pair takes its place", file=sys.stderr, flush=True)
        raise ValueError(f"{_MOST_TRIES} pairs in a row cannot be read: check the folder that data.pairs names")

    def _made(self, chosen: int, generator: torch.Generator) -> StoredQuadruplet:
        shown = self._exemplar_of(chosen, generator)
        query = self.pairs.load(chosen)
        exemplar = query if shown == chosen else self.pairs.load(shown)
        plain = _view(generator, exemplar, self.exemplar_size, PLAIN)
        moved = _view(generator, query, self.query_size, self.view)
        seen, target = see(query.before, moved), see(query.after, moved)
        if self.look is not None:
            seen, target = apply_look(torch.cat([seen, target]), draw_look(generator, self.look)).split(1)
        return StoredQuadruplet(
            before=see(exemplar.before, plain),
            after=see(exemplar.after, plain),
            query=seen,
            target=target,
            pairs=(shown, chosen),
        )

    def _exemplar_of(self, chosen: int, generator: torch.Generator) -> int:
        """Two numbers are drawn in any case."""
        facts = self.pairs.facts
        cross, place = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        given = int(facts.exemplar[chosen])
        if given != chosen or cross >= self.cross_identity or not facts.retouch[chosen]:
            return given
        wanted = facts.retouch[chosen]
        first, last = (int(np.searchsorted(self.partner_retouch, wanted, side=side)) for side in ("left", "right"))
        same = self.partners[first:last]
        others = same[facts.identity[same] != facts.identity[chosen]]
        return int(others[min(int(place * len(others)), len(others) - 1)]) if len(others) else given


def buckets_of(
    pairs: Pairs,
    *,
    allowed: int,
    held_out: bool,
    share: float,
    samples: int,
    at_most: int | None = None,
    seed: int,
    exemplar_size: tuple[int, int],
    query_sizes: tuple[tuple[int, int], ...],
    cross_identity: float,
) -> tuple[PairBucket, ...]:
    """One bucket for each query size; every pair belongs to one of them.

    allowed: bits of the operations that samples may show.  share: of the identities that is held out.  samples: over
    all sizes; 0: every pair once, at_most so many.  Raises ValueError where nothing is left.
    """
    facts = pairs.facts
    rows = _rows(facts, allowed=allowed, held_out=held_out, share=share)
    partners = rows[np.argsort(facts.retouch[rows], kind="stable")]
    count, total = min(len(query_sizes), len(rows)), samples or len(rows)
    if at_most is not None:
        total = min(total, at_most)
    return tuple(
        PairBucket(
            pairs=pairs,
            rows=rows[number::count],
            partners=partners,
            partner_retouch=facts.retouch[partners],
            length=len(rows[number::count]) if total == len(rows) else -(-total // count),
            seed=seed * 1_009 + number,
            exemplar_size=exemplar_size,
            query_size=size,
            cross_identity=cross_identity,
        )
        for number, size in enumerate(query_sizes[:count])
    )


def _rows(facts: PairFacts, *, allowed: int, held_out: bool, share: float) -> np.ndarray:
    """Numbers of the pairs that may serve as queries on one side: training, or held out."""
    fits = (facts.operations & ~np.uint64(allowed)) == 0
    if not fits.any():
        raise ValueError(
            "no pair shows operations of this stage only: set data.operations to those of the pairs, or the stage's "
            "`data` to their subset"
        )
    # Who is on which side hangs on the name alone; a pair whose exemplar is someone else must have both on one side.
    held = facts.identity.astype(np.float64) < share * _HOLD
    given = np.where(facts.exemplar < 0, np.arange(len(facts)), facts.exemplar)
    ours = fits & (held == held_out) & (held[given] == held_out)
    rows = np.flatnonzero(ours & (facts.exemplar >= 0))
    if not len(rows):
        which, people = ("held out" if held_out else "left for training"), len(np.unique(facts.identity[fits]))
        raise ValueError(
            f"none of the {people} identities of these pairs is {which} at data.held_out={share}: use more pairs of "
            "more people, or another share"
        )
    return rows


def with_partner(facts: PairFacts, rows: np.ndarray) -> int:
    """How many of these pairs show a retouch that another identity among them has too."""
    known = rows[facts.retouch[rows] != 0]
    shown = np.unique(np.stack([facts.retouch[known], facts.identity[known]]), axis=1)[0]  # once for each identity
    names, counts = np.unique(shown, return_counts=True)
    return int(np.isin(facts.retouch[known], names[counts > 1]).sum())


def number_of(name: str) -> int:
    """A name as a number: spread evenly over 64 bits, never 0, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") or 1


def bits_of(operations: Iterable[str]) -> int:
    """Names as one number: bit k for recipes.ALL_OPERATIONS[k]."""
    return sum(1 << ALL_OPERATIONS.index(name) for name in set(operations))


def changed_box(before: Tensor, after: Tensor) -> tuple[float, float, float, float] | None:
    """Left, top, right, bottom of where two pictures (1, 3, H, W) of bytes differ; None where they do not."""
    different = (before.short() - after.short()).abs().amax((0, 1)) > round(CHANGED * 255)
    rows, columns = different.any(1).nonzero()[:, 0], different.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1]), float(rows[-1])


def _view(generator: torch.Generator, pair: LoadedPair, size: tuple[int, int], config: AugmentConfig):
    photo = tuple(pair.before.shape[-2:])
    return draw_view(generator, photo, keep=pair.keep, size=size, may_flip=pair.may_flip, config=config)
