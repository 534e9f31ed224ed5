"""Random landmark-driven steps: a programme that says what to do to any face, and does it to many at once.

    centres (landmarks, parts, runs of a contour) x move (shift, pull, push along normals, scale, turn, stretch)
    x window (kernel, radius in some length of the face, stretched along some axis)  ->  motion at any points

A step is numbers alone (indices, weights, amounts), so that a batch of different steps is evaluated together, on as
many faces as wanted. Lengths are distances of two landmarks of the very face: that is what differs from tool to tool
and what one exemplar cannot tell.
Shapes: B steps, S faces, P points, K = 130 landmarks, J centres.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import (
    BROW_L,
    BROW_R,
    EYE_L,
    EYE_R,
    FACE_POINTS,
    LIPS,
    LIPS_INNER,
    LIPS_OUTER,
    MIRROR_130,
    NOSE,
    OVAL,
)  # fmt: skip
from mirrorppr_core.mini.carry import USUAL_LENGTHS

MAX_CENTRES = 6
SHIFT, PULL, NORMAL, SCALE, TURN, STRETCH = range(6)
GAUSSIAN, COSINE, POLYNOMIAL, PLATEAU = range(4)
K = len(FACE_POINTS)


def _rows(*mesh: int) -> tuple[int, ...]:
    return tuple(FACE_POINTS.index(i) for i in mesh)


PARTS: tuple[tuple[int, ...], ...] = (
    EYE_R, EYE_L, EYE_R + EYE_L, BROW_R, BROW_L, BROW_R + BROW_L, EYE_R + BROW_R, EYE_L + BROW_L, NOSE, LIPS,
    LIPS_OUTER, LIPS + NOSE, _rows(98, 129, 64), _rows(327, 358, 294), _rows(2, 1, 4), _rows(168, 6, 197), OVAL,
    _rows(152, 176, 400), _rows(172, 150, 176), _rows(397, 379, 400), _rows(50, 205, 101), _rows(280, 425, 330),
    _rows(10, 151, 9, 67, 297), _rows(0, 37, 267, 13), _rows(17, 84, 314, 14), _rows(61, 78, 146),
    _rows(291, 308, 375), _rows(33, 246, 7), _rows(263, 466, 249), _rows(133, 173, 155), _rows(362, 398, 382),
    _rows(234, 132, 162), _rows(454, 361, 389),
)  # fmt: skip
# Contours along which runs are taken, in order around the feature.
CONTOURS: tuple[tuple[int, ...], ...] = (
    _rows(33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    _rows(263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    _rows(70, 63, 105, 66, 107), _rows(300, 293, 334, 296, 336), _rows(168, 6, 197, 195, 5, 4, 1, 2),
    LIPS_OUTER, LIPS_INNER, OVAL, OVAL, OVAL,
)  # fmt: skip


@dataclass(frozen=True)
class Steps:
    """B random steps.

    centre: (B, J, K) weights of the landmarks.  used: (B, J) 1 where there is such a centre.  move: (B,).
    target: (B, K) weights of the point that PULL goes to.  axis: (B, 2) landmarks whose line is the step's axis.
    own_axis: (B,) 1 where directions follow the axis instead of the face.  direction: (B, 2) unit.
    length: (B, 2, 2) landmark pairs whose mean distance is the unit of the amount; amount: (B,).
    reach: (B, 2, 2) pairs of the radius' unit; radius: (B,).  aspect: (B,) the window's length over its width.
    kernel: (B,).  sharpness: (B,) in 0..1.  mirrored: (B,) done to the other side too.
    crowd: (B,) 1 where centres share.
    """

    centre: Tensor
    used: Tensor
    move: Tensor
    target: Tensor
    axis: Tensor
    own_axis: Tensor
    direction: Tensor
    length: Tensor
    amount: Tensor
    reach: Tensor
    radius: Tensor
    aspect: Tensor
    kernel: Tensor
    sharpness: Tensor
    mirrored: Tensor
    crowd: Tensor

    def __len__(self) -> int:
        return len(self.move)

    def __getitem__(self, rows) -> Steps:
        return Steps(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def motion(self, landmarks: Tensor, points: Tensor) -> Tensor:
        """landmarks: (B or 1, S, K, 2) upright faces, points: (B or 1, S, P, 2) beside them. Returns (B, S, P, 2)."""
        landmarks = landmarks.expand(len(self), -1, -1, -1)
        points = points.expand(len(self), -1, -1, -1)
        out = self._one_side(landmarks, points)
        rows = self.mirrored.bool()
        if rows.any():
            turn = landmarks.new_tensor([-1.0, 1.0])
            other = self[rows]._one_side(landmarks[rows][:, :, list(MIRROR_130)] * turn, points[rows] * turn) * turn
            out = out.index_add(0, rows.nonzero()[:, 0], other)
        return out

    def _one_side(self, landmarks: Tensor, points: Tensor) -> Tensor:
        b = torch.arange(len(self))

        def distance(pairs: Tensor) -> Tensor:  # (B, 2, 2) -> (B, S)
            ends = landmarks[b[:, None, None], :, pairs]  # (B, 2, 2, S, 2)
            return (ends[:, :, 0] - ends[:, :, 1]).square().sum(-1).sqrt().mean(1)

        ends = landmarks[b[:, None], :, self.axis]  # (B, 2, S, 2)
        axis = ends[:, 1] - ends[:, 0]
        axis = axis / axis.norm(dim=-1, keepdim=True).clamp(min=1e-6)  # (B, S, 2)
        axis = torch.where(self.own_axis.bool()[:, None, None], axis, axis.new_tensor([1.0, 0.0]))
        normal = torch.stack([-axis[..., 1], axis[..., 0]], dim=-1)
        unit = distance(self.length) * self.amount[:, None]  # (B, S)
        radius = distance(self.reach) * self.radius[:, None]
        centres = torch.einsum("bjk,bskd->bsjd", self.centre, landmarks)
        target = torch.einsum("bk,bskd->bsd", self.target, landmarks)
        way = self.direction[:, None, :1] * axis + self.direction[:, None, 1:] * normal  # (B, S, 2)
        along = centres.roll(-1, 2) - centres.roll(1, 2)
        first, last = centres[:, :, 1] - centres[:, :, 0], centres[:, :, -1] - centres[:, :, -2]
        along = torch.cat([first[:, :, None], along[:, :, 1:-1], last[:, :, None]], dim=2)
        out_way = torch.stack([-along[..., 1], along[..., 0]], -1)
        out_way = out_way / out_way.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        move = self.move[:, None, None, None]
        pull = (target[:, :, None] - centres) * self.amount[:, None, None, None]
        push = torch.where(move == SHIFT, (way * unit[..., None])[:, :, None], torch.zeros(1))
        push = torch.where(move == PULL, pull, push)
        push = torch.where(move == NORMAL, out_way * unit[..., None, None], push)  # (B, S, J, 2)

        total = torch.zeros_like(points)
        weights = torch.zeros_like(points[..., :1])
        for j in range(int(self.used.sum(1).max())):
            offset = points - centres[:, :, j, None]
            x = (offset * axis[:, :, None]).sum(-1) / self.aspect[:, None, None]
            y = (offset * normal[:, :, None]).sum(-1)
            r2 = (x * x + y * y) / radius[..., None].square()
            w = self._window(r2)[..., None] * self.used[:, j, None, None, None]
            turned = torch.stack([-offset[..., 1], offset[..., 0]], -1)
            local = torch.where(move == TURN, turned, offset)
            stretched = ((offset * way[:, :, None]).sum(-1, keepdim=True)) * way[:, :, None]
            local = torch.where(move == STRETCH, stretched, local) * self.amount[:, None, None, None]
            total = total + w * torch.where(move >= SCALE, local, push[:, :, j, None])
            weights = weights + w
        shared = total / weights.clamp(min=1)
        return torch.where(self.crowd.bool()[:, None, None, None], shared, total)

    def _window(self, r2: Tensor) -> Tensor:
        kernel, sharp = self.kernel[:, None, None], self.sharpness[:, None, None]
        inside = (1 - r2).clamp(min=0)
        r = r2.clamp(min=1e-12).sqrt().clamp(max=1)
        s = ((r - 0.8 * sharp) / (1 - 0.8 * sharp)).clamp(0, 1)
        out = torch.exp(-4.5 * r2 * (0.6 + sharp))
        out = torch.where(kernel == COSINE, 0.5 + 0.5 * torch.cos(torch.pi * r), out)
        out = torch.where(kernel == POLYNOMIAL, inside ** (1 + 2 * sharp), out)
        return torch.where(kernel == PLATEAU, 1 - s * s * (3 - 2 * s), out)


def draw_steps(g: torch.Generator, count: int, mean_face: Tensor) -> Steps:
    """mean_face: (K, 2), eye centres one unit apart: what is near what."""
    draw = _Draw(g, count, mean_face)
    centre, used, kind, which = draw.centres()
    odds = torch.tensor([0.3, 0.15, 0.0, 0.25, 0.08, 0.22]).repeat(count, 1)
    odds[kind == _RUN] = torch.tensor([0.35, 0.2, 0.35, 0.0, 0.0, 0.1])
    move = torch.multinomial(odds, 1, generator=g)[:, 0]
    target, direction = draw.target(which), draw.direction()
    length, reach = draw.lengths(), draw.lengths()
    # Radii from a tenth of the eye distance to the whole face on the mean face, whatever their unit.
    size = torch.exp(draw.rand() * 2.2) * 0.22
    size = torch.where(kind == _RUN, size * 0.8, size)
    axis = draw.axis()
    off_middle = torch.einsum("bk,kd->bd", centre[:, 0], mean_face)[:, 0].abs() > 0.12
    push = 0.1 / draw.typical(length)
    return Steps(
        centre=centre,
        used=used,
        move=move,
        target=target,
        axis=axis,
        own_axis=(draw.rand() < 0.3).float(),
        direction=direction,
        length=length,
        amount=torch.where(move == PULL, 0.1 * torch.ones(count), torch.where(move >= SCALE, 0.15, push)),
        reach=reach,
        radius=size / draw.typical(reach),
        aspect=torch.where(draw.rand() < 0.3, torch.exp((draw.rand() - 0.3) * 1.4), torch.ones(count)),
        kernel=draw.pick(4),
        sharpness=draw.rand(),
        mirrored=((draw.rand() < 0.75) & off_middle).float(),
        crowd=(draw.rand() < 0.5).float(),
    )


_LANDMARK, _BETWEEN, _PART, _RUN = range(4)  # what a step is centred on
_KIND_ODDS = (0.25, 0.2, 0.25, 0.3)


@dataclass(frozen=True)
class _Draw:
    """The random choices of `count` steps."""

    g: torch.Generator
    count: int
    mean_face: Tensor

    def rand(self, *shape: int) -> Tensor:
        return torch.rand(self.count, *shape, generator=self.g)

    def pick(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, (self.count, *shape), generator=self.g)

    def centres(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """centre and used, as in Steps; what each step is centred on, and which part."""
        rows, centre = torch.arange(self.count), torch.zeros(self.count, MAX_CENTRES, K)
        used = torch.zeros(self.count, MAX_CENTRES)
        used[:, 0] = 1
        kind = torch.multinomial(torch.tensor(_KIND_ODDS).expand(self.count, -1), 1, generator=self.g)[:, 0]
        one, two, mix = self.pick(K), self.pick(K), self.rand()
        near = (self.mean_face[one] - self.mean_face[two]).norm(dim=-1) < 0.7
        two = torch.where(near, two, one)
        centre[rows, 0, one] += torch.where(kind == _BETWEEN, 1 - mix, torch.ones(1))
        centre[rows, 0, two] += torch.where(kind == _BETWEEN, mix, torch.zeros(1))
        which = self.pick(len(PARTS))
        centre[kind == _PART, 0] = _part_means()[which[kind == _PART]]
        self._put_runs(centre, used, kind == _RUN)
        for j in range(1, MAX_CENTRES):  # unused ones repeat the last: directions along the run stay finite
            empty = centre[:, j].sum(1) == 0
            centre[empty, j] = centre[empty, j - 1]
        return centre, used, kind, which

    def _put_runs(self, centre: Tensor, used: Tensor, runs: Tensor) -> None:
        """Runs of a contour: every `stride`-th point from a random one."""
        contour, length = self.pick(len(CONTOURS)), self.pick(MAX_CENTRES - 1) + 2
        stride, start = self.pick(3) + 1, self.rand()
        for row in runs.nonzero()[:, 0].tolist():
            points = CONTOURS[int(contour[row])]
            first, closed = int(start[row] * len(points)), len(points) > 8
            centre[row] = 0
            for j in range(MAX_CENTRES):
                at = first + j * int(stride[row])
                at = at % len(points) if closed else min(at, len(points) - 1)
                centre[row, j, points[at]] = 1
                used[row, j] = float(j < int(length[row]))

    def target(self, which: Tensor) -> Tensor:
        target = torch.zeros(self.count, K)
        target[torch.arange(self.count), self.pick(K)] = 1
        parted = self.rand() < 0.5
        target[parted] = _part_means()[which.roll(1)[parted]]
        return target

    def direction(self) -> Tensor:
        """Mostly along the axes."""
        angle, straight = self.rand() * 2 * torch.pi, self.rand() < 0.6
        angle = torch.where(straight, (angle / (torch.pi / 2)).round() * (torch.pi / 2), angle)
        return torch.stack([angle.cos(), angle.sin()], -1)

    def lengths(self) -> Tensor:
        """(count, 2, 2): two pairs of landmarks, mostly the same and mostly usual ones."""
        usual = torch.tensor(USUAL_LENGTHS)
        listed, any_pair = usual[self.pick(len(usual), 2)], self.pick(K, 2, 2)
        far = (self.mean_face[any_pair[..., 0]] - self.mean_face[any_pair[..., 1]]).norm(dim=-1) > 0.15
        chosen = torch.where((far & (self.rand(2) < 0.35))[..., None], any_pair, listed)
        single = self.rand() < 0.8
        chosen[:, 1] = torch.where(single[:, None], chosen[:, 0], chosen[:, 1])
        return chosen

    def axis(self) -> Tensor:
        usual = torch.tensor(USUAL_LENGTHS)
        axis = usual[self.pick(len(usual))]
        any_pair = torch.stack([self.pick(K), self.pick(K)], -1)
        apart = (self.mean_face[any_pair[:, 0]] - self.mean_face[any_pair[:, 1]]).norm(dim=-1) > 0.2
        return torch.where((apart & (self.rand() < 0.3))[:, None], any_pair, axis)

    def typical(self, pairs: Tensor) -> Tensor:
        """Mean length of pairs on the mean face."""
        return (self.mean_face[pairs[..., 0]] - self.mean_face[pairs[..., 1]]).norm(dim=-1).mean(1)


def _part_means() -> Tensor:
    """(parts, K): weights of the landmarks in the middle of each part."""
    parts = torch.zeros(len(PARTS), K)
    for row, part in enumerate(PARTS):
        parts[row, list(part)] = 1 / len(part)
    return parts
