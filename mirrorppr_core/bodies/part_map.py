"""The map: any motion of a body, told in the frames of its parts by cubic B-splines. For what no named operation is.

    motion(p) = sum over parts and both components of  R_part * u * sum_k  coefficient_k  b_k(s(p), t(p))

Least squares with a ridge that grows with the distance from the part, so that each motion is told by the part it lies
on; right and left limbs share their mean and pay for their difference, so that an edit of one side is not turned into
half an edit of both. Parts are added up. Solved by conjugate gradients on sparse matrices; linear in the motion but for
one reweighting, which does not depend on its scale.

Shapes: N places, M coefficients. Knots of cubic B-splines; de Boor 1978.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .frames import LIMBS, SIDES, Frame

_BESIDE, _ALONG, _ALONG_TRUNK = 0.11, 0.12, 0.085  # knot spacings, in u beside and in t along


@dataclass(frozen=True)
class Chart:
    """A grid of knots over one part.  s, t: first and last knot that counts.  core: where motion is surely the part's:
    from and to along it and how far beside.  weight: of its ridge."""

    part: str
    s: tuple[float, float]
    t: tuple[float, float]
    step_t: float
    core: tuple[float, float, float]
    weight: float = 1.0

    @property
    def knots(self) -> tuple[int, int]:
        """Along t and along s."""
        return (
            round((self.t[1] - self.t[0]) / self.step_t) + 1,
            round((self.s[1] - self.s[0]) / _BESIDE) + 1,
        )

    @property
    def num(self) -> int:
        return self.knots[0] * self.knots[1]


_TRUNK = Chart("trunk", (-1.1, 1.1), (-0.45, 1.5), _ALONG_TRUNK, (0.25, 1.0, 0.3), 2.0)
_NECK = Chart("neck", (-0.66, 0.66), (-0.6, 1.3), 0.12, (0.1, 0.9, 0.1))
_HEAD = Chart("head", (-0.8, 0.8), (-0.6, 1.8), 0.12, (0.0, 1.0, 0.18))
_LIMB_T = {"upper_arm": (-0.6, 1.6), "forearm": (-0.6, 1.9), "thigh": (-0.6, 1.6), "shin": (-0.6, 1.6)}
CHARTS = (
    *(Chart(name, (-0.8, 0.8), _LIMB_T[name], _ALONG, (0.0, 1.0, 0.0)) for name in LIMBS),
    _TRUNK, _NECK, _HEAD,
)  # fmt: skip
_SINGLE = ("trunk", "neck", "head")
_RIDGE, _FLOOR, _FALL = 0.02, 0.35**4, 0.22  # of one cell's weight; of distance in u
_DIFFERENCE = 5.0  # times the ridge for what right and left do differently
_SMOOTH = 0.02
_SOLVER_STEPS, _TOLERANCE = 60, 1e-3


def _spline(x: Tensor) -> Tensor:
    """The four cubic B-splines that a place sees.  x: (N,) in [0, 1) between two knots.  Returns (N, 4)."""
    x2, x3 = x * x, x * x * x
    return torch.stack([(1 - x) ** 3, 3 * x3 - 6 * x2 + 4, -3 * x3 + 3 * x2 + 3 * x + 1, x3], dim=-1) / 6


def seen(chart: Chart, frame: Frame, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sparse matrix from a chart's coefficients to places (N, 2): rows, columns and values, (E,) each."""
    s, t = frame.local(places)
    rows_t, rows_s = chart.knots
    a, b = (t - chart.t[0]) / chart.step_t, (s - chart.s[0]) / _BESIDE
    near = (a > -1) & (a < rows_t) & (b > -1) & (b < rows_s)
    index = near.nonzero()[:, 0]
    a, b = a[near], b[near]
    at, bt = a.floor(), b.floor()
    values = _spline(a - at)[:, :, None] * _spline(b - bt)[:, None, :] * frame.presence  # (E', 4, 4)
    four = torch.arange(-1, 3)
    row, column = at.long()[:, None] + four, bt.long()[:, None] + four  # (E', 4)
    inside = ((row >= 0) & (row < rows_t))[:, :, None] & ((column >= 0) & (column < rows_s))[:, None, :]
    coefficient = row[:, :, None] * rows_s + column[:, None, :]
    where = index[:, None, None].expand_as(coefficient)
    return where[inside], coefficient[inside], values[inside]


def ridge_of(chart: Chart) -> Tensor:
    """(M,) how much a coefficient costs: more the further its knot lies from the part."""
    rows_t, rows_s = chart.knots
    t = chart.t[0] + chart.step_t * torch.arange(rows_t)
    s = chart.s[0] + _BESIDE * torch.arange(rows_s)
    low, high, beside = chart.core
    length = 1.0  # t and u are about as long on every part; only the order of parts counts
    off_t = torch.maximum(low - t, t - high).clamp_min(0) * length
    off_s = (s.abs() - beside).clamp_min(0)
    away = torch.hypot(off_t[:, None], off_s[None, :])
    return (chart.weight * (_FLOOR + (away / _FALL) ** 4)).flatten()


@dataclass(frozen=True)
class MapPart:
    """part: a frame's name, "upper_arm_r" and "trunk" alike.  coefficients: (2, M) outward and along, in u."""

    part: str
    coefficients: Tensor

    def __post_init__(self) -> None:
        names = [c.part if c.part in _SINGLE else f"{c.part}_{side}" for c in CHARTS for side in SIDES]
        if self.part not in names:
            raise ValueError(f"there is no map of the part {self.part!r}")
        if self.coefficients.shape != (2, _chart_of(self.part).num):
            raise ValueError(f"the map of {self.part} has coefficients {tuple(self.coefficients.shape)}")


@dataclass(frozen=True)
class PartMap:
    """Every part that the map moves."""

    parts: tuple[MapPart, ...] = ()


def motion_of_map(part_map: PartMap, frames: Mapping[str, Frame], places: Tensor) -> Tensor:
    """The map on a body.  places: (N, 2).  Returns (N, 2) pixels."""
    total = torch.zeros_like(places)
    for one in part_map.parts:
        frame = frames.get(one.part)
        if frame is None:
            continue
        rows, columns, values = seen(_chart_of(one.part), frame, places)
        moved = torch.zeros_like(places).index_add_(0, rows, one.coefficients[:, columns].T * values[:, None])
        total += frame.unit * (moved[:, :1] * frame.outward + moved[:, 1:] * frame.along)
    return total


def _chart_of(part: str) -> Chart:
    name = part.removesuffix("_r").removesuffix("_l")
    return {chart.part: chart for chart in CHARTS}[name]


def map_of(motion: Tensor, places: Tensor, frames: Mapping[str, Frame], cell: float) -> PartMap:
    """The map that tells a motion best.  motion, places: (N, 2) pixels.  cell: pixels between places."""
    system = _System(places, frames, cell)
    wanted = system.adjoint(motion)
    ridge = system.ridge
    coefficients = system.solve(wanted, ridge)
    coefficients = system.solve(wanted, system.reweighted(ridge, coefficients), start=coefficients)
    return system.part_map(coefficients)


class _System:
    """The sparse matrix and its normal equations for one exemplar."""

    def __init__(self, places: Tensor, frames: Mapping[str, Frame], cell: float):
        self.num_places, self.blocks, rows, columns, values, ridges, start = len(places), [], [], [], [], [], 0
        self.pairs, self.charts = [], []
        for chart in CHARTS:
            own = [chart.part] if chart.part in _SINGLE else [f"{chart.part}_{side}" for side in SIDES]
            shown = [part for part in own if part in frames]
            for part in shown:
                frame = frames[part]
                r, c, v = seen(chart, frame, places)
                for component, towards in enumerate((frame.outward, frame.along)):
                    for axis in (0, 1):
                        rows.append(2 * r + axis)
                        columns.append(start + component * chart.num + c)
                        values.append(v * float(towards[axis]) * frame.unit)
                area = frame.unit**2 * _BESIDE * chart.step_t * frame.length * frame.unit / cell**2
                ridges.append((_RIDGE * area * ridge_of(chart)).repeat(2))
                self.blocks.append((part, chart, start))
                start += 2 * chart.num
            if len(shown) == 2:
                self.pairs.append((start - 4 * chart.num, start - 2 * chart.num, 2 * chart.num))
        self.num = start
        self.ridge = torch.cat(ridges) if ridges else places.new_zeros(0)
        size = (2 * self.num_places, self.num)
        indices = torch.stack([torch.cat(rows), torch.cat(columns)])
        matrix = torch.sparse_coo_tensor(indices, torch.cat(values), size, check_invariants=False).coalesce()
        self.columns, self.squares = matrix.indices()[1], matrix.values().square()
        with warnings.catch_warnings():  # compressed rows are ten times as fast; torch calls them a beta
            warnings.simplefilter("ignore", UserWarning)
            self.matrix, self.transposed = matrix.to_sparse_csr(), matrix.t().coalesce().to_sparse_csr()

    def forward(self, coefficients: Tensor) -> Tensor:
        return (self.matrix @ coefficients[:, None])[:, 0]

    def adjoint(self, motion: Tensor) -> Tensor:
        return (self.transposed @ motion.reshape(-1, 1))[:, 0]

    def penalty(self, coefficients: Tensor, ridge: Tensor) -> Tensor:
        """Gradient of the ridge, the smoothness and the sides' difference."""
        total = ridge * coefficients
        for first, second, num in self.pairs:
            a, b = slice(first, first + num), slice(second, second + num)
            apart = (coefficients[a] - coefficients[b]) / 2
            weight = (_DIFFERENCE - 1) * (ridge[a] + ridge[b]) / 2
            total[a] += weight * apart
            total[b] -= weight * apart
        for _, chart, start in self.blocks:
            span = slice(start, start + 2 * chart.num)
            own = coefficients[span].view(2, *chart.knots)
            weight = _SMOOTH * float(ridge[span].amin()) / (_RIDGE * _FLOOR)
            smoothed = torch.zeros_like(own)
            for dim in (1, 2):
                step = own.diff(dim=dim)
                low, high = [slice(None)] * 3, [slice(None)] * 3
                low[dim], high[dim] = slice(None, -1), slice(1, None)
                smoothed[tuple(low)] -= step
                smoothed[tuple(high)] += step
            total[span] += weight * smoothed.flatten()
        return total

    def solve(self, wanted: Tensor, ridge: Tensor, start: Tensor | None = None) -> Tensor:
        """Conjugate gradients with the diagonal as preconditioner."""
        diagonal = ridge + self._diagonal()
        x = torch.zeros(self.num) if start is None else start

        def normal(v: Tensor) -> Tensor:
            return self.adjoint(self.forward(v)) + self.penalty(v, ridge)

        residual = wanted - normal(x)
        z = residual / diagonal
        direction, product, first = z, residual @ z, wanted @ (wanted / diagonal)
        for _ in range(_SOLVER_STEPS):
            if not float(product) > _TOLERANCE**2 * float(first):
                break
            applied = normal(direction)
            share = product / (direction @ applied)
            x, residual = x + share * direction, residual - share * applied
            z = residual / diagonal
            product, before = residual @ z, product
            direction = z + (product / before) * direction
        return x

    def _diagonal(self) -> Tensor:
        return torch.zeros(self.num).index_add_(0, self.columns, self.squares)

    def reweighted(self, ridge: Tensor, coefficients: Tensor) -> Tensor:
        """Parts that tell much of the motion become cheaper, the others dearer."""
        energies = [float(coefficients[s : s + 2 * c.num].square().sum()) for _, c, s in self.blocks]
        total = sum(energies)
        if total == 0:
            return ridge
        mean = total / len(energies)
        ridge = ridge.clone()
        for (_, chart, start), energy in zip(self.blocks, energies, strict=True):
            ridge[start : start + 2 * chart.num] *= min(4.0, max(0.25, (mean / max(energy, 1e-3 * mean)) ** 0.5))
        return ridge

    def part_map(self, coefficients: Tensor) -> PartMap:
        own = [MapPart(p, coefficients[s : s + 2 * c.num].view(2, -1)) for p, c, s in self.blocks]
        return PartMap(tuple(one for one in own if bool((one.coefficients != 0).any())))
