"""Which of our own named body operations an exemplar shows, and the same one on another body.

A family of the bank (bodies/families.py) counts in u. Our own operations count in shoulder widths and hold on to the
joints themselves, so what they made is only repeated exactly by themselves. They have three unknowns here, the amount
on each side and how wide the windows are; where those few explain an exemplar as well as the bank with its many, the
exemplar was made so. Joints of the exemplar that are a little off are put where its motion says (pushed_joints.py).

Shapes: N places, 33 joints of MediaPipe Pose. Displacements are backward, in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..bodies.frames import LEAST_TOLD, Body, frames_of
from ..bodies.named import MOST, NamedBodyOperation
from ..bodies.pose_network import MEDIAPIPE_POSE
from ..bodies.unit import measures, unit_of
from .on_body import as_pose
from .professional import professional_displacement_at
from .professional_table import OPERATIONS
from .pushed_joints import placed_by_motion

_ON_BODY = tuple(name for name, operation in OPERATIONS.items() if operation.on_body)
_REACHES = (0.6, 0.8, 1.0, 1.25, 1.5)
_LIKELY, _FAR_FROM_IT = 2, 0.85  # operations whose joints are placed; not where more than this share is left
_LEAST_REACH, _MOST_REACH = 0.4, 2.2
_ALIKE = 0.25  # of the sum: sides that differ less are one amount
_SHOWN = 0.05  # of the other side's energy: a side with less lies outside the photo
_HIPS = 0.6  # of the shoulders' width
_MOUTH, _CORNER = 1 / 1.7, 0.33  # from the eyes, as a share of the way to the chin; eye distances beside the middle


class KnownPushes:
    """bodies.named.KnownOperations, of professional_table.py."""

    def explained(self, motion: Tensor, places: Tensor, body: Body) -> tuple[NamedBodyOperation, float] | None:
        """The operation that comes closest and its share of the motion's energy.  motion, places: (N, 2)."""
        moving = motion.abs().sum(1) > 0
        energy = float(motion.square().sum())
        if energy <= 0 or not bool(moving.any()):
            return None
        pose, answers = _as_pose(body), []
        for name in _ON_BODY:
            tried = [_solved(motion, places, pose, name, reach) for reach in _REACHES]
            answers += [one for one in tried if one is not None]
        if not answers:
            return None
        nearest: dict[str, tuple[NamedBodyOperation, float]] = {}
        for found, left in answers:
            if found.name not in nearest or left < nearest[found.name][1]:
                nearest[found.name] = (found, left)
        likely = sorted(nearest.values(), key=lambda one: one[1])[:_LIKELY]
        placed = [_placed(motion, places, pose, found) for found, left in likely if left < _FAR_FROM_IT * energy]
        found, left = min([*likely, *(one for one in placed if one is not None)], key=lambda one: one[1])
        return found, 1 - left / energy

    def motion_of(self, found: NamedBodyOperation, body: Body, places: Tensor) -> Tensor:
        """(N, 2) pixels; zero for what the body does not tell."""
        pose, total = _as_pose(body), torch.zeros_like(places)
        for side, amount in (("right", found.right), ("left", found.left)):
            one = _pushed(places, pose, found.name, found.reach, side)
            total = total if one is None else total + amount * one
        return total


def _placed(
    motion: Tensor, places: Tensor, pose: Tensor, found: NamedBodyOperation
) -> tuple[NamedBodyOperation, float] | None:
    """The same operation with the joints where the motion says that they are."""
    answers, energy = [], float(motion.square().sum())
    for start in {found.reach, 1.0}:
        placed, reach, doubt = placed_by_motion(motion, places, pose, found.name, start)
        solved = _solved(motion, places, placed, found.name, min(max(reach, _LEAST_REACH), _MOST_REACH))
        answers += [] if solved is None else [(solved[0], solved[1] + doubt * energy)]
    return min(answers, key=lambda one: one[1], default=None)


def _solved(
    motion: Tensor, places: Tensor, pose: Tensor, name: str, reach: float
) -> tuple[NamedBodyOperation, float] | None:
    """Both sides' best amounts, and the energy that they leave."""
    sides = [_pushed(places, pose, name, reach, side) for side in ("right", "left")]
    if all(one is None for one in sides):
        return None
    columns = torch.stack([torch.zeros_like(motion) if one is None else one for one in sides]).flatten(1)  # (2, 2 N)
    gram, wanted = columns @ columns.T, columns @ motion.flatten()
    if float(gram.diagonal().amax()) <= 0:  # all of it lies beside the photo
        return None
    shown = gram.diagonal() > _SHOWN * gram.diagonal().amax()
    ridge = torch.diag(torch.where(shown, 1e-6, 1e6) * gram.diagonal().amax())
    amounts = torch.linalg.solve(gram + ridge, wanted)
    left = float((motion.flatten() - amounts @ columns).square().sum())
    right_amount, left_amount = amounts.tolist()
    if max(abs(right_amount), abs(left_amount)) > MOST:
        return None
    if not bool(shown.all()):
        right_amount = left_amount = float(amounts[shown][0])
    elif abs(right_amount - left_amount) < _ALIKE * (abs(right_amount) + abs(left_amount)):
        right_amount = left_amount = (right_amount + left_amount) / 2
    return NamedBodyOperation(name=name, reach=reach, right=right_amount, left=left_amount), left


def _pushed(places: Tensor, pose: Tensor, name: str, reach: float, side: str) -> Tensor | None:
    """At +100; None where no joint of it is told."""
    pushes = OPERATIONS[name].sides()[side]
    if not any(bool((pose[list(push.landmarks), 3] > 0.5).all()) for push in pushes):
        return None
    return professional_displacement_at(places, None, pose, operation=name, strength=100.0, side=side, reach=reach)


def _as_pose(body: Body) -> Tensor:
    """(33, 4): the joints, visible or not, and the corners of the mouth from the head. A hip that cannot be told is
    where it would be of somebody upright, as for the bank's waist (frames.frames_of)."""
    pose = as_pose(body.points, (body.told >= LEAST_TOLD).float(), MEDIAPIPE_POSE)
    unit = unit_of(measures(body))
    if body.middle("hip") is None and unit is not None and "trunk" in (frames := frames_of(body, unit)):
        below, outward = frames["trunk"].ends()[1], frames["trunk"].outward
        width = float((pose[11, :2] - pose[12, :2]).norm())
        for joint, sign in ((24, -1.0), (23, 1.0)):  # outward of the trunk is to the person's left
            if pose[joint, 3] == 0:
                pose[joint, :2], pose[joint, 3] = below + sign * _HIPS / 2 * width * outward, 1.0
    down = (body.chin - body.eyes) / (body.chin - body.eyes).norm().clamp_min(1e-3)
    mouth, across = body.eyes + _MOUTH * (body.chin - body.eyes), torch.stack([down[1], -down[0]])
    for joint, sign in ((10, -1.0), (9, 1.0)):  # the person's right is to the left of the picture
        pose[joint, :2], pose[joint, 3] = mouth + sign * _CORNER * body.eye_distance * across, 1.0
    return pose
