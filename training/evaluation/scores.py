"""What one output is worth against one case: the published protocol's numbers, and ours.

The published protocol (arXiv:2606.29308) compares the output with the target as a whole. Most pixels of a retouch
never change, so that the query itself, returned unchanged, scores well. Ours asks where the edit is:

    motion      how target pixels are displaced from the query's, measured by mirrorppr_core/motion/estimate.py
    region      where that motion is above 2 % of its longest and 0.1 px; where nothing moved, the pixels whose colour
                changed by more than 6/255, averaged over 5 x 5; none if neither
    relEPE      mean error of the output's motion / mean true motion, inside the region: 0 perfect, 1 did nothing

The output's motion is measured in the same way, so any tool's pictures can be scored; both measurements take out a
shift or zoom of the picture as a whole, which is not the edit. Errors are mean squared errors of pixels in [0, 1].
Pictures are (1, 3, H, W); query and output are brought to the target's size first, bilinear, as the protocol does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mirrorppr_core.geometry.displacement import length
from mirrorppr_core.motion.estimate import estimate_motion
from mirrorppr_core.motion.reproject import ReprojectConfig

from .known_truth import edited_region
from .metrics import psnr, relative_epe, ssim

VISIBLE, VISIBLE_BLUR_PX = 6 / 255, 5
REPAINTED = 2.5 / 255  # rounding, twice, stays below
LEAST_ERROR = (1 / 255) ** 2 / 12  # of rounding to 8 bits: what is equal scores 58.9 dB, not infinity


@dataclass(frozen=True)
class Truth:
    """A case to score against.  query, target: (1, 3, H, W).  motion: (1, 2, H, W).  region: (1, 1, H, W), 0 and 1."""

    query: Tensor
    target: Tensor
    motion: Tensor
    region: Tensor

    @property
    def moves(self) -> bool:
        return bool((self.motion != 0).any())


@dataclass(frozen=True, kw_only=True)
class OfficialScore:
    """lpips, identity: None where not measured, or where no face was found in one of the two."""

    psnr: float  # of this picture; infinite where it is equal to the target
    ssim: float
    squared_error: float  # summed over all values, for the pooled PSNR
    num_values: int
    lpips: float | None = None
    identity: float | None = None


@dataclass(frozen=True, kw_only=True)
class HonestScore:
    """Where the case has no region, and for relative_epe no motion: None."""

    relative_epe: float | None
    inside_error: float | None
    outside_error: float
    gain_db: float | None  # inside, above the unchanged query
    repainted: float  # share of the pixels outside the region that differ visibly from the query
    longest_px: float  # longest measured motion from the query, at 1024 px on the shorter side


def to_size(image: Tensor, target: Tensor) -> Tensor:
    """The picture at the target's size: bilinear on 8 bits with Pillow, which averages where it shrinks."""
    if image.shape[-2:] == target.shape[-2:]:
        return image
    array = (image[0].permute(1, 2, 0) * 255).round().byte().contiguous().numpy()
    resized = Image.fromarray(array).resize((target.shape[-1], target.shape[-2]), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)[None] / 255


def truth_of(query: Tensor, target: Tensor) -> Truth:
    """What the case asks for, read from its two pictures."""
    query = to_size(query, target)
    motion = motion_between(query, target)
    if motion.any():
        region = edited_region(motion)
    else:
        change = F.avg_pool2d((target - query).abs(), VISIBLE_BLUR_PX, stride=1, padding=VISIBLE_BLUR_PX // 2)
        region = (change.amax(dim=1, keepdim=True) > VISIBLE).to(target.dtype)
    return Truth(query, target, motion, region)


def motion_between(source: Tensor, target: Tensor) -> Tensor:
    """The edit's displacement, (1, 2, H, W).  The settings are those for pictures of any editor, noisy ones too."""
    return estimate_motion(source=source, target=target, config=ReprojectConfig().motion).displacement


def official_score(output: Tensor, target: Tensor) -> OfficialScore:
    output = to_size(output, target)
    return OfficialScore(
        psnr=float(psnr(output, target)),
        ssim=float(ssim(output, target)),
        squared_error=float((output.double() - target.double()).square().sum()),
        num_values=target.numel(),
    )


def honest_score(output: Tensor, truth: Truth) -> HonestScore:
    output = to_size(output, truth.target)
    motion = motion_between(truth.query, output)
    outside = 1 - truth.region
    repainted = ((output - truth.query).abs().amax(dim=1, keepdim=True) > REPAINTED).to(outside.dtype)
    inside = inside_before = None
    if truth.region.any():
        inside = _error(output, truth.target, truth.region)
        inside_before = _error(truth.query, truth.target, truth.region)
    return HonestScore(
        relative_epe=float(relative_epe(motion, truth.motion, truth.region)) if truth.moves else None,
        inside_error=inside,
        outside_error=_error(output, truth.target, outside) if outside.any() else LEAST_ERROR,
        gain_db=None if inside is None else decibel(inside) - decibel(inside_before),
        repainted=float((repainted * outside).sum() / outside.sum().clamp_min(1)),
        longest_px=float(length(motion).amax()) * 1024 / min(motion.shape[-2:]),
    )


def motion_left(output: Tensor, truth: Truth) -> float:
    """Mean motion from the query / mean true motion, inside the region: 0 where an edit was undone completely.

    The truth must move.
    """
    motion = motion_between(truth.query, to_size(output, truth.target))
    return float(relative_epe(truth.motion + motion, truth.motion, truth.region))


def decibel(mean_squared_error: float) -> float:
    return float(-10 * torch.tensor(mean_squared_error, dtype=torch.float64).log10())


def _error(image: Tensor, target: Tensor, where: Tensor) -> float:
    squared = (image.double() - target.double()).square().mean(1, keepdim=True)
    return max(LEAST_ERROR, float((squared * where).sum() / where.sum()))
