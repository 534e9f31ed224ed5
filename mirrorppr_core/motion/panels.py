"""Screenshots that hold before and after side by side, or one above the other, with or without a frame around them.

A frame is what has one colour from edge to edge of the picture: whole rows and columns of the colour of its corner.
What is left is cut at such a gap near its middle, or in halves where there is none; then the parts are compared.

Pictures are (1, 3, h, w) in [0, 1], a few hundred pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..exemplar import SAME_PHOTO, same_photo

_SIDE, _LEAST_SIDE = 256, 48  # pixels in which parts are compared, and of the smallest part that is looked at
_ONE_COLOUR = 0.03  # difference from the corner's colour that a frame may have
_MIDDLE = 0.12  # of the length: so far from the middle the gap between two pictures may begin or end
_ASPECTS = (0.6, 1.7)  # width over height of one part, against the other's


def holds_two(picture: Tensor, other: Tensor | None = None) -> bool:
    """Whether the picture shows one photo twice, before and after.  other: the pair's other picture, which one of the
    parts may look like instead."""
    if min(picture.shape[-2:]) < 2 * _LEAST_SIDE:
        return False
    content = _without_frame(picture)
    for parts in (_cut(content), [part.mT for part in _cut(content.mT)]):
        if not parts or not _like_shapes(*parts):
            continue
        if _alike(*parts):
            return True
        if other is not None and any(_like_shapes(part, other) and _alike(part, other) for part in parts):
            return True
    return False


def _without_frame(picture: Tensor) -> Tensor:
    rows, columns = _plain_lines(picture.mT), _plain_lines(picture)
    inner_rows, inner_columns = (~rows).nonzero().flatten(), (~columns).nonzero().flatten()
    if len(inner_rows) < _LEAST_SIDE or len(inner_columns) < _LEAST_SIDE:
        return picture
    top, bottom = int(inner_rows[0]), int(inner_rows[-1]) + 1
    left, right = int(inner_columns[0]), int(inner_columns[-1]) + 1
    return picture[..., top:bottom, left:right]


def _plain_lines(picture: Tensor) -> Tensor:
    """Which columns have the corner's colour all over, (w,) bool."""
    corner = picture[..., :1, :1]
    return ((picture - corner).abs() < _ONE_COLOUR).all(dim=1)[0].all(dim=0)


def _cut(content: Tensor) -> list[Tensor]:
    """Left and right of the gap near the middle, each without a frame; two halves where there is none."""
    width = content.shape[-1]
    if width < 2 * _LEAST_SIDE:
        return []
    steady = (content - content[..., :1, :]).abs().amax(dim=(0, 1, 2)) < _ONE_COLOUR  # one colour from top to bottom
    low, high = round(width * (0.5 - _MIDDLE)), round(width * (0.5 + _MIDDLE))
    gap = [x for x in range(low, high) if bool(steady[x])]
    first, last = (gap[0], gap[-1] + 1) if gap else (width // 2, width - width // 2)
    parts = [_without_frame(part) for part in (content[..., :first], content[..., last:])]
    return parts if min(min(part.shape[-2:]) for part in parts) >= _LEAST_SIDE else []


def _like_shapes(one: Tensor, other: Tensor) -> bool:
    (h, w), (oh, ow) = one.shape[-2:], other.shape[-2:]
    return _ASPECTS[0] < w * oh / (h * ow) < _ASPECTS[1]


def _alike(one: Tensor, other: Tensor) -> bool:
    height, width = one.shape[-2:]
    scale = _SIDE / max(height, width)
    size = (max(16, round(height * scale)), max(16, round(width * scale)))
    small = [F.interpolate(part, size, mode="bilinear", antialias=True) for part in (one, other)]
    if min(float(part.std()) for part in small) < _ONE_COLOUR:
        return False  # two plain pictures are alike and tell nothing
    return same_photo(*small) > SAME_PHOTO
