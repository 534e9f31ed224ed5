"""Many professional operations on one face at once: what professional.py does one by one, in a few calls.

A retouch asks for all of them on 4096 places, where calling a function costs more than what it computes. So the pushes
of all operations are placed and weighed together, as professional.py does with the people of a batch; then those of
one side are blended, and the sides of one operation are added up. The formulas are professional.py's.

P pushes, G sides, A atoms, N points. Pixels, x then y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces.landmarks import NUM_MESH
from ..geometry.displacement import smoothstep
from .atoms import Atom
from .professional import LEAST_WEIGHT, OVAL, PlacedPush, check_amount, distance_outside
from .professional_table import ProfessionalOperation, Push, operation_named


def professional_atoms_at(points: Tensor, mesh: Tensor, atoms: tuple[Atom, ...]) -> Tensor:
    """points: (N, 2).  mesh: (478, 2).  Returns (A, N, 2), what each atom does there."""
    chosen = [operation_named(atom.operation) for atom in atoms]
    for atom, operation in zip(atoms, chosen, strict=True):
        check_amount(operation, atom.strength, atom.side)
    table = _table(tuple((atom.operation, atom.side) for atom in atoms))
    weight, motion_x, motion_y = table.placed(mesh).at(points[None])  # (P, N) each
    untouched: Tensor | float = 1.0
    padded = torch.cat([weight, torch.zeros_like(weight[:1])])
    for one_each in table.in_group:  # (G,)
        untouched = untouched * (1 - padded[one_each])
    share = (1 - untouched) / (table.groups @ weight).clamp_min(LEAST_WEIGHT)  # (G, N)
    sides = [share * (table.groups @ (weight * motion)) for motion in (motion_x, motion_y)]
    total = torch.stack([table.atoms @ side for side in sides], -1)  # (A, N, 2)
    strength = mesh.new_tensor([atom.strength for atom in atoms])
    total = total * (strength / -100)[:, None, None]
    fading = [place for place, operation in enumerate(chosen) if operation.outside is not None]
    if fading:
        away = distance_outside(points[None], mesh[None, list(OVAL)])  # (1, N)
        over = (mesh[454] - mesh[234]).norm() * mesh.new_tensor([chosen[place].outside for place in fading])
        total[fading] *= smoothstep(1 - away / over.clamp_min(1e-3)[:, None])[..., None]
    return total


@dataclass(frozen=True)
class _Table:
    """What of the definitions does not depend on the face. Its pushes stand in the order of their sides."""

    start: Tensor  # (P, 478) times the mesh: the middle, or one end of a capsule
    end: Tensor  # (P, 478) the other end, or the same
    capsule: Tensor  # (P, 1) bool
    ruler: Tensor  # (P, 478) times the mesh: a vector as long as the ruler
    outward: Tensor  # (P, 1) times the person's left
    reach: Tensor  # (P, 2)
    shift: Tensor  # (P, 2)
    stretch: Tensor  # (P, 2)
    groups: Tensor  # (G, P) 1 where a push is of that side
    in_group: Tensor  # (most of a side, G) its pushes one by one; P where it has no more
    atoms: Tensor  # (A, G)

    def placed(self, mesh: Tensor) -> PlacedPush:
        """All pushes on a face, as professional.py places each."""
        leftward = F.normalize(mesh[263] - mesh[33], dim=-1)  # (2,)
        outward = self.outward * leftward
        down = torch.stack([-leftward[1], leftward[0]]).expand_as(outward)
        ruler = (self.ruler @ mesh).norm(dim=-1, keepdim=True)  # (P, 1)
        shift = ruler * (self.shift[:, :1] * outward + self.shift[:, 1:] * down)
        start, end = self.start @ mesh, self.end @ mesh
        along = F.normalize(end - start, dim=-1)
        down = torch.where(self.capsule, along, down)
        outward = torch.where(self.capsule, torch.stack([along[:, 1], -along[:, 0]], -1), outward)
        return PlacedPush(
            middle=((start + end) / 2)[:, None],
            outward=outward[:, None],
            down=down[:, None],
            half_length=(end - start).norm(dim=-1, keepdim=True) / 2,
            reach=(ruler * self.reach).clamp_min(1e-3)[:, None],
            shift=shift[:, None],
            stretch=(self.stretch[:, :1], self.stretch[:, 1:]),
            present=torch.ones_like(ruler),
        )


@lru_cache(maxsize=16)
def _table(wanted: tuple[tuple[str, str], ...]) -> _Table:
    """wanted: name and side of each atom."""
    pushes: list[tuple[Push, float]] = []
    groups: list[list[int]] = []
    of_atom: list[int] = []
    for place, (name, side) in enumerate(wanted):
        for own_side, own in _sides(operation_named(name), side):
            groups.append(list(range(len(pushes), len(pushes) + len(own))))
            of_atom.append(place)
            pushes += [(push, -1.0 if own_side == "right" else 1.0) for push in own]
    most, none = max(map(len, groups)), len(pushes)
    return _Table(
        start=torch.stack([_mean(push.at) for push, _ in pushes]),
        end=torch.stack([_mean(push.to or push.at) for push, _ in pushes]),
        capsule=torch.tensor([[bool(push.to)] for push, _ in pushes]),
        ruler=torch.stack([_mean(push.ruler[:1]) - _mean(push.ruler[1:]) for push, _ in pushes]),
        outward=torch.tensor([[outward] for _, outward in pushes]),
        reach=torch.tensor([push.reach for push, _ in pushes]),
        shift=torch.tensor([push.shift for push, _ in pushes]),
        stretch=torch.tensor([push.stretch for push, _ in pushes]),
        groups=torch.stack([_ones(group, none) for group in groups]),
        in_group=torch.tensor([group + [none] * (most - len(group)) for group in groups]).T,
        atoms=torch.stack(
            [_ones([g for g, a in enumerate(of_atom) if a == i], len(groups)) for i in range(len(wanted))]
        ),
    )


def _sides(operation: ProfessionalOperation, side: str) -> list[tuple[str, tuple[Push, ...]]]:
    return [(own, pushes) for own, pushes in operation.sides().items() if side in ("both", own)]


def _mean(landmarks: tuple[int, ...]) -> Tensor:
    """(478,): times a mesh, the mean of these landmarks; one named twice counts twice."""
    row = torch.zeros(NUM_MESH)
    for landmark in landmarks:
        row[landmark] += 1 / len(landmarks)
    return row


def _ones(places: list[int], length: int) -> Tensor:
    row = torch.zeros(length)
    row[places] = 1.0
    return row
