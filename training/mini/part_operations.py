"""Part operations: random moves of random parts of a face, in units of that part.

A part is one of PARTS, or the landmarks around a random one. Its move is affine (scale, shift or both) with a random
soft reach around it, mirrored to the other side of the face most of the time. They stand for what tools that we do not
know may do: the method's operations and the professional ones are all of this kind.
Shapes: B batch, N cells a side, K landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import BROW_R, BROWS, EYE_L, EYE_R, FACE_POINTS, LIPS, NOSE, OVAL

from .view_batches import cell_grid, flip_points, rand


def _rows(*mesh_indices: int) -> tuple[int, ...]:
    return tuple(FACE_POINTS.index(i) for i in mesh_indices)


# Parts that a part operation may move. One-sided ones are used alone or together with their mirror image.
PARTS: dict[str, tuple[int, ...]] = {
    "eye": EYE_R, "eyes": EYE_R + EYE_L, "brow": BROW_R, "brows": BROWS, "eye_and_brow": EYE_R + BROW_R,
    "upper_lid": _rows(173, 157, 158, 159, 160, 161), "eye_corner": _rows(33, 7, 246, 161, 163),
    "inner_eye_corner": _rows(133, 173, 155, 154, 157),
    "nose": NOSE, "nose_tip": _rows(5, 4, 1, 2), "nose_bridge": _rows(168, 6, 197, 195),
    "nose_wings": _rows(98, 327, 129, 358, 64, 294), "nose_wing": _rows(98, 129, 64),
    "mouth": LIPS, "upper_lip": _rows(185, 40, 39, 37, 0, 267, 269, 270, 409, 82, 13, 312),
    "lower_lip": _rows(146, 91, 181, 84, 17, 314, 405, 321, 375, 87, 14, 317),
    "mouth_corner": _rows(61, 78, 95, 191, 146, 185), "mouth_and_nose": LIPS + NOSE,
    "chin": _rows(152, 176, 400), "jaw": _rows(172, 150, 176), "mandible": _rows(132, 172),
    "cheek": _rows(50, 205, 101),
    "cheekbone": _rows(234, 132, 50), "temple": _rows(162, 54, 234),
    "forehead": _rows(10, 151, 9, 67, 297), "face": OVAL,
    "lower_face": _rows(152, 176, 150, 172, 132, 400, 379, 397, 361),
}  # fmt: skip
_SIDED = ("eye", "brow", "eye_and_brow", "upper_lid", "eye_corner", "inner_eye_corner", "nose_wing", "mouth_corner",
          "jaw", "mandible", "cheek", "cheekbone", "temple")  # fmt: skip
_SMALLEST = 0.12  # half extent of a part, in eye distances: a point has none of its own


@dataclass(frozen=True)
class PartOperations:
    """One for each sample of a batch."""

    points: Tensor  # (B, K) which landmarks are the part
    linear: Tensor  # (B, 2, 2)
    shift: Tensor  # (B, 2) in units of the part's size
    reach: Tensor  # (B,) of the part's half extent
    both: Tensor  # (B,) mirrored to the other side too
    power: Tensor  # (B,) of the window

    def motion(self, shape: Tensor, points: Tensor, eye_distance: float) -> Tensor:
        """The operations on faces with these shape maps (B, 2, N, N) and landmarks (B, K, 2), both in cells.

        -weight * (linear (p - centre) + shift * size), (B, 2, N, N) cells; eye_distance in cells too.
        """
        n, turn = shape.shape[-1], torch.tensor([-1.0, 1.0]).view(2, 1, 1)
        straight = shape + cell_grid(n)  # where each cell lies on the face, similarity removed
        motion = self._one_side(straight, points, eye_distance)
        mirrored = flip_points(points, torch.ones(len(points), dtype=torch.bool), n)
        flipped = straight.flip(-1) * turn + torch.tensor([n - 1.0, 0.0]).view(2, 1, 1)
        other = self._one_side(flipped, mirrored, eye_distance).flip(-1) * turn
        return motion + other * self.both.view(-1, 1, 1, 1)

    def _one_side(self, straight: Tensor, points: Tensor, eye_distance: float) -> Tensor:
        inside = self.points[..., None]  # (B, K, 1)
        centre = (points * inside).sum(1) / inside.sum(1)
        high = points.masked_fill(~inside, -1e9).amax(1)
        low = points.masked_fill(~inside, 1e9).amin(1)
        half = ((high - low) / 2).clamp(min=_SMALLEST * eye_distance)
        size = half.mean(1, keepdim=True)
        offset = straight - centre[..., None, None]
        radius = (offset / (half * self.reach[:, None])[..., None, None]).square().sum(1, keepdim=True)
        weight = (1 - radius).clamp(min=0) ** self.power.view(-1, 1, 1, 1)
        move = torch.einsum("bij,bjhw->bihw", self.linear, offset) + (self.shift * size)[..., None, None]
        return -weight * move


def draw_part_operations(
    g: torch.Generator, size: int, template: Tensor, *, view_size: int, eye_distance: float, any_part: float
) -> PartOperations:
    """template: (K, 2) landmarks of the mean face in a view of view_size cells.  any_part: share of random parts."""
    listed = torch.zeros(len(PARTS), len(FACE_POINTS), dtype=torch.bool)
    for row, points in enumerate(PARTS.values()):
        listed[row, list(points)] = True
    part = torch.randint(len(PARTS), (size,), generator=g)
    middle = template[torch.randint(len(FACE_POINTS), (size,), generator=g)]  # (B, 2)
    radius = eye_distance * (0.12 + 0.4 * rand(g, size, 1))
    near = (template - middle[:, None]).norm(dim=-1) < radius  # (B, K)
    aside = (middle[:, 0] - (view_size - 1) / 2).abs() > radius[:, 0]
    anywhere = rand(g, size) < any_part
    sided = torch.where(anywhere, aside, torch.tensor([name in _SIDED for name in PARTS])[part])
    linear = (rand(g, size, 2, 2) - 0.5) * torch.tensor([[0.5, 0.16], [0.16, 0.5]])
    kind = torch.randint(4, (size,), generator=g)  # scale, shift, both, uniform scale
    uniform = linear[:, 0, 0, None, None] * torch.eye(2)
    linear = torch.where((kind == 3)[:, None, None], uniform, linear) * (kind != 1)[:, None, None]
    return PartOperations(
        points=torch.where(anywhere[:, None], near, listed[part]),
        linear=linear,
        shift=(rand(g, size, 2) - 0.5) * 0.7 * ((kind == 1) | (kind == 2))[:, None],
        reach=1.15 + 1.2 * rand(g, size),
        both=(rand(g, size) < 0.75) & sided,
        power=1 + 2 * rand(g, size),
    )
