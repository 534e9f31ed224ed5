"""The feather of an exact LLW edit: as published where that is wide enough, wider where the motion would fold.

The mask m of `llw_exact` is the convex hull of a ring of landmarks, blurred. The published blur has one width
whatever moves through it, so a motion D towards the outside folds where it is longer than about 2.5 sigma: at full
strength mouths and eye distances did on a quarter of all faces. With J = I + m grad(D), the map p + m D scales areas by

    det(J) - lost,     lost = -grad(m) . adj(J) D

Two numbers of a face keep that above zero, and both are exactly 1 where nothing comes near:

    widening  the factor of sigma for which no area shrinks below LEAST_AREA: `lost` falls in proportion
    calm      the factor of D that mends what is left then: a grid that folds by itself, as on some turned heads

The hull grows along with the feather, so that what lies a published sigma inside keeps its share of the motion.
Neither factor jumps, so the motion stays a continuous function of the strength.

B faces, n points of a ring, R raster pixels a side. Pixels, x then y.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import pixel_grid, sample

FEATHER_SIGMA = 8 / 1024  # of the blur that softens the mask, as a share of the short side
FEATHER_RADIUS = 25.5 / 1024  # where that blur ends; both are the published ones at 1024
LEAST_AREA = 0.25  # that the feather leaves of a pixel's source; far less can neither be undone nor looks well
_LEAST_SPARE = 0.1  # area that the feather may take where the grid has taken the rest
_CALM_AREA = 0.2  # below this the motion is weakened
_WIDEST = 4.0  # times the published feather: keeps the reach of a mesh that is no face bounded
_DIRECTIONS = 64  # D: in which corners of a hull are looked for
_RASTER = 64  # R: two or three pixels per sigma of the feather


@dataclass(frozen=True, kw_only=True)
class RingMask:
    """A blurred convex hull, drawn in a small square around it; zero on the square's border."""

    values: Tensor  # (B, 1, _RASTER, _RASTER)
    corner: Tensor  # (B, 2) px of the square's top-left edge
    pixel: Tensor  # (B,) px per raster pixel

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom pixel that hold the first face's square, ends excluded."""
        end = self.corner[0] + self.pixel[0] * _RASTER
        return (*self.corner[0].floor().long().tolist(), *end.ceil().long().tolist())

    @property
    def places(self) -> Tensor:
        """Pixels that the raster pixels' centres stand for.  (B, 2, _RASTER, _RASTER)."""
        return _places(self.corner, self.pixel)

    def at(self, positions: Tensor) -> Tensor:
        """(B, 2, h, w) pixels -> (B, 1, h, w)."""
        inside = (positions - self.corner[..., None, None]) / self.pixel.view(-1, 1, 1, 1) - 0.5
        return sample(self.values, inside, mode="bilinear")


def draw_ring(points: Tensor, short_side: int, widening: Tensor | None = None) -> RingMask:
    """Fill the convex hull of (B, n, 2) points, anti-aliased, and blur it.  widening: (B,); None: as published.

    The signed distance to a hull is the largest of n . x - max(n . points) over its outward
    unit normals n: that needs no polygons, so faces go in batches.
    """
    widening = points.new_ones(len(points)) if widening is None else widening
    sigma, radius = short_side * FEATHER_SIGMA * widening, short_side * FEATHER_RADIUS * widening  # (B,)
    grown = short_side * FEATHER_SIGMA * (widening - 1)
    low, high = points.amin(1), points.amax(1)  # (B, 2)
    # The kernel's reach and one raster pixel of zeros all around.
    pixel = ((high - low).amax(1) + 2 * (radius + grown)) / (_RASTER - 2)
    corner = (low + high) / 2 - pixel[:, None] * _RASTER / 2
    normals = _hull_normals(points)  # (B, D, 2)
    reach = (normals @ points.mT).amax(2, keepdim=True)  # (B, D, 1)
    # n . x is separable: a column for y and a row for x, added for every direction.
    places = _places(corner, pixel)
    x, y = places[:, 0, :1], places[:, 1, :, :1]  # (B, 1, R), (B, R, 1)
    rows = normals[..., :1] * x  # (B, D, R)
    columns = normals[..., 1:] * y.mT - reach
    one_by_one = zip(rows.split(1), columns.split(1), strict=True)  # a face fits the cache, 32 do not
    beyond = torch.cat([(row[:, :, None] + column[..., None]).amax(1).flatten(1) for row, column in one_by_one])
    filled = (0.5 - (beyond - grown[:, None]) / pixel[:, None]).clamp(0, 1).unflatten(1, (_RASTER, _RASTER))
    steps = torch.arange(_RASTER, device=points.device)
    offsets = (steps[:, None] - steps) * pixel.view(-1, 1, 1)  # (B, R, R) px
    kernel = torch.exp(-0.5 * (offsets / sigma.view(-1, 1, 1)) ** 2) * (offsets.abs() <= radius.view(-1, 1, 1))
    kernel = kernel / kernel.sum(2, keepdim=True).amax(1, keepdim=True)
    return RingMask(values=(kernel @ filled @ kernel.mT)[:, None].clamp(0, 1), corner=corner, pixel=pixel)


def _places(corner: Tensor, pixel: Tensor) -> Tensor:
    """Centres of the raster pixels.  (B, 2), (B,) -> (B, 2, R, R)."""
    centres = pixel_grid(_RASTER, _RASTER, device=pixel.device) + 0.5
    return corner[..., None, None] + centres * pixel.view(-1, 1, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Shrinking:
    """What t m D does to areas, at the raster pixels within the border.  All (B, R - 2, R - 2)."""

    grid: Tensor  # det(J) at t = 1
    slope: Tensor  # the area that is left is 1 + t slope + t^2 bend
    bend: Tensor

    @property
    def widening(self) -> Tensor:
        """How many times as wide the feather must be at t = 1.  (B,), at least 1."""
        lost = self.grid - (1 + self.slope + self.bend)
        return (lost / (self.grid - LEAST_AREA).clamp_min(_LEAST_SPARE)).amax((1, 2)).clamp(1, _WIDEST)

    @property
    def calm(self) -> Tensor:
        """The largest t, at most 1, up to which no area falls below _CALM_AREA.  (B,)."""
        most = 1 - _CALM_AREA
        under_root = self.slope.square() - 4 * most * self.bend
        reaches = under_root > 0
        # 1 / t of the first root: no division by what may vanish.
        inverse = (torch.where(reaches, under_root, 1).sqrt() - self.slope) / (2 * most)
        return 1 / torch.where(reaches, inverse, 0).amax((1, 2)).clamp_min(1)


def shrinking(ring: RingMask, deformation: Tensor) -> Shrinking:
    """deformation: (B, 2, R, R) px, D at `ring.places`."""
    # Of D and of m D, per raster pixel of central differences: those span two.
    both = torch.cat([deformation, deformation * ring.values], 1) / (2 * ring.pixel.view(-1, 1, 1, 1))
    along_x = both[..., 1:-1, 2:] - both[..., 1:-1, :-2]  # (B, 4, R - 2, R - 2)
    along_y = both[..., 2:, 1:-1] - both[..., :-2, 1:-1]
    slope = along_x[:, 0::2] + along_y[:, 1::2]  # (B, 2, ...): trace of grad(D), of grad(m D)
    bend = along_x[:, 0::2] * along_y[:, 1::2] - along_x[:, 1::2] * along_y[:, 0::2]  # determinants
    mask = ring.values[:, 0, 1:-1, 1:-1]
    grid = 1 + mask * (slope[:, 0] + mask * bend[:, 0])
    return Shrinking(grid=grid, slope=slope[:, 1], bend=bend[:, 1])


def _hull_normals(points: Tensor) -> Tensor:
    """Outward unit normals of the sides of convex hulls, (B, n, 2) -> (B, D, 2), some of them twice.

    Corners are the farthest points in D directions; a side joins two that follow each other.
    """
    angle = torch.arange(_DIRECTIONS, device=points.device) * (2 * math.pi / _DIRECTIONS)
    directions = torch.stack([angle.cos(), angle.sin()], 1)  # (D, 2), turning the way sides do
    farthest = (directions @ points.mT).argmax(2)  # (B, D)
    corners = points.gather(1, farthest[..., None].expand(-1, -1, 2))
    x, y = (corners.roll(-1, 1) - corners).unbind(-1)
    sides = F.normalize(torch.stack([y, -x], 2), dim=2)
    return torch.where(sides.any(2, keepdim=True), sides, directions)
