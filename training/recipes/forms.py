"""A body operation in the form of a commercial tool (operations/body_forms.py), laid on one person.

The same operations as our pushes, by name and direction, with other windows and another ruler: u instead of the
shoulder width. Written down on a lattice, like all steps. Pixels, x then y.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mirrorppr_core.bodies.frames import Body, facing, frames_of
from mirrorppr_core.bodies.motion import region_of
from mirrorppr_core.bodies.pose_network import MEDIAPIPE_POSE
from mirrorppr_core.bodies.unit import measures, unit_of
from mirrorppr_core.operations.body_forms import form_displacement_at
from mirrorppr_core.operations.professional import LEAST_VISIBILITY

from .lattice import Lattice

_SPACING = 0.025  # u; the narrowest lobe is five times as wide
_EYES, _MOUTH = (2, 5), (9, 10)  # of MediaPipe's joints
_CHIN = 1.7  # from the eyes, in ways to the mouth
_LEAST_ACROSS = 0.9  # of the way to the mouth: eyes seen from the side are still so far apart


def body_of_pose(pose: Tensor, *, least: float = LEAST_VISIBILITY) -> Body:
    """pose: (33, 3) or (33, 4), x, y, z and visibility. Joints that are seen with less than `least` are not told."""
    joints = pose[list(MEDIAPIPE_POSE)]
    told = (joints[:, 3] >= least).float() if pose.shape[1] > 3 else torch.ones(len(joints))
    eyes, mouth = pose[list(_EYES), :2].mean(0), pose[list(_MOUTH), :2].mean(0)
    across = float((pose[_EYES[0], :2] - pose[_EYES[1], :2]).norm())
    across = max(across, _LEAST_ACROSS * float((mouth - eyes).norm()), 1.0)
    return Body(joints[:, :2], told, eyes, eyes + _CHIN * (mouth - eyes), across)


def form_on_lattice(
    pose: Tensor, *, operation: str, strength: float, side: str
) -> tuple[Lattice, tuple[float, float, float, float]]:
    """The displacements of a form, and the box outside which there are none; all zero on a body without a size."""
    body = body_of_pose(pose)
    unit = unit_of(measures(facing(body)))
    if unit is None:
        return Lattice(torch.zeros(1, 2, 2, 2), corner=(0.0, 0.0), spacing=(1.0, 1.0)), (0.0, 0.0, 1.0, 1.0)
    low, high = region_of(frames_of(facing(body), unit), unit)
    spacing = max(1.0, _SPACING * unit)
    columns, rows = (math.ceil(float(last - first) / spacing) + 1 for first, last in zip(low, high, strict=True))
    xs, ys = (torch.arange(count) * spacing + float(first) for count, first in ((columns, low[0]), (rows, low[1])))
    places = torch.stack([xs.expand(rows, -1), ys[:, None].expand(-1, columns)], dim=-1).flatten(0, 1)
    moved = form_displacement_at(places, body, unit, operation=operation, strength=strength, side=side)
    values = moved.T.reshape(1, 2, rows, columns).contiguous()
    values[..., [0, -1], :] = 0  # reading goes on with the border outside
    values[..., :, [0, -1]] = 0
    box = (float(low[0]), float(low[1]), float(xs[-1]), float(ys[-1]))
    return Lattice(values, corner=(float(low[0]), float(low[1])), spacing=(spacing, spacing)), box
