"""Small arithmetic on batches in the canonical view: moving, mirroring, drawing numbers.

Everything random takes its generator. Shapes: B batch, N cells a side, S pixels a side, K landmarks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.faces.landmarks import MIRROR_130


def warp_view(image: Tensor, motion: Tensor) -> Tensor:
    """Move view pixels by a motion in cells. image: (B, 3, S, S), motion: (B, 2, N, N)."""
    n, size = motion.shape[-1], image.shape[-1]
    dense = F.interpolate(motion, size=(size, size), mode="bilinear", align_corners=False)
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1) + dense.permute(0, 2, 3, 1) * 2 / n
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def shifted(motion: Tensor, by: Tensor) -> Tensor:
    """motion(u + by(u)), zero outside."""
    n = motion.shape[-1]
    grid = ((cell_grid(n) + by).permute(0, 2, 3, 1) + 0.5) * 2 / n - 1
    return F.grid_sample(motion, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def fold_limit(motion: Tensor, *, signed: bool = False) -> Tensor:
    """Largest factor up to 1 that keeps every slope below 0.7 cells per cell. (B,)

    signed: only the slopes that shrink the face along an axis count, up to 0.9; at 1 it folds.
    """
    if signed:
        slopes = -motion[:, 0].diff(dim=-1), -motion[:, 1].diff(dim=-2)
    else:
        slopes = motion.diff(dim=-1).abs(), motion.diff(dim=-2).abs()
    steepest = torch.maximum(*(s.flatten(1).amax(1) for s in slopes))
    return ((0.9 if signed else 0.7) / steepest.clamp(min=1e-6)).clamp(max=1)


def rand(g: torch.Generator, *shape: int) -> Tensor:
    """Uniform in [0, 1)."""
    return torch.rand(shape, generator=g)


def cell_grid(n: int) -> Tensor:
    """(1, 2, N, N): x and y of every cell."""
    axis = torch.arange(n, dtype=torch.float32)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None]


def flip_field(field: Tensor, flip: Tensor) -> Tensor:
    """Mirror the (B, 2, N, N) motions where flip (B,) says so."""
    mirrored = field.flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    return torch.where(flip.view(-1, 1, 1, 1), mirrored, field)


def flip_points(points: Tensor, flip: Tensor, n: int) -> Tensor:
    """The same for landmarks (B, K, 2) in a view of n cells."""
    mirrored = points[:, list(MIRROR_130)]
    mirrored = torch.stack([n - 1 - mirrored[..., 0], mirrored[..., 1]], dim=-1)
    return torch.where(flip.view(-1, 1, 1), mirrored, points)


def flip_pixels(pixels: Tensor, flip: Tensor) -> Tensor:
    """The same for bytes (B, 3, S, S); returns floats in [0, 1]."""
    pixels = pixels.float() / 255
    return torch.where(flip.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
