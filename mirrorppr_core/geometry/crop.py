"""Parts of a photo: the pixels between two corners, and square crops seen through a frame.

A *frame* is a Similarity from the square [-1, 1]^2 to photo pixels: every crop, box and tile is one. Points are x, y
pixels; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .similarity import Similarity

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels, the last two excluded


def pixel_box(low: Tensor | Sequence[float], high: Tensor | Sequence[float], image: Tensor) -> Box:
    """Pixels of an image (..., H, W) from a low to a high corner (x, y): cut at its border, at least one."""
    height, width = image.shape[-2:]
    left, top = min(max(0, int(low[0])), width - 1), min(max(0, int(low[1])), height - 1)
    return left, top, max(left + 1, min(width, int(high[0]) + 1)), max(top + 1, min(height, int(high[1]) + 1))


def crop(image: Tensor, frame: Similarity, size: int) -> Tensor:
    """The photo seen through a frame.  image: (1, 3, H, W).  Returns (1, 3, size, size).

    Reduces by whole factors with area averaging first, so that a face in a 24-megapixel photo is neither
    aliased nor paid for outside the crop; the photo's border is repeated where the frame leaves it.
    """
    positions = frame_positions(frame, size)  # (size, size, 2)
    step = max(1, int(2 * float(frame.scale) / size))
    low, high = positions.amin(dim=(0, 1)).floor() - step, positions.amax(dim=(0, 1)).ceil() + 2 * step - 1
    left, top, right, bottom = pixel_box(low, high, image)
    part = image[:, :, top:bottom, left:right]
    if step > 1:
        part = F.avg_pool2d(part, step, ceil_mode=True)
    positions = (positions - positions.new_tensor([left, top]) - (step - 1) / 2) / step
    return _sample(part, positions[None])


def frame_positions(frame: Similarity, size: int) -> Tensor:
    """Photo position of every pixel of a size x size crop: (..., size, size, 2)."""
    u = (torch.arange(size, device=frame.scale.device) + 0.5) * 2 / size - 1
    grid = torch.stack(torch.meshgrid(u, u, indexing="xy"), dim=-1)
    return frame.apply(grid.flatten(0, 1)).unflatten(-2, (size, size))


def _sample(image: Tensor, positions: Tensor) -> Tensor:
    """Bilinear, border repeated.  image: (B, C, H, W); positions: (B, h, w, 2) pixels."""
    extent = positions.new_tensor([image.shape[-1], image.shape[-2]])
    grid = (2 * positions + 1) / extent - 1
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def widened(frame: Similarity, factor: float | Tensor) -> Similarity:
    return Similarity(frame.scale * factor, frame.rotation, frame.translation)
