"""Several exemplars of one look as one operation: the retouch as it would be on their average face.

    pair i  ->  motion_i, shape_i, atoms_i, tokens_i     --mean, by agreement-->     one operation

One pair cannot tell in which unit its tool thinks; what differs from face to face fades in the mean, and so does what
was measured badly. Everything an operation holds of a face is linear in the canonical view, so the mean of several is
again an operation, on the mean face: what a named operation does to the mean is the mean of what it does to each.
Motion and shape of each pair are kept beside the mean: what has no name is mixed anew for every query, by how its face
is made of theirs (mixture.py). Beside the face a body has its own pose, so there the first pair speaks.

Pairs agree when their motions, seen in the canonical view, point the same way. The largest group that agrees is taken,
the others are named and left out; where no two agree there is no look to repeat.
Shapes: I pairs, N cells a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bodies.motion import BodyMotion
from ..exemplar import Exemplar
from .confidence import mean_evidence
from .operation import Operation
from .transport import told_by_pairs
from .trust import named_by_pairs

MAX_PAIRS = 8  # more hardly help
AGREE = 0.45  # cosine; of one tool on two people 0.7 or more in nine of ten cases, of two tools less in 98 of 100
_COARSE = 4  # cells: motions are compared at this grain, finer ones never lie on each other
_CELLS_PER_U = 32.0  # face motion is in cells, of which an eye distance has 16; u is about two eye distances
_PUSH = 0.06  # u, what our own body operations move at 100 %


def check_number(count: int) -> None:
    """Raise ValueError unless so many pairs can be taken together."""
    if count < 1:
        raise ValueError("there is no exemplar pair: pass one to eight, each a photo before and after retouching")
    if count > MAX_PAIRS:
        raise ValueError(
            f"{count} exemplar pairs are too many: take the {MAX_PAIRS} that show the look best; three are often enough"
        )


def repeats(exemplars: Sequence[Exemplar]) -> dict[int, int]:
    """Pairs that are an earlier pair once more: place of the pair -> place of the earlier one."""
    found: dict[int, int] = {}
    for later, pair in enumerate(exemplars):
        for earlier in range(later):
            if earlier not in found and _same(pair, exemplars[earlier]):
                found[later] = earlier
                break
    return found


def together(
    operations: Sequence[Operation | None], *, one_way: Tensor, left_out: dict[int, str] | None = None
) -> Operation:
    """The operation that these pairs show together, with notes that name the pairs that were not used.

    operations: one for each pair, of one set; None for some of those left out.  left_out: pairs not to use, by their
    place, and why.  one_way: see bank_fit.one_way_of.
    Raises ValueError where several pairs moved something and no two agree.
    """
    there = {place: one for place, one in enumerate(operations) if one is not None}
    if len(operations) == 1:
        return there[0]
    notes = {place: f"is left out: {why}" for place, why in (left_out or {}).items()}
    moved = [i for i, one in there.items() if i not in notes and not one.is_identity]
    for place, one in there.items() if moved else ():
        if place not in notes and one.is_identity:
            notes[place] = "is left out: nothing moved between before and after"
    named = tuple(f"pair {place + 1} {text}" for place, text in sorted(notes.items()))
    if not moved:
        still = next(iter(there.values()))
        return replace(still, notes=still.notes + named)
    cosines = agreement([there[i] for i in moved])
    chosen = _largest_group(cosines)
    if len(moved) > 1 and len(chosen) == 1:
        closest = float((cosines - 2 * torch.eye(len(moved))).max())
        raise ValueError(
            f"pairs {_listed([i + 1 for i in moved])} show different retouches (agreement {closest:.2f} at most, pairs "
            "of one look have 0.7 or more): extract each look on its own, and combine or blend the operations if you "
            "want both"
        )
    kept = [moved[i] for i in chosen]
    for i, place in enumerate(moved):
        if place not in kept:
            among = float(cosines[i, chosen].mean())
            notes[place] = f"is left out: it shows something else (agreement {among:.2f}, pairs of one look have 0.7)"
    weights = cosines[chosen][:, chosen].mean(1).clamp(min=0.1)
    own = [f"pair {i + 1}: {note}" for i in kept for note in there[i].notes]
    named = tuple(f"pair {place + 1} {text}" for place, text in sorted(notes.items()))
    used = [there[i] for i in kept]
    mean = replace(mean_of(used, weights), notes=(*own, *named, *_beside(used)[1]))
    return replace(mean, **_told(used, one_way)) if len(used) > 1 else mean


def _told(operations: Sequence[Operation], one_way: Tensor) -> dict[str, float]:
    """What several pairs tell of their look, as parts of an Operation."""
    return {"named": named_by_pairs(operations, one_way), "whole": told_by_pairs(operations)}


def mean_of(operations: Sequence[Operation], weights: Tensor) -> Operation:
    """Weighted mean of operations of one set.  weights: (I,), above 0; one of several pairs counts for each of them."""
    if len(operations) == 1:
        return operations[0]
    share = weights * torch.tensor([float(one.pairs) for one in operations])
    share = share / share.sum()

    def mean(name: str) -> Tensor:
        return sum(w * getattr(one, name) for w, one in zip(share, operations, strict=True))

    return replace(
        operations[0],
        tokens=mean("tokens"),
        motion=mean("motion"),
        shape=mean("shape"),
        atoms=mean("atoms"),
        largest_px=max(one.largest_px for one in operations),
        body=_beside(operations)[0],
        exemplars=tuple(pair for one in operations for pair in one.exemplars),
        pairs=sum(one.pairs for one in operations),
        seen=torch.cat([_seen(one) for one in operations]),
        named=None,
        whole=None,
        undoes=None,  # several pairs are read as they were handed over
        evidence=mean_evidence([one.evidence for one in operations], share),
        confidence=_mean_confidence(operations, share),
    )


def _beside(operations: Sequence[Operation]) -> tuple[BodyMotion | None, tuple[str, ...]]:
    """What moves beside the face, and a note on it; of what fewer than half of the pairs show, nothing."""
    showing = [one for one in operations if one.body is not None]
    count, pairs = sum(one.pairs for one in showing), sum(one.pairs for one in operations)
    if not showing:
        return None, ()
    if 2 * count < pairs:
        return None, (f"what moved beside the face in {count} of {pairs} pairs is left out: most do not show it",)
    note = "beside the face the first pair that shows motion there counts, not the mean of all"
    return showing[0].body, () if pairs == 1 else (note,)


def _mean_confidence(operations: Sequence[Operation], share: Tensor) -> float | None:
    known = [one.confidence for one in operations]
    return None if None in known else round(float(share @ torch.tensor(known)), 3)


def _seen(operation: Operation) -> Tensor:
    """Motion and shape of each of its pairs, (I, 4, N, N)."""
    return torch.cat([operation.motion, operation.shape], dim=1) if operation.seen is None else operation.seen


def refined(operation: Operation, correction: Operation, *, one_way: Tensor) -> Operation:
    """A better operation from one result that was corrected by hand.

    correction: what was read between the photo before and its corrected version. It joins the pairs that the operation
    was made of, as one of them. Raises ValueError where it shows another retouch.
    """
    if correction.is_identity:
        raise ValueError("the correction shows no change: pass the photo before retouching and its corrected version")
    if operation.is_identity:
        return correction
    agree = float(agreement([operation, correction])[0, 1])
    if agree < AGREE:
        raise ValueError(
            f"the correction shows another retouch than the operation (agreement {agree:.2f}, one look has 0.7 or "
            "more): extract it on its own"
        )
    result = mean_of([operation, correction], torch.ones(2))
    notes = tuple(dict.fromkeys((*operation.notes, *correction.notes, *_beside([operation, correction])[1])))
    return replace(result, notes=notes, **_told([operation, correction], one_way))


def agreement(operations: Sequence[Operation]) -> Tensor:
    """Cosines (I, I) between what the operations move, on the face and beside it."""
    rows = F.avg_pool2d(torch.cat([one.motion for one in operations]), _COARSE).flatten(1)
    if any(one.body is not None for one in operations):
        beside = _amplitudes([one.body for one in operations])
        rows = torch.cat([rows, _CELLS_PER_U * beside], dim=1)
    unit = rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-9)
    return unit @ unit.T


def _amplitudes(bodies: Sequence[BodyMotion | None]) -> Tensor:
    """What each body's motion is made of, family by family and part by part: (I, K), in u."""
    told: list[dict[str, Tensor]] = []
    for body in bodies:
        fitted = {} if body is None else {one.name: one.amplitudes for one in body.fitted}
        parts = {} if body is None else {f"map {one.part}": one.coefficients.flatten() for one in body.part_map.parts}
        named = {} if body is None else {f"named {n.name}": _PUSH * torch.tensor([n.right, n.left]) for n in body.named}
        told.append(fitted | parts | named)
    sizes = {name: len(values) for one in told for name, values in one.items()}
    return torch.stack([torch.cat([one.get(name, torch.zeros(size)) for name, size in sizes.items()]) for one in told])


def _largest_group(cosines: Tensor) -> list[int]:
    """Those that agree with the one that most agree with; among equals, the closest."""
    agree = cosines >= AGREE
    worth = agree.sum(1) + (cosines * agree).sum(1) / (len(cosines) + 1)
    return agree[int(worth.argmax())].nonzero()[:, 0].tolist()


def _same(one: Exemplar, other: Exemplar) -> bool:
    pairs = ((one.before, other.before), (one.after, other.after))
    return all(a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b)) for a, b in pairs)


def _listed(numbers: Sequence[int]) -> str:
    words = [str(number) for number in numbers]
    return f"{', '.join(words[:-1])} and {words[-1]}"
