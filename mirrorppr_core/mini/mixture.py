"""The query's face as a mixture of the exemplars' faces: what was seen on them is mixed alike.

    shares w:   least |sum_i w_i face_i - query|^2 + sum_i doubt_i w_i^2,   sum_i w_i = 1

How far a tool moves a face depends on lengths of that face which nobody tells: of an eye, of the chin, of the whole. As
long as the dependence is nearly linear, the mixture that makes the face makes its motion, whatever the lengths are; it
goes beyond the pairs where the query does (shares below zero). Doubt (what was measured badly, what is not linear)
keeps shares near equal where faces tell nothing. This is kriging with a linear kernel and a nugget (Matheron 1963).

A retouch that is done to both sides of a face alike has also been seen on the exemplar's mirror image, a face of its
own; where there is only one pair, that one is taken as a second, the more doubted the less alike both sides are.
Shapes: I pairs, K landmarks, N cells a side. Motions and landmarks are in cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

DOUBT = 0.3  # of a pair, as a share of how faces differ: reading errors too; 0.1 to 0.8 make little difference
_SPREAD = 0.109  # eye distances by which landmarks of faces are away from their mean, the root of the mean square
_ONE_SIDED, _UNEVEN = 1.2, 8.0  # from which difference of the sides on a mirror image says nothing; how doubt grows
_LIKE = 0.2  # squared distance of two faces below which the mirror image is not asked


def shares(faces: Tensor, query: Tensor, doubts: Tensor, *, eye_distance: float) -> Tensor:
    """How much of each face (I, K, 2) the query's (K, 2) is made of, (I,); they sum to one.  eye_distance: in cells.

    doubts: (I,), above 0, of each.
    """
    away = ((faces - query) / (_SPREAD * eye_distance)).flatten(1) / faces.shape[1] ** 0.5
    found = torch.linalg.solve(away @ away.mT + torch.diag(doubts), torch.ones(len(faces)))
    return found / found.sum()


def mirrored(maps: Tensor) -> Tensor:
    """Motions or shapes (I, 2, N, N) of the faces' mirror images: the template is the same on both sides."""
    return maps.flip(-1) * maps.new_tensor([-1.0, 1.0]).view(1, 2, 1, 1)


def mirror_doubt(motion: Tensor) -> float | None:
    """How doubtful the mirror image of a motion (1, 2, N, N) is as a second pair; None where the motion has sides."""
    length = motion.norm(dim=1).sum()
    apart = float((motion - mirrored(motion)).norm(dim=1).sum() / length.clamp(min=1e-9))
    return None if apart >= _ONE_SIDED else DOUBT + _UNEVEN * apart**2 / (_ONE_SIDED - apart)


def mirror_share(face: Tensor, mirror: Tensor, query: Tensor, doubt: float, *, eye_distance: float) -> float:
    """How much of the query's face is the exemplar's mirror image, the rest is the exemplar's own: all (K, 2).

    None of a face like the exemplar's, on which the motion is known.
    """
    own, other = shares(torch.stack([face, mirror]), query, face.new_tensor([DOUBT, doubt]), eye_distance=eye_distance)
    away = float((face - query).square().sum(1).mean()) / (_SPREAD * eye_distance) ** 2
    other = max(float(other), 0.0) * min(1.0, away / _LIKE)
    return other / (float(own) + other) if own > 0 else 0.5
