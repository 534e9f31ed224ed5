"""Whose joints to use for a face: given ones, our own network's or MediaPipe's; and whether they fit that person.

A pose that does not fit the face is not used: a limb moved in the wrong place is worse than one left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..faces.locator import Face, Locator
from ..geometry.similarity import fit_similarity
from ..images import reduce
from .frames import Body
from .given import pose_at
from .head import LOOK_SIDE, Head, people_without_faces, usable
from .mediapipe_pose import is_installed, mediapipe_pose
from .pose import Pose, find_pose
from .pose_network import JOINTS, PoseNet
from .unit import measures, unit_of

SOURCES = ("auto", "mini", "mediapipe")
_REACH = 11.0  # face sizes around the face that are looked at
_CHIN = 1.7  # eye distances below the eyes
_NECK = (0.6, 7.0)  # from the eyes to the middle of the shoulders, in eye distances
_UNIT = (1.8, 14.0)  # u in eye distances: children have 3 to 4, adults 5 to 7, foreshortened faces more


@dataclass(frozen=True)
class PoseChoice:
    """Where a photo's joints come from.  source: one of SOURCES; auto is MediaPipe where that is installed.
    given: of the people in the photo; where there are any, they count."""

    source: str = "auto"
    given: tuple[Pose, ...] = ()

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"pose={self.source!r}: use one of {', '.join(SOURCES)}")


AUTO = PoseChoice()


def pose_of(choice: PoseChoice, net: PoseNet | None, photo: Tensor, face: Face, name: str) -> Pose | None:
    """The joints of the face's person in a photo (1, C, H, W); None where nobody can tell.

    name: of the photo.  Raises ValueError where joints were given and none of them are this face's, or where MediaPipe
    was asked for and is not there.
    """
    if isinstance(face, Head):
        return face.pose
    if choice.given:
        found = pose_at(choice.given, face)
        if found is None:
            raise ValueError(
                f"the pose given for {name} holds {len(choice.given)} people and none at the face that is meant: give "
                "the pose of the same picture, or none"
            )
        return found
    if choice.source == "mediapipe" or (choice.source == "auto" and is_installed()):
        return seen_pose(None, photo, face)
    return None if net is None else seen_pose(net, photo, face)


def without_faces(choice: PoseChoice, net: PoseNet | None, photo: Tensor, locator: Locator) -> list[Face]:
    """Who is there in a photo (1, C, H, W) in which no face was found, largest first."""
    by_mediapipe = choice.source == "mediapipe" or (choice.source == "auto" and is_installed())
    return people_without_faces(photo, locator, net, choice.given, mediapipe=by_mediapipe)


def seen_pose(net: PoseNet | None, photo: Tensor, face: Face) -> Pose | None:
    """As a network sees the joints of the face's person; without one, MediaPipe."""
    height, width = photo.shape[-2:]
    x0, y0, x1, y1 = face.box
    away = _REACH * face.size_px
    left, top = max(0, int((x0 + x1) / 2 - away)), max(0, int((y0 + y1) / 2 - away))
    right, bottom = min(width, int((x0 + x1) / 2 + away) + 1), min(height, int((y0 + y1) / 2 + away) + 1)
    factor = max(1, -(-max(right - left, bottom - top) // LOOK_SIDE))
    copy, corner = reduce(photo[..., top:bottom, left:right], factor), torch.tensor([left, top])

    def in_copy(points: Tensor) -> Tensor:
        return (points - corner + 0.5) / factor - 0.5

    if net is None:
        pose = mediapipe_pose(copy)
        pose = None if pose is None else pose_at((pose,), _moved(face, in_copy))
    else:
        pose = find_pose(net, copy, _moved(face, in_copy))
    return None if pose is None else replace(pose, points=(pose.points + 0.5) * factor - 0.5 + corner)


def _moved(face: Face, place: Callable[[Tensor], Tensor]) -> Face:
    """The face in a copy of the photo.  place: photo pixels (N, 2) -> pixels of the copy."""
    x0, y0, x1, y1 = face.box
    (a, b), (c, d) = place(torch.tensor([[x0, y0], [x1, y1]])).tolist()
    return replace(face, landmarks=place(face.landmarks), mesh=place(face.mesh), box=(a, b, c, d))


def body_of(pose: Pose | None, face: Face, mean_face: Tensor) -> Body:
    """Face and joints as one body; without a pose nothing but the head can be told."""
    placed = fit_similarity(mean_face, face.landmarks)
    down = torch.stack([-torch.sin(placed.rotation), torch.cos(placed.rotation)])
    points, told = torch.zeros(len(JOINTS), 2), torch.zeros(len(JOINTS))
    if pose is not None:
        # Only our own network's numbers are probabilities; another's joint counts in full or not at all.
        sure = pose.told if pose.source == "mini" else torch.ones_like(pose.told)
        points, told = pose.points.nan_to_num(), torch.where(usable(pose), sure, torch.zeros_like(sure))
    size = float(placed.scale)
    return Body(points, told, placed.translation, placed.translation + _CHIN * size * down, size)


def misfit(body: Body) -> str | None:
    """Why these joints cannot be this face's person; None if they can."""
    shoulders = body.middle("shoulder")
    if shoulders is not None:
        neck = float((shoulders - body.eyes).norm()) / body.eye_distance
        if not _NECK[0] <= neck <= _NECK[1]:
            return f"the shoulders lie {neck:.1f} eye distances from the eyes"
    unit = unit_of(measures(body))
    if unit is not None and not _UNIT[0] <= unit / body.eye_distance <= _UNIT[1]:
        return f"the body would be {unit / body.eye_distance / 5.5:.1f} times as large as the face says"
    return None
