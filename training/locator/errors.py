"""What a locator gets wrong, drawn at random: samples of training see faces as the product will."""

from __future__ import annotations

import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import FACE_POINTS, GROUPS

LOOK_ERROR = 0.012  # mean error of a look, in eye distances; the bundled locator's is 0.014


def landmark_errors(generator: torch.Generator, count: int) -> Tensor:
    """What a locator gets wrong, (count, 130, 2) eye distances: errors of neighbouring points go together."""
    points = len(FACE_POINTS)
    error = 0.6 * torch.randn(count, points, 2, generator=generator)
    parts = torch.randn(count, len(GROUPS), 2, generator=generator)
    for part, members in enumerate(GROUPS.values()):
        error[:, list(members)] += parts[:, None, part]
    level = LOOK_ERROR * (0.3 + 1.4 * torch.rand(count, 1, 1, generator=generator))
    return error / error.norm(dim=-1).mean(1)[:, None, None] * level
