"""Beyond the outline of a face: which place on the face a place beside it belongs to.

Hair, ears and neck have no landmarks. What lies beside a face goes with the nearest place of its outline, and the less
so the farther away it is. A spline carried on beyond the landmarks does worse: it grows without bound, so that two
faces disagree about the hairline by more than about the face (training/LOG.md, motion beyond the face).
Shapes: P points, V corners of the outline in order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import pixel_grid
from .landmarks import OVAL

_STEP = 4  # pixels from one that is asked about to the next
_RIM = 0.03  # of the face's longer side: what is so near to its outline is on the face


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


def on_face(outline: Tensor, height: int, width: int, *, margin: float) -> Tensor:
    """Where a picture shows the face: (1, 1, height, width) bool, to a few pixels.

    outline: (V, 2) in its pixels.  margin: share of the face's longer side by which it is widened.
    """
    rows, columns = -(-height // _STEP), -(-width // _STEP)
    points = (pixel_grid(rows, columns, device=outline.device) * _STEP + (_STEP - 1) / 2).flatten(2)[0].T
    rim = margin * float((outline.amax(0) - outline.amin(0)).amax())
    near = ((points > outline.amin(0) - rim) & (points < outline.amax(0) + rim)).all(1)
    found = torch.zeros(len(points), device=outline.device)
    found[near] = (onto(points[near], convex_hull(outline))[1] <= rim).float()
    return F.interpolate(found.view(1, 1, rows, columns), scale_factor=_STEP)[..., :height, :width] > 0


def face_in_copy(landmarks: Tensor, mask: Tensor, *, factor: float, left: int = 0, top: int = 0) -> Tensor:
    """Where a reduced copy of part of a photo shows the face, to its rim: bool, like the mask (1, 1, h, w).

    landmarks: (130, 2) in the photo's pixels.  left, top: of the part.  factor: photo pixels per pixel of the copy.
    """
    outline = (landmarks[list(OVAL)] - landmarks.new_tensor([left, top]) + 0.5) / factor - 0.5
    return on_face(outline, *mask.shape[-2:], margin=_RIM)


def convex_hull(points: Tensor) -> Tensor:
    """Corners of the convex hull in order (monotone chain, Andrew 1979), the inside to the right on screen."""
    ordered = sorted(map(tuple, points.tolist()))

    def half(row: list[tuple[float, float]]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for x, y in row:
            while len(kept) > 1 and _turn(kept[-2], kept[-1], (x, y)) <= 0:
                kept.pop()
            kept.append((x, y))
        return kept[:-1]

    return points.new_tensor(half(ordered) + half(ordered[::-1]))


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
