"""The exemplar pair: one photo before and after retouching, and whether two pictures can be that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from torch import Tensor

from .images import check_photo, reduce
from .windows import window_mean

SAME_PHOTO = 0.5  # correlation of fine detail; retouched copies measure 0.7 to 1, other photos below 0.2
_CHECK_SIDE = 512


@dataclass(frozen=True)
class Exemplar:
    """A portrait before and after retouching: the same photo at the same size, (1, 3 or 4, H, W)."""

    before: Tensor
    after: Tensor


@dataclass(frozen=True)
class Overview:
    """The pair reduced by a whole factor, for questions about the pictures as a whole. (1, 3, h, w) each."""

    before: Tensor
    after: Tensor
    factor: int

    @cached_property
    def likeness(self) -> float:
        """See same_photo."""
        return same_photo(self.before, self.after)


def check_pair(before: Tensor, after: Tensor) -> Overview:
    """Raise ValueError unless the two can be one photo before and after retouching."""
    check_photo(before, "exemplar before")
    check_photo(after, "exemplar after")
    if before.shape[-2:] != after.shape[-2:]:
        (h, w), (ah, aw) = before.shape[-2:], after.shape[-2:]
        raise ValueError(
            f"exemplar before is {w}x{h} but after is {aw}x{ah}: both must be the same photo at the same size. "
            "Export the retouched photo at the original's size, uncropped."
        )
    overview = overview_of(before, after)
    likeness = overview.likeness
    if likeness < SAME_PHOTO:
        raise ValueError(
            f"exemplar before and after do not look like the same photo (detail correlation {likeness:.2f}, a "
            "retouched copy has 0.7 or more). Use one photo and its retouched copy, not two photos of a person."
        )
    return overview


def overview_of(before: Tensor, after: Tensor) -> Overview:
    """before, after: (1, C, H, W) of one size."""
    factor = -(-max(before.shape[-2:]) // _CHECK_SIDE)
    return Overview(reduce(before, factor), reduce(after, factor), factor)


def same_photo(before: Tensor, after: Tensor) -> float:
    """Correlation of medium detail in two small pictures: brightness, colour and slight blur do not matter.

    before, after: (1, 3, h, w), about 512 pixels on the longer side.
    """
    detail = []
    for image in (before, after):
        grey = image.mean(dim=1, keepdim=True)
        fine = window_mean(F.pad(grey, (1, 1, 1, 1), mode="replicate"), 3)
        coarse = window_mean(F.pad(grey, (8, 8, 8, 8), mode="replicate"), 17)
        detail.append((fine - coarse).flatten())
    a, b = detail
    if (a - b).abs().amax() < 1e-6:
        return 1.0
    return float((a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-9))
