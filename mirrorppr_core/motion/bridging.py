"""Carry motion smoothly across places where it could not be measured.

Where an editor painted something new (teeth between opened lips), no motion explains the pixels, and an estimator
makes the old ones imitate them: lips curl up into teeth. The motion around such a place is sound, so it is led
across: filled from coarse to fine (pull and push), then relaxed to a membrane.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_CELL = 4  # pixels
_RELAXATIONS = 40


def bridge(displacement: Tensor, doubted: Tensor) -> Tensor:
    """displacement: (1, 2, h, w).  doubted: (1, 1, h, w), 0 (keep the motion) to 1 (lead it across)."""
    trust = F.avg_pool2d(1 - doubted, _CELL, ceil_mode=True)
    trust = trust * (trust > 0.999)  # whole cells only: the rim of a doubted place is doubtful as well
    cells = _filled(F.avg_pool2d(displacement, _CELL, ceil_mode=True), trust)
    for _ in range(_RELAXATIONS):
        near = F.avg_pool2d(F.pad(cells, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        cells = torch.where(trust > 0, cells, near)
    height, width = displacement.shape[-2:]
    dense = F.interpolate(cells, scale_factor=_CELL, mode="bilinear", align_corners=False)[..., :height, :width]
    return torch.lerp(displacement, dense, doubted)


def _filled(values: Tensor, weight: Tensor) -> Tensor:
    """Cells of weight 0 get the average of the nearest ones that have some.  (1, 2, h, w), (1, 1, h, w)."""
    if min(values.shape[-2:]) == 1 or (weight > 0).all():
        return values
    total = F.avg_pool2d(weight, 2, ceil_mode=True)
    coarse = F.avg_pool2d(values * weight, 2, ceil_mode=True) / total.clamp_min(1e-6)
    coarse = _filled(coarse, (total > 0).to(weight.dtype))
    back = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
    return torch.where(weight > 0, values, back[..., : values.shape[-2], : values.shape[-1]])
