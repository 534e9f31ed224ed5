"""Bringing two pictures to one sharpness before motion is measured between them.

A beauty app softens a face, a sharpening filter does the opposite. Motion is measured by comparing texture, and texture
that only one of the two has pulls at nothing or at the wrong thing: half of the motion is lost. So the sharper picture
is softened until both have the same share of fine detail. Brightness and contrast cancel in that share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..images import LUMA
from ..windows import block_mean

_SIGMAS = (0.6, 0.9, 1.2, 1.6, 2.1, 2.8, 3.6)  # pixels; moving pixels softens them by less, and more is another picture
_COARSE_PX = 8  # detail larger than this is left alone by softening
_CROP = 384  # pixels looked at in the middle: enough, and cheap


def matched_sharpness(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, float]:
    """Both at the sharpness of the softer one, and by how much they differed.

    source, target: (1, 3, H, W) in [0, 1].  Returns pictures of that shape and the Gaussian in pixels: above 0 where
    the target was softer (the source was softened), below 0 where it was sharper, 0 where both are left as they are.
    """
    before, after = _Detail.of(source), _Detail.of(target)
    sharper, softer = (before, after) if before.share(0.0) > after.share(0.0) else (after, before)
    if sharper.share(_SIGMAS[0]) <= softer.share(0.0):
        return source, target, 0.0
    sigma = _sigma_that_matches(sharper, softer.share(0.0))
    if sharper is before:
        return gauss(source, sigma), target, sigma
    return source, gauss(target, sigma), -sigma


def gauss(planes: Tensor, sigma: float) -> Tensor:
    """(B, C, H, W), the border goes on."""
    radius = max(1, round(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1).to(planes) / sigma) ** 2)
    taps = taps / taps.sum()
    flat = F.pad(planes.flatten(0, 1)[:, None], (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(flat, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1)).view_as(planes)


@dataclass(frozen=True)
class _Detail:
    """The middle of a picture in grey, (1, 1, h, w), and the energy of its coarse slopes."""

    luma: Tensor
    coarse: float

    @classmethod
    def of(cls, picture: Tensor) -> _Detail:
        height, width = picture.shape[-2:]
        top, left = max(0, (height - _CROP) // 2), max(0, (width - _CROP) // 2)
        weights = picture.new_tensor(LUMA).view(1, 3, 1, 1)
        luma = (picture[..., top : top + _CROP, left : left + _CROP] * weights).sum(1, keepdim=True)
        small = block_mean(luma, _COARSE_PX)
        return cls(luma, _slopes(small) / _COARSE_PX**2)

    def share(self, sigma: float) -> float:
        """Energy of the slopes after softening, over that of coarse detail."""
        return _slopes(gauss(self.luma, sigma) if sigma else self.luma) / max(self.coarse, 1e-9)


def _slopes(luma: Tensor) -> float:
    return float(sum(gradient.square().mean() for gradient in torch.gradient(luma, dim=(-1, -2))))


def _sigma_that_matches(detail: _Detail, wanted: float) -> float:
    """The Gaussian that lowers its share to the wanted one."""
    low, before = 0.0, detail.share(0.0)
    for high in _SIGMAS:
        after = detail.share(high)
        if after <= wanted:
            return low + (high - low) * (before - wanted) / max(before - after, 1e-9)
        low, before = high, after
    return _SIGMAS[-1]
