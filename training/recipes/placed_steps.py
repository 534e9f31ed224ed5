"""The motion of a recipe, computed only where it acts and only at the pixels asked for.

    place_llw, place_professional, place_form  ->  one PlacedStep a step: a small table, its box, what it says anywhere
    motion_through(motions, view)  ->  the whole recipe at the output pixels of a view of the photo

Following the steps backwards, p + d_n(p) is where step n takes a pixel from, and step n - 1 is asked there: exact for
any number of steps, without fields in between. Against the dense functions of core this saves in three places, and
none of them moves a pixel visibly (the tests hold the numbers):

- Nothing is computed outside the reach of a step. An eye takes a fiftieth of a portrait.
- Professional motions are smooth, so they are written down on a lattice and interpolated (pushes.py).
- LLW is a small grid and small masks already (llw_exact.py) and is read as it is.

Pixels, x then y. H height, W width, N points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorppr_core.geometry.field import Field
from mirrorppr_core.operations.llw_exact import llw_motion
from mirrorppr_core.operations.professional_table import OPERATIONS as PROFESSIONAL

from .augment import Box, View
from .forms import form_on_lattice
from .lattice import Lattice
from .pushes import pushes_on_lattice

_FOLLOWED_PX = 0.02  # landmarks are at rest when one more iteration moves none farther
_FOLLOW_ITERATIONS = 20


@dataclass(frozen=True, kw_only=True)
class PlacedStep:
    """One step laid on one person. Zero outside the box."""

    at: Callable[[Tensor], Tensor]  # positions (1, 2, h, w) in pixels -> displacements (1, 2, h, w)
    box: tuple[float, float, float, float]  # left, top, right, bottom
    longest: float  # no displacement is longer, px


def place_llw(mesh: Tensor, size: tuple[int, int], *, operation: str, strength: float) -> PlacedStep:
    """Exact LLW.  mesh: (478, 2).  size: (H, W) of the photo, which sets the grid and the feather."""
    motion = llw_motion(mesh[None], size, operation=operation, strength=strength)
    spacing = motion.spacing.tolist()
    deformation = Lattice(motion.vertices, corner=(0.0, 0.0), spacing=tuple(spacing))
    masks, boxes = [], []
    for ring in motion.rings:
        pixel, (left, top) = float(ring.pixel), ring.corner[0].tolist()
        corner = left + pixel / 2, top + pixel / 2  # of a ring, corners are edges
        masks.append(Lattice(ring.values, corner=corner, spacing=(pixel, pixel)))
        side = pixel * ring.values.shape[-1]
        boxes.append((math.floor(left), math.floor(top), math.ceil(left + side), math.ceil(top + side)))
    box = _union(boxes)

    def at(positions: Tensor) -> Tensor:
        mask = masks[0].at(positions)
        for other in masks[1:]:
            mask = torch.maximum(mask, other.at(positions), out=mask)
        return deformation.at(positions).mul_(mask)

    # Only vertices of cells that the box meets are ever read.
    (left, right), (top, bottom) = (
        (max(0, math.floor(first / step)), math.ceil(last / step) + 1)
        for first, last, step in ((box[0], box[2], spacing[0]), (box[1], box[3], spacing[1]))
    )
    read = motion.vertices[..., top:bottom, left:right]
    return PlacedStep(at=at, box=box, longest=_longest(read) if read.numel() else 0.0)


def place_professional(
    mesh: Tensor | None, pose: Tensor | None, *, operation: str, strength: float, side: str
) -> PlacedStep:
    """A professional operation, interpolated.  mesh: (478, 2).  pose: (33, 2..4)."""
    landmarks = pose if PROFESSIONAL[operation].on_body else mesh
    lattice, box = pushes_on_lattice(landmarks, operation=operation, strength=strength, side=side)
    return PlacedStep(at=lattice.at, box=box, longest=_longest(lattice.values))


def place_form(pose: Tensor, *, operation: str, strength: float, side: str) -> PlacedStep:
    """A body operation in another tool's form.  pose: (33, 3) or (33, 4)."""
    lattice, box = form_on_lattice(pose, operation=operation, strength=strength, side=side)
    return PlacedStep(at=lattice.at, box=box, longest=_longest(lattice.values))


def motion_through(motions: Sequence[PlacedStep], view: View) -> tuple[Box, Tensor, Tensor] | None:
    """All steps in order, at the pixels of a view.

    Returns the output pixels that may move as a box, their positions in the photo (1, 2, h, w) without the motion,
    and with it. Positions without motion are equal to the bit. None: the view shows nothing that moves.
    """
    reach = 0.0  # a pixel that a later step fetches from inside an earlier step's box may itself lie outside
    boxes = []
    for motion in reversed(motions):
        left, top, right, bottom = motion.box
        boxes.append(view.box_around((left - reach, top - reach, right + reach, bottom + reach)))
        reach += motion.longest
    seen = [box for box in boxes if box]
    if not seen:
        return None
    around = _union(seen)
    still = view.positions(around)
    moved = still.clone()
    for motion, box in zip(reversed(motions), boxes, strict=True):
        if box:
            part = moved[..., box[1] - around[1] : box[3] - around[1], box[0] - around[0] : box[2] - around[0]]
            part += motion.at(part)
    return around, still, moved


def field_of(motions: Sequence[PlacedStep], size: tuple[int, int]) -> Field:
    """All steps in order, on the photo itself.  size: (H, W)."""
    found = motion_through(motions, View.whole(size))
    if found is None:
        return Field.zero(*size)
    box, still, moved = found
    return Field(displacement=moved - still, left=box[0], top=box[1], height=size[0], width=size[1])


def followed(landmarks: Tensor | None, motion: PlacedStep) -> Tensor | None:
    """Where landmarks are after a motion; further columns (visibility) stay.  (N, 2..4)."""
    if landmarks is None:
        return None
    left, top, right, bottom = motion.box
    x, y = landmarks[:, 0], landmarks[:, 1]
    reach = motion.longest
    near = (x > left - reach) & (x < right + reach) & (y > top - reach) & (y < bottom + reach)
    start = landmarks[near, :2].mT[None, :, None].contiguous()  # (1, 2, 1, n)
    moved = start
    for _ in range(_FOLLOW_ITERATIONS if start.numel() else 0):
        previous, moved = moved, start - motion.at(moved)
        if float((moved - previous).abs_().amax()) < _FOLLOWED_PX:
            break
    result = landmarks.clone()
    result[near, :2] = moved[0, :, 0].mT
    return result


def _longest(displacements: Tensor) -> float:
    """No shorter than the longest of (1, 2, h, w)."""
    low, high = displacements.aminmax()
    return max(-float(low), float(high)) * math.sqrt(2)


def _union(boxes: list) -> tuple:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
