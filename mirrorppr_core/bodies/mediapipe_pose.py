"""Joints from MediaPipe Pose, where it is installed with its own model (mediapipe 0.10.21). Nothing is downloaded."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from .pose import Pose
from .pose_network import MEDIAPIPE_POSE

INSTALL = "pip install 'mediapipe==0.10.21' (Python 3.10-3.12), or use pose=mini"


def is_installed() -> bool:
    return find_spec("mediapipe") is not None


@cache
def _detector():
    try:
        import mediapipe
    except ImportError as error:
        raise ValueError(f'pose="mediapipe" needs MediaPipe installed ({error}): {INSTALL}') from error
    if not hasattr(mediapipe, "solutions"):
        raise ValueError(f"mediapipe {mediapipe.__version__} brings no model of its own: {INSTALL}")
    # Complexity 0 and 2 would be downloaded.
    return mediapipe.solutions.pose.Pose(static_image_mode=True, model_complexity=1)


def mediapipe_pose(image: Tensor) -> Pose | None:
    """The most visible person of a picture (1, 3, H, W) in [0, 1]; None where nobody is found.

    Raises ValueError where MediaPipe is not installed.
    """
    height, width = image.shape[-2:]
    pixels = (image[0, :3].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    found = _detector().process(pixels).pose_landmarks
    if found is None:
        return None
    rows = torch.tensor([(p.x * width - 0.5, p.y * height - 0.5, p.visibility) for p in found.landmark])
    rows = rows[list(MEDIAPIPE_POSE)]
    return Pose(points=rows[:, :2], told=rows[:, 2].clamp(0, 1), source="mediapipe")
