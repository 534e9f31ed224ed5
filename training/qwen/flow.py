"""The flow-matching objective of Stage II: which times are drawn, and what each counts.

    x_s = (1 - s) x_0 + s e        target e - x_0        loss = w(s) * mean(r * (predicted - target)^2)

DiffSynth-Studio's training, on which the released program is built (spec of the reference, part 10.4): s is drawn
uniformly from a table of 1000 times shifted for mu = 0.8 and ending at 0.02; w is a bell over that table, zero at pure
noise, and of mean one. r is 1 everywhere, or larger where the retouch changed the picture; its mean is one too, so a
learning rate keeps its meaning.

Shapes: B batch, h x w latent.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.qwen.schedule import official_sigmas

NUM_TIMES = 1000
_TOKENS_AT_MU = 6208  # the number of image tokens for which the schedule's mu is 0.8
_EDIT_THRESHOLD = 3 / 255  # as in the reference's compositing: smaller differences are rounding
_LATENT_PX = 8


def training_times() -> Tensor:
    """(1000,) times s from 1 down to 0.02, float32."""
    return official_sigmas(NUM_TIMES, height=16 * _TOKENS_AT_MU, width=16)[:-1]


def time_weights(kind: str) -> Tensor:
    """(1000,) weights of mean one, in the order of training_times. kind: "bell" or "flat"."""
    if kind == "flat":
        return torch.ones(NUM_TIMES)
    bell = torch.exp(-2 * (training_times() - 0.5).square())
    bell = bell - bell.min()
    return bell / bell.mean()


def edited_region(query: Tensor, target: Tensor) -> Tensor:
    """Latent cells in which the retouch changed a pixel. query, target: (B, 3, H, W). Returns (B, 1, H/8, W/8)."""
    changed = (query - target).abs().amax(1, keepdim=True) > _EDIT_THRESHOLD
    return F.max_pool2d(changed.float(), _LATENT_PX)


def region_weights(region: Tensor, weight: float) -> Tensor:
    """`weight` inside the region, 1 outside, then scaled to a mean of one per picture. (B, 1, h, w)."""
    weights = 1 + (weight - 1) * region
    return weights / weights.mean((1, 2, 3), keepdim=True)
