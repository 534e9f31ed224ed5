"""Parts of a person as weights on the photo: eyes, brows, nose, mouth, contour, hair and body, left and right.

Every place belongs to the parts by shares that add up to one, so that an operation limited to each part in turn gives
the whole operation in sum. Shares change smoothly, because a motion that stops at a line would tear the skin there;
inside the outline of a feature all others have exactly none, so their pixels keep their bits.

    near a feature's outline            that feature's; between two, shared by distance
    elsewhere inside the face           contour (cheeks, jaw, temples, forehead, and the rim around the face)
    beyond the rim                      hair above the mouth's height, body below

Lengths are in eye distances. N points, K = 130 landmarks. Left and right are the person's own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.displacement import smoothstep
from .landmarks import BROW_L, BROW_R, EYE_L, EYE_R, FACE_POINTS, LIPS_OUTER, NOSE, OVAL, eye_centres
from .outline import convex_hull

PARTS = ("eyes", "brows", "nose", "mouth", "contour", "hair", "body")
SIDES = ("both", "left", "right")

_FEATURES = {"eyes": (EYE_R, EYE_L), "brows": (BROW_R, BROW_L), "nose": (NOSE,), "mouth": (LIPS_OUTER,)}
_FULL, _NONE = 0.15, 0.5  # from a feature's outline: all of it, none of it any more
_RIM_FROM, _RIM_TO = 0.5, 0.9  # outside the face's oval: where the contour ends
_HAIR_TO, _BODY_FROM = 1.0, 1.8  # below the eyes
_MIDDLE = 0.15  # half width of the stripe in which left and right overlap
_ROOT, _CHIN = FACE_POINTS.index(168), FACE_POINTS.index(152)


def part_weight(landmarks: Tensor, points: Tensor, parts: tuple[str, ...], side: str = "both") -> Tensor:
    """How much of the motion at these points belongs to the parts.  landmarks: (K, 2).  points: (N, 2).  -> (N,)"""
    check_parts(parts, side)
    shares = part_shares(landmarks, points)
    total = shares.sum(0) * 0
    for name in dict.fromkeys(parts):
        total = total + shares[PARTS.index(name)]
    if set(parts) == set(PARTS):
        total = torch.ones_like(total)
    return total if side == "both" else total * _side_share(landmarks, points, side)


def check_parts(parts: tuple[str, ...], side: str) -> None:
    """Raise ValueError unless these are parts and a side."""
    unknown = [name for name in parts if name not in PARTS]
    if unknown or not parts:
        raise ValueError(f"parts {unknown or 'none'}: choose one or more of {', '.join(PARTS)}")
    if side not in SIDES:
        raise ValueError(f"side={side!r}: use one of {', '.join(SIDES)}")


def part_shares(landmarks: Tensor, points: Tensor) -> Tensor:
    """The share of every part in the order of PARTS: (7, N), each column sums to one."""
    right, left = eye_centres(landmarks)
    unit = (left - right).norm().clamp_min(1e-3)
    down = torch.stack([right[1] - left[1], left[0] - right[0]]) / unit  # the eyes' line turned towards the mouth
    away = torch.stack(
        [
            torch.stack([_distance(points, landmarks[list(piece)]) for piece in pieces]).amin(0)
            for pieces in _FEATURES.values()
        ]
    )  # (4, N)
    nearest = smoothstep((_NONE - away.amin(0) / unit) / (_NONE - _FULL))
    # The face's own outline holds its ground against the ends of the brows.
    outline, beyond = _outline_distance(points, landmarks[list(OVAL)])
    *features, outlined = _nearer(torch.cat([away, outline[None]])) * nearest
    outside = smoothstep((beyond / unit - _RIM_FROM) / (_RIM_TO - _RIM_FROM))
    height = (points - (right + left) / 2) @ down / unit
    below = smoothstep((height - _HAIR_TO) / (_BODY_FROM - _HAIR_TO))
    rest = 1 - nearest
    contour, hair, body = outlined + rest * (1 - outside), rest * outside * (1 - below), rest * outside * below
    return torch.stack([*features, contour, hair, body])


def _nearer(away: Tensor) -> Tensor:
    """Shares (F, N) of features by their distances (F, N): none where another feature is three times as near."""
    first, second = away[:, None], away[None]
    lead = (second - first) / (second + first).clamp_min(1e-6)  # 1 on the first, -1 on the second
    wins = smoothstep(0.5 + lead)
    wins.diagonal(dim1=0, dim2=1).fill_(1.0)
    worth = wins.prod(1)
    return worth / worth.sum(0).clamp_min(1e-6)


def _side_share(landmarks: Tensor, points: Tensor, side: str) -> Tensor:
    """1 on the person's own side of the line from the root of the nose to the chin, 0 on the other."""
    right, left = eye_centres(landmarks)
    unit = (left - right).norm().clamp_min(1e-3)
    root, chin = landmarks[_ROOT], landmarks[_CHIN]
    along = (chin - root) / (chin - root).norm().clamp_min(1e-3)
    leftward = torch.stack([along[1], -along[0]])
    leftward = leftward * torch.sign((left - right) @ leftward)
    beside = (points - root) @ leftward / unit
    share = smoothstep(0.5 + beside / (2 * _MIDDLE))
    return share if side == "left" else 1 - share


def _distance(points: Tensor, outline: Tensor) -> Tensor:
    """How far points (N, 2) lie outside the convex hull of others (K, 2); 0 inside. (N,)"""
    return _outline_distance(points, outline)[1]


def _outline_distance(points: Tensor, outline: Tensor) -> tuple[Tensor, Tensor]:
    """The distance from the hull's line, and the same with 0 inside the hull. (N,) each."""
    hull = convex_hull(outline)
    start, end = hull, hull.roll(-1, 0)
    edge = end - start  # (E, 2)
    away = points[:, None] - start  # (N, E, 2)
    along = ((away * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-9)).clamp(0, 1)
    squared = (away - along[..., None] * edge).square().sum(-1).amin(1)
    inside = (edge[:, 0] * away[..., 1] - edge[:, 1] * away[..., 0] >= 0).all(1)
    distance = squared.sqrt()
    return distance, torch.where(inside, 0.0, distance)
