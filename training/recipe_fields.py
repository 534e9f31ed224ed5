"""The motion of a recipe, computed only where it acts and only at the pixels asked for.

    place_llw, place_professional  ->  one Motion a step: a small table, its box, and what it says at any position
    motion_through(motions, view)  ->  the whole recipe at the output pixels of a view of the photo

Following the steps backwards, p + d_n(p) is where step n takes a pixel from, and step n - 1 is asked there: exact for
any number of steps, without fields in between. Against the dense functions of core this saves in three places, and
none of them moves a pixel visibly (the tests hold the numbers):

- Nothing is computed outside the reach of a step. An eye takes a fiftieth of a portrait.
- Professional motions are smooth, so they are tabulated on a lattice and interpolated. The curvature of a push is
  about its amplitude over its reach squared, so the error of linear interpolation grows as spacing^2 / reach, and the
  spacing may grow as the square root of the reach: `_LATTICE` is set for errors below 0.05 px.
- LLW is a small grid and small masks already (llw_exact.py) and is read as it is.

Pixels, x then y. H height, W width, N points.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorppr_core.apply import Field
from mirrorppr_core.fields import pixel_grid, sample
from mirrorppr_core.llw_exact import llw_motion
from mirrorppr_core.professional import professional_displacement_at
from mirrorppr_core.professional_operations import OPERATIONS as PROFESSIONAL

from .augment import Box, View

_LATTICE = 0.3  # spacing = this times the square root of the reach, both in pixels
_FOLLOWED_PX = 0.02  # landmarks are at rest when one more iteration moves none farther
_FOLLOW_ITERATIONS = 20


@dataclass(frozen=True, kw_only=True)
class Motion:
    """One step laid on one person. Zero outside the box."""

    at: Callable[[Tensor], Tensor]  # positions (1, 2, h, w) in pixels -> displacements (1, 2, h, w)
    box: tuple[float, float, float, float]  # left, top, right, bottom
    longest: float  # no displacement is longer, px


def place_llw(mesh: Tensor, size: tuple[int, int], *, operation: str, strength: float) -> Motion:
    """Exact LLW.  mesh: (478, 2).  size: (H, W) of the photo, which sets the grid and the feather."""
    motion = llw_motion(mesh[None], size, operation=operation, strength=strength)
    box = _union([ring.box for ring in motion.rings])
    return Motion(at=motion.displacement, box=box, longest=float(motion.vertices.abs().amax()) * math.sqrt(2))


def place_professional(
    mesh: Tensor | None, pose: Tensor | None, *, operation: str, strength: float, side: str
) -> Motion:
    """A professional operation, interpolated.  mesh: (478, 2).  pose: (33, 2..4)."""
    landmarks = pose if PROFESSIONAL[operation].on_body else mesh
    reaches, boxes = _reaches(landmarks, operation, side)
    box = _union(boxes)
    if PROFESSIONAL[operation].outside is not None:
        box = _overlap(box, _faded_box(mesh, PROFESSIONAL[operation].outside))
    spacing = max(1.0, _LATTICE * math.sqrt(min(reaches)))
    # The lattice ends beyond the reach, in zeros: sampling goes on with them outside.
    columns, rows = (math.ceil((last - first) / spacing) + 3 for first, last in ((box[0], box[2]), (box[1], box[3])))
    corner = torch.tensor([box[0] - spacing, box[1] - spacing]).view(2, 1, 1)
    points = (pixel_grid(rows, columns) * spacing + corner).flatten(2).mT.contiguous()  # (1, N, 2)
    moved = professional_displacement_at(points, mesh, pose, operation=operation, strength=strength, side=side)
    table = moved.mT.unflatten(2, (rows, columns)).contiguous()

    def at(positions: Tensor) -> Tensor:
        return sample(table, (positions - corner) / spacing, mode="bilinear")

    return Motion(at=at, box=box, longest=float(table.abs().amax()) * math.sqrt(2))


def motion_through(motions: Sequence[Motion], view: View) -> tuple[Box, Tensor, Tensor] | None:
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


def field_of(motions: Sequence[Motion], size: tuple[int, int]) -> Field:
    """All steps in order, on the photo itself.  size: (H, W)."""
    found = motion_through(motions, View.whole(size))
    if found is None:
        return Field.zero(*size)
    box, still, moved = found
    return Field(displacement=moved - still, left=box[0], top=box[1], height=size[0], width=size[1])


def followed(landmarks: Tensor | None, motion: Motion) -> Tensor | None:
    """Where landmarks are after a motion; further columns (visibility) stay.  (N, 2..4)."""
    if landmarks is None:
        return None
    start = landmarks[:, :2].mT[None, :, :, None]  # (1, 2, N, 1)
    moved = start
    for _ in range(_FOLLOW_ITERATIONS):
        previous, moved = moved, start - motion.at(moved)
        if float((moved - previous).abs().amax()) < _FOLLOWED_PX:
            break
    return torch.cat([moved[0, :, :, 0].mT, landmarks[:, 2:]], 1)


def _reaches(landmarks: Tensor, operation: str, side: str) -> tuple[list[float], list[tuple[float, ...]]]:
    """Shortest reach in pixels and surrounding box of every push that takes part."""
    reaches, boxes = [], []
    places = landmarks[:, :2].tolist()
    for own_side, pushes in PROFESSIONAL[operation].sides().items():
        if side not in ("both", own_side):
            continue
        for push in pushes:
            ruler = math.dist(places[push.ruler[0]], places[push.ruler[1]])
            ends = [_mean([places[i] for i in indices]) for indices in (push.at, push.to or push.at)]
            # Windows turn with the face, so the longer half axis may point anywhere.
            reach = max(push.reach) * ruler
            reaches.append(min(push.reach) * ruler)
            (x0, x1), (y0, y1) = (sorted(values) for values in zip(*ends, strict=True))
            boxes.append((x0 - reach, y0 - reach, x1 + reach, y1 + reach))
    return reaches, boxes


def _faded_box(mesh: Tensor, outside: float) -> tuple[float, float, float, float]:
    """Where operations that move the outline of a face have faded, `outside` face widths beyond it."""
    fade = outside * float((mesh[454] - mesh[234]).norm())
    (left, top), (right, bottom) = mesh.amin(0).tolist(), mesh.amax(0).tolist()
    return left - fade, top - fade, right + fade, bottom + fade


def _mean(points: list[list[float]]) -> tuple[float, float]:
    return sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)


def _overlap(a: tuple, b: tuple) -> tuple:
    return max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])


def _union(boxes: list) -> tuple:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
