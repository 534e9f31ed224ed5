"""What an operation is, in names: which named operations make up its motion, how strongly, and what is left over.

    motion of the exemplar ~ sum of amount_i * (what operation i at full strength does to the exemplar's own face)

Chosen one by one, the best first, until the next would explain too little (forward selection; compare matching pursuit,
Pati et al. 1993). Few names that say most are wanted here; the engine's own fit (bank_fit.py) wants the best motion
and spreads over look-alikes. Both sides of a paired operation count as one name until they differ.

Shapes: M atoms, N cells a side, C candidates, D = 2 * (N / 2)^2 numbers of a halved motion.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bodies.words import in_words
from ..operations.atoms import FULL_STRENGTH, Atom
from ..operations.llw_table import OPERATIONS as LLW
from ..operations.sliders import FULL, Amount, Sliders
from .arithmetic import AnyOperation, Blended, Combined, Limited, Scaled, Undone, leaves, parts_of
from .operation import Operation

_MOST_NAMES = 6
_LEAST_GAIN = 0.01  # of the squared motion, which the next name must explain, ...
_LEAST_LOCAL = 0.5  # ... and of what is left where it acts: look-alikes of the last name explain hardly any of that
_ACTS = 0.2  # of its longest motion: a cell that moves further is where it acts
_INVISIBLE = 0.05  # cells; an operation whose motion is nowhere longer does not show on this face
_RIDGE = 1e-3
_ALIKE = 0.2  # sides that differ by less than this share are one amount
_LEAST_PERCENT = 1.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """percent: of the operation's full strength, beyond 100 where the exemplar goes further.  share: of what was found,
    by how far it moves; the shares sum to one."""

    operation: str
    side: str
    percent: float
    share: float

    @property
    def slider(self) -> Amount:
        """As far as sliders go."""
        return Amount(operation=self.operation, side=self.side, percent=max(-FULL, min(FULL, round(self.percent, 1))))


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """found: the most first.  left_over: share of the motion that no name explains, 0 to 1.  notes: in words.
    bodies: which parts of a body are moved, in words, for each extracted operation that moves some."""

    found: tuple[Found, ...]
    left_over: float
    notes: tuple[str, ...] = ()
    bodies: tuple[str, ...] = ()

    @property
    def sliders(self) -> Sliders:
        return Sliders(tuple(one.slider for one in self.found))

    def lines(self) -> str:
        """For Operation from Sliders: name = per cent; what cannot be said so is a remark."""
        rows = []
        for one in self.found:
            beyond = f"  # found {one.percent:.0f}: sliders end at 100" if abs(one.percent) > FULL else ""
            rows.append(f"{one.slider.name} = {one.slider.percent:g}{beyond}")
        rows.append(f"# {self.left_over:.0%} of the motion has no name" if self.found else "# nothing has a name here")
        return "\n".join(rows)

    def words(self) -> str:
        """For people, a line each."""
        rows = [f"{one.slider.in_words} ({one.slider.name} {one.percent:+.0f} %)" for one in self.found]
        rows = rows or ["none of the named operations is in it"]
        left = f"{self.left_over:.0%} of the motion is left over"
        return "\n".join([*rows, left, *self.bodies, *self.notes])


def explain(operation: AnyOperation, atoms: tuple[Atom, ...]) -> Explanation:
    """The names in an operation.  atoms: those of its set (atoms_of(config.dit.operations)).

    Operations made of others are explained by their parts, to first order: amounts add and scale.
    """
    if isinstance(operation, Operation):
        return _explained(operation, atoms)
    if isinstance(operation, Sliders):
        total = sum(abs(one.percent) for one in operation.amounts)
        made = [(one.operation, one.side, one.percent, abs(one.percent) / total) for one in operation.amounts]
        return Explanation(found=_ordered([_found(*one) for one in made]), left_over=0.0)
    inner = [explain(part, atoms) for part in parts_of(operation)]
    notes = ["an operation made of others: the amounts of its parts are added up"] if len(inner) > 1 else []
    if isinstance(operation, Limited):
        notes.append("it is limited to a part of the face or a mask: the names are of the whole operation")
    notes += [note for one in inner for note in one.notes]
    told = _summed(inner, _factors(operation, len(inner)), tuple(dict.fromkeys(notes)))
    return replace(told, bodies=bodies_in(operation))


def bodies_in(operation: AnyOperation) -> tuple[str, ...]:
    """Which parts of a body its extracted operations move, and whose joints tell that, in words; each once."""
    read = [one for one in leaves(operation) if isinstance(one, Operation)]
    return tuple(dict.fromkeys(in_words(one.body) for one in read if one.body is not None and one.body.parts()))


def composition(operation: AnyOperation) -> str:
    """What an operation is made of, in a line: "combined (extracted, reversed (sliders))"."""
    if isinstance(operation, Operation):
        return "extracted from an exemplar"
    if isinstance(operation, Sliders):
        return f"sliders ({', '.join(one.name for one in operation.amounts) or 'all at 0'})"
    word = {Combined: "combined", Blended: "blended", Undone: "reversed", Limited: "limited"}.get(type(operation))
    if isinstance(operation, Scaled):
        word = f"{100 * operation.factor:g} % of"
    return f"{word} ({'; '.join(map(composition, parts_of(operation)))})"


def _explained(operation: Operation, atoms: tuple[Atom, ...]) -> Explanation:
    if operation.atoms.shape[1] != len(atoms):
        raise ValueError(
            f"the operation knows {operation.atoms.shape[1]} named motions and this set {len(atoms)}: explain it with "
            "the set that extracted it"
        )
    notes = ("the body's part is not among the names",) if operation.body is not None else ()
    bodies = bodies_in(operation)
    if not (operation.motion != 0).any():
        return Explanation(found=(), left_over=float(operation.body is not None), notes=notes, bodies=bodies)
    rows = F.avg_pool2d(operation.atoms[0], 2).flatten(1)  # (M, D)
    motion = F.avg_pool2d(operation.motion, 2).flatten()  # (D,)
    names, candidates = _candidates(rows, atoms)
    amounts, left = _chosen(candidates, motion, torch.tensor([name in LLW for name, _, _ in names]))
    percents: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    sizes: dict[tuple[str, str], float] = defaultdict(float)
    for (name, side, full), row, amount in zip(names, candidates, amounts.tolist(), strict=True):
        if amount:
            percents[name][side] += amount * full
            sizes[name, side] += abs(amount) * float(row.norm())
    found = [
        _found(name, side, percent, sum(size for (one, _), size in sizes.items() if one == name) / len(sided))
        for name, own in percents.items()
        for sided in [_by_side(own)]
        for side, percent in sided.items()
        if abs(percent) >= _LEAST_PERCENT
    ]
    return Explanation(found=_ordered(found), left_over=left, notes=notes, bodies=bodies)


def _candidates(rows: Tensor, atoms: tuple[Atom, ...]) -> tuple[list[tuple[str, str, float]], Tensor]:
    """Names (operation, side, per cent of one) and motions (C, D): every atom, and the two sides of a pair together."""
    names = [(atom.operation, atom.side, atom.strength) for atom in atoms]
    made = list(rows)
    sides = {(atom.operation, atom.side): row for atom, row in zip(atoms, rows, strict=True)}
    for (operation, side), row in sides.items():
        if side == "right":
            names.append((operation, "both", FULL_STRENGTH))
            made.append(row + sides[operation, "left"])
    return names, torch.stack(made)


def _chosen(rows: Tensor, motion: Tensor, one_way: Tensor) -> tuple[Tensor, float]:
    """Amounts (C,) of few candidates, and the share of the motion that they leave.  one_way: those never reversed."""
    shows = rows.abs().amax(1) > _INVISIBLE
    size = rows.norm(dim=1).clamp_min(1e-6)
    unit = rows / size[:, None] * shows[:, None]
    gram, match, whole = unit @ unit.T, unit @ motion, float(motion.square().sum())
    chosen: list[int] = []
    amounts, left = torch.zeros(len(rows)), 1.0
    acts = (unit.abs() > _ACTS * unit.abs().amax(1, keepdim=True)).float()
    while len(chosen) < _MOST_NAMES:
        unexplained = match - gram @ amounts
        worth = torch.where(one_way, unexplained, unexplained.abs())
        local = acts @ (motion - amounts @ unit).square()
        worth[worth.square() < _LEAST_LOCAL * local] = 0
        worth[chosen] = 0
        best = int(worth.argmax())
        if worth[best] <= 0:
            break
        tried = [*chosen, best]
        own = gram[tried][:, tried] + _RIDGE * torch.eye(len(tried))
        found = torch.zeros(len(rows)).index_put((torch.tensor(tried),), torch.linalg.solve(own, match[tried]))
        share = float(1 - (2 * found @ match - found @ gram @ found) / whole)
        if left - share < _LEAST_GAIN:
            break
        chosen, amounts, left = tried, found, share
    return amounts / size, max(0.0, left) ** 0.5


def _by_side(percents: dict[str, float]) -> dict[str, float]:
    """One amount for both sides where they are alike."""
    both = percents.get("both", 0.0)
    left, right = both + percents.get("left", 0.0), both + percents.get("right", 0.0)
    if abs(left - right) <= _ALIKE * max(abs(left), abs(right)):
        return {"both": (left + right) / 2}
    return {side: value for side, value in (("left", left), ("right", right)) if value}


def _factors(operation: AnyOperation, count: int) -> list[float]:
    if isinstance(operation, Blended):
        return list(operation.weights)
    if isinstance(operation, Scaled):
        return [operation.factor]
    return [-1.0 if isinstance(operation, Undone) else 1.0] * count


def _summed(inner: list[Explanation], factors: list[float], notes: tuple[str, ...]) -> Explanation:
    percents: dict[tuple[str, str], float] = defaultdict(float)
    shares: dict[tuple[str, str], float] = defaultdict(float)
    for one, factor in zip(inner, factors, strict=True):
        for found in one.found:
            percents[found.operation, found.side] += factor * found.percent
            shares[found.operation, found.side] += abs(factor) * found.share
    made = [_found(*key, percent, shares[key]) for key, percent in percents.items() if abs(percent) >= _LEAST_PERCENT]
    weight = sum(map(abs, factors)) or 1.0
    left = sum(abs(factor) * one.left_over for one, factor in zip(inner, factors, strict=True)) / weight
    return Explanation(found=_ordered(made), left_over=left, notes=notes)


def _found(operation: str, side: str, percent: float, share: float) -> Found:
    return Found(operation=operation, side=side, percent=percent, share=share)


def _ordered(found: list[Found]) -> tuple[Found, ...]:
    total = sum(one.share for one in found) or 1.0
    ranked = sorted(found, key=lambda one: -one.share)
    return tuple(_found(one.operation, one.side, one.percent, one.share / total) for one in ranked)
