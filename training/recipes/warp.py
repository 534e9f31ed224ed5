"""A photo that is retouched over and over: bytes in, bytes out, and nothing touched that does not move.

`apply_field` answers for any picture. Here one photo gets several fields, each on a box of which half the pixels move.
What this costs is passes over memory, so there are few: one number a pixel, floats only of the part that is looked at,
and only pixels that move are sampled. The numbers are those of `apply_field` on bytes (a test holds the two together):
the same kernel, averaged over the pixel's footprint where the map shrinks the photo.

Pixels, x then y. H, W of the photo; h, w of the field's box; N pixels that move.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mirrorppr_core.geometry.displacement import MINIFYING_STRETCH, sample
from mirrorppr_core.geometry.field import SAMPLER_REACH, Field

from ..data.packed_pixels import to_pixels, to_planes


def warped(photo: np.ndarray, field: Field) -> np.ndarray:
    """A photo, packed (packed_pixels.py), with the pixels of a field moved: a copy.  (H, W) -> (H, W)."""
    result = photo.copy()
    left, top, right, bottom = field.box
    # A rim of zeros: the motion has ended there, and every pixel has neighbours in one flat array.
    source = np.zeros((2, bottom - top + 2, right - left + 2), np.float32)
    source[:, 1:-1, 1:-1] = field.displacement[0].numpy()
    moves = (source[0] != 0) | (source[1] != 0)
    moved = np.flatnonzero(moves)  # (N,)
    if not len(moved):
        return result
    source[0] += np.arange(left - 1, right + 1, dtype=np.float32)
    source[1] += np.arange(top - 1, bottom + 1, dtype=np.float32)[:, None]
    _extrapolate(source, field)
    flat, row = source.reshape(2, -1), source.shape[2]
    squared = _squared_stretch(flat, row).take(moved - row)  # (N,)
    positions = flat.take(moved, axis=1)  # (2, N)
    reach = SAMPLER_REACH + int(np.sqrt(squared.max())) + 1
    (x0, y0), (x1, y1) = positions.min(1).astype(int) - reach, positions.max(1).astype(int) + reach + 1
    x0, y0 = min(max(x0, 0), field.width - 1), min(max(y0, 0), field.height - 1)
    planes = to_planes(photo[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)])
    positions -= np.array([[x0], [y0]], np.float32)
    pixels = _looked_up(planes, positions)
    for num, low, high in ((2, MINIFYING_STRETCH, 2.0), (4, 2.0, np.inf)):
        chosen = np.flatnonzero((squared > low**2) & (squared <= high**2))
        if len(chosen):
            taps = _taps(flat, row, moved[chosen], positions.take(chosen, axis=1), num)
            pixels[:, chosen] = _looked_up(planes, taps.reshape(2, -1)).reshape(3, num**2, -1).mean(1)
    np.rint(pixels, out=pixels)
    np.clip(pixels, 0, 255, out=pixels)
    result[top:bottom, left:right][moves[1:-1, 1:-1]] = to_pixels(pixels)
    return result


def _looked_up(planes: Tensor, positions: np.ndarray) -> np.ndarray:
    """The photo at (2, N), (3, N)."""
    return sample(planes, torch.from_numpy(positions)[None, :, None])[0, :, 0].numpy()


def _extrapolate(source: np.ndarray, field: Field) -> None:
    """Where the box ends with the photo, slopes are one-sided, as `fields.local_steps` has them."""
    left, top, right, bottom = field.box
    height, width = source.shape[1:]
    for at_border, axis, rim, inner, next_ in (
        (left == 0, 2, 0, 1, min(2, width - 2)), (right == field.width, 2, -1, -2, max(-3, 1 - width)),
        (top == 0, 1, 0, 1, min(2, height - 2)), (bottom == field.height, 1, -1, -2, max(-3, 1 - height)),
    ):  # fmt: skip
        if at_border:
            rim, inner, next_ = ((slice(None),) * axis + (place,) for place in (rim, inner, next_))
            source[rim] = 2 * source[inner] - source[next_]


def _squared_stretch(flat: np.ndarray, row: int) -> np.ndarray:
    """How far the source moves per pixel, squared, the longer of along x and along y: central differences.

    flat: (2, n) source positions, rows of `row` after each other.  Returns (n - 2 row,), without the first row.
    """
    across = flat[:, row + 1 : 1 - row] - flat[:, row - 1 : -row - 1]
    down = flat[:, 2 * row :] - flat[:, : -2 * row]
    across *= across
    down *= down
    across[0] += across[1]
    down[0] += down[1]
    longer = np.maximum(across[0], down[0], out=across[0])
    longer *= np.float32(0.25)  # the differences are of two pixels
    return longer


def _taps(flat: np.ndarray, row: int, pixels: np.ndarray, positions: np.ndarray, num: int) -> np.ndarray:
    """num x num places in the footprint of each pixel.  pixels: (M,) in `flat`.  positions: (2, M).  (2, num^2, M)."""
    along_x, along_y = (
        (flat.take(pixels + apart, axis=1) - flat.take(pixels - apart, axis=1)) * np.float32(0.5) for apart in (1, row)
    )
    along_x *= _share(along_x)
    along_y *= _share(along_y)
    offsets = [np.float32((i + 0.5) / num - 0.5) for i in range(num)]
    return np.stack([positions + dx * along_x + dy * along_y for dy in offsets for dx in offsets], 1)


def _share(step: np.ndarray) -> np.ndarray:
    """Of a step (2, M) to average over: 0 up to MINIFYING_STRETCH, towards 1 far above it."""
    stretch = np.maximum(np.hypot(step[0], step[1]), np.float32(MINIFYING_STRETCH))
    return np.sqrt(1 - np.square(np.float32(MINIFYING_STRETCH) / stretch))
