"""Means and extremes over windows of a picture, several times as fast as pooling layers are on a CPU.

Sums over a window are sums of shifted pictures, and those of a long window are made of shorter ones: 1, 2, 4, 8 ...
Planes are (..., H, W); a mean is what `avg_pool2d` and `max_pool2d` say, up to rounding.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .stopping import stop_if_asked

_STRIDE = 4  # pixels that `connected` goes at a time


def block_mean(planes: Tensor, size: int) -> Tensor:
    """Mean of each size x size block; blocks that the right or lower edge cuts average what is there.

    (..., H, W) -> (..., ceil(H / size), ceil(W / size)).
    """
    return planes if size == 1 else _blocks(_blocks(planes, size, -2), size, -1)


def window_mean(planes: Tensor, size: int) -> Tensor:
    """Mean of every size x size window that lies inside.  (..., H, W) -> (..., H - size + 1, W - size + 1)."""
    return _sums(_sums(planes, size, -2), size, -1) * (1 / size**2)


def mean_around(planes: Tensor, reach: int) -> Tensor:
    """Mean over the pixels up to `reach` away along both axes, of those that exist.  (..., H, W), the same."""
    for dim in (-2, -1):
        exist = _sums(_edged(planes.new_ones(planes.shape[dim]), reach, -1, 0.0), 2 * reach + 1, -1)
        total = _sums(_edged(planes, reach, dim, 0.0), 2 * reach + 1, dim)
        planes = total.div_(exist if dim == -1 else exist[:, None])
    return planes


def highest_around(planes: Tensor, reach: int) -> Tensor:
    """Largest value up to `reach` pixels away along both axes.  (..., H, W), the same."""
    for dim in (-2, -1):
        planes = _largest(_edged(planes, reach, dim, float("-inf")), 2 * reach + 1, dim)
    return planes


def connected(places: Tensor, seeds: Tensor) -> Tensor:
    """The connected places that hold a seed; gaps of a few pixels are stepped over.  Both (1, 1, H, W) bool."""
    reached = places & seeds
    for _ in range(max(places.shape[-2:])):
        stop_if_asked()
        further = (highest_around(reached.float(), _STRIDE) > 0) & places
        if torch.equal(further, reached):
            break
        reached = further
    return reached


def enlarged(planes: Tensor, times: int) -> Tensor:
    """Bicubic, a whole number of times, the border goes on: `interpolate` without align_corners.

    (B, C, H, W) -> (B, C, times * H, times * W).
    """
    for dim in (-2, -1):
        around = (2, 2, 0, 0) if dim == -1 else (0, 0, 2, 2)
        padded, length, phases = F.pad(planes, around, mode="replicate"), planes.shape[dim], []
        for phase in range(times):
            place = (phase + 0.5) / times - 0.5
            whole = math.floor(place)
            first, *others = (
                padded.narrow(dim, 2 + whole + tap, length) * _cubic(abs(place - whole - tap)) for tap in (-1, 0, 1, 2)
            )
            phases.append(first.add_(others[0]).add_(others[1]).add_(others[2]))
        planes = torch.stack(phases, dim=-1).flatten(-2) if dim == -1 else torch.stack(phases, dim=-2).flatten(-3, -2)
    return planes


def _cubic(away: float) -> float:
    """Weight of a sample so far away (Keys 1981, a = -0.75 as in torch)."""
    if away <= 1:
        return (1.25 * away - 2.25) * away**2 + 1
    return -0.75 * (((away - 5) * away + 8) * away - 4)


def _blocks(planes: Tensor, size: int, dim: int) -> Tensor:
    length = planes.shape[dim]
    whole = length // size * size
    parts = []
    if whole:
        first, *others = (planes[..., i:whole:size] if dim == -1 else planes[..., i:whole:size, :] for i in range(size))
        total = first + others[0]
        for one in others[1:]:
            total += one
        parts.append(total.mul_(1 / size))
    if whole < length:
        parts.append(planes.narrow(dim, whole, length - whole).mean(dim, keepdim=True))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _sums(planes: Tensor, size: int, dim: int) -> Tensor:
    """Sum of every run of `size` along an axis."""
    if size == 1:
        return planes
    half = _sums(planes, size // 2, dim)
    length = planes.shape[dim] - size + 1
    both = half.narrow(dim, 0, length) + half.narrow(dim, size // 2, length)
    return both.add_(planes.narrow(dim, size - 1, length)) if size % 2 else both


def _largest(planes: Tensor, size: int, dim: int) -> Tensor:
    """Largest value of every run of `size` along an axis; the last step may look at some twice."""
    have = 1
    while have < size:
        step = min(have, size - have)
        length = planes.shape[dim] - step
        planes = torch.maximum(planes.narrow(dim, 0, length), planes.narrow(dim, step, length))
        have += step
    return planes


def _edged(planes: Tensor, by: int, dim: int, value: float) -> Tensor:
    around = (by, by) if dim == -1 else (0, 0, by, by)
    return F.pad(planes, around, value=value)
