"""Arithmetic of whole fields of one photo: one after the other, mixed, weakened by place, undone.

    sequence    in(p + d), d = b(p) + a(p + b(p))          first a, then b on its result
    mixture     d = sum of w_i * d_i
    inverse     g(q) + d(q + g(q)) = 0                      the photo before, from the photo after

Each field is zero outside its box, and a result stays zero wherever its operands are: pixels that no operand moves
keep their bits. Points go the other way than pixels are fetched: what lay at x lies at y with y + d(y) = x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .displacement import changed_mask, compose, inverse_at, invert, length, resize_displacement, sample
from .field import Field

_COARSE_SIDE = 384  # the inverse is first found on a copy of the field at most so large
_FINE_STEPS = 4  # of Newton's method, from there on
_COARSE_STEPS = 16
_EXACT_PX = 0.05  # an inverse that leaves more is not one


@dataclass(frozen=True)
class Undone:
    """field: the inverse.  left_px: the longest motion that remains after both.  num_left: pixels that keep more than
    a twentieth of a pixel: there the field folds, and what it covers up cannot be brought back."""

    field: Field
    left_px: float
    num_left: int


def sequence(first: Field, second: Field) -> Field:
    """One field for `first`, then `second` on the result."""
    _check_one_photo([first, second])
    if not first.displacement.numel() or not second.displacement.numel():
        return second if not first.displacement.numel() else first
    box = _around([first, second], rim=1)
    return _boxed(compose(_seen(first, box), _seen(second, box)), box, first)


def mixture(fields: Sequence[Field], weights: Sequence[float]) -> Field:
    """The weighted sum of motions; no weight changes what a field does alone when they sum to one."""
    if len(fields) != len(weights) or not fields:
        raise ValueError(f"{len(fields)} fields and {len(weights)} weights: pass one weight for each field")
    _check_one_photo(fields)
    moving = [(f, w) for f, w in zip(fields, weights, strict=True) if f.displacement.numel() and w != 0]
    if not moving:
        return Field.zero(fields[0].height, fields[0].width)
    box = _around([field for field, _ in moving], rim=0)
    left, top, right, bottom = box
    total = moving[0][0].displacement.new_zeros(1, 2, bottom - top, right - left)
    for field, weight in moving:
        total = total + weight * _seen(field, box)
    return _boxed(total, box, fields[0])


def weighted(field: Field, weight: Tensor) -> Field:
    """Less motion in places.  weight: (1, 1, h, w) of the field's box, 0 to 1; where it is 0 nothing moves."""
    if weight.shape[-2:] != field.displacement.shape[-2:]:
        raise ValueError(f"weight {tuple(weight.shape)} is not of the field's box {field.box}")
    return replace(field, displacement=field.displacement * weight)


def apart(one: Field, other: Field) -> float:
    """By how many pixels two motions of one photo differ where they differ most."""
    _check_one_photo([one, other])
    moving = [field for field in (one, other) if field.displacement.numel()]
    if len(moving) < 2:
        return max((field.max_px for field in moving), default=0.0)
    box = _around(moving, rim=0)
    return float(length(_seen(one, box) - _seen(other, box)).amax())


def inverse(field: Field) -> Undone:
    """The field that undoes this one. Where the map does not fold, after both no pixel is off by 0.05 px."""
    if not field.displacement.numel():
        return Undone(field, left_px=0.0, num_left=0)
    box = _around([field], rim=2)
    motion = _seen(field, box)
    height, width = motion.shape[-2:]
    factor = -(-max(height, width) // _COARSE_SIDE)
    if factor == 1:
        found = invert(motion, num_iterations=_COARSE_STEPS)
    else:
        coarse = resize_displacement(motion, max(2, height // factor), max(2, width // factor))
        start = resize_displacement(invert(coarse, num_iterations=_COARSE_STEPS), height, width)
        found = invert(motion, num_iterations=_FINE_STEPS, start=start)
    # A map without folds that leaves a place where it is has nothing else to put there.
    found = found * changed_mask(motion)
    left = length(compose(motion, found))
    return Undone(_boxed(found, box, field), left_px=float(left.amax()), num_left=int((left > _EXACT_PX).sum()))


def origins(points: Tensor, field: Field) -> Tensor:
    """Where in the photo before the field these points of the moved photo come from.  (K, 2) pixels both."""
    if not field.displacement.numel():
        return points
    box = _around([field], rim=1)
    found = sample(_seen(field, box), _placed(points, box), mode="bilinear")
    return points + found[0, :, :, 0].mT


def destinations(points: Tensor, field: Field) -> Tensor:
    """Where points of the photo lie after the field moved it.  (K, 2) pixels both."""
    if not field.displacement.numel():
        return points
    box = _around([field], rim=2)
    found = inverse_at(_seen(field, box), _placed(points, box), num_iterations=_COARSE_STEPS)
    return points + found[0, :, :, 0].mT


Box = tuple[int, int, int, int]  # left, top, right, bottom; the last two are outside


def _placed(points: Tensor, box: Box) -> Tensor:
    """(K, 2) photo pixels -> positions (1, 2, K, 1) in the box."""
    return (points - points.new_tensor(box[:2])).mT[None, :, :, None]


def _seen(field: Field, box: Box) -> Tensor:
    left, top, right, bottom = box
    return field.crop(left=left, top=top, height=bottom - top, width=right - left).dense()


def _boxed(displacement: Tensor, box: Box, like: Field) -> Field:
    return Field(displacement=displacement, left=box[0], top=box[1], height=like.height, width=like.width)


def _around(fields: Sequence[Field], *, rim: int) -> Box:
    """The box that holds all of them and a rim of zeros, so that what is looked up outside it is zero."""
    boxes = [field.box for field in fields if field.displacement.numel()]
    height, width = fields[0].height, fields[0].width
    return (
        max(0, min(box[0] for box in boxes) - rim),
        max(0, min(box[1] for box in boxes) - rim),
        min(width, max(box[2] for box in boxes) + rim),
        min(height, max(box[3] for box in boxes) + rim),
    )


def _check_one_photo(fields: Sequence[Field]) -> None:
    sizes = {(field.width, field.height) for field in fields}
    if len(sizes) > 1:
        listed = " and ".join(f"{width}x{height}" for width, height in sorted(sizes))
        raise ValueError(f"fields of photos of {listed} cannot be combined: bring them to one size (Field.resized)")
