"""How sure a retouch is: the error to expect of it, and the chance that it is a good one, from what can be seen.

    log(expected error) = sum of weight * cue        error: of the motion, relative to it (0 exact, 1 nothing done)
    confidence = chance that the error is below GOOD

What is seen: how much of the exemplar's motion no named operation explains, how far that motion shifts when it is laid
where another look at the face says (on the exemplar, and on the query), how long it is and how it stands to the noise,
what was painted or softened, and how far network and plain copy are apart. Weights were fitted by ridge regression on
one half of the evaluation's people and are tested on the other (training/confidence_benchmark.py). So far the
values are about right as chances, but rank single retouches weakly (training/LOG.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..faces.locator import Face
from ..faces.view import CanonicalView, FaceView
from .bank_fit import BankMatch
from .operation import Evidence, Operation

GOOD = 0.3  # relative error up to which a retouch counts as good
LOW = 0.5  # confidence below which the user is told
_TINY = 1e-6
_UNNAMED = -0.65  # of `left`: beyond half of the motion the copy is believed anyway (trust.py), and errs no more for it


@dataclass(frozen=True, kw_only=True)
class Cues:
    """Numbers that grow with the error, each about one wide. Where one is not known it is the usual one."""

    left: float  # log of the share of the motion that named operations leave
    exemplar_place: float  # log of the share by which another look at the exemplar's face shifts the motion
    query_place: float  # the same for the query's face
    small: float  # -log of the longest motion in cells
    noise: float  # the shortest motion that could be told, over the longest that was found
    hidden: float  # share of the face that is painted or that no motion explains
    softened: float  # pixels by which the pair's sharpness differs
    apart: float  # log of the difference between network and copy, relative to the motion


# The usual value, the weight, and what a user is told where this is the reason.
_USUAL = Cues(
    left=-1.85, exemplar_place=-2.59, query_place=-2.68, small=0.22, noise=0.03, hidden=0.0, softened=0.0, apart=-0.99
)
_WEIGHTS = Cues(
    left=0.55, exemplar_place=0.21, query_place=0.12, small=0.04, noise=0.3, hidden=0.3, softened=0.05, apart=0.0
)
_USUAL_LOG_ERROR = -1.87
_SPREAD = 0.47  # of the log of errors around what is expected
_REASONS = {
    "left": "no named operation explains the exemplar well",
    "exemplar_place": "several looks at the exemplar's face disagree where its parts are",
    "query_place": "several looks at this face disagree where its parts are",
    "small": "the exemplar's motion is small",
    "noise": "the exemplar's motion hardly stands out from its noise",
    "hidden": "part of the exemplar's face is painted or hidden",
    "softened": "the exemplar's pictures are not equally sharp",
    "apart": "this face differs much from the exemplar's",
}


@dataclass(frozen=True)
class Confidence:
    """expected_error: of the motion, relative.  value: chance in [0, 1] that the retouch is good.  reason: the largest
    of what speaks against it."""

    expected_error: float
    value: float
    reason: str

    @property
    def note(self) -> tuple[str, ...]:
        if self.value >= LOW:
            return ()
        return (f"confidence {self.value:.2f}: {self.reason}. Look at the result before you use it",)


def confidence_in(cues: Cues) -> Confidence:
    added = {
        one.name: getattr(_WEIGHTS, one.name) * (getattr(cues, one.name) - getattr(_USUAL, one.name))
        for one in fields(Cues)
    }
    log_error = _USUAL_LOG_ERROR + sum(added.values())
    value = 0.5 * math.erfc((log_error - math.log(GOOD)) / (_SPREAD * math.sqrt(2)))
    return Confidence(math.exp(log_error), round(value, 3), _REASONS[max(added, key=added.get)])


def cues_of(
    operation: Operation, one_way: Tensor, *, query_place: float | None = None, apart: float | None = None
) -> Cues:
    """one_way: of the set's atoms (bank_fit.py).  query_place, apart: see Cues, before their logarithm; unknown where
    there is no query yet."""
    match = BankMatch.of(operation.motion, operation.atoms)
    seen = operation.evidence
    return Cues(
        left=min(_UNNAMED, math.log(float(match.left(match.greedy(one_way))) + 0.02)),
        exemplar_place=_USUAL.exemplar_place if seen is None else math.log(seen.misplaced + 0.01),
        query_place=_USUAL.query_place if query_place is None else math.log(query_place + 0.01),
        small=-math.log(float(operation.motion.norm(dim=1).amax()) + 0.05),
        noise=_USUAL.noise if seen is None else seen.noise,
        hidden=_USUAL.hidden if seen is None else seen.hidden,
        softened=_USUAL.softened if seen is None else seen.softened,
        apart=_USUAL.apart if apart is None else math.log(apart + 0.05),
    )


def misplaced(motion: Tensor, face: Face, view: FaceView, canonical: CanonicalView) -> float:
    """Share of itself by which a motion (1, 2, N, N) in cells changes when it is laid where another look at the face
    says, the largest of several looks."""
    if face.strays is None or not len(face.strays):
        return 0.0
    in_cells = face.strays @ torch.linalg.inv(view.similarity.linear()).reshape(2, 2).mT  # (L, K, 2)
    shifts = torch.einsum("nk,lkd->ldn", canonical.matrix, in_cells).unflatten(2, motion.shape[-2:])
    along_x, along_y = torch.gradient(motion, dim=-1)[0], torch.gradient(motion, dim=-2)[0]
    changes = (along_x * shifts[:, :1] + along_y * shifts[:, 1:]).norm(dim=1).sum((1, 2))
    return float(changes.amax() / motion.norm(dim=1).sum().clamp(min=_TINY))


def apart(answer: Tensor, copied: Tensor) -> float:
    """How far two motions differ, relative to the first."""
    return float((answer - copied).norm(dim=1).sum() / answer.norm(dim=1).sum().clamp(min=_TINY))


def mean_evidence(all_seen: list[Evidence | None], shares: Tensor) -> Evidence | None:
    """Of several pairs that make one operation.  shares: (I,), they sum to one."""
    if any(one is None for one in all_seen):
        return None
    means = {
        one.name: float(sum(float(w) * getattr(seen, one.name) for w, seen in zip(shares, all_seen, strict=True)))
        for one in fields(Evidence)
    }
    return Evidence(**means)
