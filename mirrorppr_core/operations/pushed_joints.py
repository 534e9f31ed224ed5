"""Where an exemplar's joints must be for one of our own operations to have made its motion.

Our operations hold on to joints, so what they moved tells where those were, and better than any network sees them:

    joints, width of the windows = argmin  |motion - amounts * operation(joints)|^2 + prior        amounts solved inside

by Levenberg-Marquardt with numeric slopes. The prior holds each joint near where it was seen, so that joints of which
the motion tells nothing stay. Without this an operation is taken for another one, or for a weaker one: the exemplar's
joints cost a body operation as much as the query's (training/LOG.md).

Shapes: N places, U unknowns, 33 joints of MediaPipe Pose. Displacements are backward, in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .professional import LEAST_VISIBILITY, professional_displacement_at
from .professional_table import Push, operation_named

_MOST_PLACES = 900
_ITERATIONS = 10
_STEP = 2e-3  # of numeric slopes, in shoulder widths
_SPREAD, _REACH_SPREAD = 0.15, 0.4  # of a joint, in shoulder widths; of log reach
_PRIOR = 0.02  # of the motion's energy, for joints one spread off
_FARTHEST = 0.5  # shoulder widths, and of log reach
_STRIDE, _SETTLED = 0.15, 0.999  # longest step, in shoulder widths; a cost that falls by less has settled
_BODY = range(11, 29)
_RIDGE = 1e-6


def placed_by_motion(
    motion: Tensor, places: Tensor, pose: Tensor, name: str, reach: float
) -> tuple[Tensor, float, float]:
    """The pose (33, 4) that explains a motion as the operation of this name, the width of its windows, and what speaks
    against it: the prior's cost in shares of the motion's energy. Joints far from where they were seen mean that
    something else was done there.

    motion, places: (N, 2).  pose: as seen.  reach: to start from.
    """
    operation = operation_named(name)
    pushes = [push for side in operation.sides().values() for push in side]
    used = sorted({one for push in pushes for one in (*push.landmarks, *push.ruler) if one in _BODY})
    width = float((pose[11, :2] - pose[12, :2]).norm())
    if width < 1.0:
        return pose, reach, 0.0
    every = max(1, -(-len(places) // _MOST_PLACES))
    motion, places = motion[::every], places[::every]
    sides = [side for side, own in operation.sides().items() if _shows(own, pose)]
    weight = (_PRIOR * motion.square().sum() / len(used)).sqrt()
    spread = torch.cat([torch.full((2 * len(used),), _SPREAD), torch.tensor([_REACH_SPREAD])])

    def posed(unknowns: Tensor) -> Tensor:
        """(V, U) -> (V, 33, 4)."""
        moved = pose.repeat(len(unknowns), 1, 1)
        moved[:, used, :2] += width * unknowns[:, :-1].unflatten(1, (-1, 2))
        return moved

    def misfit(unknowns: Tensor) -> Tensor:
        """(V, U), with one width of windows -> (V, 2 N + U): what is left of the motion, and the prior's."""
        how = {"operation": name, "strength": 100.0, "reach": reach * float(unknowns[0, -1].exp())}
        there, poses = places.expand(len(unknowns), -1, -1), posed(unknowns)
        columns = [professional_displacement_at(there, None, poses, side=side, **how) for side in sides]
        left = _left_of(motion.flatten(), torch.stack(columns, dim=1).flatten(2))
        return torch.cat([left, weight * unknowns / spread], dim=1)

    steps = _STEP * torch.eye(2 * len(used) + 1)
    candidate, damping, best = torch.zeros(len(steps)), 1e-2, None
    for _ in range(_ITERATIONS):
        around = misfit(torch.cat([candidate[None], candidate + steps[:-1]]))
        cost = float(around[0].square().sum())
        if best is None or cost < best[1]:
            settled = best is not None and cost > _SETTLED * best[1]
            slopes = (torch.cat([around[1:], misfit(candidate[None] + steps[-1:])]) - around[0]) / _STEP
            best, damping = (candidate, cost, slopes, around[0]), damping / 5
            if settled:
                break
        else:
            damping *= 8
        at, _, slopes, residual = best
        curvature = slopes @ slopes.T
        curvature = curvature + damping * torch.diag(curvature.diagonal() + 1e-9)
        step = -torch.linalg.solve(curvature, slopes @ residual)
        candidate = (at + step.clamp(-_STRIDE, _STRIDE)).clamp(-_FARTHEST, _FARTHEST)
    doubt = float((weight * best[0] / spread).square().sum() / motion.square().sum().clamp_min(1e-9))
    return posed(best[0][None])[0], reach * float(best[0][-1].exp()), doubt


def _shows(pushes: Sequence[Push], pose: Tensor) -> bool:
    return any(bool((pose[list(push.landmarks), 3] >= LEAST_VISIBILITY).all()) for push in pushes)


def _left_of(motion: Tensor, columns: Tensor) -> Tensor:
    """What the best amounts of columns (V, S, M) leave of a motion (M,): (V, M)."""
    gram = columns @ columns.mT  # (V, S, S)
    ridge = _RIDGE * gram.diagonal(dim1=1, dim2=2).amax(1).clamp_min(1e-9)
    gram = gram + ridge[:, None, None] * torch.eye(columns.shape[1])
    amounts = torch.linalg.solve(gram, columns @ motion)
    return motion - (amounts[:, None] @ columns)[:, 0]
