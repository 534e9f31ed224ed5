"""How sure a retouch is: the error to expect of it, and the chance that it is a good one, from what can be seen.

    log(expected error) = sum of weight * cue        error: of the motion, relative to it (0 exact, 1 nothing done)
    confidence = chance that the error is below GOOD

What is seen: how much of the exemplar's motion no named operation explains, which ones explain the rest (some are
harder to repeat than others), how far that motion shifts when it is laid where another look at the face says (on the
exemplar, and on the query), how it stands to the noise, what was painted or softened, and how far the answer is from
what named operations do to the query with the rest copied. Weights were fitted by ridge regression on people of the
train split and are tested on eval people (training/confidence_benchmark.py, training/LOG.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..faces.locator import Face
from ..faces.view import CanonicalView, FaceView
from ..operations.atoms import Atom
from .bank_fit import BankMatch, mixed, one_way_of
from .operation import Evidence, Operation

GOOD = 0.3  # relative error up to which a retouch counts as good
LOW = 0.5  # confidence below which the user is told
_TINY = 1e-6
_UNNAMED = -0.65  # of `left`: beyond half of the motion the copy is believed anyway (trust.py), and errs no more for it


@dataclass(frozen=True, kw_only=True)
class Cues:
    """Numbers that grow with the error, each about one wide. Where one is not known it is the usual one."""

    left: float  # log of the share of the motion that named operations leave
    kind: float  # log of how much larger errors of the named operations are than usual
    exemplar_place: float  # log of the share by which another look at the exemplar's face shifts the motion
    query_place: float  # the same for the query's face
    noise: float  # the shortest motion that could be told, over the longest that was found
    hidden: float  # share of the face that is painted or that no motion explains
    softened: float  # pixels by which the pair's sharpness differs
    apart: float  # log of the difference of the answer from the named operations with the rest copied, over the motion


# The usual value, the weight, and what a user is told where this is the reason. Fitted, but for the weights of places,
# noise, hidden and softened: on train people they are near zero, where such cases are rare, and are kept small by hand.
_USUAL = Cues(
    left=-1.76, kind=0.0, exemplar_place=-2.65, query_place=-2.52, noise=0.01, hidden=0.0, softened=0.0, apart=-1.39
)
_WEIGHTS = Cues(
    left=0.563, kind=1.0, exemplar_place=0.1, query_place=0.1, noise=0.3, hidden=0.3, softened=0.05, apart=0.206
)
# What each operation adds to the log of the error; nothing where it was not measured.
_KINDS = {
    "eye_resize": 0.21, "eye_distance": 0.22, "nose_length": -0.25, "nose_alar": -0.35, "nose_bridge": 0.03,
    "mouth_position": 0.25, "lip_thickness": 0.22, "mouth_resize": -0.17,
}  # fmt: skip
_USUAL_LOG_ERROR = -1.822
_SPREAD = 0.45  # of the log of errors around what is expected, on people left out of the fit
_REASONS = {
    "left": "no named operation explains the exemplar well",
    "kind": "it is of a kind that is hard to repeat on another face",
    "exemplar_place": "several looks at the exemplar's face disagree where its parts are",
    "query_place": "several looks at this face disagree where its parts are",
    "noise": "the exemplar's motion hardly stands out from its noise",
    "hidden": "part of the exemplar's face is painted or hidden",
    "softened": "the exemplar's pictures are not equally sharp",
    "apart": "two ways of carrying the retouch to this face disagree",
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


@dataclass(frozen=True)
class Names:
    """What is known of a set's M atoms.  one_way: (M,), see bank_fit.py.  kinds: (M,) what each adds to the log error.
    operations: the name of each."""

    one_way: Tensor
    kinds: Tensor
    operations: tuple[str, ...]

    @classmethod
    def of(cls, atoms: tuple[Atom, ...]) -> Names:
        names = tuple(atom.operation for atom in atoms)
        return cls(one_way_of(atoms), torch.tensor([_KINDS.get(name, 0.0) for name in names]), names)


@dataclass(frozen=True)
class Explained:
    """The few named operations that explain an exemplar.  amounts: (1, M) of the atoms.  shares: (M,) of the whole,
    they sum to one.  left: share of the motion that they leave."""

    amounts: Tensor
    shares: Tensor
    left: float

    @classmethod
    def of(cls, operation: Operation, names: Names) -> Explained:
        match = BankMatch.of(operation.motion, operation.atoms)
        found = match.greedy(names.one_way)
        amounts = found * torch.where(match.size > 0, 1 / match.size.clamp(min=_TINY), 0.0)
        shares = found[0].abs() / found.abs().sum().clamp(min=_TINY)
        return cls(amounts, shares, float(match.left(found)))

    def on(self, atoms: Tensor, operation: Operation) -> Tensor:
        """The motion on another face, whose atoms (1, M, 2, N, N) are given: what has no name is copied."""
        return mixed(self.amounts, atoms) + operation.motion - mixed(self.amounts, operation.atoms)


def confidence_in(cues: Cues) -> Confidence:
    added = {
        one.name: getattr(_WEIGHTS, one.name) * (getattr(cues, one.name) - getattr(_USUAL, one.name))
        for one in fields(Cues)
    }
    log_error = _USUAL_LOG_ERROR + sum(added.values())
    value = 0.5 * math.erfc((log_error - math.log(GOOD)) / (_SPREAD * math.sqrt(2)))
    return Confidence(math.exp(log_error), round(value, 3), _REASONS[max(added, key=added.get)])


def cues_of(
    operation: Operation,
    names: Names,
    explained: Explained,
    *,
    query_place: float | None = None,
    apart: float | None = None,
) -> Cues:
    """query_place, apart: see Cues, before their logarithm; unknown where there is no query yet."""
    seen = operation.evidence
    return Cues(
        left=min(_UNNAMED, math.log(explained.left + 0.02)),
        kind=float((explained.shares * names.kinds).sum()),
        exemplar_place=_USUAL.exemplar_place if seen is None else math.log(seen.misplaced + 0.01),
        query_place=_USUAL.query_place if query_place is None else math.log(query_place + 0.01),
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


def apart(answer: Tensor, other: Tensor) -> float:
    """How far two motions differ, relative to the first."""
    return float((answer - other).norm(dim=1).sum() / answer.norm(dim=1).sum().clamp(min=_TINY))


def mean_evidence(all_seen: list[Evidence | None], shares: Tensor) -> Evidence | None:
    """Of several pairs that make one operation.  shares: (I,), they sum to one."""
    if any(one is None for one in all_seen):
        return None
    means = {
        one.name: float(sum(float(w) * getattr(seen, one.name) for w, seen in zip(shares, all_seen, strict=True)))
        for one in fields(Evidence)
    }
    return Evidence(**means)
