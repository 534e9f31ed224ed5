"""Whose joints to use for a face: given ones, our own network's or MediaPipe's; and the body that they make with it.

A limb moved in the wrong place is worse than one left alone: joints that cannot be right are not used (plausible.py).
Of given ones that is said; where hardly any of them can be right, they are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..faces.landmarks import CHIN, eye_centres
from ..faces.locator import Face, Locator
from ..geometry.similarity import fit_similarity
from ..images import reduce
from .frames import Body, facing
from .given import pose_at
from .head import LOOK_SIDE, Head, people_without_faces, usable
from .mediapipe_pose import is_installed, mediapipe_pose
from .plausible import contradicted, misfit, without_joints, without_limbs
from .pose import Pose, find_pose
from .pose_network import JOINTS, PoseNet
from .unit import measures, unit_of
from .words import named

SOURCES = ("auto", "mini", "mediapipe")
_REACH = 11.0  # face sizes around the face that are looked at
_WRONG = (
    "the joints given for {photo} cannot be this person's ({why}): give the pose of the same picture and person, "
    "or none"
)
_ELSEWHERE = "the body is seen elsewhere in the photo"
_EXCHANGED = "the joints given for {photo} have right and left exchanged: they are used the other way round"
_BEHIND = "{photo} shows the person from behind: right and left count as the picture shows them"
_FRONTAL = 0.4  # u between the shoulders, from which right and left can be told apart
_NOT_USED = "of the joints given for {photo} these cannot be right and are not used: {joints}"


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


@dataclass(frozen=True)
class Told:
    """The body of a face's person.  source: whose joints, one of pose.SOURCES; None where there are none to use.
    notes: on given joints that are not used."""

    body: Body
    source: str | None
    notes: tuple[str, ...] = ()


def told_body(choice: PoseChoice, net: PoseNet | None, photo: Tensor, face: Face, mean_face: Tensor, name: str) -> Told:
    """The joints of the face's person in a photo (1, C, H, W), those that can be right.

    name: of the photo.  Raises ValueError where given joints cannot be this person's.
    """
    pose = pose_of(choice, net, photo, face, name)
    body, dropped = body_of(pose, face, mean_face), ()
    why = misfit(body)
    seen = seen_pose(net, photo, face) if why is None and choice.given and net is not None else None
    if seen is not None:
        off = contradicted(body, in_sight(seen, photo))
        why, dropped = _ELSEWHERE if off.another_body else None, off.joints
    if why is not None:
        if choice.given:
            raise ValueError(_WRONG.format(photo=name, why=why))
        return Told(body_of(None, face, mean_face), None)
    used = without_limbs(without_joints(body, dropped))
    lost = [joint for i, joint in enumerate(JOINTS) if float(body.told[i]) > 0 and float(used.told[i]) == 0]
    notes = (_NOT_USED.format(photo=name, joints=named(lost)),) if lost and choice.given else ()
    if _backwards(used):
        notes += (
            (_BEHIND.format(photo=name),)
            if isinstance(face, Head)
            else (_EXCHANGED.format(photo=name),) * bool(choice.given)
        )
    return Told(used, None if pose is None else pose.source, notes)


def in_sight(pose: Pose, photo: Tensor) -> Pose:
    """Without joints beyond the photo's edge: those are guessed, and a guess contradicts nobody."""
    edge = pose.points.new_tensor([photo.shape[-1], photo.shape[-2]]) - 0.5
    inside = ((pose.points > -0.5) & (pose.points < edge)).all(-1)
    return replace(pose, told=pose.told * inside)


def _backwards(body: Body) -> bool:
    """Whether the person's right is on the right of the picture, as if seen from behind."""
    right, left, unit = body.joint("shoulder_r"), body.joint("shoulder_l"), unit_of(measures(body))
    if right is None or left is None or unit is None:
        return False
    return facing(body) is not body and float((right - left).norm()) > _FRONTAL * unit


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
    points, told = torch.zeros(len(JOINTS), 2), torch.zeros(len(JOINTS))
    if pose is not None:
        # Only our own network's numbers are probabilities; another's joint counts in full or not at all.
        sure = pose.told if pose.source == "mini" else torch.ones_like(pose.told)
        points, told = pose.points.nan_to_num(), torch.where(usable(pose), sure, torch.zeros_like(sure))
    size = float(fit_similarity(mean_face, face.landmarks).scale)
    return Body(points, told, eye_centres(face.landmarks).mean(0), face.landmarks[CHIN], size)
