"""Whether lines behind a person stay straight: how far a motion bends the rows and columns of the background.

    bend     distance of a line of the background from the straight line that fits it best, after the motion
    per px   the same for a motion whose longest displacement is 1 px, so that a weaker edit gains nothing by being weak

Nothing tells background from person here but distance: what lies further than an arm's width from every bone. Only
lines that the motion reaches count. Pixels; H, W of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mirrorppr_core.bodies.frames import Body, facing, frames_of
from mirrorppr_core.geometry.displacement import length, pixel_grid

from ..evaluation.benchmark_report import mean

_AWAY, _SEGMENT = 0.33, 0.5  # u from every bone: background; u of a line that is looked at


@dataclass(frozen=True, kw_only=True)
class Bend:
    """rms, largest: pixels, over all lines.  motion: longest displacement of the picture, pixels."""

    rms: float
    largest: float
    motion: float

    @property
    def rms_per_px(self) -> float:
        return self.rms / self.motion if self.motion > 0 else 0.0

    @property
    def largest_per_px(self) -> float:
        return self.largest / self.motion if self.motion > 0 else 0.0


UNMOVED = Bend(rms=0.0, largest=0.0, motion=0.0)


def bend(displacement: Tensor, body: Body, unit: float) -> Bend | None:
    """displacement: (1, 2, H, W).  unit: u in pixels.  None where no line of the background moves."""
    segment = max(8, int(_SEGMENT * unit))
    background = _distance(body, unit, tuple(displacement.shape[-2:])) > _AWAY * unit
    across = ((displacement[0, 1], background), (displacement[0, 0].T, background.T))
    off = torch.cat([_off_straight(motion, mask, segment).flatten() for motion, mask in across])
    if not len(off):
        return None
    return Bend(
        rms=float(off.square().mean().sqrt()),
        largest=float(off.abs().amax()),
        motion=float(length(displacement).amax()),
    )


def _distance(body: Body, unit: float, size: tuple[int, ...]) -> Tensor:
    """Pixels from the nearest bone: (H, W)."""
    away, places = torch.full(size, torch.inf), pixel_grid(*size)[0]
    for frame in frames_of(facing(body), unit).values():
        start, end = (place.view(2, 1, 1) for place in frame.ends())
        direction = frame.along.view(2, 1, 1)
        along = ((places - start) * direction).sum(0).clamp(0, float((end - start).norm()))
        away = torch.minimum(away, (places - start - along * direction).norm(dim=0))
    return away


def _off_straight(motion: Tensor, mask: Tensor, segment: int) -> Tensor:
    """Pieces of the rows of motion (rows, columns) that lie in the mask and move, less their straight part:
    (pieces, segment)."""
    if motion.shape[1] < segment:
        return motion.new_zeros(0, segment)
    pieces = motion.unfold(1, segment, segment)
    pieces = pieces[mask.unfold(1, segment, segment).all(-1)]
    pieces = pieces[(pieces != 0).any(-1)]
    t = torch.linspace(-1, 1, segment)
    centred = pieces - pieces.mean(-1, keepdim=True)
    return centred - (centred @ t / t.square().sum())[:, None] * t


def sentence(bends: Sequence[dict[str, Bend | None]]) -> str:
    """What a report says of all cases, in the order of the rows; cases where some row has no line are left out."""
    full = [rows for rows in bends if all(one is not None for one in rows.values())]
    if not full:
        return "Lines of the background: no edit reaches any."
    cells = []
    for row in full[0]:
        own = [rows[row] for rows in full]
        cells.append(
            f"{row} {mean(b.rms for b in own):.3f} / {mean(b.largest for b in own):.2f} / "
            f"{max(b.largest for b in own):.2f} / {mean(b.rms_per_px for b in own):.4f} / "
            f"{mean(b.largest_per_px for b in own):.3f}"
        )
    return (
        f"Lines of the background, bend in px where an edit reaches ({len(full)} cases; mean RMS / mean of the largest "
        f"/ largest of all / RMS and largest per px of the longest motion): {', '.join(cells)}."
    )
