"""The eight simulated retouches: which landmarks move, where to, and what holds still.

Landmark-Guided Local Warping (LLW) is how MirrorPPR (arXiv:2606.29308) makes its
simulated pairs. Every operation is a set of moving landmarks, a set of anchors that
stay, and one or two rings of landmarks whose convex hull bounds the edit. Indices are
MediaPipe FaceMesh's 478; no index both moves and anchors. The amount is

    amount = strength / 100 * (gain_plus if strength >= 0 else gain_minus)

B faces, K control points. Coordinates are pixels, x then y, y downwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MESH_POINTS = 478

# One moving group's (B, n, 2) points go in, the same points at their destination come out.
Move = Callable[[Tensor, "list[Tensor]", Tensor], "list[Tensor]"]


@dataclass(frozen=True)
class ControlPoints:
    """Where control points are (`source`) and where the edit puts them. Both (B, K, 2)."""

    source: Tensor
    destination: Tensor


@dataclass(frozen=True, kw_only=True)
class LLWOperation:
    """One named retouch. `plus` and `minus` say in a word what each sign does."""

    name: str
    plus: str
    minus: str
    gain_plus: float
    gain_minus: float
    moving: tuple[tuple[int, ...], ...]
    anchors: tuple[int, ...]
    mask: tuple[tuple[int, ...], ...]  # each ring's convex hull is one part of the edited region
    move: Move
    centre_is_anchor: bool = False  # the mean of the moving points holds still too

    def control_points(self, mesh: Tensor, strength: float | Tensor) -> ControlPoints:
        """mesh: (B, 478, 2).  strength: percent, one number or (B,).  K is fixed per operation."""
        strength = torch.as_tensor(strength, dtype=mesh.dtype, device=mesh.device)
        gain = torch.where(strength >= 0, self.gain_plus, self.gain_minus).to(mesh.dtype)
        amount = (strength / 100 * gain).reshape(-1, 1, 1).expand(len(mesh), 1, 1)
        groups = [mesh[:, list(group)] for group in self.moving]
        held = [mesh[:, list(self.anchors)]]
        if self.centre_is_anchor:
            held.append(torch.cat(groups, 1).mean(1, keepdim=True))
        return ControlPoints(
            source=torch.cat(groups + held, 1),
            destination=torch.cat(self.move(mesh, groups, amount) + held, 1),
        )

    def mask_rings(self, mesh: Tensor) -> list[Tensor]:
        """The landmarks whose hulls bound the edit, one (B, n, 2) per ring."""
        return [mesh[:, list(ring)] for ring in self.mask]

    def covered_rings(self, mesh: Tensor, control: ControlPoints) -> list[Tensor]:
        """The same with the places that moving landmarks leave and reach, so that none leaves its mask."""
        num_moving = sum(map(len, self.moving))
        moving = torch.cat([control.source[:, :num_moving], control.destination[:, :num_moving]], 1)
        rings = self.mask_rings(mesh)
        if len(rings) == 1:
            return [torch.cat([rings[0], moving], 1)]
        sizes = [len(group) for group in self.moving]  # two rings: each holds the group of its own side
        before, after = moving.chunk(2, 1)
        return [torch.cat(parts, 1) for parts in zip(rings, before.split(sizes, 1), after.split(sizes, 1), strict=True)]


def _scale_about_own_mean(mesh: Tensor, groups: list[Tensor], amount: Tensor) -> list[Tensor]:
    means = [points.mean(1, keepdim=True) for points in groups]
    return [mean + (points - mean) * (1 + amount) for points, mean in zip(groups, means, strict=True)]


def _shift_from_nose_root(mesh: Tensor, groups: list[Tensor], amount: Tensor) -> list[Tensor]:
    return [points + amount * (points.mean(1, keepdim=True) - mesh[:, [168]]) for points in groups]


def _shift_along_nose(mesh: Tensor, groups: list[Tensor], amount: Tensor) -> list[Tensor]:
    return [points + amount * (mesh[:, [1]] - mesh[:, [168]]) for points in groups]


def _scale_across_nose(mesh: Tensor, groups: list[Tensor], amount: Tensor) -> list[Tensor]:
    root = mesh[:, [168]]
    axis = _unit(mesh[:, [2]] - root)
    feet = [root + ((points - root) * axis).sum(-1, keepdim=True) * axis for points in groups]
    return [foot + (points - foot) * (1 + amount) for points, foot in zip(groups, feet, strict=True)]


def _shift_vertically(mesh: Tensor, groups: list[Tensor], amount: Tensor) -> list[Tensor]:
    # The free space below the lower lip, or above the upper one, is the yardstick.
    below = (mesh[:, [17], 1:] - mesh[:, [18], 1:]).abs()
    above = (mesh[:, [0], 1:] - mesh[:, [164], 1:]).abs()
    shift = amount * torch.where(amount >= 0, below, above)  # (B, 1, 1)
    return [points + torch.cat([torch.zeros_like(shift), shift], -1) for points in groups]


def _thicken(mesh: Tensor, groups: list[Tensor], amount: Tensor) -> list[Tensor]:
    upper, lower = groups
    thickness = torch.maximum(
        (mesh[:, [13]] - mesh[:, [0]]).norm(dim=-1, keepdim=True),
        (mesh[:, [14]] - mesh[:, [17]]).norm(dim=-1, keepdim=True),
    )
    return [
        upper + amount * thickness * _unit(mesh[:, [2]] - mesh[:, [13]]),
        lower + amount * thickness * _unit(mesh[:, [152]] - mesh[:, [14]]),
    ]


def _unit(vector: Tensor) -> Tensor:
    """A vector of no length stays zero."""
    return torch.nn.functional.normalize(vector, dim=-1)


_LIPS = (
    0, 13, 14, 17, 37, 39, 40, 61, 78, 80, 81, 82, 84, 87, 88, 91, 95, 146, 178, 181,
    185, 191, 267, 269, 270, 291, 308, 310, 311, 312, 314, 317, 318, 321, 324, 375,
    402, 405, 409, 415,
)  # fmt: skip
_MOUTH_ZONE = (18, 43, 57, 83, 92, 106, 164, 165, 167, 182, 186, 273, 287, 313, 322, 335, 391, 393, 406, 410)
_EYE_RING_R = (22, 23, 24, 25, 26, 27, 28, 29, 30, 56, 110, 112, 130, 190, 243, 247)
_EYE_RING_L = (252, 253, 254, 255, 256, 257, 258, 259, 260, 286, 339, 341, 359, 414, 463, 467)

_ALL = (
    LLWOperation(
        name="eye_resize", plus="enlarge", minus="shrink", gain_plus=0.25, gain_minus=0.20,
        moving=(
            (7, 33, 133, 144, 145, 153, 154, 155, 157, 158, 159, 160, 161, 163, 173, 246),
            (249, 263, 362, 373, 374, 380, 381, 382, 384, 385, 386, 387, 388, 390, 398, 466),
        ),
        anchors=(1, 168, 197, 6, 195, 4, 226, 446, 152, 10, 50, 280),
        mask=(_EYE_RING_R, _EYE_RING_L),
        move=_scale_about_own_mean,
    ),
    LLWOperation(
        name="eye_distance", plus="wider", minus="narrower", gain_plus=0.15, gain_minus=0.15,
        moving=(_EYE_RING_R, _EYE_RING_L),
        anchors=(1, 2, 98, 327, 10, 152, 234, 454, 13, 14, 78, 308, 168),
        mask=(
            (31, 113, 189, 221, 222, 223, 224, 225, 226, 228, 229, 230, 231, 232, 233, 244),
            (261, 342, 413, 441, 442, 443, 444, 445, 446, 448, 449, 450, 451, 452, 453, 464),
        ),
        move=_shift_from_nose_root,
    ),
    LLWOperation(
        name="nose_length", plus="longer", minus="shorter", gain_plus=0.15, gain_minus=0.15,
        moving=((1, 4, 19, 279, 49, 2, 98, 327, 456, 236, 94),),
        anchors=(
            168, 6, 197, 195, 33, 133, 362, 263, 185, 40, 39, 37, 0, 267, 269, 270, 409,
            116, 123, 345, 352,
        ),
        mask=((47, 128, 142, 164, 165, 167, 168, 193, 203, 244, 277, 357, 371, 391, 393, 417, 423, 464),),
        move=_shift_along_nose,
    ),
    LLWOperation(
        name="nose_alar", plus="widen", minus="narrow", gain_plus=0.25, gain_minus=0.25,
        moving=((49, 102, 64, 218, 129, 279, 331, 294, 438, 358),),
        anchors=(
            1, 2, 94, 19, 168, 6, 197, 195, 4, 0, 37, 267, 205, 50, 123, 116, 425, 280, 352, 345,
        ),
        mask=((195, 4, 279, 425, 331, 294, 327, 2, 94, 98, 64, 102, 205, 49),),
        move=_scale_across_nose,
    ),
    LLWOperation(
        name="nose_bridge", plus="widen", minus="narrow", gain_plus=0.30, gain_minus=0.25,
        moving=((3, 44, 45, 51, 122, 193, 196, 248, 274, 275, 281, 351, 417, 419),),
        anchors=(
            1, 2, 4, 5, 6, 19, 48, 64, 94, 98, 115, 168, 195, 197, 278, 294, 327, 344, 362,
            133, 359, 130, 123, 50, 116, 352, 280, 345,
        ),
        mask=(
            (
                9, 55, 97, 134, 164, 174, 188, 193, 220, 236, 237, 245, 285, 326, 363, 399, 412, 417, 440, 456,
                457, 465,
            ),
        ),
        move=_scale_across_nose,
    ),
    LLWOperation(
        name="mouth_position", plus="down", minus="up", gain_plus=0.8, gain_minus=0.8,
        moving=(_LIPS,),
        anchors=(
            2, 98, 327, 94, 19, 1, 152, 377, 148, 365, 136, 234, 454, 58, 288, 361, 132, 93,
            323, 45, 275,
        ),
        mask=(_MOUTH_ZONE,),
        move=_shift_vertically,
    ),
    LLWOperation(
        name="lip_thickness", plus="plump", minus="thin", gain_plus=0.4, gain_minus=0.3,
        moving=(
            (185, 40, 39, 37, 0, 267, 269, 270, 409),
            (146, 91, 181, 84, 17, 314, 405, 321, 375),
        ),
        anchors=(
            191, 80, 81, 82, 13, 312, 311, 310, 415, 14, 87, 88, 95, 178, 317, 318, 324, 402,
            61, 291, 2, 98, 327, 18, 200, 234, 454, 58, 288, 361, 132, 93, 323,
        ),
        mask=(_MOUTH_ZONE,),
        move=_thicken,
    ),
    LLWOperation(
        name="mouth_resize", plus="enlarge", minus="shrink", gain_plus=0.25, gain_minus=0.25,
        moving=(_LIPS,),
        anchors=(2, 98, 327, 205, 425, 152, 377, 148, 234, 454, 58, 288, 361, 132, 93, 323, 164),
        mask=(_MOUTH_ZONE,),
        move=_scale_about_own_mean,
        centre_is_anchor=True,
    ),
)  # fmt: skip

OPERATIONS: dict[str, LLWOperation] = {operation.name: operation for operation in _ALL}


def operation_named(name: str) -> LLWOperation:
    if name not in OPERATIONS:
        raise ValueError(f"there is no operation named {name!r}: use one of {', '.join(OPERATIONS)}")
    return OPERATIONS[name]
