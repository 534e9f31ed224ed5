"""Random webs: some landmarks moved by a rule, some held, everything between by scattered-data interpolation.

    control points (a part or a run of the outline) x rule (scale, stretch, turn, shift)  +  held points
    ->  radial basis functions between them: r, r^2 log r or Gaussian

Many tools work so (thin plates and moving least squares are of this kind). Smoothed, as exact ones fold.
Shapes: B webs, S faces, P points, K = 130 landmarks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import FACE_POINTS, MIRROR_130
from mirrorppr_core.mini.carry import USUAL_LENGTHS

from .steps import PARTS

K = len(FACE_POINTS)
NUM_NODES = 36
LINEAR, PLATE, BELL = range(3)


@dataclass(frozen=True)
class Webs:
    """nodes: (B, M) landmarks.  moves: (B, M) 1 where the rule moves the node, 0 where it is held.

    linear: (B, 2, 2) and shift: (B, 2): rule about the mean of the moved nodes.  length: (B, 2) landmark pair, the
    unit of the shift.  kernel: (B,).  reach: (B, 2) landmark pair and width: (B,), of the bell.  smoothing: (B,).
    end: (B,) where the web ends, in sizes of the face.
    """

    nodes: Tensor
    moves: Tensor
    linear: Tensor
    shift: Tensor
    length: Tensor
    kernel: Tensor
    reach: Tensor
    width: Tensor
    smoothing: Tensor
    end: Tensor

    def __len__(self) -> int:
        return len(self.kernel)

    def __getitem__(self, rows) -> Webs:
        return Webs(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def motion(self, landmarks: Tensor, points: Tensor) -> Tensor:
        """landmarks: (B or 1, S, K, 2) upright faces, points: (B or 1, S, P, 2). Returns (B, S, P, 2)."""
        landmarks, points = landmarks.expand(len(self), -1, -1, -1), points.expand(len(self), -1, -1, -1)
        b = torch.arange(len(self))
        nodes = landmarks[b[:, None], :, self.nodes].transpose(1, 2)  # (B, S, M, 2)
        moves = self.moves[:, None, :, None]
        middle = (nodes * moves).sum(2, keepdim=True) / moves.sum(2, keepdim=True)

        def distance(pairs: Tensor) -> Tensor:
            return (landmarks[b, :, pairs[:, 0]] - landmarks[b, :, pairs[:, 1]]).norm(dim=-1)  # (B, S)

        values = (nodes - middle) @ self.linear.mT[:, None] + (self.shift[:, None] * distance(self.length)[..., None])[
            :, :, None
        ]
        values = values * moves
        width = (distance(self.reach) * self.width[:, None])[..., None, None]

        def basis(p: Tensor) -> Tensor:
            r2 = (p[:, :, :, None] - nodes[:, :, None]).square().sum(-1) / width.square()
            kernel = self.kernel[:, None, None, None]
            out = torch.exp(-r2)
            out = torch.where(kernel == LINEAR, -(r2 + 1e-6).sqrt(), out)
            return torch.where(kernel == PLATE, 0.5 * r2 * (r2 + 1e-6).log(), out)

        def affine(p: Tensor) -> Tensor:
            return torch.cat([torch.ones_like(p[..., :1]), p], -1)

        m = nodes.shape[2]
        system = nodes.new_zeros(*nodes.shape[:2], m + 3, m + 3)
        gram = basis(nodes)
        system[..., :m, :m] = gram + self.smoothing[:, None, None, None] * torch.eye(m)
        system[..., :m, m:] = affine(nodes)
        system[..., m:, :m] = affine(nodes).mT
        # A bell needs no polynomial: it dies away by itself.
        bell = (self.kernel == BELL)[:, None, None, None]
        extra = torch.zeros(m + 3, m + 3)
        extra[m:, m:] = torch.eye(3) * 1e6
        system = system + bell * extra
        right = torch.cat([values, values.new_zeros(*values.shape[:2], 3, 2)], 2)
        solved = torch.linalg.solve(system, right)
        out = basis(points) @ solved[..., :m, :] + affine(points) @ solved[..., m:, :]
        # Beyond the face nothing moves: a web ends softly.
        face_middle = landmarks.mean(2, keepdim=True)
        size = (landmarks - face_middle).norm(dim=-1).amax(-1)[..., None]
        far = (points - face_middle).norm(dim=-1) / size
        fade = ((self.end[:, None, None] + 0.5 - far) / 0.5).clamp(0, 1)
        return out * (fade * fade * (3 - 2 * fade))[..., None]


def draw_webs(g: torch.Generator, count: int, mean_face: Tensor) -> Webs:
    """mean_face: (K, 2), eye centres one unit apart: what is near what."""
    nodes, moves = _draw_nodes(g, count, mean_face)

    def rand(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=g)

    kind = torch.multinomial(torch.tensor([0.25, 0.35, 0.1, 0.3]).expand(count, -1), 1, generator=g)[:, 0]
    eye, turn = torch.eye(2).expand(count, -1, -1), torch.tensor([[0.0, -1.0], [1.0, 0.0]]).expand(count, -1, -1)
    which = torch.randint(2, (count,), generator=g)
    stretch = torch.zeros(count, 2, 2)
    stretch[torch.arange(count), which, which] = 1
    stretch = stretch + 0.3 * (rand(1, 1) - 0.5) * eye
    linear = torch.where((kind == 0)[:, None, None], eye, torch.where((kind == 1)[:, None, None], stretch, turn))
    linear = linear * 0.15 * (kind != 3)[:, None, None]
    angle = rand() * 2 * torch.pi
    angle = torch.where(rand() < 0.6, (angle / (torch.pi / 2)).round() * (torch.pi / 2), angle)
    usual = torch.tensor(USUAL_LENGTHS)

    def pairs() -> Tensor:
        return usual[torch.randint(len(usual), (count,), generator=g)]

    def typical(pair: Tensor) -> Tensor:
        return (mean_face[pair[:, 0]] - mean_face[pair[:, 1]]).norm(dim=-1)

    length, reach = pairs(), pairs()
    shift = torch.stack([angle.cos(), angle.sin()], -1) * (0.08 * (kind == 3) / typical(length))[:, None]
    return Webs(
        nodes=nodes,
        moves=moves,
        linear=linear,
        shift=shift,
        length=length,
        kernel=torch.randint(3, (count,), generator=g),
        reach=reach,
        width=(0.25 + 0.5 * rand()) / typical(reach),
        smoothing=0.02 + 0.3 * rand() ** 2,
        end=0.9 + 0.5 * rand(),
    )


def _draw_nodes(g: torch.Generator, count: int, mean_face: Tensor) -> tuple[Tensor, Tensor]:
    """nodes and moves, as in Webs: a part that moves, and landmarks farther away that are held."""
    nodes = torch.zeros(count, NUM_NODES, dtype=torch.long)
    moves = torch.zeros(count, NUM_NODES)
    for row in range(count):
        part = PARTS[int(torch.randint(len(PARTS), (), generator=g))]
        if torch.rand((), generator=g) < 0.3:  # landmarks around a random one, as often on both sides as on one
            at = int(torch.randint(K, (), generator=g))
            radius = 0.2 + 0.5 * float(torch.rand((), generator=g))
            part = tuple(((mean_face - mean_face[at]).norm(dim=1) < radius).nonzero()[:, 0].tolist())
        elif torch.rand((), generator=g) < 0.2:
            part = part + tuple(MIRROR_130[i] for i in part if MIRROR_130[i] not in part)
        chosen = torch.tensor(part)[torch.randperm(len(part), generator=g)[: NUM_NODES // 2]]
        clear = 0.1 + 0.3 * float(torch.rand((), generator=g))
        away = (torch.cdist(mean_face, mean_face[list(part)]).amin(1) > clear).nonzero()[:, 0]
        held = away[torch.randperm(len(away), generator=g)[: NUM_NODES - len(chosen)]]
        every = torch.cat([chosen, held])
        if len(every) < NUM_NODES:
            rest = torch.tensor([i for i in range(K) if i not in set(every.tolist())])
            more = rest[torch.randperm(len(rest), generator=g)[: NUM_NODES - len(every)]]
            every = torch.cat([every, more])
        nodes[row] = every
        moves[row, : len(chosen)] = 1
    return nodes, moves
