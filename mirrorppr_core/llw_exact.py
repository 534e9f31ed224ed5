"""LLW as a clean motion: sub-pixel, without the published quirks, cheap at any set of points.

    d(p) = m(p) * D(p),     out(p) = in(p + d(p))

D is a moving-least-squares similarity (Schaefer et al. 2006) at the vertices of a coarse grid,
linear between them; m is the blurred convex hull of a ring of landmarks and of the places that
moving landmarks leave and reach. Strength 0 is exactly zero motion, and the same face at
another size gets the same motion.

The grid belongs to the method: it tames the peaks that moving least squares has at every
control point. Evaluated per pixel, nose bridges and lips move differently by half and more
of their motion, and lips fold on many faces.

B faces, N points, K control points, R raster pixels a side. Pixels, x then y.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .fields import pixel_grid, sample
from .llw_operations import MESH_POINTS, ControlPoints, LLWOperation, operation_named

GRID_SHARE = 30 / 1024  # vertex spacing as a share of the short side: the published 30 px at 1024
FEATHER_SIGMA = 8 / 1024  # of the blur that softens the mask, as a share of the short side
FEATHER_RADIUS = 25.5 / 1024  # where that blur ends; both are the published ones at 1024
_EPSILON_PX = 1e-4  # keeps the weight of a control point finite on the point itself
_DIRECTIONS = 64  # D: in which corners of a hull are looked for
_RASTER = 64  # R: two or three pixels per sigma of the feather
_FOLLOW_ITERATIONS = 20


@dataclass(frozen=True, kw_only=True)
class LLWMotion:
    """Exact mode of one operation on B faces, ready to be asked for its motion anywhere."""

    vertices: Tensor  # (B, 2, n_y, n_x) deformation at the vertices of the grid
    spacing: Tensor  # (2,) px between vertices, x then y
    rings: tuple[RingMask, ...]

    def deformation(self, positions: Tensor) -> Tensor:
        """Before the mask.  positions: (B, 2, h, w) pixels.  Returns (B, 2, h, w)."""
        return sample(self.vertices, positions / self.spacing.view(2, 1, 1), mode="bilinear")

    def mask(self, positions: Tensor) -> Tensor:
        """(B, 2, h, w) -> (B, 1, h, w) in [0, 1]; rings that overlap do not add up."""
        return torch.stack([ring.at(positions) for ring in self.rings]).amax(0)

    def displacement(self, positions: Tensor) -> Tensor:
        """(B, 2, h, w) -> (B, 2, h, w)."""
        return self.deformation(positions) * self.mask(positions)

    def at(self, points: Tensor) -> Tensor:
        """The same for lists of points.  (B, N, 2) -> (B, N, 2)."""
        return self.displacement(points.mT[:, :, None])[:, :, 0].mT


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

    def at(self, positions: Tensor) -> Tensor:
        inside = (positions - self.corner[..., None, None]) / self.pixel.view(-1, 1, 1, 1) - 0.5
        return sample(self.values, inside, mode="bilinear")


def llw_motion(
    mesh: Tensor,
    size: tuple[int, int],
    *,
    operation: str,
    strength: float | Tensor,
    grid_share: float = GRID_SHARE,
) -> LLWMotion:
    """Prepare exact mode.  mesh: (B, 478, 2).  strength: a number or (B,)."""
    chosen = checked_operation(mesh, operation, strength)
    control = chosen.control_points(mesh, strength)
    cells = [max(1, int(side / (min(size) * grid_share))) for side in (size[1], size[0])]
    spacing = mesh.new_tensor([size[1] / cells[0], size[0] / cells[1]])
    places = pixel_grid(cells[1] + 1, cells[0] + 1, device=mesh.device) * spacing.view(2, 1, 1)
    values = mls_displacement(places.flatten(2).mT.expand(len(mesh), -1, -1), control)
    radius, sigma = min(size) * FEATHER_RADIUS, min(size) * FEATHER_SIGMA
    return LLWMotion(
        vertices=values.mT.unflatten(2, places.shape[-2:]),
        spacing=spacing,
        rings=tuple(_draw_ring(ring, radius, sigma) for ring in chosen.covered_rings(mesh, control)),
    )


def mls_displacement(points: Tensor, control: ControlPoints) -> Tensor:
    """How far from each point to sample so that control points land on their destinations.

    points: (B, N, 2).  Returns (B, N, 2). Moving least squares with similarities, weights
    w = 1 / distance^2 to the destinations p; with e = source - p, v the point, and points read
    as complex numbers (a* is the conjugate), the closed form is

        p_ = sum(w p) / sum(w),   e_ = sum(w e) / sum(w),   a = p - p_
        d(v) = e_ + (v - p_) * sum(w a* e) / sum(w |a|^2)

    All sums are one matrix product, and zero motion gives exactly zero.
    """
    # Centred and scaled to about 1: squares of picture coordinates would cost 32-bit floats their digits.
    centre = control.destination.mean(1, keepdim=True)
    unit = (control.destination - centre).abs().amax((1, 2), keepdim=True)
    p, v = (control.destination - centre) / unit, (points - centre) / unit
    px, py = p.unbind(-1)
    ex, ey = (control.source - control.destination).unbind(-1)
    terms = [torch.ones_like(px), px, py, ex, ey, px * px + py * py, px * ex + py * ey, px * ey - py * ex]
    squared = (v[..., None, 0] - p[:, None, :, 0]).square() + (v[..., None, 1] - p[:, None, :, 1]).square()
    sums = (squared + (_EPSILON_PX / unit) ** 2).reciprocal() @ torch.stack(terms, -1)  # (B, N, 8)
    px, py, ex, ey, pp, dot, cross = (sums[..., 1:] / sums[..., :1]).unbind(-1)
    # On a control point all weight is there: spread and v - p_ vanish, and rounding must not divide by it.
    spread = (pp - px * px - py * py).clamp_min(8 * torch.finfo(v.dtype).eps)
    real = (dot - px * ex - py * ey) / spread
    imaginary = (cross - px * ey + py * ex) / spread
    ux, uy = v[..., 0] - px, v[..., 1] - py
    return torch.stack([ex + ux * real - uy * imaginary, ey + ux * imaginary + uy * real], -1)


def _draw_ring(points: Tensor, radius: float, sigma: float) -> RingMask:
    """Fill the convex hull of (B, n, 2) points, anti-aliased, and blur it.

    The signed distance to a hull is the largest of n . x - max(n . points) over its outward
    unit normals n: that needs no polygons, so faces go in batches.
    """
    low, high = points.amin(1), points.amax(1)  # (B, 2)
    # The kernel's reach and one raster pixel of zeros all around.
    pixel = ((high - low).amax(1) + 2 * radius) / (_RASTER - 2)
    corner = (low + high) / 2 - pixel[:, None] * _RASTER / 2
    centres = (pixel_grid(_RASTER, _RASTER, device=points.device) + 0.5).flatten(2).mT  # (1, R * R, 2)
    places = corner[:, None] + centres * pixel.view(-1, 1, 1)
    normals = _hull_normals(points)
    reach = (points @ normals).amax(1, keepdim=True)  # (B, 1, D)
    one_by_one = zip(places.split(1), normals.split(1), reach.split(1), strict=True)  # a face fits the cache, 32 do not
    beyond = torch.cat([(place @ normal - limit).amax(-1) for place, normal, limit in one_by_one])  # (B, R * R)
    filled = (0.5 - beyond / pixel[:, None]).clamp(0, 1).unflatten(1, (_RASTER, _RASTER))
    steps = torch.arange(_RASTER, device=points.device)
    offsets = (steps[:, None] - steps) * pixel.view(-1, 1, 1)  # (B, R, R) px
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2) * (offsets.abs() <= radius)
    kernel = kernel / kernel.sum(2, keepdim=True).amax(1, keepdim=True)
    return RingMask(values=(kernel @ filled @ kernel.mT)[:, None].clamp(0, 1), corner=corner, pixel=pixel)


def _hull_normals(points: Tensor) -> Tensor:
    """Outward unit normals of the sides of convex hulls, (B, n, 2) -> (B, 2, D), some of them twice.

    Corners are the farthest points in D directions; a side joins two that follow each other.
    """
    angle = torch.arange(_DIRECTIONS, device=points.device) * (2 * math.pi / _DIRECTIONS)
    directions = torch.stack([angle.cos(), angle.sin()])  # (2, D), turning the way sides do
    farthest = (points @ directions).argmax(1)  # (B, D)
    corners = points.gather(1, farthest[..., None].expand(-1, -1, 2))
    x, y = (corners.roll(-1, 1) - corners).unbind(-1)
    sides = F.normalize(torch.stack([y, -x], 1), dim=1)
    return torch.where(sides.any(1, keepdim=True), sides, directions)


def follow(mesh: Tensor, at: Callable[[Tensor], Tensor]) -> Tensor:
    """Where landmarks are after a motion: the points whose source is the old landmark.  (B, 478, 2)."""
    moved = mesh
    for _ in range(_FOLLOW_ITERATIONS):
        moved = mesh - at(moved)
    return moved


def checked_operation(mesh: Tensor, name: str, strength: float | Tensor) -> LLWOperation:
    operation = operation_named(name)
    if mesh.ndim != 3 or mesh.shape[1:] != (MESH_POINTS, 2) or not mesh.isfinite().all():
        raise ValueError(
            f"mesh is {tuple(mesh.shape)} with the batch, or has points that were not found: pass finite "
            f"({MESH_POINTS}, 2) pixels, x then y"
        )
    if not bool((torch.as_tensor(strength).abs() <= 100).all()):
        raise ValueError(f"strength={strength} of {name}: use -100 to 100 percent")
    return operation
