"""Bodies that nobody has, for rehearsals without portraits: grey pictures with a coloured dot at each joint.

A joint's dot has the same colour on all of them, so the body stage has something to learn; nothing else is there.
"""

from __future__ import annotations

import numpy as np
import torch

from mirrorppr_core.bodies.pose_network import JOINTS

from .data import PosePhoto

_PLACES = (
    (0.0, 0.6), (-0.5, 0.0), (0.5, 0.0), (-1.1, 0.3), (1.1, 0.3), (-2.5, 4.0), (2.5, 4.0), (-3.5, 7.0), (3.5, 7.0),
    (-4.0, 9.0), (4.0, 9.0), (-1.5, 10.0), (1.5, 10.0), (-1.6, 14.5), (1.6, 14.5), (-1.7, 19.0), (1.7, 19.0),
)  # fmt: skip
_UNIT_PX, _EYES, _SIZE, _DOT_PX = 11.0, (90.0, 30.0), (260, 180), 4


def drawn_bodies(count: int, *, seed: int = 0) -> list[PosePhoto]:
    """`count` photos, one of each person, all of whole bodies."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(len(JOINTS), 3, generator=torch.Generator().manual_seed(3)).mul(200).add(50).byte()
    return [_drawn(generator, colours, str(number)) for number in range(count)]


def _drawn(generator: torch.Generator, colours: torch.Tensor, identity: str) -> PosePhoto:
    places = torch.tensor(_PLACES) + 0.3 * torch.randn(len(JOINTS), 2, generator=generator)
    joints = places * _UNIT_PX + torch.tensor(_EYES)
    pixels = torch.full((3, *_SIZE), 128, dtype=torch.uint8)
    for (x, y), colour in reversed(list(zip(joints.round().int().tolist(), colours, strict=True))):
        pixels[:, y - _DOT_PX : y + _DOT_PX + 1, x - _DOT_PX : x + _DOT_PX + 1] = colour[:, None, None]
    num = len(JOINTS)
    return PosePhoto(
        file=f"drawn/{identity}",
        identity=identity,
        group="body",
        pixels=pixels,
        joints=joints.numpy(),
        weight=np.ones(num, dtype=np.float32),
        told=np.ones(num, dtype=np.float32),
        unsure=np.zeros(num, dtype=bool),
        face=np.array([*_EYES, 2.6 * _UNIT_PX], dtype=np.float32),
    )
