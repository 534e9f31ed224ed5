"""Whether two pictures are one photo, however far a retouch moved its parts.

Detail that lies where it lay shows one photo at once (exemplar.same_photo). A strong edit of a whole face or body
leaves little of it in place; then the measured motion is asked whether it explains the detail. Of a photo and its
retouched copy it explains nearly all blocks that show texture (0.95 to 1.00 of them on 18 strong edits of portraits),
of two photos of one person a third at most (15 pairs from one studio: 0.13 to 0.35), of two people next to none.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..exemplar import Overview
from ..geometry.displacement import warp

ONE_PHOTO = 0.8  # share of the blocks
_BLOCK_PX, _DETAIL_PX = 16, 9  # a side; detail is what an average over so many pixels leaves
_TEXTURE = 0.012  # standard deviation of detail that shows where it lies
_EXPLAINED = 0.35  # of a block's detail that may be left over


def explained_share(overview: Overview, displacement: Tensor) -> float:
    """Share of the blocks with texture whose detail the motion brings to where after shows it; 0 where there are none.

    displacement: (1, 2, h, w) of the overview: after(p) shows before(p + d(p)).
    """
    moved, after = (_blocks(picture) for picture in (warp(overview.before, displacement), overview.after))
    size = after.norm(dim=0)
    told = size > _TEXTURE * _BLOCK_PX
    if not told.any():
        return 0.0
    left = (moved - after).norm(dim=0)[told] / size[told]
    return float((left < _EXPLAINED).float().mean())


def _blocks(picture: Tensor) -> Tensor:
    """(1, 3, h, w) -> (pixels of a block, blocks) of detail."""
    grey, rim = picture.mean(dim=1, keepdim=True), _DETAIL_PX // 2
    detail = grey - F.avg_pool2d(F.pad(grey, (rim, rim, rim, rim), mode="replicate"), _DETAIL_PX, stride=1)
    return F.unfold(detail, _BLOCK_PX, stride=_BLOCK_PX)[0]
