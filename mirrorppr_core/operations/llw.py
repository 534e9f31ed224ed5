"""Landmark-Guided Local Warping: simulated retouches with known motion.

MirrorPPR (arXiv:2606.29308) makes its simulated pairs by moving a few landmarks and letting
the pixels between them follow, faded out around a ring of landmarks. Two modes:

    exact      out(p) = in(p + d(p)), a pure warp (llw_exact.py). Ours: clean truth to train
               and measure with.
    official   out = m * in(p + D(p)) + (1 - m) * in(p), as published, bit for bit, with its
               quirks (llw_official.py). For comparisons with the published data only.

`mesh` is MediaPipe's 478 points in pixels, the centre of the top-left pixel at (0, 0).
Displacements are backward. B faces, N points, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import compose, pixel_grid, sample, warp
from ..operations import llw_official
from .llw_exact import GRID_SHARE, checked_operation, follow, llw_motion, mls_displacement
from .llw_table import OPERATIONS, ControlPoints, LLWOperation

__all__ = [
    "GRID_SHARE", "MODES", "OPERATIONS", "LLWImage", "LLWResult", "apply_llw", "llw_displacement",
    "llw_displacement_at", "llw_sequence_at",
]  # fmt: skip

MODES = ("exact", "official")

Steps = Sequence["tuple[str, float | Tensor]"]


@dataclass(frozen=True, kw_only=True)
class LLWResult:
    """One operation on one face: the deformation, and where it acts."""

    deformation: Tensor  # (1, 2, H, W) before the mask
    mask: Tensor  # (1, 1, H, W) in [0, 1]

    @property
    def displacement(self) -> Tensor:
        """The motion of the edit, (1, 2, H, W).  In official mode it only approximates the blend."""
        return self.deformation * self.mask


@dataclass(frozen=True, kw_only=True)
class LLWImage:
    image: Tensor  # (1, 3, H, W) in [0, 1]
    displacement: Tensor  # (1, 2, H, W) of the whole sequence


def apply_llw(
    image: Tensor,
    mesh: Tensor,
    steps: Steps,
    *,
    mode: str = "exact",
) -> LLWImage:
    """Retouch a portrait with operations in order.

    image: (1, 3, H, W) in [0, 1].  mesh: (478, 2).  steps: (name, strength) pairs.
    Landmarks follow the motion from step to step; the published data finds them afresh each time. In exact mode the
    photo is resampled once.
    """
    size = tuple(image.shape[-2:])
    total = torch.zeros(1, 2, *size)
    result = image
    for index, (name, strength) in enumerate(steps):
        step = llw_displacement(mesh, size, operation=name, strength=strength, mode=mode)
        total = compose(total, step.displacement)
        is_last = index + 1 == len(steps)
        if mode == "official":
            result = _blend_bytes(result, step)
        elif is_last:
            result = warp(image, total)
        if not is_last:
            mesh = _follow_dense(mesh, step.displacement)
    return LLWImage(image=result, displacement=total)


def llw_displacement(
    mesh: Tensor,
    size: tuple[int, int],
    *,
    operation: str,
    strength: float,
    mode: str = "exact",
) -> LLWResult:
    """The dense motion of one operation.  mesh: (478, 2).  size: (H, W).  strength: -100..100."""
    if mode == "official":
        return _official(mesh, size, checked_operation(mesh[None], operation, strength), strength)
    if mode != "exact":
        raise ValueError(f"mode={mode!r}: use one of {', '.join(MODES)}")
    motion = llw_motion(mesh[None], size, operation=operation, strength=strength)
    lefts, tops, rights, bottoms = zip(*(ring.box for ring in motion.rings), strict=True)
    left, top = max(min(lefts), 0), max(min(tops), 0)
    right, bottom = min(max(rights), size[1]), min(max(bottoms), size[0])
    if right <= left or bottom <= top:  # the face is outside the picture
        return LLWResult(deformation=torch.zeros(1, 2, *size), mask=torch.zeros(1, 1, *size))
    around = (left, size[1] - right, top, size[0] - bottom)
    positions = pixel_grid(bottom - top, right - left) + torch.tensor([left, top]).view(2, 1, 1)
    deformation, mask = motion.deformation(positions), motion.mask(positions)
    return LLWResult(deformation=F.pad(deformation, around), mask=F.pad(mask, around))


def llw_displacement_at(
    points: Tensor,
    mesh: Tensor,
    size: tuple[int, int],
    *,
    operation: str,
    strength: float | Tensor,
) -> Tensor:
    """Exact mode at a few points instead of every pixel, for many faces at once.

    points: (N, 2) or (B, N, 2).  mesh: (478, 2) or (B, 478, 2).  strength: a number or (B,).
    Returns displacements shaped like points: what the dense field has there.
    """
    return llw_sequence_at(points, mesh, size, [(operation, strength)])


def llw_sequence_at(points: Tensor, mesh: Tensor, size: tuple[int, int], steps: Steps) -> Tensor:
    """The same for operations applied in order, each to the landmarks that the ones before have moved."""
    faces = mesh if mesh.ndim == 3 else mesh[None]
    motions = []
    for index, (name, strength) in enumerate(steps):
        motions.append(llw_motion(faces, size, operation=name, strength=strength))
        if index + 1 < len(steps):
            faces = follow(faces, motions[-1].at)
    targets = points if points.ndim == 3 else points[None]
    origins = targets
    for motion in reversed(motions):
        origins = origins + motion.at(origins)
    return (origins - targets).view(points.shape)


def _official(mesh: Tensor, size: tuple[int, int], operation: LLWOperation, strength: float) -> LLWResult:
    # MediaPipe measures from the picture's edge; the published code cut that to integers.
    integers = (mesh.double() + 0.5).trunc()[None]
    control = operation.control_points(integers, strength)
    control = ControlPoints(control.source.float().double(), control.destination.float().double())
    vertices = llw_official.vertex_grid(*size)
    moved = vertices + mls_displacement(vertices.view(1, -1, 2), control).view(vertices.shape)
    positions = llw_official.enlarge_with_bias(moved, *size)
    rings = [ring[0].long() for ring in operation.mask_rings(integers)]
    mask = llw_official.feather_mask(rings, *size, kernel_size=int(min(size) * llw_official.BLUR_RATIO) | 1)
    return LLWResult(deformation=positions[None] - pixel_grid(*size), mask=mask[None, None])


def _blend_bytes(image: Tensor, step: LLWResult) -> Tensor:
    """One published operation, bytes in and bytes out: (1, 3, H, W) multiples of 1/255."""
    pixels = (image[0] * 255).round().long().permute(1, 2, 0)  # (H, W, 3)
    positions = (pixel_grid(*image.shape[-2:]) + step.deformation)[0]
    blended = llw_official.blend(pixels, positions, step.mask[0, 0])
    return blended.permute(2, 0, 1)[None].to(image.dtype) / 255


def _follow_dense(mesh: Tensor, displacement: Tensor) -> Tensor:
    def at(points: Tensor) -> Tensor:
        return sample(displacement, points.mT[:, :, None], mode="bilinear")[:, :, 0].mT

    return follow(mesh[None].float(), at)[0]
