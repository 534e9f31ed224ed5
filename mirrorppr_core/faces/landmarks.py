"""Facial landmarks: which points, what they are called, and how two sets are aligned.

A face is 130 of MediaPipe FaceMesh's 478 points, in the order of FACE_POINTS: enough to
hold every feature and the contour, few enough for one heat map each. Points are (K, 2)
tensors, x then y, in pixels; the centre of the top-left pixel is (0, 0). "Right" and
"left" are the person's own: the right eye lies on the left side of the picture.

Similarities (scale, rotation, shift) are the only alignment used: least squares in closed
form (Umeyama 1991, without reflection). Everything takes leading batch dimensions.
"""

from __future__ import annotations

import torch
from torch import Tensor

# MediaPipe FaceMesh indices, feature by feature.
_SCHEME = {
    "eye_r": (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    "eye_l": (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    "irises": (468, 473),  # right, left
    "brow_r": (70, 63, 105, 66, 107, 46, 52, 55),
    "brow_l": (300, 293, 334, 296, 336, 276, 282, 285),
    "nose": (168, 6, 197, 195, 5, 4, 1, 2, 98, 327, 129, 358, 64, 294),
    "lips_outer": (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    "lips_inner": (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191),
    "oval": (10, 297, 284, 389, 454, 361, 397, 379, 400, 152, 176, 150, 172, 132, 234, 162, 54, 67),
    "skin": (50, 280, 205, 425, 101, 330, 151, 9),
}  # fmt: skip

NUM_MESH = 478
FACE_POINTS: tuple[int, ...] = tuple(index for points in _SCHEME.values() for index in points)


def _positions(name: str) -> tuple[int, ...]:
    return tuple(FACE_POINTS.index(index) for index in _SCHEME[name])


# Positions within the 130, feature by feature.
GROUPS: dict[str, tuple[int, ...]] = {name: _positions(name) for name in _SCHEME}
EYE_R, EYE_L, IRISES = GROUPS["eye_r"], GROUPS["eye_l"], GROUPS["irises"]
BROW_R, BROW_L, BROWS = GROUPS["brow_r"], GROUPS["brow_l"], GROUPS["brow_r"] + GROUPS["brow_l"]
NOSE, OVAL, SKIN = GROUPS["nose"], GROUPS["oval"], GROUPS["skin"]
LIPS_OUTER, LIPS_INNER = GROUPS["lips_outer"], GROUPS["lips_inner"]
LIPS = LIPS_OUTER + LIPS_INNER
CHIN = FACE_POINTS.index(152)

# Left/right partner of each of the 130. Found once by matching the mean face with its mirror
# image (an assignment, not nearest neighbours) and kept as a table.
MIRROR_130: tuple[int, ...] = (
    *range(16, 32), *range(0, 16), 33, 32, *range(42, 50), *range(34, 42),
    *range(50, 58), 59, 58, 61, 60, 63, 62,
    *range(74, 63, -1), *range(83, 74, -1), *range(94, 83, -1), *range(103, 94, -1),
    104, *range(121, 104, -1), 123, 122, 125, 124, 127, 126, 128, 129,
)  # fmt: skip


def eye_centres(landmarks: Tensor) -> Tensor:
    """Mean of each eye's 16 contour points: steadier than the iris, which moves with the gaze.

    landmarks: (..., 130, 2).  Returns (..., 2, 2): right eye, left eye.
    """
    return torch.stack([landmarks[..., EYE_R, :].mean(dim=-2), landmarks[..., EYE_L, :].mean(dim=-2)], dim=-2)


def eye_distance(landmarks: Tensor) -> Tensor:
    """Distance of the eye centres in pixels, (...): the unit in which landmark errors are told."""
    eyes = eye_centres(landmarks)
    return (eyes[..., 0, :] - eyes[..., 1, :]).norm(dim=-1)


def face_size(landmarks: Tensor) -> Tensor:
    """Longest side of the landmarks' bounding box in pixels, (...)."""
    return (landmarks.amax(dim=-2) - landmarks.amin(dim=-2)).amax(dim=-1)


def mirror_landmarks(landmarks: Tensor, width: int) -> Tensor:
    """The landmarks of the picture flipped left to right.  landmarks: (..., 130, 2)."""
    flipped = landmarks[..., MIRROR_130, :]
    return torch.stack([width - 1 - flipped[..., 0], flipped[..., 1]], dim=-1)
