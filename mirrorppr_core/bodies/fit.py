"""Which body operation an exemplar shows: the bank fitted to its motion, the fewest families that explain it.

    family  = Levenberg-Marquardt over its widths; amplitudes are solved inside each evaluation
    choice  = greedy, at most two: explained share, less for lobes that lie off their part
    sides   = a limb that is hidden or foreshortened gets the other side's amplitudes; nearly equal sides are one

Everything is linear in the motion once the widths are found, and those do not depend on its scale: half the motion
gives half the amplitudes. Shapes: N places, K columns, P parameter vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .families import CORNER, FAMILIES, Family, Fitted, directions, lobes, motion_of
from .frames import Frame

_RIDGE = 1e-3
_PRIOR_WEIGHT = 0.05  # of the motion's energy
_ROUND = 0.4  # usual spread of the logarithm of length against width, of what is round
_STEP = 1e-3  # of numeric slopes
_SCOUTS, _STEPS = 2, 7  # steps from every start, and more from the best two
_MOST, _LEAST_GAIN, _OFF_PART = 2, 0.12, 0.25
_ALONG, _CORNER_LOSS = 0.35, 0.10  # the shoulder-line rule
_STILL, _FORESHORTENED, _ALIKE = 0.15, 0.85, 0.25  # of the other side's energy, of its length, of the sum
_OTHER_BONE = 0.8  # an unseen bone, of the limb's other one
_SEEN_ENERGY = 0.05  # of a family's mean column: a column with less lies outside the photo


@dataclass(frozen=True)
class Explained:
    """fitted: families.  share: of the motion's energy that they explain together.  best: that the best one does."""

    fitted: tuple[Fitted, ...]
    share: float
    best: float


def explain(motion: Tensor, places: Tensor, frames: Mapping[str, Frame]) -> Explained:
    """motion, places: (N, 2) of the exemplar, pixels, inside its photo."""
    energy = float(motion.square().sum())
    rest, chosen, best = motion, [], 0.0
    while len(chosen) < _MOST and energy > 0:
        left = float(rest.square().sum())
        taken = [found.name for found in chosen]
        answers = [fit(f, rest, places, frames) for f in FAMILIES if f.name not in taken]
        answers = [a for a in answers if a is not None]
        if not answers:
            break
        found, misfit, _ = max(answers, key=lambda a: (left - a[2]) / energy - _OFF_PART * _off_part(a[0]))
        if found.name == "lobe" and _along_share(found) > _ALONG and CORNER.name not in taken:
            corner = fit(CORNER, rest, places, frames)
            if corner is not None and corner[1] < misfit + _CORNER_LOSS * left:
                found, misfit, _ = corner
        if (left - misfit) / energy < _LEAST_GAIN:
            break
        best = max(best, (left - misfit) / energy)
        chosen.append(found)
        rest = rest - motion_of(found, frames, places)
    if len(chosen) == 2:  # together they may share the motion out better than one after the other
        chosen, rest = _together(chosen, motion, places, frames)
    share = 1 - float(rest.square().sum()) / energy if chosen else 0.0
    return Explained(tuple(with_sides(f, frames) for f in chosen), share, best)


def fit(
    family: Family, motion: Tensor, places: Tensor, frames: Mapping[str, Frame]
) -> tuple[Fitted, float, float] | None:
    """The family that comes closest, the energy of what it leaves, and the same with the price of what is unusual; None
    where none of its parts shows."""
    if not any(part in frames for part in family.parts):
        return None
    towards = directions(family, frames, places)
    free = [i for i, is_free in enumerate(family.free) if is_free]
    states = []
    for start in family.starts:
        states.append(_search(family, motion, places, frames, towards, torch.tensor(start), free, _SCOUTS))
    states.sort(key=lambda state: state[1])
    finals = [_search(family, motion, places, frames, towards, p, free, _STEPS) for p, _ in states[:2]]
    parameters, cost = min(finals, key=lambda state: state[1])
    amplitudes, left, shown = _solved(family, motion, places, frames, towards, parameters[None])
    seen = torch.where(shown[0], amplitudes[0], torch.full_like(amplitudes[0], float("nan")))
    return Fitted(family.name, parameters, seen), float(left[0].square().sum()), cost


def _search(family, motion, places, frames, towards, parameters, free, steps) -> tuple[Tensor, float]:  # noqa: PLR0913
    """Levenberg-Marquardt from one start: parameters (5,) and the cost there."""
    low, high = torch.tensor(family.low), torch.tensor(family.high)
    steps_of = torch.zeros(len(free), 5)
    steps_of[range(len(free)), free] = _STEP
    damping, best = 1e-2, None
    candidate = parameters
    for _ in range(steps):
        around = torch.cat([candidate[None], candidate + steps_of])
        residuals = _residuals(family, motion, places, frames, towards, around)
        cost = float(residuals[0].square().sum())
        if best is None or cost < best[1]:
            best, damping = (candidate, cost, (residuals[1:] - residuals[0]) / _STEP, residuals[0]), damping / 4
        else:
            damping *= 8
        at, cost, slopes, residual = best
        curvature = slopes @ slopes.T
        curvature = curvature + damping * torch.diag(curvature.diagonal() + 1e-9 * curvature.diagonal().sum() + 1e-12)
        step = torch.zeros(5)
        step[free] = -torch.linalg.solve(curvature, slopes @ residual)
        candidate = torch.minimum(torch.maximum(at + step.clamp(-0.15, 0.15), low), high)
    return best[0], best[1]


def _residuals(family, motion, places, frames, towards, parameters) -> Tensor:  # noqa: PLR0913
    """What is left of the motion, and the misfit of what is usual: (P, 2 N + 6)."""
    _, left, _ = _solved(family, motion, places, frames, towards, parameters)
    rows, weight = [left.flatten(1)], (_PRIOR_WEIGHT * motion.square().sum() / 5).sqrt()
    if family.prior is not None:
        usual, spread = (torch.tensor(p) for p in family.prior)
        rows.append(weight * (parameters - usual) / spread)
    if family.round:
        rows.append(weight * _out_of_round(family, frames, parameters)[:, None] / _ROUND)
    return torch.cat(rows, dim=1)


def _out_of_round(family: Family, frames: Mapping[str, Frame], parameters: Tensor) -> Tensor:
    """Logarithm of the lobes' length against their width: (P,)."""
    frame = next(frames[part] for part in family.parts if part in frames)
    unit = 1.0 if family.long_in_units else frame.length / frame.unit
    return (parameters[:, 4] * unit / parameters[:, 2]).log()


def _solved(family, motion, places, frames, towards, parameters) -> tuple[Tensor, Tensor, Tensor]:  # noqa: PLR0913
    """Best amplitudes (P, K), what they leave of the motion (P, N, 2), and which columns show (P, K)."""
    height = lobes(family, frames, places, parameters)  # (P, N, K)
    gram = (height.mT @ height) * (towards @ towards.T)  # (P, K, K)
    wanted = height.mT @ motion * towards  # (P, K, 2)
    energy = gram.diagonal(dim1=1, dim2=2)
    mean = energy.sum(1, keepdim=True) / (energy > 0).sum(1, keepdim=True).clamp_min(1)
    shown = energy > _SEEN_ENERGY * mean
    ridge = torch.diag_embed(_RIDGE * mean.clamp_min(1e-12) + torch.where(shown, 0.0, 1e6 * mean + 1e6))
    amplitudes = torch.linalg.solve(gram + ridge, wanted.sum(-1))  # (P, K)
    return amplitudes, motion - (height * amplitudes[:, None]) @ towards, shown


def _together(chosen, motion, places, frames) -> tuple[list[Fitted], Tensor]:
    """Amplitudes of both families solved at once."""
    blocks = []
    for found in chosen:
        height = lobes(found.family, frames, places, found.parameters[None])[0]
        blocks.append(height[:, None] * directions(found.family, frames, places).T)  # (N, 2, K)
    matrix = torch.cat(blocks, dim=2).flatten(0, 1)
    gram = matrix.T @ matrix
    shown = torch.cat([f.amplitudes for f in chosen]).isfinite()
    mean = gram.diagonal().mean()
    ridge = torch.diag(_RIDGE * mean + torch.where(shown, 0.0, 1e6 * mean + 1e6))
    solved = torch.linalg.solve(gram + ridge, matrix.T @ motion.flatten())
    rest = motion - (matrix @ solved).view_as(motion)
    solved = torch.where(shown, solved, torch.full_like(solved, float("nan")))
    parts = solved.split([len(f.amplitudes) for f in chosen])
    return [replace(f, amplitudes=a) for f, a in zip(chosen, parts, strict=True)], rest


def _off_part(found: Fitted) -> float:
    """How far its lobes lie from their parts, in u: beside them and beyond their ends."""
    family, (s_out, s_in, _, t0, _) = found.family, found.parameters.tolist()
    used = [(s_out, s_in)[i] for i in {column.centre for column in family.columns}]
    beside = max(abs(s) for s in used) - family.half_width
    return max(0.0, beside) + max(0.0, -t0, t0 - 1)


def _along_share(found: Fitted) -> float:
    """Motion along the arm against motion across it."""
    across = torch.tensor([column.across for column in found.family.columns])
    amount = found.amplitudes.nan_to_num().abs()
    return float(amount[~across].sum() / amount[across].sum().clamp_min(1e-9))


def with_sides(found: Fitted, frames: Mapping[str, Frame]) -> Fitted:
    """The fitted family with what the exemplar could not show filled in, and nearly equal sides made one."""
    columns, amplitudes = found.family.columns, found.amplitudes.clone()
    mirror = [column.mirror for column in columns]
    for part in found.family.parts:
        own = [i for i, column in enumerate(columns) if column.part == part and columns[column.mirror].part != part]
        if own:
            amplitudes[own] = _from_other(amplitudes[own], amplitudes[[mirror[i] for i in own]], part, frames)
    _other_bones(found.family, amplitudes)
    other = amplitudes[mirror]
    alike = (amplitudes - other).abs() < _ALIKE * (amplitudes.abs() + other.abs())
    amplitudes = torch.where(alike, (amplitudes + other) / 2, amplitudes)
    return replace(found, amplitudes=amplitudes.nan_to_num())


def _from_other(own: Tensor, other: Tensor, part: str, frames: Mapping[str, Frame]) -> Tensor:
    """A part's amplitudes, or its partner's where it does not show or is foreshortened and hardly moves."""
    if not other.isfinite().any():
        return own
    if not own.isfinite().all():
        return torch.where(own.isfinite(), own, other)
    frame, partner = frames[part], frames.get(part[:-1] + ("l" if part.endswith("r") else "r"))
    still = own.square().sum() < _STILL * other.square().sum()
    short = partner is not None and frame.length < _FORESHORTENED * partner.length
    return other if bool(still) and short and not part.startswith("shoulder") else own


def _other_bones(family: Family, amplitudes: Tensor) -> None:
    """Fill in bones that neither side shows from the limb's other bone, in place."""
    for i, column in enumerate(family.columns):
        if bool(amplitudes[i].isnan()):
            side = column.part[-1]
            known = [
                float(amplitudes[j])
                for j, other in enumerate(family.columns)
                if other.part != column.part and other.part[-1] == side
                and (other.centre, other.across) == (column.centre, column.across) and bool(amplitudes[j].isfinite())
            ]  # fmt: skip
            if known and column.part not in ("trunk", "neck"):
                amplitudes[i] = _OTHER_BONE * known[0]
