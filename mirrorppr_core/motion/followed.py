"""Strong local edits: a nose made half as wide, lips pulled together. What one measurement left is measured again.

A thin plate is stiff: where an edit squeezes a few pixels into one, it takes only a part of it, however long the solver
goes on. So the source is brought to where the plate took it and the rest is measured from there, as a new motion of a
plate that is flat again; the two follow each other:

    target(p) ~ brought(p + d2(p)),   brought(q) = source(q + d1(q))   =>   d(p) = d2(p) + d1(p + d2(p))

Asked only where the motion bends much and does not explain the target yet, and kept only if it then explains clearly
more: mild edits keep their bits, and cost nothing but the question.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..geometry.displacement import pixel_grid, sample, warp
from .estimate import MeasuredMotion, MotionConfig, estimate_motion

# Strong local edits need a plate that bends, and more steps to get there; it costs twice as much.
SOFT = MotionConfig(iterations=(8, 8, 8, 8, 6, 4), bending=0.003)
_BENDS = 0.4  # pixels of motion per pixel; professional edits stay below
_MUCH, _LEFT = 0.03, 0.003  # of the squared difference, unexplained: worth the time; and what is rounding, resampling
_CLEARLY = 0.8  # of what was left, at most, after another round
_ROUNDS = 3


def followed(
    motion: MeasuredMotion, source: Tensor, target: Tensor, *, trust: Tensor | None, global_affine: Tensor | None
) -> MeasuredMotion:
    """The motion, or one that explains clearly more of the target.

    source, target: (1, 3, H, W) in [0, 1], one size.  trust: (1, 1, H, W), 0 where what is seen says nothing.
    global_affine: see estimate_motion; without, that of the motion.
    """
    if not _bends(motion.displacement):
        return motion
    affine = motion.global_affine if global_affine is None else global_affine
    seen = 1.0 if trust is None else trust
    still = float(((source - target).square() * seen).sum())
    displacement = motion.displacement
    brought = warp(source, displacement)
    left = float(((brought - target).square() * seen).sum())
    if left <= _MUCH * still:
        return motion
    for _ in range(_ROUNDS):
        if left <= _LEFT * still:
            break
        rest = estimate_motion(source=brought, target=target, config=SOFT, trust=trust, global_affine=affine)
        step = rest.displacement
        further = step + sample(displacement, pixel_grid(*step.shape[-2:], device=step.device) + step, mode="bilinear")
        brought = warp(source, further)
        after = float(((brought - target).square() * seen).sum())
        if after > _CLEARLY * left:
            break
        displacement, left = further, after
    if displacement is motion.displacement:
        return motion
    return replace(motion, displacement=displacement, raw=motion.raw + displacement - motion.displacement)


def _bends(displacement: Tensor) -> bool:
    across = (displacement[..., 1:] - displacement[..., :-1]).abs().amax()
    down = (displacement[..., 1:, :] - displacement[..., :-1, :]).abs().amax()
    return float(torch.maximum(across, down)) > _BENDS
