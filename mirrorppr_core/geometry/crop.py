"""Parts of a photo: the pixels between two corners, and square crops seen through a frame.

A *frame* is a Similarity from the square [-1, 1]^2 to photo pixels: every crop, box and tile is one. Points are x, y
pixels; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..stopping import stop_if_asked
from ..windows import block_mean
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
    stop_if_asked()
    scale, rotation, (x, y) = float(frame.scale), float(frame.rotation), frame.translation.tolist()
    cos, sin = scale * math.cos(rotation), scale * math.sin(rotation)
    step = max(1, int(2 * scale / size))
    reach = (abs(cos) + abs(sin)) * (1 - 1 / size)  # from the middle to the outermost centres
    lowest = [math.floor(centre - reach) - step for centre in (x, y)]
    highest = [math.ceil(centre + reach) + 2 * step - 1 for centre in (x, y)]
    left, top, right, bottom = pixel_box(lowest, highest, image)
    part = image[:, :, top:bottom, left:right]
    if step > 1:
        part = block_mean(part, step)
    # From the crop's own [-1, 1] to the part's: an affine map, so what it adds across and down is known from one line.
    wide, high = (step * side for side in (part.shape[-1], part.shape[-2]))
    u = (torch.arange(size, dtype=torch.float64) + 0.5) * 2 / size - 1
    across = torch.stack([u * (2 * cos / wide), u * (2 * sin / high)], dim=-1)
    down = torch.stack([u * (-2 * sin / wide), u * (2 * cos / high)], dim=-1)
    down = down + torch.tensor([(2 * (x - left) + 1) / wide - 1, (2 * (y - top) + 1) / high - 1], dtype=torch.float64)
    grid = (across.to(image) + down.to(image)[:, None])[None]  # (1, size, size, 2)
    return F.grid_sample(part, grid, mode="bilinear", padding_mode="border", align_corners=False)


def frame_positions(frame: Similarity, size: int) -> Tensor:
    """Photo position of every pixel of a size x size crop: (..., size, size, 2)."""
    u = (torch.arange(size, device=frame.scale.device) + 0.5) * 2 / size - 1
    grid = torch.stack(torch.meshgrid(u, u, indexing="xy"), dim=-1)
    return frame.apply(grid.flatten(0, 1)).unflatten(-2, (size, size))


def widened(frame: Similarity, factor: float | Tensor) -> Similarity:
    return Similarity(frame.scale * factor, frame.rotation, frame.translation)
