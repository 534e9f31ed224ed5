"""What a result is worth where the true motion is known to the pixel: Benchmarks P and B, and robustness.

The region is where the truth moves by more than 2 % of its longest motion and 0.1 px. Whole-image PSNR hardly sees an
edit, so the motion itself is scored inside the region, and every changed pixel outside it is counted.
Strengths of all lists of cases are drawn here.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.geometry.displacement import changed_mask, length
from mirrorppr_core.mini.editor import Retouched

from .metrics import psnr, region_psnr, relative_epe, ssim

REGION_SHARE, REGION_PX = 0.02, 0.1
MARGIN_PX = 8  # beyond this distance from the region nothing at all should change


@dataclass(frozen=True, kw_only=True)
class CasePictures:
    """A case, drawn. Pictures (1, 3, H, W), multiples of 1/255."""

    exemplar_before: Tensor
    exemplar_after: Tensor
    query: Tensor
    query_after: Tensor
    displacement: Tensor  # (1, 2, H, W) true motion of the query
    region: Tensor  # (1, 1, H, W) 1 where the query is edited


@dataclass(frozen=True, kw_only=True)
class Score:
    """One result against one case. A case that the retoucher refused counts as the query unchanged."""

    relative_epe: float
    gain_db: float  # in-region PSNR above the unchanged query's
    psnr: float
    ssim: float
    changed_outside: float  # share of the pixels outside the region that differ from the query
    changed_beyond: float  # the same, further than MARGIN_PX from it
    seconds: float = 0.0
    refused: str = ""


def score(pictures: CasePictures, result: Retouched | None, *, seconds: float = 0.0, refused: str = "") -> Score:
    """result: None is the query unchanged."""
    image = pictures.query if result is None else to_eight_bits(result.image)
    motion = torch.zeros_like(pictures.displacement) if result is None else result.field.dense()
    region, target = pictures.region, pictures.query_after
    near = F.max_pool2d(region, 2 * MARGIN_PX + 1, stride=1, padding=MARGIN_PX)
    return Score(
        relative_epe=float(relative_epe(motion, pictures.displacement, region)),
        gain_db=float(region_psnr(image, target, region) - region_psnr(pictures.query, target, region)),
        psnr=float(psnr(image, target)),
        ssim=float(ssim(image, target)),
        changed_outside=_share_changed(image, pictures.query, 1 - region),
        changed_beyond=_share_changed(image, pictures.query, 1 - near),
        seconds=seconds,
        refused=refused,
    )


def edited_region(displacement: Tensor, *, scale: float = 1.0) -> Tensor:
    """(1, 2, H, W) -> (1, 1, H, W) of 0 and 1.  scale: of a picture that was enlarged, whose pixels are smaller."""
    longest = float(length(displacement).amax())
    return changed_mask(displacement, max(REGION_SHARE * longest, REGION_PX * scale))


def to_eight_bits(image: Tensor) -> Tensor:
    """What a PNG keeps of it."""
    return (image * 255).round() / 255


def check_strengths(least: float, most: float) -> None:
    """Raises ValueError for a span, in percent, that no strength can be drawn from."""
    if not 0 < least <= most <= 100:
        raise ValueError(f"strengths {least} to {most}: need 0 < min <= max <= 100")


def strength_of(sign: int, share: float, span: tuple[float, float]) -> float:
    """The strength at `share` (0 to 1) of the span of percents, in one direction, to one decimal."""
    least, most = span
    return round(sign * (least + (most - least) * share), 1)


def second_direction(directions: list[tuple[str, int]], index: int) -> tuple[str, int] | None:
    """What the index-th case of two operations does after its first; None where there is no other operation."""
    others = [one for one in directions if one[0] != directions[index % len(directions)][0]]
    # A stride that shares no factor with their number visits all of them before any twice.
    return others[(5 * index + index // len(directions)) % len(others)] if others else None


def _share_changed(image: Tensor, query: Tensor, where: Tensor) -> float:
    changed = (image != query).any(1, keepdim=True).to(where.dtype)
    return float((changed * where).sum() / where.sum().clamp_min(1))
