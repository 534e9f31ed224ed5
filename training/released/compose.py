"""Edited tiles of the professional subset, put back together into one pair of full photos.

    mask   = |grey(before) - grey(after)| > 3 inside the tile, but not on its border
    target = photo; under the masks the mean of the edited tiles that cover a pixel

Any choice of operations on one photo gives a pair: that is how the released subset makes many out of few renderings.
The border of a tile is never copied: 2 px, at the bottom 20 or 5 px for operations that move the chin towards or away
from the edge of the tile. Nothing is feathered. All as in the published script (paper: arXiv:2606.29308).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.images import LUMA

from ..data.picture_files import read_picture
from .formats import ProfessionalEdit

LEAST_DIFFERENCE = 3  # grey levels of 255; a tile differs by less through its JPEG
BORDER_PX = 2
_MANDIBLE = "mandible_left+mandible_right"
BOTTOM_PX = {
    **{("face_trans", 100): 20, ("jaw_trans", -100): 20, (_MANDIBLE, -100): 20},
    **{("face_trans", -100): 5, ("jaw_trans", 100): 5, (_MANDIBLE, 100): 5},
}


@dataclass(frozen=True)
class Composed:
    """source, target: (3, H, W) uint8, the photo before and after.  edited: (H, W) bool, where they may differ."""

    source: Tensor
    target: Tensor
    edited: Tensor


def compose(edits: Sequence[ProfessionalEdit]) -> Composed:
    """All edits at once on their common photo. Raises ValueError or UnusablePicture that names the file."""
    if not edits:
        raise ValueError("no edits to compose: choose at least one record of read_professional")
    photos = {edit.photo for edit in edits}
    if len(photos) != 1 or None in photos:
        names = ", ".join(sorted(str(photo) for photo in photos))
        raise ValueError(f"the edits belong to {names}: compose needs edits of one photo, and that photo")
    source = _bytes(photos.pop())
    height, width = source.shape[-2:]
    total, covered = torch.zeros(3, height, width), torch.zeros(height, width)
    for edit in edits:
        x, y, w, h = edit.box
        if x < 0 or y < 0 or x + w > width or y + h > height:
            raise ValueError(f"tile {edit.box} of {edit.operation} leaves {edit.photo.name} of {width}x{height} pixels")
        tile, mask = _edited_tile(edit)
        if tile.shape[-2:] != (h, w):
            tile = F.interpolate(tile[None], (h, w), mode="bilinear", align_corners=False)[0].round()
            mask = F.interpolate(mask[None, None], (h, w), mode="nearest")[0, 0]
        total[:, y : y + h, x : x + w] += tile * mask
        covered[y : y + h, x : x + w] += mask
    edited = covered > 0
    mean = (total / covered.clamp_min(1)).clamp(0, 255).byte()  # cut, not rounded
    return Composed(source=source, target=torch.where(edited, mean, source), edited=edited)


def _edited_tile(edit: ProfessionalEdit) -> tuple[Tensor, Tensor]:
    """The tile after the edit, (3, h, w) in [0, 255], and its mask, (h, w) of 0 and 1."""
    if edit.tile_before is None or edit.tile_after is None:
        raise ValueError(f"{edit.operation}:{edit.level} of {edit.image_id} has no tiles: read with need_tiles on")
    before, after = _bytes(edit.tile_before), _bytes(edit.tile_after)
    if before.shape != after.shape:
        sizes = " and ".join(f"{tile.shape[2]}x{tile.shape[1]}" for tile in (before, after))
        raise ValueError(f"{edit.tile_before.name} and {edit.tile_after.name} are {sizes}: need two of one size")
    changed = (_grey(before) - _grey(after)).abs() > LEAST_DIFFERENCE
    bottom = BOTTOM_PX.get((edit.operation, edit.level), BORDER_PX)
    mask = torch.zeros(changed.shape)
    inner = (slice(BORDER_PX, -bottom), slice(BORDER_PX, -BORDER_PX))
    mask[inner] = changed[inner].float()
    return after.float(), mask


def _bytes(path: Path) -> Tensor:
    """(3, H, W) uint8."""
    return (read_picture(path)[0] * 255).round().byte()


def _grey(tile: Tensor) -> Tensor:
    """Whole grey levels with the weights of ITU-R BT.601, as the published script compares them."""
    weights = torch.tensor(LUMA)
    return (tile.float() * weights.view(3, 1, 1)).sum(0).round()
