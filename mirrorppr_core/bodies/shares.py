"""Whose motion it is near a face: the face's, or of what lies beside it, whose lobe only reaches in.

    whole    most of it lies on the face, or borders on it: all of the motion near the face, none further off
    narrow   the face moves by itself beside a larger motion: as much as the face alone
    none     a neck made slimmer, hair made fuller, shoulders: what moves on the face belongs to that

Of every motion of the tools for faces that we know at least 0.24 of the energy lies within the outline, of brushes on
neck and hair at most 0.19 (training/LOG.md). Shapes: N cells a side of the face view.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..faces.landmarks import OVAL
from ..faces.outline import onto
from ..faces.view import CanonicalView
from ..geometry.displacement import length, pixel_grid, smoothstep

_ON_FACE = 0.2  # of the motion's energy: with less within the outline it is not the face's
_BORDERS_ON = 0.5  # of the motion around it: a face that moves less is left to the body's part as a whole
_FACE_FROM, _FACE_TO = 1.3, 1.75  # half sizes of the face; between them its share falls to nothing
_ALONE, _ALONE_LEAST = 0.45, 0.05  # of what moves on the face and of the motion around it: what moves alone, at least
_ALONE_FROM, _ALONE_TO = 1.0, 1.4  # between them the share of such a face falls to nothing
_SECTORS, _RINGS = 8, 8  # around the face, and from its middle to its edge


def face_share(motion: Tensor, view: CanonicalView) -> Tensor:
    """motion: (1, 1, N, N) its length.  Returns (1, 1, N, N), how much of it is the face's."""
    away = from_middle(view)
    radius = length(away)
    around = (radius >= 1) & (radius < _FACE_TO)
    borders = float(motion[radius < 1].amax()) > _BORDERS_ON * float(motion[around].amax())
    if borders and not only_reaches_in(motion, view):
        return smoothstep((_FACE_TO - radius) / (_FACE_TO - _FACE_FROM))
    if not moves_alone(motion, away):
        return torch.zeros_like(radius)
    return smoothstep((_ALONE_TO - radius) / (_ALONE_TO - _ALONE_FROM))


def only_reaches_in(motion: Tensor, view: CanonicalView) -> bool:
    """Whether hardly any of a motion (1, 1, N, N) lies on the face, and that much only as the end of what is beside."""
    energy = motion.square()
    cells = pixel_grid(*motion.shape[-2:]).flatten(2)[0].T
    beside = onto(cells, view.template[list(OVAL)])[1].view_as(motion)
    within = float(energy[beside == 0].sum())
    return within < _ON_FACE * float(energy.sum()) and not moves_alone(motion, from_middle(view))


def from_middle(view: CanonicalView) -> Tensor:
    """Of the view's cells from the middle of the face, in its half sizes: (1, 2, N, N)."""
    low, high = view.template.amin(0), view.template.amax(0)
    cells = pixel_grid(*view.window.shape[-2:])
    return (cells - ((low + high) / 2).view(2, 1, 1)) / ((high - low) / 2).view(2, 1, 1)


def moves_alone(motion: Tensor, away: Tensor) -> bool:
    """Whether something moves on the face itself beside a larger motion around it, a smile beside narrower shoulders.

    What only reaches in from around grows on the way out to its longest; so, in sectors, motion counts that is more
    than the least on that way, or all of it where nothing further out is longer.  motion: (1, 1, N, N).
    away: (1, 2, N, N), see from_middle.
    """
    radius = length(away)
    turn = torch.atan2(away[:, 1:], away[:, :1]) / (2 * math.pi) + 0.5
    sector, ring = (turn * _SECTORS).long().clamp_max(_SECTORS - 1), (radius * _RINGS).long()
    near, rings = radius < _FACE_TO, int(_FACE_TO * _RINGS)
    most = motion.new_zeros(_SECTORS * rings)
    most = most.scatter_reduce(0, (sector * rings + ring)[near], motion[near], "amax").view(_SECTORS, rings)
    longest, at = most[:, _RINGS:].max(1)
    alone = 0.0
    for own, peak, end in zip(most, longest, (at + _RINGS).tolist(), strict=True):
        for start in range(_RINGS):
            dip = own[start : end + 1].amin() if own[start] < peak else own[start:].amin()
            alone = max(alone, float(own[start] - dip))
    return alone > _ALONE * float(motion[radius < 1].amax()) and alone > _ALONE_LEAST * float(most.amax())
