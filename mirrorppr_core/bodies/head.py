"""People whose face is not found: small, turned away or covered. The joints say where the head is and how large.

    whole photo -> joints, nobody's in particular (pose.py), or given ones -> Head
    the square around the head, magnified -> the locator once more -> Face, where one is there after all

A Head is a Face that nobody saw: the mean face laid where it would be. It places what belongs to the body and keeps
the head still; nothing of a face is read from it or done to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.locator import Face, Locator
from ..faces.search import face_near
from ..geometry.similarity import Similarity
from ..images import reduce
from .frames import LEAST_TOLD, Body
from .mediapipe_pose import mediapipe_pose
from .pose import Pose, seen_joints, told_pose
from .pose_network import JOINTS, PoseNet
from .unit import measures, unit_of

LOOK_SIDE = 640  # longest side of the copy in which joints are looked for
# Of joints that our own network says it sees with less than this, most lie in the wrong place.
LEAST_OF = {"mini": 0.5}
_HEAD = ("nose", "eye_r", "eye_l", "ear_r", "ear_l")
_EYE_DISTANCE, _NECK = 0.2, 0.64  # u: between the eyes, and from the middle of the shoulders to the eyes (medians)
_FORESHORTENED = 0.8  # of the unit that the neck tells: what the other measures must reach
_LOOKED_FOR = 0.3  # probability from which a joint of the head is worth a look at what is there


@dataclass(frozen=True)
class Head(Face):
    """Somebody whose face was not found.  pose: the joints that tell of them; the rest says where the face would be."""

    pose: Pose


def usable(pose: Pose) -> Tensor:
    """(J,) which joints count, by what their source's probabilities mean."""
    return pose.points.isfinite().all(1) & (pose.told >= LEAST_OF.get(pose.source, LEAST_TOLD))


def head_of(pose: Pose, locator: Locator) -> Head | None:
    """Where this person's head is; None where the joints do not even tell how large the person is."""
    told = usable(pose)
    nowhere = torch.zeros(2)
    unit = unit_of(measures(Body(pose.points, pose.told * told, nowhere, nowhere, 1.0)))
    if unit is None:
        return None
    eyes, up = _eyes(pose.points, told, unit)
    if eyes is None:
        return None
    joints = [JOINTS.index(f"shoulder_{side}") for side in "rl"]
    shoulders = [pose.points[joint] for joint in joints if bool(told[joint])]
    if shoulders:  # from the side the shoulders tell little of the size; the neck does
        neck = float((sum(shoulders) / len(shoulders) - eyes).norm())
        unit = max(unit, _FORESHORTENED * neck / _NECK)
    rotation = torch.atan2(up[0], -up[1])
    placed = Similarity(torch.tensor(_EYE_DISTANCE * unit), rotation, eyes)
    landmarks, mesh = placed.apply(locator.mean_face), placed.apply(locator.mean_mesh)
    box = (*landmarks.amin(dim=0).tolist(), *landmarks.amax(dim=0).tolist())
    return Head(landmarks, mesh, score=0.0, disagreement=math.inf, box=box, pose=pose)


def people_without_faces(
    photo: Tensor, locator: Locator, net: PoseNet | None, given: Sequence[Pose], *, mediapipe: bool
) -> list[Face]:
    """Who is there in a photo (1, C, H, W) in which no face was found: faces after all, or heads, largest first.

    given: poses of the people in the photo; without any MediaPipe is asked, or the network.
    """
    poses, spots = list(given), []
    if not poses:
        factor = max(1, -(-max(photo.shape[-2:]) // LOOK_SIDE))
        copy = reduce(photo, factor)
        if mediapipe:
            found = mediapipe_pose(copy)
        elif net is not None:
            seen = seen_joints(net, copy, None)
            found = told_pose(seen)
            spots += _spot(_larger(seen.points, factor), seen.told >= _LOOKED_FOR)
        else:
            found = None
        poses = [] if found is None else [Pose(_larger(found.points, factor), found.told, found.source)]
    spots += [spot for pose in poses for spot in _spot(pose.points, usable(pose))]
    heads = [head for head in (head_of(pose, locator) for pose in poses) if head is not None]
    spots += [((head.box[0] + head.box[2]) / 2, (head.box[1] + head.box[3]) / 2, head.size_px) for head in heads]
    faces = face_near(locator, photo, spots)
    return sorted(faces or heads, key=lambda one: -one.size_px)


def _larger(points: Tensor, factor: int) -> Tensor:
    return (points + 0.5) * factor - 0.5


def _eyes(points: Tensor, told: Tensor, unit: float) -> tuple[Tensor | None, Tensor]:
    """Between the eyes, and the way up, (2,) each; the first is None where nothing tells."""
    at = {name: points[i] for i, name in enumerate(JOINTS) if bool(told[i])}
    shoulders = _middle(at, "shoulder")
    hips, up = _middle(at, "hip"), points.new_tensor([0.0, -1.0])
    eyes = _middle(at, "eye", either=True)
    for name in ("ear", "nose"):
        eyes = _middle(at, name, either=True) if eyes is None else eyes
    if shoulders is not None:
        below, above = (hips, shoulders) if eyes is None else (shoulders, eyes)
        if below is not None and float((above - below).norm()) > 1e-3:
            up = (above - below) / (above - below).norm()
        eyes = shoulders + _NECK * unit * up if eyes is None else eyes
    return eyes, _as_the_nose_points(at, up)


def _as_the_nose_points(at: dict[str, Tensor], up: Tensor) -> Tensor:
    """The way up of a head that is turned or bent: halfway between the neck's and that from the nose to the eyes.

    On people from the front to the side this is within 3 degrees of the face's own (training/LOG.md); the neck alone
    errs by 25 in profile.
    """
    eyes, nose = _middle(at, "eye", either=True), at.get("nose")
    if eyes is None or nose is None or float((eyes - nose).norm()) < 1e-3:
        return up
    between = up + (eyes - nose) / (eyes - nose).norm()
    return between / between.norm() if float(between.norm()) > 1e-3 else up


def _middle(at: dict[str, Tensor], name: str, *, either: bool = False) -> Tensor | None:
    """Between a name's two joints; either: one of them is enough."""
    known = [at[joint] for joint in (name, f"{name}_r", f"{name}_l") if joint in at]
    return sum(known) / len(known) if len(known) == 2 or (known and either) else None


def _spot(points: Tensor, told: Tensor) -> list[tuple[float, float, float]]:
    """Centre x, y and size of the face that two or more joints of a head tell of, or nothing."""
    joints = [JOINTS.index(name) for name in _HEAD]
    own = points[joints][told[joints]]
    if len(own) < 2:
        return []
    spread = float((own.amax(0) - own.amin(0)).norm())
    x, y = own.mean(0).tolist()
    return [(x, y, max(spread, 1.0))]
