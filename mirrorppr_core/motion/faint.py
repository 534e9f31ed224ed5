"""Small edits: professional ones often move less than a pixel, and reduction and caution then lose them.

Where little or nothing was found, the pair is looked at again at its own resolution, with a stiffer plate, which
averages noise over more texture, and with less demanded of a motion that may save little misfit because it is small.
What is still not found lies below the noise, which is told in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .clean import GATE_FROM
from .estimate import MeasuredMotion, MotionConfig, estimate_motion
from .sharpness import matched_sharpness
from .tone import toned_alike

MAX_SIDE = 2048  # of a picture that is looked at again
_FAINT_PX = 1.0
_FAINT = MotionConfig(max_side=MAX_SIDE, bending=0.1, min_gain=0.001)


def is_faint(motion: MeasuredMotion) -> bool:
    """Whether a second look may find more.  Of one pair."""
    return float(motion.max_px) < _FAINT_PX


@torch.no_grad()
def faint_motion(*, source: Tensor, target: Tensor, trust: Tensor, global_affine: Tensor) -> MeasuredMotion:
    """source, target: (1, 3, H, W) in [0, 1] at full resolution.  trust: (1, 1, H, W), 0 where something is painted.
    global_affine: see estimate_motion."""
    source, target, _ = matched_sharpness(toned_alike(source, target)[0], target)
    return estimate_motion(source=source, target=target, config=_FAINT, trust=trust, global_affine=global_affine)


def told_from_px(motion: MeasuredMotion) -> float:
    """Motion shorter than this cannot be told from noise, in pixels of the pictures."""
    return GATE_FROM * float(motion.noise_px)
