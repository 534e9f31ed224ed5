"""Joints from others: OpenPose JSON, as DWPose and other detectors write it, and whose joints they are.

    {"canvas_width": 512, "canvas_height": 768, "people": [{"pose_keypoints_2d": [x, y, c, x, y, c, ...]}, ...]}

Body-18 (COCO with a neck), body-25 and COCO-17 are told apart by their length. Coordinates are pixels of the canvas or
fractions of it; either way they are scaled to the photo, so the canvas may be a smaller copy of it. A confidence of 0
means that the joint was not found.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..faces.locator import Face
from ..settings_file import parsed
from ..wording import brief
from .pose import Pose
from .pose_network import JOINTS

_BODY_18 = (
    "nose", None, "shoulder_r", "elbow_r", "wrist_r", "shoulder_l", "elbow_l", "wrist_l", "hip_r", "knee_r", "ankle_r",
    "hip_l", "knee_l", "ankle_l", "eye_r", "eye_l", "ear_r", "ear_l",
)  # fmt: skip
_BODY_25 = (
    "nose", None, "shoulder_r", "elbow_r", "wrist_r", "shoulder_l", "elbow_l", "wrist_l", None, "hip_r", "knee_r",
    "ankle_r", "hip_l", "knee_l", "ankle_l", "eye_r", "eye_l", "ear_r", "ear_l", *(None,) * 6,
)  # fmt: skip
_COCO_17 = (
    "nose", "eye_l", "eye_r", "ear_l", "ear_r", "shoulder_l", "shoulder_r", "elbow_l", "elbow_r", "wrist_l", "wrist_r",
    "hip_l", "hip_r", "knee_l", "knee_r", "ankle_l", "ankle_r",
)  # fmt: skip
LAYOUTS = {18: _BODY_18, 25: _BODY_25, 17: _COCO_17}
_ASPECT = 0.03  # by which canvas and photo may differ
_FRACTION = 1.5  # coordinates up to here are fractions of the canvas
_NEAR = 1.2  # face sizes from the middle of the face to the mean of a pose's face points
_HEAD = ("nose", "eye_r", "eye_l", "ear_r", "ear_l")


def poses_of(data: Any, size: tuple[int, int], name: str = "the pose") -> tuple[Pose, ...]:
    """Everybody in an OpenPose dictionary, or in a list with one of them.  size: H, W of the photo.

    name: how the user knows it.  Raises ValueError for what is no such pose, or belongs to another picture.
    """
    frame = _frame(data, name)
    height, width = size
    canvas = frame.get("canvas_width"), frame.get("canvas_height")
    if not all(isinstance(v, int | float) and 0 < v < 1e9 for v in canvas):
        wide, high = (brief(repr(v), 40) for v in canvas)
        raise ValueError(
            f"{name} has canvas_width={wide} and canvas_height={high}: need the size of the picture that "
            "the pose was found in"
        )
    if abs(math.log((canvas[0] / canvas[1]) / (width / height))) > _ASPECT:
        raise ValueError(
            f"{name} is of a {canvas[0]:g}x{canvas[1]:g} picture but the photo is {width}x{height}: find the pose in "
            "this photo, uncropped"
        )
    people = frame.get("people")
    if not isinstance(people, list) or not people:
        raise ValueError(f"{name} holds nobody: find the pose in a photo that shows the person, or disconnect it")
    found = [_person(person, canvas, (width, height), name) for person in people]
    if not any(bool((pose.told > 0).any()) for pose in found):
        raise ValueError(f"{name} tells no joint of anybody: find the pose again, or disconnect it")
    return tuple(found)


def read_poses(path: Path, size: tuple[int, int]) -> tuple[Pose, ...]:
    """The poses of a JSON file.  size: H, W of its photo.  Raises FileNotFoundError or ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}. Check the path of the pose.")
    try:
        data = parsed(path.read_bytes(), "its text")
    except ValueError as error:
        raise ValueError(f"{path.name} is no JSON ({error}): write the pose as OpenPose JSON") from error
    return poses_of(data, size, path.name)


def pose_at(poses: Sequence[Pose], face: Face) -> Pose | None:
    """The pose whose head is at this face, or None."""
    x0, y0, x1, y1 = face.box
    middle, best = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2]), (_NEAR, None)
    for pose in poses:
        head = [JOINTS.index(name) for name in _HEAD if float(pose.told[JOINTS.index(name)]) > 0]
        shoulders = [JOINTS.index(name) for name in ("shoulder_r", "shoulder_l")]
        if head:
            place = pose.points[head].mean(0)
        elif float(pose.told[shoulders].amin()) > 0:  # a face and a half above the shoulders
            place = pose.points[shoulders].mean(0) - torch.tensor([0.0, 1.1 * face.size_px])
        else:
            continue
        away = float((place - middle).norm()) / face.size_px
        if away < best[0]:
            best = (away, pose)
    return best[1]


def _frame(data: Any, name: str) -> dict:
    """The one dictionary: of a single picture, or the first and only of a batch."""
    if isinstance(data, list) and len(data) == 1:
        data = data[0]
    if isinstance(data, list):
        raise ValueError(f"{name} is of {len(data)} pictures: give the pose of one photo")
    if not isinstance(data, dict):
        raise ValueError(f"{name} is {type(data).__name__}: need OpenPose JSON with canvas_width and people")
    return data


def _person(person: Any, canvas: Sequence[float], size: tuple[int, int], name: str) -> Pose:
    flat = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
    flat = [] if flat is None else flat
    if not isinstance(flat, list) or len(flat) % 3 or (flat and len(flat) // 3 not in LAYOUTS):
        raise ValueError(
            f"{name} has a person with {len(flat) if isinstance(flat, list) else type(flat).__name__} keypoint values: "
            f"need x, y and confidence of {', '.join(map(str, sorted(LAYOUTS)))} points"
        )
    points, told = torch.zeros(len(JOINTS), 2), torch.zeros(len(JOINTS))
    if any(isinstance(one, bool) or not isinstance(one, int | float) for one in flat):
        raise ValueError(f"{name} has keypoints that are no numbers: find the pose again")
    if flat:
        try:
            rows = torch.tensor(flat, dtype=torch.float32).view(-1, 3)
        except (TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise ValueError(f"{name} has keypoints that are no numbers: {error}") from error
        fill_in(rows, LAYOUTS[len(rows)], canvas, size, points, told)
    return Pose(points=points, told=told, source="given")


def fill_in(
    rows: Tensor, layout: Sequence[str | None], canvas: Sequence[float], size: tuple[int, int], points: Tensor,
    told: Tensor,
) -> None:  # fmt: skip
    """Write rows (K, 3) of x, y and confidence into points and told."""
    usable = rows.isfinite().all(1) & (rows[:, 2] > 0) & (rows[:, :2] != 0).any(1)
    fractions = bool(usable.any()) and float(rows[usable, :2].abs().amax()) <= _FRACTION
    extent = rows.new_tensor([1.0, 1.0] if fractions else [canvas[0], canvas[1]])
    for row, name, use in zip(rows, layout, usable.tolist(), strict=True):
        if name is not None and use:
            points[JOINTS.index(name)] = row[:2] / extent * rows.new_tensor([size[0], size[1]]) - 0.5
            told[JOINTS.index(name)] = row[2].clamp(0, 1)
