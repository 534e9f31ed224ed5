"""Bodies that nobody has, for rehearsals without portraits: grey pictures with a coloured dot at each joint.

A joint's dot has the same colour on all of them, so the body stage has something to learn; nothing else is there.
"""

from __future__ import annotations

import torch

from mirrorppr_core.bodies.network import JOINTS

from .data import BodyPhoto

_PLACES = ((-2.5, 4.0), (2.5, 4.0), (-3.5, 7.0), (3.5, 7.0), (-4.0, 9.0), (4.0, 9.0), (-1.5, 10.0), (1.5, 10.0))
_UNIT_PX, _EYES, _SIZE, _DOT_PX = 11.0, (90.0, 50.0), (190, 180), 4


def drawn_bodies(count: int, *, seed: int = 0) -> list[BodyPhoto]:
    """`count` photos, one of each person, all of whole bodies."""
    generator = torch.Generator().manual_seed(seed)
    colours = torch.rand(len(JOINTS), 3, generator=torch.Generator().manual_seed(3)).mul(200).add(50).byte()
    return [_drawn(generator, colours, str(number)) for number in range(count)]


def _drawn(generator: torch.Generator, colours: torch.Tensor, identity: str) -> BodyPhoto:
    places = torch.tensor(_PLACES) + 0.3 * torch.randn(len(JOINTS), 2, generator=generator)
    joints = places * _UNIT_PX + torch.tensor(_EYES)
    pixels = torch.full((3, *_SIZE), 128, dtype=torch.uint8)
    for (x, y), colour in zip(joints.round().int().tolist(), colours, strict=True):
        pixels[:, y - _DOT_PX : y + _DOT_PX + 1, x - _DOT_PX : x + _DOT_PX + 1] = colour[:, None, None]
    return BodyPhoto(
        pixels=pixels,
        joints=joints,
        eyes=torch.tensor(_EYES),
        unit=_UNIT_PX,
        told=torch.ones(len(JOINTS), dtype=torch.bool),
        identity=identity,
        whole=True,
    )
