"""Beyond the outline of a face: which place on the face a place beside it belongs to.

Hair, ears and neck have no landmarks. What lies beside a face goes with the nearest place of its outline, and the less
so the farther away it is. A spline carried on beyond the landmarks does worse: it grows without bound, so that two
faces disagree about the hairline by more than about the face (training/LOG.md, motion beyond the face).
Shapes: P points, V corners of the outline in order.
"""

from __future__ import annotations

import torch
from torch import Tensor


def onto(points: Tensor, outline: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest place of the face (P, 2), which is the point itself inside, and how far away that is (P,).

    points: (P, 2).  outline: (V, 2) corners of a convex polygon, in order.
    """
    start, side = outline, outline.roll(-1, 0) - outline
    offset = points[:, None] - start  # (P, V, 2)
    share = ((offset * side).sum(-1) / side.square().sum(-1)).clamp(0, 1)
    candidates = start + share[..., None] * side
    distance = (points[:, None] - candidates).norm(dim=-1)
    nearest = distance.argmin(1)
    rows = torch.arange(len(points), device=points.device)
    turn = side[:, 0] * offset[..., 1] - side[:, 1] * offset[..., 0]
    inside = (turn >= 0).all(1) | (turn <= 0).all(1)
    place = torch.where(inside[:, None], points, candidates[rows, nearest])
    return place, torch.where(inside, torch.zeros_like(share[:, 0]), distance[rows, nearest])
