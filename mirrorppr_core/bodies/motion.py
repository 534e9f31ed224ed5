"""The body's part of a retouch: told in the exemplar's own parts, made anew on another person's.

    exemplar: motion = one of our own operations, where that explains it  (named.py)
                     or confidence * bank + map of what that leaves       (fit.py, part_map.py)
    query:    the same parameters in the query's frames, times the query's unit, added up -> Field

What is stored are widths, amplitudes and coefficients in units of the person, no pixels. Everything is linear in the
amplitudes, so half the strength is half the motion and the opposite strength the opposite motion, exactly.

The bank is trusted where it explains the exemplar well; else the map takes over. What a confident bank leaves is the
exemplar's own clothes and joint offsets: carrying that too makes results worse (measured).

Shapes: N places.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import length
from ..geometry.field import Field
from ..geometry.unfold import unfold
from ..stopping import stop_if_asked
from .families import Fitted, motion_of
from .fit import explain
from .frames import GROUPS, LEAST_SURETY, Body, Frame, facing, frames_of, group_of
from .named import GROUP_OF, KnownOperations, NamedBodyOperation
from .part_map import PartMap, map_of, motion_of_map
from .pose import SOURCES
from .unit import SHOULDERS, measures, shared_unit, unit_of

CELLS_PER_UNIT = 16
_TRUST_FROM, _TRUST_TO, _LEAST_BEST = 0.55, 0.70, 0.5  # explained share: confidence rises between; best single family
# An own operation is meant where it explains so much of the motion and hardly less than the bank, or much more than it.
_KNOWN, _AS_GOOD, _PROBABLE, _BETTER = 0.93, 0.015, 0.88, 0.04
_FROM_EYES = 5.0  # u in eye distances where no measure of the body is shared; small, because too small costs less
_REACH = 1.2  # u around the parts: beyond, nothing is carried
_MIN_STRIDE_PX, _STRIDES_PER_UNIT = 2.0, 32
_TO_EDGE = 0.4  # of the way to the photo's edge, what moves towards or away from it at strength 1
_STILL_PX = 0.02  # at strength 1, a motion below this is none: places far off keep their bits
_TRACE = 0.1  # of all amplitudes
_PART = 0.2  # of the part that moves most: one that moves more is worth a word
_SHOWN = 0.5  # of a motion that a photo shows: a part of which there is less is missed
_SIDEWAYS, _FRONTAL = 0.4, 0.65  # u between the shoulders of a person seen from the side, and from the front


@dataclass(frozen=True, kw_only=True)
class BodyMotion:
    """measures: (3,) of the exemplar, in its u, 0 where they cannot be told (unit.py).

    named: one of our own operations, which then is all.  fitted: families, amplitudes times the confidence.  part_map:
    the rest.  still_face: the exemplar's face did not
    move, so the query's must not.  largest: of the motion, in u.  joints: whose, one of pose.SOURCES; empty where there
    were none, or in files of an earlier release.
    """

    measures: Tensor
    fitted: tuple[Fitted, ...]
    part_map: PartMap
    still_face: bool
    largest: float
    named: tuple[NamedBodyOperation, ...] = ()
    joints: str = ""

    def __post_init__(self) -> None:
        if self.measures.shape != (3,):
            raise ValueError(f"a body has 3 measures, not {tuple(self.measures.shape)}")
        if self.joints and self.joints not in SOURCES:
            raise ValueError(f"joints={self.joints!r}: use one of {', '.join(SOURCES)}")

    @property
    def moves(self) -> bool:
        return bool(self.named) or bool(self.fitted) or bool(self.part_map.parts)

    def groups(self) -> tuple[str, ...]:
        """Which of frames.GROUPS it moves more than a trace of."""
        rows = _amounts(self)
        amounts = {group: sum(amount for own, _, amount in rows if own == group) for group in GROUPS}
        return tuple(group for group in GROUPS if amounts[group] > _TRACE * sum(amounts.values()))

    def parts(self) -> tuple[str, ...]:
        """Names of frames: the parts that it moves, without those that hardly move."""
        amounts: dict[str, float] = {}
        for _, part, amount in _amounts(self):
            amounts[part] = amounts.get(part, 0.0) + amount
        return tuple(part for part, amount in amounts.items() if amount > _PART * max(amounts.values()))

    def limited(self, groups: Collection[str]) -> BodyMotion:
        """Only what belongs to some of frames.GROUPS."""
        unknown = sorted(set(groups) - set(GROUPS))
        if unknown:
            raise ValueError(f"there is no body part {unknown[0]!r}: use some of {', '.join(GROUPS)}")
        kept = tuple(one for one in self.part_map.parts if group_of(one.part) in groups)
        fitted = tuple(one for one in self.fitted if one.group() in groups)
        named = tuple(one for one in self.named if one.group in groups)
        return replace(self, named=named, fitted=fitted, part_map=PartMap(kept))


def body_motion(
    motion: Tensor,
    places: Tensor,
    body: Body,
    cell: float,
    *,
    still_face: bool,
    known: KnownOperations | None = None,
) -> tuple[BodyMotion, float]:
    """Tell a motion in the exemplar's parts.  motion, places: (N, 2) pixels.  cell: pixels between places.
    known: operations that it may be one of.

    Returns it and the share of the motion's energy that is told.
    """
    own = facing(body)
    sizes = measures(own)
    unit = unit_of(sizes) or _FROM_EYES * own.eye_distance
    largest = float(motion.norm(dim=1).amax()) / unit if len(motion) else 0.0
    about = {"measures": sizes.nan_to_num() / unit, "still_face": still_face, "largest": largest}
    frames = frames_of(own, unit)
    meant = known.explained(motion, places, own) if known is not None else None
    found = None if meant is not None and meant[1] >= 1 - _AS_GOOD else explain(motion, places, frames)
    if meant is not None and (found is None or _is_known(meant[1], found.share)):
        return BodyMotion(named=(meant[0],), fitted=(), part_map=PartMap(), **about), meant[1]
    trust = min(1.0, max(0.0, (found.share - _TRUST_FROM) / (_TRUST_TO - _TRUST_FROM)))
    trust = trust if found.best >= _LEAST_BEST else 0.0
    fitted = tuple(replace(one, amplitudes=one.amplitudes * trust) for one in found.fitted) if trust > 0 else ()
    rest = motion
    for one in fitted:
        rest = rest - motion_of(one, frames, places)
    part_map = map_of(rest, places, frames, cell) if trust < 1 else PartMap()
    told = motion - rest + motion_of_map(part_map, frames, places)
    energy = float(motion.square().sum())
    share = 1 - float((motion - told).square().sum()) / energy if energy > 0 else 1.0
    return BodyMotion(fitted=fitted, part_map=part_map, **about), share


def _is_known(share: float, banks: float) -> bool:
    """Whether an own operation that explains a share is what was done.  banks: what the bank explains."""
    return share >= max(_KNOWN, banks - _AS_GOOD) or share >= max(_PROBABLE, banks + _BETTER)


@dataclass(frozen=True)
class Carried:
    """field: the query's motion.  softened: it had to be, so as not to fold.  missed: parts that move on the exemplar
    and cannot be told here.  beyond: parts that lie mostly outside the photo.  turned: "away" where this person is seen
    from the side and the exemplar's from the front, "back" the other way round, else empty."""

    field: Field
    softened: bool = False
    missed: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    turned: str = ""


# How far nothing may move at places (rows, columns, 2): (1, 1, rows, columns) in [0, 1].
Still = Callable[[Tensor], Tensor]


def carry(
    motion: BodyMotion,
    body: Body,
    strength: float,
    size: tuple[int, int],
    still: Still | None = None,
    known: KnownOperations | None = None,
    *,
    on_exemplar: bool = False,
) -> Carried:
    """The motion on another person.  size: H, W of its photo.  still: where it must not move.  known: the operations
    that have a name; needed where the motion is one.  on_exemplar: on the person and the photo it was read from.
    """
    if motion.named and known is None:
        raise ValueError(f"the motion is {motion.named[0].name}, and nobody said what that is")
    own = facing(body)
    unit = shared_unit(measures(own), motion.measures) or _FROM_EYES * own.eye_distance
    frames = frames_of(own, unit)
    named = [_as_sure(one, frames) for one in motion.named]
    missed = tuple(part for part in motion.parts() if _shown(part, frames) < _SHOWN)
    about = {"missed": missed, "beyond": _beyond(motion, frames, size), "turned": _turned(measures(own) / unit, motion)}
    fitted = motion.fitted if on_exemplar else [one.centred() for one in motion.fitted]

    def moved_at(points: Tensor) -> Tensor:
        """(rows, columns, 2) photo pixels -> (1, 2, rows, columns) pixels."""
        places = points.flatten(0, 1)
        moved = motion_of_map(motion.part_map, frames, places)
        for one in fitted:
            moved = moved + motion_of(one, frames, places)
        for one in named:
            moved = moved + known.motion_of(one, own, places)
        moved = moved.T.reshape(1, 2, *points.shape[:2])
        moved = moved if still is None else moved * (1 - still(points))
        return strength * torch.where(length(moved) > _STILL_PX, moved, torch.zeros_like(moved))

    around = _box(frames, unit, size)
    stride = max(_MIN_STRIDE_PX, unit / _STRIDES_PER_UNIT)
    box = around and _moving_box(moved_at(_grid(around, 2 * stride)), around)
    if box is None:
        return Carried(Field.zero(*size), **about)
    points = _grid(box, stride)
    left, top, right, bottom = box
    step = torch.tensor([(right - left) / points.shape[1], (bottom - top) / points.shape[0]]).view(1, 2, 1, 1)
    wanted = moved_at(points) / step
    kept = unfold(wanted, torch.zeros_like(wanted))
    stop_if_asked()
    dense = F.interpolate(kept * step, (bottom - top, right - left), mode="bicubic", align_corners=False)
    stop_if_asked()
    dense = _from_inside(dense, box, size, abs(strength))
    field = Field(displacement=dense, left=left, top=top, height=size[0], width=size[1])
    return Carried(field, softened=not torch.equal(kept, wanted), **about)


def _from_inside(moved: Tensor, box: Box, size: tuple[int, int], strength: float) -> Tensor:
    """The motion without what would look beyond the photo's edges, where there is nothing to show: those stay in place.

    moved: (1, 2, h, w) in a box of the photo. Up to twice the strength no place looks outside.
    """
    left, top, right, bottom = box
    x, y = torch.arange(left, right).float(), torch.arange(top, bottom).float()
    x, y = torch.minimum(x, size[1] - 1 - x), torch.minimum(y, size[0] - 1 - y)
    most = _TO_EDGE * strength * torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]
    return torch.maximum(torch.minimum(moved, most), -most)


def _as_sure(one: NamedBodyOperation, frames: Mapping[str, Frame]) -> NamedBodyOperation:
    """Less of it where its parts are hardly told, as for the families (frames.frames_of)."""

    def share(side: str) -> float:
        shown = [frames[name] for part in GROUP_OF[one.name][1] for name in (part, part + side) if name in frames]
        return min((frame.presence for frame in shown), default=1.0)

    return replace(one, right=one.right * share("_r"), left=one.left * share("_l"))


def _shown(part: str, frames: Mapping[str, Frame]) -> float:
    """How much of a part a photo shows; what doubt costs is not lost."""
    return min(1.0, frames[part].presence / LEAST_SURETY) if part in frames else 0.0


def _beyond(motion: BodyMotion, frames: Mapping[str, Frame], size: tuple[int, int]) -> tuple[str, ...]:
    """Parts of which more than half lies outside the photo."""
    low, high = torch.zeros(2), torch.tensor([size[1], size[0]])
    middles = {part: frames[part].ends().mean(0) for part in motion.parts() if part in frames}
    return tuple(part for part, at in middles.items() if not bool(((at >= low) & (at < high)).all()))


def _turned(sizes: Tensor, motion: BodyMotion) -> str:
    """See Carried.  sizes: (3,) the query's measures in its u."""
    here, there = (float(one[1]) * SHOULDERS for one in (sizes, motion.measures))
    if 0 < here < _SIDEWAYS and there > _FRONTAL:
        return "away"
    return "back" if 0 < there < _SIDEWAYS and here > _FRONTAL else ""


def _amounts(motion: BodyMotion) -> list[tuple[str, str, float]]:
    """Group, part and amplitude of everything that moves."""
    rows = []
    for one in motion.fitted:
        for column, amplitude in zip(one.family.columns, one.amplitudes.abs().tolist(), strict=True):
            rows.append((one.group(), column.part, amplitude))
    for one in motion.named:
        for side, amount in (("r", abs(one.right)), ("l", abs(one.left))):
            for part in GROUP_OF[one.name][1]:
                rows.append((one.group, part if part == "trunk" else f"{part}_{side}", amount))
    for own in motion.part_map.parts:
        rows.append((group_of(own.part), own.part, float(own.coefficients.norm())))
    return rows


Box = tuple[int, int, int, int]  # left, top, right, bottom in photo pixels, the last two excluded


def region_of(frames: Mapping[str, Frame], unit: float) -> tuple[Tensor, Tensor]:
    """Corners (2,) of the box around all parts, with what may move beside them."""
    ends = torch.cat([frame.ends() for frame in frames.values()])
    return ends.amin(0) - _REACH * unit, ends.amax(0) + _REACH * unit


def _box(frames: Mapping[str, Frame], unit: float, size: tuple[int, int]) -> Box | None:
    if not frames:
        return None
    low, high = region_of(frames, unit)
    left, top = (max(0, int(v)) for v in low.tolist())
    right, bottom = min(size[1], int(high[0]) + 1), min(size[0], int(high[1]) + 1)
    return (left, top, right, bottom) if right - left >= 2 and bottom - top >= 2 else None


def _grid(box: Box, stride: float) -> Tensor:
    """Photo positions about so many pixels apart, evenly over a box: (rows, columns, 2)."""
    left, top, right, bottom = box
    rows, columns = max(2, round((bottom - top) / stride)), max(2, round((right - left) / stride))
    y = (torch.arange(rows) + 0.5) * (bottom - top) / rows - 0.5 + top
    x = (torch.arange(columns) + 0.5) * (right - left) / columns - 0.5 + left
    return torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], dim=-1)


def _moving_box(motion: Tensor, box: Box) -> Box | None:
    """The part of a box that moves, with a margin.  motion: (1, 2, rows, columns) on a grid over the box."""
    moving = (motion != 0).any(1)[0]
    if not moving.any():
        return None
    left, top, right, bottom = box
    rows, columns = moving.shape
    y, x = moving.any(1).nonzero()[:, 0], moving.any(0).nonzero()[:, 0]
    down, across = (bottom - top) / rows, (right - left) / columns
    return (
        max(left, left + int((int(x[0]) - 2) * across)),
        max(top, top + int((int(y[0]) - 2) * down)),
        min(right, left + int((int(x[-1]) + 3) * across) + 1),
        min(bottom, top + int((int(y[-1]) + 3) * down) + 1),
    )
