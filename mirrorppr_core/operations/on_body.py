"""Sliders of the body on a photo: the professional body operations on joints that were found.

The operations are written for MediaPipe Pose's 33 landmarks (professional_table.py). Joints are what our own network
tells; the corners of the mouth, which some operations measure from, are the face's. What was not told counts as not
visible, and an operation whose parts nobody sees is refused with that reason.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..geometry.displacement import resize_displacement
from ..geometry.field import Field
from ..stopping import stop_if_asked
from .professional import NUM_POSE, professional_displacement
from .sliders import Amount

_SIDE = 640  # of the copy on which the smooth motion is computed
_MOUTH_CORNERS = ((10, 61), (9, 291))  # of the pose, of the face's mesh


def body_field(
    amounts: Sequence[Amount], pose: Tensor | None, mesh: Tensor, size: tuple[int, int], *, strength: float
) -> Field:
    """The sum of body sliders as a field.  pose: (33, 4) x, y, -, visibility, or None.  mesh: (478, 2).

    Raises ValueError where the photo does not show the body.
    """
    if pose is None:
        raise ValueError(
            f"{amounts[0].name} moves the body, and its joints cannot be told in this photo: use a photo that shows "
            "the shoulders, or set the body's sliders to 0"
        )
    factor = max(1.0, max(size) / _SIDE)
    small = (round(size[0] / factor), round(size[1] / factor))
    scale = pose.new_tensor([small[1] / size[1], small[0] / size[0]])
    seen = pose.clone()
    for own, on_face in _MOUTH_CORNERS:
        seen[own] = torch.cat([mesh[on_face], mesh.new_tensor([0.0, 1.0])])
    seen[:, :2] = (seen[:, :2] + 0.5) * scale - 0.5
    total = pose.new_zeros(1, 2, *small)
    for one in amounts:
        stop_if_asked()
        total += professional_displacement(
            None, seen, small, operation=one.operation, strength=one.percent, side=one.side
        )
    dense = resize_displacement(total * strength, *size)
    stop_if_asked()
    return Field.from_dense(dense)


def as_pose(points: Tensor, told: Tensor, places: Sequence[int]) -> Tensor:
    """Joints (J, 2) in pixels and which of them are told (J,) -> (33, 4), at these places among the 33."""
    pose = points.new_zeros(NUM_POSE, 4)
    pose[list(places), :2] = points
    pose[list(places), 3] = told.to(pose)
    return pose
