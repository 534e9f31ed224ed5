"""Which of two pictures was made from the other: moving pixels costs them their finest detail.

    gain(a -> b) = log( fine detail of b / fine detail of a's pixels moved onto b )

Interpolation blurs by a fraction of a pixel. Who moves the pixels of the original blurs them as the retoucher did: the
gain is about 0. Who moves those of the copy back blurs them a second time, and the original has more than that.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import invert, length, warp
from ..geometry.field import Field
from ..images import LUMA, as_float

_WINDOW = 384  # pixels a side around the longest motion: enough, and cheap
_INVERSE_STEPS = 6
_LEAST_PX, _LEAST_SHARE = 0.3, 0.2  # motion that blurs, and of the longest
_STILL_PX = 0.02
_AROUND_PX = 24  # beside what moves: what was done to the picture anyway shows there
_ANYWAY = 0.1  # more of it, and nothing is told: grain, another sharpness and JPEG drown what moving does
_TELLS = 0.15  # of clean pairs that were made from before gains differ by 0.16 to 0.93 the other way (training/LOG.md)
_LEAST_PIXELS = 200  # fewer tell nothing
_FLOOR = 1e-7  # of squared detail: rounding to 8 bits leaves more


def made_from_after(before: Tensor, after: Tensor, motion: Field) -> bool:
    """Whether before looks as if it were made by moving pixels of after, and not the other way round.

    before, after: (1, C, H, W).  motion: the field that leads from before to after.
    """
    if not motion.displacement.numel():
        return False
    source, target, forth = _around_longest(before, after, motion)
    gain = _gain(source, target, forth)
    if gain is None or gain < _TELLS:  # nearly all pairs end here
        return False
    back = invert(forth, num_iterations=_INVERSE_STEPS)
    gain_back = _gain(target, source, back)
    return gain_back is not None and gain - gain_back > _TELLS and _alike(source, target, _still_around(forth, back))


def _around_longest(before: Tensor, after: Tensor, motion: Field) -> tuple[Tensor, Tensor, Tensor]:
    """Both pictures in grey (1, 1, h, w) around the longest motion, and the motion (1, 2, h, w) there."""
    size = length(motion.displacement)[0, 0]
    row, column = divmod(int(size.argmax()), size.shape[1])
    height, width = min(_WINDOW, motion.height), min(_WINDOW, motion.width)
    top = min(max(0, motion.top + row - height // 2), motion.height - height)
    left = min(max(0, motion.left + column - width // 2), motion.width - width)
    weights = torch.tensor(LUMA).view(1, 3, 1, 1)
    source, target = (
        (as_float(photo[:, :3, top : top + height, left : left + width]) * weights).sum(1, keepdim=True)
        for photo in (before, after)
    )
    return source, target, motion.crop(left=left, top=top, height=height, width=width).dense()


def _alike(source: Tensor, target: Tensor, where: Tensor) -> bool:
    if int(where.sum()) < _LEAST_PIXELS:
        return False
    return abs(math.log(_detail(target, where) / _detail(source, where))) < _ANYWAY


def _still_around(forth: Tensor, back: Tensor) -> Tensor:
    """(1, 1, h, w) bool: what lies still, near what moves."""
    moves = (length(forth) > _STILL_PX) | (length(back) > _STILL_PX)
    near, side = moves.float(), 2 * _AROUND_PX + 1
    for kernel in ((side, 1), (1, side)):
        near = F.max_pool2d(near, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))
    return (near > 0) & ~moves


def _gain(source: Tensor, target: Tensor, motion: Tensor) -> float | None:
    """None where too little moves far enough."""
    moved = length(motion)
    blurred = moved > max(_LEAST_PX, _LEAST_SHARE * float(moved.amax()))
    if int(blurred.sum()) < _LEAST_PIXELS:
        return None
    return math.log(_detail(target, blurred) / _detail(warp(source, motion), blurred))


def _detail(grey: Tensor, where: Tensor) -> float:
    """Mean square of what alternates from pixel to pixel along both axes."""
    taps = grey.new_tensor([1.0, -2.0, 1.0])
    fine = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), torch.outer(taps, taps)[None, None])
    return float(fine[where].square().mean()) + _FLOOR
