"""A field as an ST map: the form in which compositing programs know a warp.

    u(x, y) = (x + dx + 0.5) / W          red: to the right
    v(x, y) = 1 - (y + dy + 0.5) / H      green: upwards

Absolute positions in the photo, 0 to 1 from edge to edge, at pixel centres: the top-left pixel holds (0.5 / W,
1 - 0.5 / H) where nothing moves. The map is inverse, as a field is: out(p) = in(map(p)), it says where a pixel comes
from. Blue is 0. By their manuals, Nuke's STMap and Fusion's Texture read this.

A map of 32-bit floats gives positions back to W / 2^24 pixels (0.0001 px at 1024 px). What lies that near to its own
place has not moved: otherwise rounding would move every pixel of the photo a little.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .field import Field

FLOAT_STEP = 2.0**-24  # spacing of 32-bit floats between 0.5 and 1, in parts of the picture
_STRIP_ROWS = 512


def to_st_map(field: Field) -> Tensor:
    """Positions for every pixel of the photo.  Returns (1, 3, H, W) float32: u, v, 0."""
    height, width = field.height, field.width
    result = torch.zeros(1, 3, height, width)
    column = torch.arange(width, dtype=torch.float64) + 0.5
    for top in range(0, height, _STRIP_ROWS):  # 64 bits for a strip at a time: a large photo has many rows
        rows = min(_STRIP_ROWS, height - top)
        moved = field.crop(left=0, top=top, height=rows, width=width).dense().double()
        row = torch.arange(top, top + rows, dtype=torch.float64)[:, None] + 0.5
        result[0, 0, top : top + rows] = (column + moved[0, 0]) / width
        result[0, 1, top : top + rows] = 1 - (row + moved[0, 1]) / height
    return result


def from_st_map(st_map: Tensor) -> Field:
    """The field of an ST map (1, 2 or more, H, W): u, v and channels that do not count."""
    if st_map.ndim != 4 or len(st_map) != 1 or st_map.shape[1] < 2:
        raise ValueError(
            f"an ST map has two channels or more, this has shape {tuple(st_map.shape)}: need (1, 2+, H, W)"
        )
    height, width = st_map.shape[-2:]
    displacement = torch.empty(1, 2, height, width)
    column = torch.arange(width, dtype=torch.float64) + 0.5
    for top in range(0, height, _STRIP_ROWS):
        rows = min(_STRIP_ROWS, height - top)
        part = st_map[0, :2, top : top + rows].double()
        row = torch.arange(top, top + rows, dtype=torch.float64)[:, None] + 0.5
        dx = part[0] * width - column
        dy = (1 - part[1]) * height - row
        still = (dx.abs() <= width * FLOAT_STEP) & (dy.abs() <= height * FLOAT_STEP)
        displacement[0, 0, top : top + rows] = dx.masked_fill(still, 0)
        displacement[0, 1, top : top + rows] = dy.masked_fill(still, 0)
    _check_positions(st_map, displacement)
    return Field.from_dense(displacement)


def _check_positions(st_map: Tensor, displacement: Tensor) -> None:
    """Refuse what is no map of absolute positions: other pictures, maps of differences, maps of another direction."""
    if not bool(torch.isfinite(displacement).all()):
        raise ValueError("the ST map contains NaN or infinity: render it again over the whole picture")
    low, high = (float(value) for value in st_map[:, :2].aminmax())
    if low < -1 or high > 2:
        raise ValueError(
            f"the ST map has positions from {low:.3g} to {high:.3g}, 0 to 1 is the picture: it must hold absolute "
            "positions in parts of the width and height, not pixels or differences"
        )
    height, width = displacement.shape[-2:]
    typical = displacement.abs().mean(dim=(2, 3))[0] / torch.tensor([width, height])
    if float(typical.max()) > 0.2:
        raise ValueError(
            "the ST map moves the whole picture by a fifth of its size: red must be the position from the left, green "
            "from the bottom; a map with v downwards has to be turned over first (v = 1 - v)"
        )
