"""Was a picture compressed so hard as a JPEG that its blocks show? Then small motion drowns in them.

A JPEG rounds every 8 x 8 block for itself, and where the rounding is coarse the picture steps from block to block. So
the steps across the grid are compared with those beside it. A picture that was moved or resized since has lost its
grid, and tells nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..images import LUMA, as_float

_BLOCK = 8
_MOST = 4 / 255  # of a step that counts: larger ones are edges of the picture
_CROP = 512  # pixels looked at in the middle: enough, and cheap
_HEAVY = 1.25 / 255  # mean step; of 122 portraits 98 have more at quality 40, 15 at 60, none at 75


def is_coarse_jpeg(picture: Tensor) -> bool:
    """picture: (1, 3 or 4, H, W), as it came from its file."""
    return block_step(picture) > _HEAVY


def block_step(picture: Tensor) -> float:
    """How much higher the steps across the grid of blocks are than those beside it, in [0, 1]."""
    height, width = picture.shape[-2:]
    top, left = ((max(0, side - _CROP) // 2) // _BLOCK * _BLOCK for side in (height, width))
    middle = as_float(picture[:, :3, top : top + _CROP, left : left + _CROP])
    luma = (middle * middle.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1)[0]
    return (_across_columns(luma) + _across_columns(luma.T)) / 2


def _across_columns(luma: Tensor) -> float:
    step = luma.diff(dim=1).abs()
    above = (step[:, 1:-1] - (step[:, :-2] + step[:, 2:]) / 2).clamp(-_MOST, _MOST)
    whole = above.shape[1] // _BLOCK * _BLOCK
    by_place = above[:, :whole].reshape(len(luma), -1, _BLOCK).mean((0, 1))
    grid = torch.zeros(_BLOCK, dtype=torch.bool)
    grid[_BLOCK - 2] = True  # the step from the last column of a block, without the first of all steps
    return float(by_place[grid].mean() - by_place[~grid].mean())
