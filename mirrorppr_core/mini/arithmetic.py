"""Operations made of operations: weakened, undone, put in a row, mixed, limited to a part of the face.

    scaled      the operation at 0 to 200 %
    undone      what takes the operation back: the photo after becomes the photo before
    combined    one after another, each on the face that those before have made
    blended     several at once, by weights that sum to one; equal weights average pairs of one look
    limited     only on parts, one side, or a mask painted on the query

A retouch is a field on the query's pixels, so the laws hold there, exactly, and not among tokens or in the canonical
view. An expression is a small tree; `field_of` walks it for one face. It knows no network: what a leaf does to a face
is the caller's, who gets faces that earlier steps have moved.

To undo an operation on a photo that shows its result, the face before it must be known: the one that the operation
turns into the face at hand. It is found by repetition: take back what the operation would do to the last guess, and
look at the photo that this makes. Landmarks are found a little elsewhere on a retouched face than the retouch moved
them to, and the photo before is the one that the operation was made for. After other steps there is no photo to look
at, and no need: those have carried the landmarks along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bodies.frames import GROUPS
from ..bodies.named import GROUP_OF
from ..faces.locator import Face
from ..faces.parts import PARTS, check_parts, part_weight
from ..geometry.arithmetic import apart, destinations, inverse, mixture, origins, sequence, weighted
from ..geometry.displacement import pixel_grid
from ..geometry.field import Field
from ..operations.sliders import Sliders
from .operation import Operation
from .several import mean_of

MOST = 2.0  # times the exemplar, all factors together
_GUESSES = 12
# By which the last guess of the face before changed the motion, at most; by which it is worth a remark. The larger of
# pixels and a share of the longest motion.
_SETTLED, _UNSETTLED = (0.01, 0.002), (0.1, 0.02)
_STEPS_PER_EYE_DISTANCE = 48  # at which the weights of parts are computed


class Law:
    """An operation made of others. `parts_of` gives them."""

    @property
    def set_id(self) -> str | None:
        """The matched set of its extracted operations; None where there are only sliders."""
        return next((one.set_id for one in leaves(self) if isinstance(one, Operation)), None)

    @property
    def is_identity(self) -> bool:
        """True when it leaves every photo as it is."""
        return all(one.is_identity for one in leaves(self))

    @property
    def notes(self) -> tuple[str, ...]:
        """Of all its operations, each once."""
        return tuple(dict.fromkeys(note for one in leaves(self) for note in one.notes))


@dataclass(frozen=True, kw_only=True)
class Scaled(Law):
    of: AnyOperation
    factor: float  # 0 to 2

    def __post_init__(self) -> None:
        if not 0 <= self.factor <= MOST:
            raise ValueError(
                f"an operation cannot be scaled to {100 * self.factor:g} %: use 0 to {100 * MOST:g} %, or undo it"
            )


@dataclass(frozen=True, kw_only=True)
class Undone(Law):
    of: AnyOperation


@dataclass(frozen=True, kw_only=True)
class Combined(Law):
    steps: tuple[AnyOperation, ...]

    def __post_init__(self) -> None:
        _check_several(self.steps)


@dataclass(frozen=True, kw_only=True)
class Blended(Law):
    """weights: of each operation, from 0; they sum to one."""

    of: tuple[AnyOperation, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        _check_several(self.of)
        total = sum(self.weights)
        if len(self.weights) != len(self.of) or min(self.weights) < 0 or not math.isfinite(total) or total <= 0:
            raise ValueError(
                f"{len(self.of)} operations with weights {self.weights}: give each one a weight from 0, not all 0"
            )
        object.__setattr__(self, "weights", tuple(weight / total for weight in self.weights))


@dataclass(frozen=True, kw_only=True)
class Limited(Law):
    """parts, side: see faces.parts.  region: (H, W) of the query, 0 to 1, or None; 0 is left alone.
    of_body: which of bodies.frames.GROUPS, wherever in the photo their motion lies."""

    of: AnyOperation
    parts: tuple[str, ...] = PARTS
    side: str = "both"
    region: Tensor | None = None
    of_body: tuple[str, ...] = GROUPS

    def __post_init__(self) -> None:
        check_parts(self.parts, self.side)
        unknown = [group for group in self.of_body if group not in GROUPS]
        if unknown or not self.of_body:
            raise ValueError(f"body parts {unknown or 'none'}: choose one or more of {', '.join(GROUPS)}")
        if self.region is not None and self.region.ndim != 2:
            raise ValueError(f"the mask is {tuple(self.region.shape)}: pass one picture's (H, W)")


AnyOperation = Operation | Sliders | Scaled | Undone | Combined | Blended | Limited
Leaf = Operation | Sliders


def combined(steps: Sequence[AnyOperation]) -> Combined:
    """In this order. Sequences within it are opened, so that brackets do not matter."""
    flat: list[AnyOperation] = []
    for step in steps:
        flat += step.steps if isinstance(step, Combined) else [step]
    return Combined(steps=tuple(flat))


def averaged(several: Sequence[AnyOperation]) -> AnyOperation:
    """Several exemplars of one look as one operation: what they share stays, what one of them errs by fades.

    What was extracted by one set is averaged before the network sees it (several.py): it tells better what a retouch is
    from the mean of five noisy readings than from each. Anything else, sliders or operations made of others, is
    averaged as motion.
    """
    extracted = [one for one in several if isinstance(one, Operation)]
    if len(extracted) == len(several) and len({one.set_id for one in extracted}) == 1:
        notes = dict.fromkeys(note for one in extracted for note in one.notes)
        return replace(mean_of(extracted, torch.ones(len(extracted))), notes=tuple(notes))
    return Blended(of=tuple(several), weights=(1.0,) * len(several))


def feathered(region: Tensor, width_px: int) -> Tensor:
    """A mask (H, W) that grows from 0 at its rim to its own value so many pixels further in; black stays exactly 0."""
    if width_px <= 0:
        return region
    inside = F.pad((region > 0).float()[None, None], (width_px,) * 4, mode="replicate")
    share = 2 * F.avg_pool2d(inside, 2 * width_px + 1, stride=1)[0, 0] - 1
    share = share.clamp(0, 1)
    return region * share * share * (3 - 2 * share)


def with_leaves(operation: AnyOperation, change: Callable[[Leaf], AnyOperation]) -> AnyOperation:
    """The same tree with other ends."""
    if isinstance(operation, Operation | Sliders):
        return change(operation)
    if isinstance(operation, Combined):
        return combined([with_leaves(one, change) for one in operation.steps])
    if isinstance(operation, Blended):
        return replace(operation, of=tuple(with_leaves(one, change) for one in operation.of))
    return replace(operation, of=with_leaves(operation.of, change))


def parts_of(operation: AnyOperation) -> tuple[AnyOperation, ...]:
    """The operations that it is directly made of; none for a leaf."""
    if isinstance(operation, Combined):
        return operation.steps
    if isinstance(operation, Blended):
        return operation.of
    return (operation.of,) if isinstance(operation, Scaled | Undone | Limited) else ()


def leaves(operation: AnyOperation) -> Iterator[Leaf]:
    """The extracted operations and sliders at the ends of the tree, from left to right; not what one undoes."""
    if isinstance(operation, Operation | Sliders):
        yield operation
    for part in parts_of(operation):
        yield from leaves(part)


def moves_body(operation: AnyOperation) -> bool:
    """Whether it does anything beside the face."""
    return any(
        any(one.on_body and one.percent for one in leaf.amounts)
        if isinstance(leaf, Sliders)
        else leaf.body is not None and leaf.body.moves
        for leaf in leaves(operation)
    )


def moves_face(operation: AnyOperation) -> bool:
    return any(
        any(not one.on_body and one.percent for one in leaf.amounts)
        if isinstance(leaf, Sliders)
        else bool((leaf.motion != 0).any())
        for leaf in leaves(operation)
    )


# What a leaf does to one face at a strength (negative: the opposite motion).
Apply = Callable[[Leaf, float, Face], Field]
# A look at the photo that a motion turned into the one at hand: the face there, about where the given one is, and what
# leaves do there. None where it cannot be read.
LookBefore = Callable[[Field, Face], tuple[Face, Apply] | None]


def field_of(
    operation: AnyOperation,
    face: Face,
    apply: Apply,
    *,
    strength: float = 1.0,
    remarks: list[str] | None = None,
    look: LookBefore | None = None,
) -> Field:
    """The motion of one face of a photo.  strength: of the whole; negative takes a made-up operation back.
    remarks: gets what a user should know about the result.  look: where the face is as the photo shows it.

    Raises ValueError where strengths multiply to more than 200 %, or a mask is of another size than the photo.
    """
    operation = _applied(operation)
    if isinstance(operation, Operation | Sliders):
        if abs(strength) > MOST + 1e-6:
            raise ValueError(
                f"the strengths of this operation multiply to {100 * abs(strength):g} %: {100 * MOST:g} % is the most. "
                "Lower one of them."
            )
        return apply(operation, strength, face)
    if isinstance(operation, Scaled):
        return field_of(operation.of, face, apply, strength=strength * operation.factor, remarks=remarks, look=look)
    if isinstance(operation, Undone):
        if strength < 0:
            return field_of(operation.of, face, apply, strength=-strength, remarks=remarks, look=look)
        return _undone(operation.of, face, apply, strength, remarks, look)
    if isinstance(operation, Combined):
        return _in_a_row(operation.steps, face, apply, strength, remarks, look)
    if isinstance(operation, Blended):
        fields = [field_of(one, face, apply, strength=strength, remarks=remarks, look=look) for one in operation.of]
        return mixture(fields, operation.weights)
    inner = with_leaves(operation.of, lambda leaf: _of_body(leaf, operation.of_body))
    return _limited(field_of(inner, face, apply, strength=strength, remarks=remarks, look=look), operation, face)


def _applied(operation: AnyOperation) -> AnyOperation:
    """The operation, or the reverse of the one that its pair shows taken back."""
    backwards = isinstance(operation, Operation) and operation.undoes is not None
    return Undone(of=operation.undoes) if backwards else operation


def _in_a_row(
    steps: tuple[AnyOperation, ...],
    face: Face,
    apply: Apply,
    strength: float,
    remarks: list[str] | None,
    look: LookBefore | None,
) -> Field:
    if strength < 0:
        steps, strength = tuple(Undone(of=step) for step in reversed(steps)), -strength
    total = field_of(steps[0], face, apply, strength=strength, remarks=remarks, look=look)
    for step in steps[1:]:
        now = _moved(face, lambda points, done=total: destinations(points, done))
        total = sequence(total, field_of(step, now, apply, strength=strength, remarks=remarks))
    return total


def _undone(
    operation: AnyOperation,
    face: Face,
    apply: Apply,
    strength: float,
    remarks: list[str] | None,
    look: LookBefore | None,
) -> Field:
    operation = _applied(operation)
    if isinstance(operation, Undone):
        return field_of(operation.of, face, apply, strength=strength, remarks=remarks, look=look)
    made = field_of(operation, face, apply, strength=strength)
    for _ in range(_GUESSES):
        before = _moved(face, lambda points, made=made: origins(points, made))
        seen = None if look is None else look(made, before)
        last, made = made, field_of(operation, *(seen or (before, apply)), strength=strength)
        change = apart(made, last)
        if change <= _bound(_SETTLED, made):
            break
    back = inverse(made)
    if remarks is not None and back.num_left:
        remarks.append(
            f"the operation folds at {back.num_left} pixels of this face: what it covers up there cannot be taken back"
        )
    if remarks is not None and change > _bound(_UNSETTLED, made):
        remarks.append(
            f"what the operation did here is known only to {change:.1f} px: taking it back is not exact on this photo"
        )
    return back.field


def _bound(least: tuple[float, float], motion: Field) -> float:
    """Pixels."""
    return max(least[0], least[1] * motion.max_px)


def _moved(face: Face, move: Callable[[Tensor], Tensor]) -> Face:
    """The face after its points went somewhere else."""
    points = move(torch.cat([face.landmarks, face.mesh]))
    landmarks, mesh = points.split([len(face.landmarks), len(face.mesh)])
    box = (*landmarks.amin(dim=0).tolist(), *landmarks.amax(dim=0).tolist())
    return replace(face, landmarks=landmarks, mesh=mesh, box=box)


def _of_body(leaf: Leaf, groups: tuple[str, ...]) -> Leaf:
    """With only these groups of what it does to the body."""
    if set(groups) == set(GROUPS):
        return leaf
    if isinstance(leaf, Sliders):
        kept = (one for one in leaf.amounts if not one.on_body or GROUP_OF[one.operation][0] in groups)
        return replace(leaf, amounts=tuple(kept))
    undoes = None if leaf.undoes is None else _of_body(leaf.undoes, groups)
    return replace(leaf, body=None if leaf.body is None else leaf.body.limited(groups), undoes=undoes)


def _limited(field: Field, limit: Limited, face: Face) -> Field:
    if not field.displacement.numel():
        return field
    left, top, right, bottom = field.box
    weight = field.displacement.new_ones(1, 1, bottom - top, right - left)
    if set(limit.parts) != set(PARTS) or limit.side != "both":
        weight = _share_of_box(limit, face, field.box)
    if limit.region is not None:
        height, width = limit.region.shape
        if (height, width) != (field.height, field.width):
            raise ValueError(
                f"the operation is limited by a mask of {width}x{height} but the query is "
                f"{field.width}x{field.height}: paint the mask on the query itself"
            )
        weight = weight * limit.region[top:bottom, left:right].to(weight)
    return weighted(field, weight)


def _share_of_box(limit: Limited, face: Face, box: tuple[int, int, int, int]) -> Tensor:
    """The parts' share of every pixel in a box, computed on a coarser grid: (1, 1, h, w). Zeros stay exact."""
    left, top, right, bottom = box
    size = max(face.box[2] - face.box[0], face.box[3] - face.box[1]) / 2.5  # about an eye distance
    stride = max(1.0, size / _STEPS_PER_EYE_DISTANCE)
    rows, columns = max(2, round((bottom - top) / stride)), max(2, round((right - left) / stride))
    step = torch.tensor([(right - left) / columns, (bottom - top) / rows]).view(1, 2, 1, 1)
    corner = torch.tensor([left - 0.5, top - 0.5]).view(1, 2, 1, 1)
    points = (pixel_grid(rows, columns) + 0.5) * step + corner
    share = part_weight(face.landmarks, points.flatten(2)[0].mT, limit.parts, limit.side)
    return F.interpolate(
        share.view(1, 1, rows, columns), (bottom - top, right - left), mode="bilinear", align_corners=False
    )


def _check_several(several: tuple[AnyOperation, ...]) -> None:
    """Raise ValueError unless there are operations and they come from one matched set."""
    if not several:
        raise ValueError("no operation to combine: connect one or more")
    ids = dict.fromkeys(one.set_id for part in several for one in leaves(part) if isinstance(one, Operation))
    if len(ids) > 1:
        raise ValueError(
            f"these operations come from different sets ({', '.join(ids)}): extract them all with one set, or load "
            "them again from files that hold their exemplar"
        )
