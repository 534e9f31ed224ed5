"""A bug of some hosts, found by looking: picture tokens of Qwen2.5-VL left in the order of its attention windows.

The vision tower computes in windows of 4 x 4 tokens and must put its tokens back row by row at the end. ComfyUI up to
about 0.3.75 forgets to, and the DiT then gets the query's words in scrambled places (larger pictures only: up to
112 px there is one window). `finds_window_order` shows which a tower does by changing one cell of a picture and seeing
which token changes most; `to_raster` repairs it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_WINDOW = 4  # tokens a side: 112 px windows of 28 px tokens
_PROBE = (6, 10)  # token rows and columns: several windows, cut ones among them
_CELLS = ((0, 4), (3, 8), (4, 1), (5, 9))  # their place differs between the two orders


def window_order(rows: int, columns: int) -> Tensor:
    """Raster index of the token that stands at each place in window order. (rows * columns,)"""
    raster = torch.arange(rows * columns).view(rows, columns)
    windows = [
        raster[y : y + _WINDOW, x : x + _WINDOW].flatten()
        for y in range(0, rows, _WINDOW)
        for x in range(0, columns, _WINDOW)
    ]
    return torch.cat(windows)


def to_raster(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Tokens (..., rows * columns, D) in window order -> row by row."""
    return tokens[..., window_order(rows, columns).argsort().to(tokens.device), :]


def finds_window_order(encode: Callable[[Tensor], Tensor], *, cell_px: int = 28) -> bool:
    """True if the tower leaves its tokens in window order, False if it gives them row by row.

    encode: picture (1, 3, H, W) in [0, 1] -> the picture's tokens (T, D). Called five times on 168 x 280 px.
    Raises ValueError if the tower does neither, which is a change that this code does not know.
    """
    rows, columns = _PROBE
    plain = torch.full((1, 3, rows * cell_px, columns * cell_px), 0.5)
    before = encode(plain)
    if before.shape[0] != rows * columns:
        raise ValueError(f"vision tower gave {before.shape[0]} tokens for {rows} x {columns} cells: not Qwen2.5-VL's")
    stripes = (torch.arange(cell_px) // 7 % 2).float()
    changed = []
    for row, column in _CELLS:
        picture = plain.clone()
        top, left = row * cell_px, column * cell_px
        picture[..., top : top + cell_px, left : left + cell_px] = stripes
        changed.append(int((encode(picture) - before).float().norm(dim=-1).argmax()))
    if len(set(changed)) == 1:  # argmax of a constant: the answer does not depend on the picture
        raise ValueError(
            "vision tower gives the same tokens for every picture: its weights are missing. Load the complete "
            "Qwen2.5-VL text encoder; a GGUF file needs its mmproj file beside it."
        )
    order = window_order(rows, columns).tolist()
    raster = [row * columns + column for row, column in _CELLS]
    if changed == raster:
        return False
    if changed == [order.index(index) for index in raster]:
        return True
    raise ValueError(
        f"vision tower answers at tokens {changed} when cells {raster} change, neither row by row nor by windows: "
        "update the node pack, or report your ComfyUI version"
    )
