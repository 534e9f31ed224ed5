"""Motion that only imitates paint: white drawn beside a white shirt looks like shirt that was pulled over.

Where paint ends on something of its own colour, no colour is foreign there, and a motion explains it perfectly. But it
touches what is known as paint, and bends more than a retouch does. Such motion is left out, from where it begins to
where it ends. On the face itself strong edits may bend as much, so motion that reaches it stays; of a long motion that
does, the longest part is asked once more.

Pictures and masks are (1, 1, h, w) bool or (1, 2, h, w) pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..windows import block_mean, connected, highest_around
from .estimate import blur

_STEP = 2  # pixels: asked at half the size
_MOVES_PX, _LONG = 0.3, 0.05  # what counts as motion; share of the longest, when asked once more
_TOUCHES_PX = 12  # from paint to what touches it
_BENDS = 0.25  # pixels of motion per pixel; edits of a body stay below
_MOST_PARTS = 8


def without_smears(displacement: Tensor, doubted: Tensor, face: Tensor) -> Tensor:
    """displacement, without what imitates paint beside the face.  doubted: painted or unexplained.  face: where it is.

    All of one size. The same tensor where there is none.
    """
    if not doubted.any():
        return displacement
    small = block_mean(displacement, _STEP)
    size = small.norm(dim=1, keepdim=True)
    doubted, face = (F.max_pool2d(mask.float(), _STEP, ceil_mode=True) > 0 for mask in (doubted, face))
    doubted, face = (mask[..., : size.shape[-2], : size.shape[-1]] for mask in (doubted, face))
    bends = _bending(small) / _STEP
    smears = torch.zeros_like(doubted)
    for least in (_MOVES_PX, max(_MOVES_PX, _LONG * float(size.amax()))):
        smears |= _smears(size > least, bends, doubted, face)
    if not smears.any():
        return displacement
    kept = 1 - blur(_grown(smears, 2).float())
    height, width = displacement.shape[-2:]
    return displacement * F.interpolate(kept, scale_factor=_STEP, mode="nearest")[..., :height, :width]


def _smears(moving: Tensor, bends: Tensor, doubted: Tensor, face: Tensor) -> Tensor:
    """Connected parts of what moves that touch paint, bend much, and do not reach the face."""
    left = moving & _grown(doubted, _TOUCHES_PX // _STEP)
    smears = torch.zeros_like(moving)
    for _ in range(_MOST_PARTS):
        if not left.any():
            break
        seed = torch.zeros_like(left)
        seed.view(-1)[int(left.flatten().int().argmax())] = True
        part = connected(moving, seed)
        left = left & ~part
        seen = part & ~doubted
        if not (part & face).any() and seen.any() and float(bends[seen].max()) > _BENDS:
            smears |= part
    return smears


def _bending(displacement: Tensor) -> Tensor:
    """Largest change of the motion to the next pixel.  (1, 1, h, w)."""
    across = (displacement[..., 1:] - displacement[..., :-1]).abs().amax(1, keepdim=True)
    down = (displacement[..., 1:, :] - displacement[..., :-1, :]).abs().amax(1, keepdim=True)
    return torch.maximum(F.pad(across, (0, 1)), F.pad(down, (0, 0, 0, 1)))


def _grown(mask: Tensor, by: int) -> Tensor:
    return highest_around(mask.float(), by) > 0
