"""Keep a motion from folding the face over itself.

A field that folds shows one piece of skin twice and smears what lies between. Strong operations, strengths above 1 and
narrow faces can bring a transferred motion there. Where the local area would shrink below a floor, the motion is
blended with its own blurred copy, a little at a time, until it no longer does. Motion elsewhere is not touched.

Shapes: B batch, N view cells a side; motion and face shape in cells (faces/view.py).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..stopping import stop_if_asked

_ITERATIONS = 60
_FLOOR = 0.12  # smallest area, relative to the face's own, that a cell may shrink to


def unfold(motion: Tensor, shape: Tensor) -> Tensor:
    """motion, shape: (B, 2, N, N) cells. Returns the motion, unchanged where it does not fold.

    Cells that do not move still do not move: the repair stays inside the motion's own support.
    """
    own = area(shape)
    support = (motion != 0).any(dim=1, keepdim=True)
    for _ in range(_ITERATIONS):
        stop_if_asked()
        folded = area(shape + motion) < _FLOOR * own  # (B, 1, N - 1, N - 1)
        if not folded.any():
            break
        # A square touches four cells; one more ring keeps the repair smooth.
        near = F.max_pool2d(F.pad(folded.float(), (1, 1, 1, 1)), 4, stride=1, padding=2)[..., 1:-1, 1:-1]
        near = F.avg_pool2d(near, 3, stride=1, padding=1)
        blurred = F.avg_pool2d(F.pad(motion, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        motion = torch.where(support, torch.lerp(motion, blurred, 0.7 * near), motion)
    return motion


def area(shape: Tensor) -> Tensor:
    """Smallest of the two triangle areas in each square of cells, 1 where nothing is deformed. (B, 1, N - 1, N - 1)"""
    right, down = shape.diff(dim=-1), shape.diff(dim=-2)
    upper = _cross(right[..., :-1, :], down[..., :, :-1])
    lower = _cross(right[..., 1:, :], down[..., :, 1:])
    return torch.minimum(upper, lower)


def _cross(right: Tensor, down: Tensor) -> Tensor:
    """Area spanned by the step to the right (1, 0) + right and the step down (0, 1) + down."""
    return (1 + right[:, :1]) * (1 + down[:, 1:]) - right[:, 1:] * down[:, :1]
