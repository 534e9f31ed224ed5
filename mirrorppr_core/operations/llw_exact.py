"""LLW as a clean motion: sub-pixel, without the published quirks, cheap at any set of points.

    d(p) = m(p) * calm * D(p),     out(p) = in(p + d(p))

D is a moving-least-squares similarity (Schaefer et al. 2006) at the vertices of a coarse grid,
linear between them; m is the blurred convex hull of a ring of landmarks and of the places that
moving landmarks leave and reach. Strength 0 is exactly zero motion, and the same face at
another size gets the same motion.

At full strength the published m and D fold some faces: eye distances, and mouths most of all. So m has a wider
feather and `calm` is below 1 on such faces, by as much as they need (llw_feather.py), and on these alone.

The grid belongs to the method: it tames the peaks that moving least squares has at every
control point. Evaluated per pixel, nose bridges and lips move differently by half and more
of their motion, and lips fold on many faces.

B faces, N points, K control points. Pixels, x then y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.displacement import pixel_grid, sample
from .llw_feather import RingMask, draw_ring, shrinking
from .llw_table import MESH_POINTS, ControlPoints, LLWOperation, operation_named

GRID_SHARE = 30 / 1024  # vertex spacing as a share of the short side: the published 30 px at 1024
_EPSILON_PX = 1e-4  # keeps the weight of a control point finite on the point itself
_FOLLOW_ITERATIONS = 20


@dataclass(frozen=True, kw_only=True)
class LLWMotion:
    """Exact mode of one operation on B faces, ready to be asked for its motion anywhere."""

    vertices: Tensor  # (B, 2, n_y, n_x) deformation at the vertices of the grid, calmed
    spacing: Tensor  # (2,) px between vertices, x then y
    rings: tuple[RingMask, ...]

    def deformation(self, positions: Tensor) -> Tensor:
        """Before the mask.  positions: (B, 2, h, w) pixels.  Returns (B, 2, h, w)."""
        return _between(self.vertices, self.spacing, positions)

    def mask(self, positions: Tensor) -> Tensor:
        """(B, 2, h, w) -> (B, 1, h, w) in [0, 1]; rings that overlap do not add up."""
        return torch.stack([ring.at(positions) for ring in self.rings]).amax(0)

    def displacement(self, positions: Tensor) -> Tensor:
        """(B, 2, h, w) -> (B, 2, h, w)."""
        return self.deformation(positions) * self.mask(positions)

    def at(self, points: Tensor) -> Tensor:
        """The same for lists of points.  (B, N, 2) -> (B, N, 2)."""
        return self.displacement(points.mT[:, :, None])[:, :, 0].mT


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
    vertices = values.mT.unflatten(2, places.shape[-2:])
    rings, calm = [], mesh.new_ones(len(mesh))
    for hull in chosen.covered_rings(mesh, control):
        ring = draw_ring(hull, min(size))
        areas = shrinking(ring, _between(vertices, spacing, ring.places))
        widening = areas.widening
        if bool((widening > 1).any()):
            ring = draw_ring(hull, min(size), widening)
            areas = shrinking(ring, _between(vertices, spacing, ring.places))
        rings.append(ring)
        calm = torch.minimum(calm, areas.calm)
    return LLWMotion(vertices=vertices * calm.view(-1, 1, 1, 1), spacing=spacing, rings=tuple(rings))


def _between(vertices: Tensor, spacing: Tensor, positions: Tensor) -> Tensor:
    """Bilinear between the vertices of the grid.  (B, 2, h, w) pixels -> (B, 2, h, w)."""
    return sample(vertices, positions / spacing.view(2, 1, 1), mode="bilinear")


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
