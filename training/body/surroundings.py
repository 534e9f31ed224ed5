"""Other surroundings for the people whom the pose network learns from: another background, another photo's light.

    other background   what lies beyond a generous outline of the person is replaced; the outline is drawn around the
                       joints (capsules along the bones, as wide as loose clothes), soft at its edge
    another's light    means and spreads of the colour channels go part of the way to those of another picture

There are few real photos, and a network learns their rooms by heart; renders all have the light of one studio.

Places are in the square's frame, [-1, 1] from edge to edge; S pixels a side; J joints of JOINTS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.bodies.pose_network import JOINTS

from .data import PosePhoto

AT = {name: place for place, name in enumerate(JOINTS)}
# Ends and radius, in torsos, of the capsules: generous, so that clothes and hair stay.
CAPSULES = tuple(
    (first, second, radius)
    for first, second, radius in (
        ("shoulder_r", "shoulder_l", 0.32), ("hip_r", "hip_l", 0.34), ("nose", "ear_r", 0.42), ("nose", "ear_l", 0.42),
        *((f"shoulder_{side}", f"hip_{side}", 0.32) for side in "rl"),
        *((f"shoulder_{side}", f"elbow_{side}", 0.26) for side in "rl"),
        *((f"elbow_{side}", f"wrist_{side}", 0.24) for side in "rl"),
        *((f"hip_{side}", f"knee_{side}", 0.34) for side in "rl"),
        *((f"knee_{side}", f"ankle_{side}", 0.28) for side in "rl"),
    )
)  # fmt: skip
HAND_FOOT = 0.34  # of a torso around wrists and ankles: hands and feet reach further than their joints
EDGE = (0.04, 0.3)  # of a torso: width of the soft edge, from ... to
TRUNK = tuple(AT[f"{part}_{side}"] for part in ("shoulder", "hip") for side in "rl")


def other_background(
    colour: Tensor, places: Tensor, known: Tensor, torso: float, others: Sequence[PosePhoto], rng: np.random.Generator
) -> Tensor:
    """colour (3, S, S) with something else behind the person; unchanged where the trunk is not known.

    places: (J, 2).  known: (J,) bool, whose place is known.  torso: its length in the frame.
    """
    width, edge = float(np.exp(rng.uniform(-0.1, 0.6))), float(rng.uniform(*EDGE))  # no outline to learn joints from
    mask = person_mask(places, known, torso, colour.shape[-1], width=width, edge=edge)
    if mask is None:
        return colour
    return torch.lerp(_scenery(colour.shape[-1], others, rng), colour, mask)


def person_mask(
    places: Tensor, known: Tensor, torso: float, size: int, *, width: float = 1.0, edge: float = 0.1
) -> Tensor | None:
    """(size, size): 1 on the person, 0 beyond a generous outline. None where the trunk is not known.

    width: factor of the outline's distance from the bones.  edge: width of its soft edge in torsos.
    """
    if not bool(known[list(TRUNK)].all()) or torso < 0.1:
        return None
    u = (torch.arange(size) + 0.5) * 2 / size - 1
    distance = torch.full((size, size), torch.inf)  # to the outline, in torsos; negative inside
    for first, second, radius in CAPSULES:
        a, b = AT[first], AT[second]
        if known[a] and known[b]:
            distance = torch.minimum(distance, _from_bone(u, places[a], places[b]) / torso - width * radius)
    for name in ("wrist_r", "wrist_l", "ankle_r", "ankle_l"):
        if known[AT[name]]:
            end = places[AT[name]]
            distance = torch.minimum(distance, _from_bone(u, end, end) / torso - width * HAND_FOOT)
    return (0.5 - distance / edge).clamp(0, 1)


def _from_bone(u: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """(S, S) distance of each place of the frame from the line between two joints."""
    bone = end - start
    x, y = u[None] - start[0], u[:, None] - start[1]
    along = ((x * bone[0] + y * bone[1]) / bone.square().sum().clamp_min(1e-6)).clamp(0, 1)
    return (x - along * bone[0]).square_().add_((y - along * bone[1]).square_()).sqrt_()


def _scenery(size: int, others: Sequence[PosePhoto], rng: np.random.Generator) -> Tensor:
    """(3, S, S): what is beside somebody else, or a small part of a picture enlarged, or one colour that fades."""
    kind = rng.random()
    if kind < 0.75:
        photo = others[int(rng.integers(len(others)))]
        height, width = photo.pixels.shape[-2:]
        beside = strip_beside(photo) if kind < 0.5 else None
        if beside is None:
            side = max(8, int(min(height, width) * rng.uniform(0.12, 0.4)))
            left, top = int(rng.integers(width - side + 1)), int(rng.integers(height - side + 1))
            part = photo.pixels[:, top : top + side, left : left + side]
        else:
            part = photo.pixels[:, :, beside[0] : beside[1]]
        return F.interpolate(part[None].float() / 255, (size, size), mode="bilinear", align_corners=False)[0]
    corners = torch.from_numpy(rng.random((1, 3, 2, 2), dtype=np.float32))
    spread = float(rng.uniform(0, 0.6))
    corners = torch.lerp(corners.mean((2, 3), keepdim=True), corners, spread)
    return F.interpolate(corners, (size, size), mode="bilinear", align_corners=True)[0]


def strip_beside(photo: PosePhoto) -> tuple[int, int] | None:
    """First and last column of the wider strip beside the person; None where there is none of an eighth."""
    width = photo.pixels.shape[-1]
    points = photo.joints[photo.weight > 0]
    if len(points) < 4:
        return None
    margin = 0.25 * photo.torso
    left, right = int(points[:, 0].min() - margin), int(points[:, 0].max() + margin) + 1
    strip = (0, left) if left > width - right else (right, width)
    return strip if strip[1] - strip[0] >= max(8, width // 8) else None


def in_anothers_light(colour: Tensor, other: PosePhoto, rng: np.random.Generator) -> Tensor:
    """colour (3, S, S) with its channels' means and spreads part of the way to those of another picture."""
    pixels = other.half.flatten(1)[:, ::7].float() / 255
    flat = colour.flatten(1)
    mean, spread = flat.mean(1, keepdim=True), flat.std(1, keepdim=True).clamp_min(0.02)
    gain = (pixels.std(1, keepdim=True) / spread).clamp(0.5, 2)
    moved = (flat - mean) * gain + pixels.mean(1, keepdim=True)
    return torch.lerp(flat, moved, float(rng.uniform(0.2, 1))).view_as(colour).clamp(0, 1)
