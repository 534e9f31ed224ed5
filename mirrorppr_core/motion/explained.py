"""Motion or paint: what moved between two pictures, and what was painted, each without disturbing the other.

A strap taken off a shoulder, a text, a patch, glasses, a new background: no warp of the source makes them, but an
estimator makes the pixels around them imitate them and tears a shoulder for a strap. So a measured motion is asked in
both directions whether it explains what is seen:

    target(p) ~ source(p + d(p))       what was added has no source
    source(q) ~ target(q + d^-1(q))    what was removed has no target

Where neither side's colours are found nearby in the other, it is paint. There nothing is believed: the source's own
pixels are put in its place, the solver gets no evidence, and the motion around goes on smoothly. A place whose colours
are nearby but which no motion explains yet may be a strong edit that a stiff plate could not follow: it is followed
further (followed.py), measured again with a soft one, and led across if that does not explain it either. Clean pairs of
mild edits are measured once.

Pictures are (1, 3, H, W) in [0, 1]; questions are asked at half that size, (1, 1, h, w).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import invert, pixel_grid, warp
from ..side_by_side import side_by_side
from ..windows import block_mean, connected, highest_around
from .estimate import MeasuredMotion, MotionConfig, blur, estimate_motion
from .followed import SOFT, followed
from .residual import ColourMatch, beyond_reach, match_colours
from .sharpness import matched_sharpness
from .tone import still_seen, toned_alike

_NEARBY_SHARE = 0.03  # of the longer side: colours found so near may have moved here
_FROM = 0.03  # difference of colour that counts, after smoothing, in [0, 1]
_SPECK_PX, _MARGIN_PX = 1, 4  # half widths, of the halved picture: what is dropped, and added around the rest
_MIN_AREA = 4e-4  # of the picture: less is a blemish, or the estimator's own error
_INVERSE_STEP = 4  # the way back is computed on every fourth pixel of the halved picture


@dataclass(frozen=True, kw_only=True)
class Explained:
    """motion: of the pixels that moved.  painted: (1, 1, H, W) bool, where pixels are new.  unsure: the same, where
    what is seen is explained by no motion though its colours are there.  softer_px: see sharpness.py.
    clipped: see tone.py."""

    motion: MeasuredMotion
    painted: Tensor
    unsure: Tensor
    softer_px: float
    clipped: bool


@torch.no_grad()
def explained_motion(
    *,
    source: Tensor,
    target: Tensor,
    config: MotionConfig | None = None,
    first: MeasuredMotion | None = None,
    global_affine: Tensor | None = None,
) -> Explained:
    """source, target: (1, 3, H, W) in [0, 1], one size, lying on each other.  first: their motion in the same
    tones, if it is known.  global_affine: see estimate_motion."""
    source, clipped = toned_alike(source, target)
    source, target, softer_px = matched_sharpness(source, target)
    seen = still_seen(target) if clipped else None
    motion = first if softer_px == 0 and not clipped else None
    motion = motion or estimate_motion(
        source=source, target=target, config=config, global_affine=global_affine, trust=seen
    )
    left = _Left.by(motion, source, target)
    painted = unsure = torch.zeros_like(left.unexplained)
    strong = followed(motion, source, target, trust=seen, global_affine=global_affine)
    if strong is not motion:  # what looked like paint may have been a strong edit; what still does is measured anew
        after = _Left.by(strong, source, target)
        motion, left = (strong, after) if not after.notable else (motion, left)
    if left.notable:
        painted = left.painted()
        motion = _measured_without(painted, source, target, left.colours, global_affine, seen)
        # Paint that lies within the reach of its surroundings shows only now, when nothing imitates it any longer; and
        # what even a soft plate cannot explain is not to be believed.
        left = _Left.by(motion, source, target, known=painted)
        if left.notable:
            painted, unsure = painted | left.painted(), _grown(left.unexplained, _MARGIN_PX)
            motion = _measured_without(painted | unsure, source, target, left.colours, global_affine, seen)
    masks = [_at_full_size(mask, source) for mask in (painted, unsure)]
    return Explained(motion=motion, painted=masks[0], unsure=masks[1], softer_px=softer_px, clipped=clipped)


@dataclass(frozen=True, kw_only=True)
class _Left:
    """What a motion leaves unexplained.  old, new: source, in the target's colours, and target, (1, 3, h, w)."""

    unexplained: Tensor
    known: Tensor  # painted, as is known already
    old: Tensor
    new: Tensor
    colours: ColourMatch  # from the source's to the target's

    @classmethod
    def by(cls, motion: MeasuredMotion, source: Tensor, target: Tensor, known: Tensor | None = None) -> _Left:
        old, new = block_mean(source, 2), block_mean(target, 2)
        displacement = block_mean(motion.displacement, 2) / 2
        moves = bool(displacement.any())
        moved, back = old, new
        if moves:
            moved, back = side_by_side(lambda: warp(old, displacement), lambda: warp(new, _inverse(displacement)))
        colours = match_colours(moved, new)
        grid = pixel_grid(*old.shape[-2:], device=old.device)
        moved = colours.apply(moved, grid)
        old = colours.apply(old, grid) if moves else moved
        added, removed = side_by_side(lambda: beyond_reach(new, moved), lambda: beyond_reach(old, back))
        unexplained = _notable_parts(torch.maximum(added, removed))
        known = torch.zeros_like(unexplained) if known is None else known
        return cls(unexplained=unexplained & ~known, known=known, old=old, new=new, colours=colours)

    @property
    def notable(self) -> bool:
        return float(self.unexplained.float().mean()) > _MIN_AREA

    def painted(self) -> Tensor:
        """What is unexplained or foreign to the other picture, around where it is both, with a margin."""
        reach = max(2, round(_NEARBY_SHARE * max(self.old.shape[-2:])))
        added, removed = beyond_reach(self.new, self.old, reach), beyond_reach(self.old, self.new, reach)
        foreign = _notable_parts(torch.maximum(added, removed)) & ~self.known
        core = foreign & self.unexplained
        return _grown(connected(foreign | self.unexplained, core), _MARGIN_PX)


def _measured_without(
    painted: Tensor,
    source: Tensor,
    target: Tensor,
    colours: ColourMatch,
    global_affine: Tensor | None,
    seen: Tensor | None,
) -> MeasuredMotion:
    """The motion where nothing was painted; there, what is around it goes on.  seen: see tone.py, None: everywhere."""
    new = _at_full_size(painted, source)
    # The source's pixels in the target's colours: so the paint does not shine through the local contrast either.
    grid = pixel_grid(*source.shape[-2:], device=source.device)
    filled = torch.where(new, colours.apply(source, (grid - 0.5) / 2).clamp(0, 1), target)
    trust = 1 - new.float() if seen is None else seen * ~new
    return estimate_motion(source=source, target=filled, config=SOFT, trust=trust, global_affine=global_affine)


def _inverse(displacement: Tensor) -> Tensor:
    """The way back, coarsely.  (1, 2, h, w)."""
    height, width = displacement.shape[-2:]
    small = block_mean(displacement, _INVERSE_STEP) / _INVERSE_STEP
    back = F.interpolate(invert(small) * _INVERSE_STEP, scale_factor=_INVERSE_STEP, mode="bilinear")
    return back[..., :height, :width]


def _notable_parts(difference: Tensor) -> Tensor:
    """Where it counts, without specks.  (1, 1, h, w) in [0, 1] -> bool."""
    core = (blur(difference) > _FROM).float()
    return _grown(1 - _grown(1 - core, _SPECK_PX), _SPECK_PX) > 0


def _grown(mask: Tensor, by_px: int) -> Tensor:
    return highest_around(mask.float(), by_px).to(mask.dtype)


def _at_full_size(mask: Tensor, picture: Tensor) -> Tensor:
    height, width = picture.shape[-2:]
    return F.interpolate(mask.float(), scale_factor=2, mode="nearest")[..., :height, :width] > 0
