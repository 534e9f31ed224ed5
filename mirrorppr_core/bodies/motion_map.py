"""What of a retouch lies beside the face: measured on the exemplar's body, carried to another body.

    exemplar: motion of the whole photo - the face's share -> map around the person, in eye distances
    query:    every place -> place on the exemplar (bones.py) -> motion there, turned and scaled -> Field

The face view carries what is near the face, this file the rest. The two shares add up to one everywhere on
the exemplar and fall off smoothly, so nothing is carried twice and there is no seam. Where the exemplar's photo ends,
its motion goes on a little and fades. The map is linear in the motion: scaling, reversing and blending are exact.

Shapes: N = rows x columns cells of the map. Cells and pixels: centre of the first one is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.crop import Box
from ..geometry.displacement import length, pixel_grid, sample, smoothstep
from ..geometry.field import Field
from ..geometry.similarity import Similarity
from ..geometry.unfold import unfold
from .bones import Skeleton, facing, has_a_place, match

CELLS_PER_UNIT = 8  # unit: the person's eye distance
LEFT, TOP, WIDTH, HEIGHT = -10, -4, 20, 27  # units, from the eyes: what the map covers
_RIM = 1.5  # units over which motion fades at the border of the map, and beyond the photo's own
_LOST_SHARE = 0.2  # of the motion: losing more to arms that cannot be told is worth a note, ...
_SHOWN_SHARE = 0.5  # ... and so is showing less than this in the photo
_MIN_STRIDE_PX = 2.0


@dataclass(frozen=True, kw_only=True)
class BodyMotion:
    """motion: (1, 2, 27 * 8, 20 * 8), eye distances, backward.  skeleton: whose it is."""

    motion: Tensor
    skeleton: Skeleton


def person_frame(face: Similarity) -> Similarity:
    """Eye distances from the eyes, upright -> photo pixels.  face: mean face -> photo."""
    return Similarity(face.scale, torch.zeros_like(face.scale), face.translation)


def map_positions(frame: Similarity) -> Tensor:
    """Photo position of every cell of the map: (1, 2, rows, columns)."""
    return _map_places() * frame.scale + frame.translation.view(1, 2, 1, 1)


def _map_places() -> Tensor:
    """The cells in eye distances: (1, 2, rows, columns)."""
    cells = pixel_grid(HEIGHT * CELLS_PER_UNIT, WIDTH * CELLS_PER_UNIT)
    return (cells + 0.5) / CELLS_PER_UNIT + torch.tensor([LEFT, TOP]).view(1, 2, 1, 1)


def map_box(frame: Similarity) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of the map in photo pixels; it may leave the photo."""
    left, top = (frame.translation + frame.scale * torch.tensor([LEFT, TOP])).tolist()
    return left, top, left + WIDTH * float(frame.scale), top + HEIGHT * float(frame.scale)


def motion_of_body(displacement: Tensor, frame: Similarity, skeleton: Skeleton, others: Tensor) -> BodyMotion:
    """displacement: (1, 2, H, W) pixels of the exemplar.  frame: of that photo.

    others: (1, 1, rows, columns) in [0, 1], the share of the motion at each cell that is carried elsewhere.
    """
    height, width = displacement.shape[-2:]
    positions = map_positions(frame)
    step = max(1, int(float(frame.scale) / CELLS_PER_UNIT))
    reduced = F.avg_pool2d(displacement, step, ceil_mode=True) if step > 1 else displacement
    motion = sample(reduced, (positions - (step - 1) / 2) / step, mode="bilinear") / frame.scale
    x, y = positions.split(1, dim=1)
    beyond = torch.cat([-x, x - (width - 1), -y, y - (height - 1)], dim=1).amax(1, keepdim=True) / frame.scale
    near = _near_person(_map_places().flatten(2)[0].T).view_as(others)
    return BodyMotion(motion=motion * (1 - others) * smoothstep(1 - beyond / _RIM) * near, skeleton=skeleton)


@dataclass(frozen=True)
class Carried:
    """field: the query's motion.  softened: it had to be, so as not to fold.  lost: some of it belongs to arms that
    cannot be told on the query.  cut: much of it lies outside the photo."""

    field: Field
    softened: bool
    lost: bool
    cut: bool


def carry(
    body: BodyMotion, skeleton: Skeleton, frame: Similarity, *, strength: float, size: tuple[int, int]
) -> Carried:
    """The body motion on another person.  skeleton, frame: the query's.  size: H, W of its photo."""
    exemplar, query = facing(body.skeleton), facing(skeleton)
    motion, lost = _with_a_place(body.motion, exemplar, query)

    def moved_at(points: Tensor) -> Tensor:
        """(rows, columns, 2) photo pixels -> (1, 2, rows, columns) pixels."""
        places = (points.flatten(0, 1) - frame.translation) / frame.scale
        found = match(places, query, exemplar)
        moved = torch.einsum("nij,nj->ni", found.turn, _lookup(motion, found.places)) * frame.scale * strength
        return moved.T.reshape(1, 2, *points.shape[:2]) * _near_person(places).view(1, 1, *points.shape[:2])

    stride = max(_MIN_STRIDE_PX, float(frame.scale) / CELLS_PER_UNIT)
    around = _person_box(frame, size)
    box = around and _moving_box(moved_at(_grid(around, 2 * stride)), around)
    if box is None:
        return Carried(Field.zero(*size), softened=False, lost=lost, cut=bool((motion != 0).any()) and strength != 0)
    points = _grid(box, stride)
    left, top, right, bottom = box
    step = torch.tensor([(right - left) / points.shape[1], (bottom - top) / points.shape[0]]).view(1, 2, 1, 1)
    wanted = moved_at(points) / step
    kept = unfold(wanted, torch.zeros_like(wanted))
    dense = F.interpolate(kept * step, (bottom - top, right - left), mode="bicubic", align_corners=False)
    field = Field(displacement=dense, left=left, top=top, height=size[0], width=size[1])
    shown = float(length(wanted * step).sum() * step.prod()) / float(frame.scale) ** 3  # cubic eye distances
    growth = float(query.shoulder_width / exemplar.shoulder_width)
    expected = abs(strength) * growth**3 * float(length(motion).sum()) / CELLS_PER_UNIT**2
    return Carried(field, softened=not torch.equal(kept, wanted), lost=lost, cut=shown < _SHOWN_SHARE * expected)


def _with_a_place(motion: Tensor, exemplar: Skeleton, query: Skeleton) -> tuple[Tensor, bool]:
    """The motion without what belongs to arms that the query does not show, and whether that is much."""
    share = has_a_place(_map_places().flatten(2)[0].T, exemplar, query).view(1, 1, *motion.shape[-2:])
    amount = length(motion)
    return motion * share, bool((amount * (1 - share)).sum() > _LOST_SHARE * amount.sum())


def _person_box(frame: Similarity, size: tuple[int, int]) -> Box | None:
    """What of the photo the map covers."""
    x0, y0, x1, y1 = map_box(frame)
    left, top, right, bottom = max(0, int(x0)), max(0, int(y0)), min(size[1], int(x1) + 1), min(size[0], int(y1) + 1)
    return (left, top, right, bottom) if right - left >= 2 and bottom - top >= 2 else None


def _moving_box(motion: Tensor, box: Box) -> Box | None:
    """The part of a box that moves, with a margin.  motion: (1, 2, rows, columns) on a grid over the box."""
    moving = (motion != 0).any(1)[0]
    if not moving.any():
        return None
    left, top, right, bottom = box
    rows, columns = moving.shape
    y, x = moving.any(1).nonzero()[:, 0], moving.any(0).nonzero()[:, 0]
    down, across = (bottom - top) / rows, (right - left) / columns
    return (
        max(left, left + int((int(x[0]) - 2) * across)),
        max(top, top + int((int(y[0]) - 2) * down)),
        min(right, left + int((int(x[-1]) + 3) * across) + 1),
        min(bottom, top + int((int(y[-1]) + 3) * down) + 1),
    )


def _grid(box: Box, stride: float) -> Tensor:
    """Photo positions about so many pixels apart, evenly over a box: (rows, columns, 2)."""
    left, top, right, bottom = box
    rows, columns = max(2, round((bottom - top) / stride)), max(2, round((right - left) / stride))
    y = (torch.arange(rows) + 0.5) * (bottom - top) / rows - 0.5 + top
    x = (torch.arange(columns) + 0.5) * (right - left) / columns - 0.5 + left
    return torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], dim=-1)


def _near_person(places: Tensor) -> Tensor:
    """1 near the person, fading to 0 at the border of the map's extent.  places: (N, 2) eye distances -> (N,)."""
    low = places - places.new_tensor([LEFT, TOP])
    high = places.new_tensor([LEFT + WIDTH, TOP + HEIGHT]) - places
    return smoothstep(torch.minimum(low, high).amin(1) / _RIM)


def _lookup(motion: Tensor, places: Tensor) -> Tensor:
    """Motion of the map at places (N, 2), zero outside it: (N, 2)."""
    grid = (places - places.new_tensor([LEFT, TOP])) * 2 / places.new_tensor([WIDTH, HEIGHT]) - 1
    found = F.grid_sample(motion, grid[None, :, None], mode="bilinear", padding_mode="zeros", align_corners=False)
    return found[0, :, :, 0].T
