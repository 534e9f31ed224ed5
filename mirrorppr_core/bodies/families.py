"""The bank of body operations: smooth lobes in the frames of body parts, fitted to a motion and made anew on a body.

    w(s, t) = exp(-((s - s0) / sigma)^2 - |(t - t0) / h|^p)       one lobe, cut to zero below 1 %
    motion  = sum over columns k of  amplitude_k * u * w_k * direction_k
              a column that stretches has w times (s - s0) / sigma, or (t - t0) / h where it moves along

    lobe    outside each upper arm, moved along the arm's normal and along it     shoulders made narrower or lifted
    corner  the same in the shoulder's own frame, outward and down                 shoulders lifted beside the arm
    waist   a pair mirrored in the trunk's axis                                    waist made slimmer
    neck    the same beside the neck                                               neck made slimmer
    arms    two lobes on each side of upper arms and forearms, across them         arms made slimmer
    legs    the same on thighs and shins
    swell   a place on the trunk's axis that grows or shrinks, sideways and along: a belly
    pair    the same twice, mirrored in the axis: a bust

These forms were measured on published professional pairs (the forms explain 0.72 to 0.98 of their motion). Widths are
fitted to the exemplar and amplitudes solved inside, each time (variable projection, Golub and Pereyra 1973).

Shapes: N places, K columns, P parameter vectors (s_out, s_in, sigma, t0, h).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .frames import SIDES, Frame, group_of

PARAMETERS = ("s_out", "s_in", "sigma", "t0", "h")
_CUT = 0.01  # of a lobe's height: what is lower is nothing, so that places far off keep their pixels


@dataclass(frozen=True, kw_only=True)
class Column:
    """One amplitude.  part: name of a frame.  centre: which parameter (0 s_out, 1 s_in) times which sign is s0.
    across: moved outward, or else along.  mirror: index of the same column on the other side.  facing: -1 where outward
    is against the frame's, as to the right of the trunk's axis.  stretch: it grows or shrinks about its middle."""

    part: str
    centre: int
    sign: float
    across: bool
    mirror: int
    facing: float = 1.0
    stretch: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """starts: parameter vectors from which to fit.  low, high: their limits.  free: which of the five count.
    prior: what they usually are, and by how much they differ; weight of it in shares of the motion's energy."""

    name: str
    columns: tuple[Column, ...]
    power: float
    starts: tuple[tuple[float, ...], ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    free: tuple[bool, ...]
    prior: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    half_width: float = 0.0  # u: a lobe further from its part than this is a worse answer
    shifts: bool = False  # s_in is how far its middle lies from the axis
    round: bool = False  # its lobes are about as long as wide: what of one lies outside the photo follows from that
    long_in_units: bool = False  # h counts in u: on parts whose length says more of the pose than of the person

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(column.part for column in self.columns))


def _on_limbs(*names: str, lobes: tuple[tuple[int, float], ...], across: tuple[bool, ...]) -> tuple[Column, ...]:
    """Right side first, then the left one with the same columns."""
    own = [(name, centre, sign, a) for name in names for centre, sign in lobes for a in across]
    return tuple(
        Column(part=f"{name}_{side}", centre=centre, sign=sign, across=a, mirror=(i + len(own)) % (2 * len(own)))
        for i, (side, (name, centre, sign, a)) in enumerate((side, o) for side in SIDES for o in own)
    )


def _on_axis(part: str) -> tuple[Column, ...]:
    """A pair beside an axis: to its right and to its left, moved outward and along."""
    own = [(sign, across) for sign in (-1.0, 1.0) for across in (True, False)]
    return tuple(
        Column(part=part, centre=0, sign=sign, across=a, mirror=(i + 2) % 4, facing=sign)
        for i, (sign, a) in enumerate(own)
    )


def _stretched(part: str, *signs: float) -> tuple[Column, ...]:
    """Places on a part that grow or shrink, across and along each."""
    own = [(sign, across) for sign in signs for across in (True, False)]
    return tuple(
        Column(part=part, centre=0, sign=sign, across=a, mirror=(i + 2) % (2 * len(signs)), stretch=True)
        for i, (sign, a) in enumerate(own)
    )


_PAIR = ((0, 1.0), (1, -1.0))
_ANY = ((0.01, 0.01, 0.05, -0.6, 0.05), (0.60, 0.60, 0.60, 1.5, 1.0))
_SHIFT = 0.2  # u, of the axis at most
_ANYTHING = 1e3  # spread of what has no usual value
_UNSHIFTED = ((0.0,) * 5, (_ANYTHING, 0.1, _ANYTHING, _ANYTHING, _ANYTHING))
_LOBE_FREE = (True, False, True, True, True)
_LOBE_STARTS = ((0.18, 0.0, 0.16, 0.15, 0.37), (0.10, 0.0, 0.30, 0.0, 0.5), (0.25, 0.0, 0.15, 0.45, 0.3))

FAMILIES = (
    Family(
        name="lobe", columns=_on_limbs("deltoid", lobes=((0, 1.0),), across=(True, False)), power=2.0,
        starts=_LOBE_STARTS, low=(-0.4, *_ANY[0][1:]), high=_ANY[1], free=_LOBE_FREE, half_width=0.12,
    ),
    Family(
        name="waist", columns=_on_axis("trunk"), power=2.5,
        starts=((0.18, 0.0, 0.17, 0.58, 0.13), (0.28, 0.0, 0.25, 0.7, 0.3), (0.12, 0.0, 0.15, 0.4, 0.2),
                (0.42, 0.0, 0.28, 1.0, 0.2)),
        low=_ANY[0], high=(0.7, *_ANY[1][1:]), free=_LOBE_FREE, half_width=0.35, round=True,
    ),
    Family(
        name="neck", columns=_on_axis("neck"), power=2.0,
        starts=((0.14, 0.0, 0.12, 0.5, 0.12), (0.2, 0.0, 0.2, 0.3, 0.16)),
        low=(0.01, -_SHIFT, 0.05, 0.0, 0.04), high=(0.3, _SHIFT, 0.3, 1.2, 0.4), free=(True,) * 5,
        prior=_UNSHIFTED, half_width=0.15, shifts=True, round=True, long_in_units=True,
    ),
    Family(
        name="arms", columns=_on_limbs("upper_arm", "forearm", lobes=_PAIR, across=(True,)), power=3.0,
        starts=((0.13, 0.13, 0.12, 0.48, 0.43), (0.09, 0.09, 0.11, 0.5, 0.45), (0.16, 0.16, 0.16, 0.5, 0.45)),
        low=_ANY[0], high=_ANY[1], free=(True,) * 5,
        prior=((0.13, 0.13, 0.12, 0.48, 0.43), (0.08, 0.08, 0.05, 0.15, 0.1)), half_width=0.12,
    ),
    Family(
        name="legs", columns=_on_limbs("thigh", "shin", lobes=_PAIR, across=(True,)), power=3.0,
        starts=((0.22, 0.20, 0.20, 0.45, 0.43), (0.15, 0.15, 0.15, 0.5, 0.45), (0.32, 0.30, 0.35, 0.45, 0.45)),
        low=_ANY[0], high=_ANY[1], free=(True,) * 5,
        prior=((0.22, 0.20, 0.20, 0.45, 0.43), (0.12, 0.12, 0.10, 0.15, 0.1)), half_width=0.2,
    ),
)  # fmt: skip
# Below the shoulders and within the trunk: wider ones pass for shoulders made narrower. Often the photo shows but the
# upper half, from which any of them can be made; so they keep to a belly's and a bust's usual place.
FAMILIES += (
    Family(
        name="swell", columns=_stretched("trunk", 0.0), power=2.0,
        starts=((0.0, 0.0, 0.33, 0.75, 0.25), (0.0, 0.0, 0.2, 0.45, 0.15)),
        low=(0.0, -_SHIFT, 0.1, 0.4, 0.08), high=(0.0, _SHIFT, 0.5, 1.2, 0.6), free=(False, True, True, True, True),
        prior=((0.0, 0.0, 0.3, 0.75, 0.22), (_ANYTHING, 0.1, 0.12, 0.15, 0.1)), half_width=0.35, shifts=True,
        round=True,
    ),
    Family(
        name="pair", columns=_stretched("trunk", -1.0, 1.0), power=2.0,
        starts=((0.22, 0.0, 0.16, 0.33, 0.12),),
        low=(0.1, 0.0, 0.08, 0.2, 0.08), high=(0.35, 0.0, 0.3, 1.1, 0.4), free=_LOBE_FREE,
        prior=((0.22, 0.0, 0.17, 0.35, 0.13), (0.08, _ANYTHING, 0.08, 0.15, 0.08)), half_width=0.35, round=True,
    ),
)  # fmt: skip
CORNER = Family(
    name="corner", columns=_on_limbs("shoulder", lobes=((0, 1.0),), across=(True, False)), power=2.0,
    starts=((0.0, 0.0, 0.2, 0.0, 0.2), (0.1, 0.0, 0.3, 0.0, 0.3), (-0.15, 0.0, 0.2, 0.0, 0.2)),
    low=(-0.6, *_ANY[0][1:]), high=(0.6, 0.6, 0.6, 0.8, 1.0), free=_LOBE_FREE, half_width=0.3,
)  # fmt: skip
NAMED = {family.name: family for family in (*FAMILIES, CORNER)}


@dataclass(frozen=True)
class Fitted:
    """A family on one exemplar.  name: of NAMED.  parameters: (5,).  amplitudes: (K,) in u; while it is being fitted,
    what the exemplar does not show is NaN."""

    name: str
    parameters: Tensor
    amplitudes: Tensor

    def __post_init__(self) -> None:
        if self.name not in NAMED:
            raise ValueError(f"there is no family of body operations {self.name!r}: use one of {', '.join(NAMED)}")
        if self.parameters.shape != (5,) or self.amplitudes.shape != (len(self.family.columns),):
            raise ValueError(f"{self.name} has 5 parameters and {len(self.family.columns)} amplitudes")

    @property
    def family(self) -> Family:
        return NAMED[self.name]

    def centred(self) -> Fitted:
        """As on others. A pair lies evenly on both sides, so its middle is the exemplar's axis, seen a little off."""
        if not self.family.shifts or not any(column.sign for column in self.family.columns):
            return self
        parameters = self.parameters.clone()
        parameters[1] = 0
        return replace(self, parameters=parameters)

    def group(self) -> str:
        """Of frames.GROUPS, for a limit to parts."""
        return group_of(self.family.parts[0])


def lobes(family: Family, frames: Mapping[str, Frame], places: Tensor, parameters: Tensor) -> Tensor:
    """Heights of every column's lobe.  places: (N, 2).  parameters: (P, 5).  Returns (P, N, K); 0 for parts that the
    frames lack."""
    at = {part: frames[part].local(places) for part in family.parts if part in frames}
    sigma, t0, h = (parameters[:, i, None] for i in (2, 3, 4))
    along = {}  # (P, N) each
    for part, (_, t) in at.items():
        off = frames[part].off(places, t0) if family.long_in_units else t - t0
        along[part] = _power((off / h).abs(), family.power)
    found: dict[tuple, Tensor] = {}
    heights = []
    for column in family.columns:
        key = (column.part, column.centre, column.sign, column.stretch and column.across, column.stretch)
        if column.part not in at:
            found[key] = places.new_zeros(len(parameters), len(places))
        elif key not in found:
            s0 = column.sign * parameters[:, column.centre, None]
            s0 = s0 + parameters[:, 1, None] if family.shifts else s0
            exponent = ((at[column.part][0] - s0) / sigma).square() + along[column.part]
            height = (torch.exp(-exponent) - _CUT).clamp_min(0) / (1 - _CUT)
            if column.stretch:
                s, t = at[column.part]
                height = height * ((s - s0) / sigma if column.across else (t - t0) / h)
            found[key] = height * frames[column.part].presence
        heights.append(found[key])
    return torch.stack(heights, dim=-1)


def _power(x: Tensor, power: float) -> Tensor:
    """x ** power for the powers of the bank; the general one is ten times as slow."""
    return {2.0: lambda: x * x, 2.5: lambda: x * x * x.sqrt(), 3.0: lambda: x * x * x}[power]()


def directions(family: Family, frames: Mapping[str, Frame], like: Tensor) -> Tensor:
    """What an amplitude of 1 moves, in pixels: (K, 2)."""
    rows = []
    for column in family.columns:
        frame = frames.get(column.part)
        if frame is None:
            rows.append(like.new_zeros(2))
        else:
            rows.append((column.facing * frame.outward if column.across else frame.along) * frame.unit)
    return torch.stack(rows)


def motion_of(fitted: Fitted, frames: Mapping[str, Frame], places: Tensor) -> Tensor:
    """The family on a body.  places: (N, 2).  Returns (N, 2) pixels."""
    height = lobes(fitted.family, frames, places, fitted.parameters[None])[0]  # (N, K)
    return (height * fitted.amplitudes.nan_to_num()) @ directions(fitted.family, frames, places)
