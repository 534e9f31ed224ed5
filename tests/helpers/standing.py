"""Somebody who stands straight, drawn as joints: for laws about bodies that need no picture."""

import torch
from torch import Tensor

from mirrorppr_core.bodies.frames import Body
from mirrorppr_core.bodies.pose_network import JOINTS
from mirrorppr_core.geometry.displacement import pixel_grid

STANDING = {
    "shoulder_r": (190, 200), "shoulder_l": (310, 200), "elbow_r": (175, 310), "elbow_l": (325, 310),
    "wrist_r": (170, 405), "wrist_l": (330, 405), "hip_r": (215, 370), "hip_l": (285, 370),
    "knee_r": (212, 510), "knee_l": (288, 510), "ankle_r": (210, 640), "ankle_l": (290, 640),
}  # fmt: skip
SIZE = (700, 500)


def person(*, untold: tuple[str, ...] = (), scale: float = 1.0, shift=(0.0, 0.0), **moved: tuple[float, float]) -> Body:
    """Someone who stands straight, eyes at (250, 100), 28 px apart."""
    joints = STANDING | moved
    points, told = torch.zeros(len(JOINTS), 2), torch.zeros(len(JOINTS))
    for name, place in joints.items():
        points[JOINTS.index(name)] = scale * torch.tensor(place, dtype=torch.float32) + torch.tensor(shift)
        told[JOINTS.index(name)] = float(name not in untold)
    eyes, chin = (scale * torch.tensor(p) + torch.tensor(shift) for p in ((250.0, 100.0), (250.0, 148.0)))
    return Body(points, told, eyes, chin, 28.0 * scale)


def grid(size=SIZE, step: int = 9) -> Tensor:
    """(N, 2) places."""
    return (pixel_grid(size[0] // step, size[1] // step) * step).flatten(2)[0].T.contiguous()
