"""Which of our own named body operations an exemplar shows, and the same one on another body.

A family of the bank (bodies/families.py) counts in u. Our own operations count in shoulder widths and hold on to the
joints themselves, so what they made is only repeated exactly by themselves. They have three unknowns here, the amount
on each side and how wide the windows are; where those few explain an exemplar as well as the bank with its many, the
exemplar was made so.

Shapes: N places, 33 joints of MediaPipe Pose. Displacements are backward, in pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..bodies.frames import LEAST_TOLD, Body
from ..bodies.named import MOST, NamedBodyOperation
from ..bodies.pose_network import MEDIAPIPE_POSE
from .on_body import as_pose
from .professional import professional_displacement_at
from .professional_table import OPERATIONS

_ON_BODY = tuple(name for name, operation in OPERATIONS.items() if operation.on_body)
_REACHES = (0.6, 0.8, 1.0, 1.25, 1.5)
_FINER = (0.94, 1.06)  # times the best one, twice
_ALIKE = 0.25  # of the sum: sides that differ less are one amount
_SHOWN = 0.05  # of the other side's energy: a side with less lies outside the photo
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
        found, left = max(answers, key=lambda one: -one[1])
        for _ in range(2):
            near = [_solved(motion, places, pose, found.name, found.reach * factor) for factor in _FINER]
            found, left = min([(found, left), *(one for one in near if one is not None)], key=lambda one: one[1])
        return found, 1 - left / energy

    def motion_of(self, found: NamedBodyOperation, body: Body, places: Tensor) -> Tensor:
        """(N, 2) pixels; zero for what the body does not tell."""
        pose, total = _as_pose(body), torch.zeros_like(places)
        for side, amount in (("right", found.right), ("left", found.left)):
            one = _pushed(places, pose, found.name, found.reach, side)
            total = total if one is None else total + amount * one
        return total


def _solved(
    motion: Tensor, places: Tensor, pose: Tensor, name: str, reach: float
) -> tuple[NamedBodyOperation, float] | None:
    """Both sides' best amounts, and the energy that they leave."""
    sides = [_pushed(places, pose, name, reach, side) for side in ("right", "left")]
    if all(one is None for one in sides):
        return None
    columns = torch.stack([torch.zeros_like(motion) if one is None else one for one in sides]).flatten(1)  # (2, 2 N)
    gram, wanted = columns @ columns.T, columns @ motion.flatten()
    shown = gram.diagonal() > _SHOWN * gram.diagonal().amax()
    ridge = torch.diag(torch.where(shown, 1e-6, 1e6) * gram.diagonal().amax().clamp_min(1e-9))
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
    """(33, 4): the joints, visible or not, and the corners of the mouth from the head."""
    pose = as_pose(body.points, (body.told >= LEAST_TOLD).float(), MEDIAPIPE_POSE)
    down = (body.chin - body.eyes) / (body.chin - body.eyes).norm().clamp_min(1e-3)
    mouth, across = body.eyes + _MOUTH * (body.chin - body.eyes), torch.stack([down[1], -down[0]])
    for joint, sign in ((10, -1.0), (9, 1.0)):  # the person's right is to the left of the picture
        pose[joint, :2], pose[joint, 3] = mouth + sign * _CORNER * body.eye_distance * across, 1.0
    return pose
