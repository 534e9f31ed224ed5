"""A professional operation on one person, on a lattice: core's formulas (operations/professional.py) in numpy.

Core answers for many people at any points, differentiably. Here are one person and the points of an upright lattice,
a few thousand of them, and what counts is the number of passes over them. Core lays the pushes on the person, and two
things make their evaluation ten times faster:

- Whatever is affine in the position (along, across, the motion itself) is a row plus a column.
- The distance to the face's outline is measured only where something moves outside the outline.

The tests hold the two to each other. Pixels, x then y. N points, K corners of an outline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import NUM_MESH
from mirrorppr_core.operations.professional import NUM_POSE, OVAL, PlacedPush, checked_landmarks, placed_groups
from mirrorppr_core.operations.professional_table import OPERATIONS, ProfessionalOperation

from .lattice import Lattice

Box = tuple[float, float, float, float]  # left, top, right, bottom

_SPACING = 0.3  # of the lattice: this times the square root of the shortest reach, both in pixels
_LEAST_WEIGHT = 1e-6  # as in core, on the rim of a window
_TOGETHER = 2**15  # points times corners that are looked at at a time: what fits a processor's cache


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """A push laid on the person. Everything in pixels; weight and motion as in core's PlacedPush."""

    middle: tuple[float, float]
    outward: tuple[float, float]
    down: tuple[float, float]
    half_length: float  # of the capsule, along down; 0 for an ellipse
    reach: tuple[float, float]
    shift: tuple[float, float]
    stretch: tuple[float, float]

    @classmethod
    def of(cls, push: PlacedPush) -> _Placed:
        pairs = (push.middle, push.outward, push.down, push.reach, push.shift)
        middle, outward, down, reach, shift = torch.cat([pair[0] for pair in pairs]).tolist()
        return cls(
            middle=middle,
            outward=outward,
            down=down,
            half_length=push.half_length.item(),
            reach=reach,
            shift=shift,
            stretch=push.stretch,
        )

    @property
    def box(self) -> Box:
        (x, y), (across, along) = self.middle, self.reach
        along += self.half_length
        far_x = abs(self.outward[0]) * across + abs(self.down[0]) * along
        far_y = abs(self.outward[1]) * across + abs(self.down[1]) * along
        return x - far_x, y - far_y, x + far_x, y + far_y

    def on(self, xs: np.ndarray, ys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """xs: (columns,).  ys: (rows, 1).  Weights and motions in x and in y, (rows, columns) each."""
        away_x, away_y = xs - np.float32(self.middle[0]), ys - np.float32(self.middle[1])
        (out_x, out_y), (down_x, down_y) = self.outward, self.down
        across = _affine(away_x, away_y, out_x / self.reach[0], out_y / self.reach[0])
        along = _affine(away_x, away_y, down_x / self.reach[1], down_y / self.reach[1])
        if self.half_length:
            np.abs(along, out=along)
            along -= np.float32(self.half_length / self.reach[1])
            np.maximum(along, 0, out=along)
        across *= across
        along *= along
        weight = np.subtract(1, across, out=across)
        weight -= along
        np.maximum(weight, 0, out=weight)
        weight *= weight
        wide, tall = self.stretch
        if wide == tall == 0:
            return weight, np.float32(self.shift[0]), np.float32(self.shift[1])
        mixed = wide * out_x * out_y + tall * down_x * down_y
        motion_x = _affine(away_x, away_y, wide * out_x**2 + tall * down_x**2, mixed, self.shift[0])
        motion_y = _affine(away_x, away_y, mixed, wide * out_y**2 + tall * down_y**2, self.shift[1])
        return weight, motion_x, motion_y


def pushes_on_lattice(landmarks: Tensor, *, operation: str, strength: float, side: str) -> tuple[Lattice, Box]:
    """The displacements of an operation, and the box outside which there are none.

    landmarks: (478, 2) of the face or (33, 2..4) of the body, as the operation needs them. The lattice is so fine that
    interpolation errs by less than 0.05 px: the curvature of a push is about its amplitude over its reach squared, so
    the error grows as spacing^2 / reach, and the spacing may grow as the square root of the reach.
    """
    chosen = OPERATIONS[operation]
    if not math.isfinite(landmarks.sum()) or landmarks.shape[0] != (NUM_POSE if chosen.on_body else NUM_MESH):
        checked_landmarks(chosen, *((None, landmarks) if chosen.on_body else (landmarks, None)))  # says what is wrong
    groups, places = _placed(landmarks, chosen, side), landmarks.tolist()
    box = _union([push.box for group in groups for push in group])
    fade = 0.0
    if chosen.outside is not None:
        fade = max(chosen.outside * math.dist(places[454], places[234]), 1e-3)
        outline = np.array([places[i] for i in OVAL], np.float32)
        (left, top), (right, bottom) = outline.min(0).tolist(), outline.max(0).tolist()
        faded = left - fade, top - fade, right + fade, bottom + fade
        box = (*map(max, box[:2], faded[:2]), *map(min, box[2:], faded[2:]))
    spacing = max(1.0, _SPACING * math.sqrt(min(min(push.reach) for group in groups for push in group)))
    # The lattice ends beyond the reach, in zeros: reading goes on with them outside.
    columns, rows = (math.ceil((last - first) / spacing) + 3 for first, last in ((box[0], box[2]), (box[1], box[3])))
    corner = box[0] - spacing, box[1] - spacing
    xs = (np.arange(columns) * spacing + corner[0]).astype(np.float32)
    ys = (np.arange(rows) * spacing + corner[1]).astype(np.float32)[:, None]
    moved = np.zeros((2, rows, columns), np.float32)
    for group in groups:
        left, top, right, bottom = _union([push.box for push in group])
        across, down = _between(xs, left, right), _between(ys[:, 0], top, bottom)
        _blend(group, xs[across], ys[down], moved[:, down, across])
    if chosen.outside is not None:
        _fade_outside(moved, xs, ys, outline, fade)
    moved *= np.float32(-strength / 100)
    return Lattice(torch.from_numpy(moved)[None], corner=corner, spacing=(spacing, spacing)), box


def _placed(landmarks: Tensor, chosen: ProfessionalOperation, side: str) -> list[list[_Placed]]:
    """Core's placing in double precision, as numbers; pushes that the pose does not see are left out."""
    groups = [
        [_Placed.of(push) for push in group if push.present.item()]
        for group in placed_groups(chosen, landmarks[None].double(), side)
    ]
    return [group for group in groups if group]


def _blend(group: list[_Placed], xs: np.ndarray, ys: np.ndarray, moved: np.ndarray) -> None:
    """Add the motion of one side at +100, (2, rows, columns)."""
    if len(group) == 1:  # the share of the one window is all there is
        weight, motion_x, motion_y = group[0].on(xs, ys)
        moved[0] += weight * motion_x
        moved[1] += weight * motion_y
        return
    shape = moved.shape[1:]
    weights, untouched = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    sum_x, sum_y = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for push in group:
        weight, motion_x, motion_y = push.on(xs, ys)
        weights += weight
        untouched *= 1 - weight
        sum_x += weight * motion_x
        sum_y += weight * motion_y
    share = np.subtract(1, untouched, out=untouched)
    share /= np.maximum(weights, np.float32(_LEAST_WEIGHT), out=weights)
    moved[0] += share * sum_x
    moved[1] += share * sum_y


def _fade_outside(moved: np.ndarray, xs: np.ndarray, ys: np.ndarray, outline: np.ndarray, fade: float) -> None:
    """Let the motion end smoothly `fade` px beyond the outline.  moved: (2, rows, columns).  outline: (K, 2)."""
    moving = (moved[0] != 0) | (moved[1] != 0)
    moving &= ~_inside(xs, ys[:, 0], outline)
    places = np.flatnonzero(moving)
    rows, columns = np.divmod(places, moving.shape[1])
    near = _distances(xs.take(columns), ys[:, 0].take(rows), outline)
    near *= np.float32(-1 / fade)
    near += 1
    np.maximum(near, 0, out=near)
    near *= near * (3 - 2 * near)
    share = np.ones(moving.size, np.float32)
    share[places] = near
    moved *= share.reshape(moving.shape)


def _inside(xs: np.ndarray, ys: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Whether points of a lattice lie inside a closed outline, (rows, columns), by the even-odd rule.

    A ray to the right of an inner point crosses the outline an odd number of times. Each row has a few crossings:
    they are put where they happen, and summed from the right.
    """
    (x0, y0), (x1, y1) = outline.T, np.roll(outline, -1, 0).T
    rows, edges = np.nonzero((y0 > ys[:, None]) != (y1 > ys[:, None]))
    share = (ys[rows] - y0[edges]) / (y1[edges] - y0[edges])
    crossings = np.searchsorted(xs, x0[edges] + share * (x1[edges] - x0[edges]))
    crossed = np.zeros((len(ys), len(xs) + 1), np.uint8)
    np.bitwise_xor.at(crossed, (rows, crossings), 1)
    return np.bitwise_xor.accumulate(crossed[:, ::-1], axis=1)[:, -2::-1].astype(bool)


def _distances(x: np.ndarray, y: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Of points (N,) from the edges of a closed outline (K, 2), (N,).

    With p the start of an edge e, t = (v - p) . e / |e|^2 and s = t cut to [0, 1], the squared distance of v is
    |v - p|^2 + |e|^2 s (s - 2 t). All that comes before the cut is linear in (1, x, y, x^2 + y^2): one product.
    """
    middle = outline.mean(0)
    start, edge = (outline - middle).astype(np.float64), np.roll(outline, -1, 0) - outline
    squared = np.maximum((edge.astype(np.float64) ** 2).sum(1), 1e-12)
    zeros = np.zeros(len(outline))
    along = np.stack([-(start * edge).sum(1), edge[:, 0], edge[:, 1], zeros], 1) / squared[:, None]  # (K, 4)
    away = np.stack([(start**2).sum(1), -2 * start[:, 0], -2 * start[:, 1], zeros + 1], 1)
    terms, squared = np.concatenate([along, away]).astype(np.float32), squared.astype(np.float32)[:, None]
    x, y = x - middle[0], y - middle[1]
    points = np.stack([np.ones_like(x), x, y, x * x + y * y])  # (4, N)
    nearest = np.empty(len(x), np.float32)
    together = max(1, _TOGETHER // len(outline))
    for first in range(0, len(x), together):
        t, d = np.split(terms @ points[:, first : first + together], 2)  # (K, n)
        s = np.clip(t, 0, 1)
        t *= 2
        np.subtract(s, t, out=t)
        t *= s
        t *= squared
        t += d
        nearest[first : first + together] = t.min(0)
    return np.sqrt(np.maximum(nearest, 0))


def _affine(xs: np.ndarray, ys: np.ndarray, in_x: float, in_y: float, constant: float = 0.0) -> np.ndarray:
    """in_x x + in_y y + constant on the lattice, (rows, columns) float32."""
    return xs * np.float32(in_x) + (ys * np.float32(in_y) + np.float32(constant))


def _between(places: np.ndarray, low: float, high: float) -> slice:
    """Those of sorted places that lie between two, and one more on either side against rounding."""
    first, last = np.searchsorted(places, (low, high)).tolist()
    return slice(max(first - 1, 0), last + 1)


def _union(boxes: list[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)
