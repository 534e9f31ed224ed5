"""A grade that clips: the source given the same tones before motion is measured.

Slow changes of brightness and contrast cancel in the estimator. Clipping does not: where the target is white, edges and
shadings vanish, and those that remain bend; it looks like motion. Then the target's tone is read off as a curve of the
source's, channel by channel, and the source goes through it too: both clip alike, and in what is white there is nothing
to see. Pairs that do not clip are left as they are. A place whose every channel is clipped says nothing about motion
(`still_seen`): what the curve and rounding leave there is no evidence.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..windows import highest_around

_CLIPPED = 0.99  # of the range, and as far from black
_MIN_CLIPPED_SHARE = 0.01  # of the picture, in any channel, more than in the source
_ALIKE, _MIN_GAIN = 0.03, 0.2  # of the range; share of the picture that the curve must bring so near
_BINS = 32
_RIM_PX = 3  # around what is clipped, an edge of the clipping is none of the picture
_CELL = 4  # the curve is read off averages over so many pixels: small motion does not matter


def toned_alike(source: Tensor, target: Tensor) -> tuple[Tensor, bool]:
    """The source in the target's tones, and whether that was needed.  Both (1, 3, H, W) in [0, 1]."""
    if not _clips(source, target):
        return source, False
    channels = zip(source.split(1, dim=1), target.split(1, dim=1), strict=True)
    toned = torch.cat([_through_curve(own, other) for own, other in channels], dim=1)
    if _agreeing(toned, target) < _agreeing(source, target) + _MIN_GAIN:  # something white was painted, no grade
        return source, False
    return toned, True


def still_seen(target: Tensor) -> Tensor:
    """(1, 3, H, W) -> (1, 1, H, W): 0 where all of it clipped to white or black, else 1."""
    white, black = target.amin(1, keepdim=True) > _CLIPPED, target.amax(1, keepdim=True) < 1 - _CLIPPED
    return 1 - highest_around((white | black).float(), _RIM_PX)


def _clips(source: Tensor, target: Tensor) -> bool:
    def shares(picture: Tensor) -> Tensor:
        return torch.cat(
            [(picture > _CLIPPED).float().mean((0, 2, 3)), (picture < 1 - _CLIPPED).float().mean((0, 2, 3))]
        )

    return bool((shares(target) - shares(source) > _MIN_CLIPPED_SHARE).any())


def _agreeing(picture: Tensor, target: Tensor) -> float:
    return float(((picture - target).abs().amax(1) < _ALIKE).float().mean())


def _through_curve(source: Tensor, target: Tensor) -> Tensor:
    """One channel, (1, 1, H, W)."""
    x, y = (F.avg_pool2d(picture, _CELL).flatten() for picture in (source, target))
    place = (x * _BINS).long().clamp(0, _BINS - 1)
    centres, values = [], []
    for i in range(_BINS):
        there = place == i
        if int(there.sum()) >= 8:  # the median: what moved or is new does not count
            centres.append(x[there].median())
            values.append(y[there].median())
    if len(centres) < 2:
        return source
    knots = torch.stack(centres)
    heights = torch.stack(values).cummax(0).values
    right = torch.bucketize(source.contiguous(), knots).clamp(1, len(knots) - 1)
    slope = (heights[right] - heights[right - 1]) / (knots[right] - knots[right - 1]).clamp_min(1e-6)
    return (heights[right - 1] + slope * (source - knots[right - 1])).clamp(0, 1)
