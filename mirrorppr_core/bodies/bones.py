"""From one person's body to another's, bone by bone: where on the exemplar each place of the query lies.

    query place --(each bone's own frame)--> exemplar place,  blended by nearness to the bones (skinning)

A place near a bone is told as so far along it and so far beside it. Along, bones correspond end to end; beside them
and beyond their ends, lengths count in shoulder widths. Motion is turned with the bone and scaled by the shoulder
width, so that an arm made slimmer is made slimmer across the other person's arm, wherever that points.

One similarity from face to face was measured first and is worse than doing nothing (training/LOG.md): heads nod, tilt
and turn on their shoulders. Places and motion are in eye distances, x right, y down, the eyes at the origin.
Shapes: J joints, N places, K bones. Linear blend skinning: Magnenat-Thalmann et al. 1988.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry.displacement import smoothstep
from .network import JOINTS, MIRROR_JOINTS

LEAST_SHOULDERS = 0.8  # eye distances; narrower ones, seen from the side, say little about direction and size
_NEAR, _POWER = 0.05, 6  # weight of a bone: 1 / (distance in shoulder widths + _NEAR) ^ _POWER
_HEAD_WEIGHT = 0.02  # the neck follows the shoulders
_ARM_FROM, _ARM_TO = 0.45, 0.8  # shoulder widths from the shoulder: beyond, motion is the arm's own

_BONES = (
    ("shoulder_r", "shoulder_l"), ("shoulder_r", "hip_r"), ("shoulder_l", "hip_l"), ("hip_r", "hip_l"),
    ("shoulder_r", "elbow_r"), ("elbow_r", "wrist_r"), ("shoulder_l", "elbow_l"), ("elbow_l", "wrist_l"),
)  # fmt: skip
_ARMS = range(4, 8)
BONES = tuple((JOINTS.index(start), JOINTS.index(end)) for start, end in _BONES)


@dataclass(frozen=True)
class Skeleton:
    """joints: (J, 2) eye distances from the eyes.  told: (J,) bool; where False the joint is not known.
    chin: (2,) direction from the eyes to the chin, about one and a half long."""

    joints: Tensor
    told: Tensor
    chin: Tensor

    @property
    def has_shoulders(self) -> bool:
        return bool(self.told[:2].all())

    @property
    def shoulder_width(self) -> Tensor:
        return (self.joints[1] - self.joints[0]).norm().clamp_min(LEAST_SHOULDERS)


def facing(skeleton: Skeleton) -> Skeleton:
    """The skeleton as matching needs it: first shoulder on the left of the picture, shoulders not too narrow.

    A person seen from behind has the sides swapped; a motion must not be turned upside down for that.
    """
    joints, told = skeleton.joints, skeleton.told
    if joints[0, 0] > joints[1, 0]:
        joints, told = joints[list(MIRROR_JOINTS)], told[list(MIRROR_JOINTS)]
    across = joints[1] - joints[0]
    missing = (LEAST_SHOULDERS - across.norm()).clamp_min(0)
    widened = across + torch.stack([missing, missing.new_zeros(())])
    middle = (joints[0] + joints[1]) / 2
    shoulders = torch.stack([middle - widened / 2, middle + widened / 2])
    return Skeleton(joints=torch.cat([shoulders, joints[2:]]), told=told, chin=skeleton.chin)


@dataclass(frozen=True)
class Match:
    """places: (N, 2) on the exemplar.  turn: (N, 2, 2), exemplar motion -> query motion, both in eye distances."""

    places: Tensor
    turn: Tensor


def match(places: Tensor, query: Skeleton, exemplar: Skeleton) -> Match:
    """Where on the exemplar these places of the query lie.  places: (N, 2).  Both skeletons: of `facing`."""
    ratio = exemplar.shoulder_width / query.shoulder_width
    weights, found, turns = [], [], []
    for k, (start, end) in enumerate(BONES):
        if _known(query, k) and _known(exemplar, k):
            segment, other = (torch.stack([s.joints[start], s.joints[end]]) for s in (query, exemplar))
            weights.append(_nearness(places, segment, query.shoulder_width))
            on_exemplar, turn = _along(places, segment, other, ratio)
            found.append(on_exemplar)
            turns.append(turn / ratio)
    heads = [torch.stack([torch.zeros_like(s.chin), s.chin]) for s in (query, exemplar)]
    weights.append(_HEAD_WEIGHT * _nearness(places, heads[0], query.shoulder_width))
    on_exemplar, turn = _along(places, *heads, heads[1].norm() / heads[0].norm())
    found.append(on_exemplar)
    turns.append(turn)
    share = torch.stack(weights)  # (K, N)
    share = share / share.sum(0)
    return Match(
        places=torch.einsum("kn,knd->nd", share, torch.stack(found)),
        turn=torch.einsum("kn,kij->nij", share, torch.stack(turns)),
    )


def has_a_place(places: Tensor, exemplar: Skeleton, query: Skeleton) -> Tensor:
    """1 where motion of the exemplar can go to the query, 0 on arms that the query does not show.

    places: (N, 2) of the exemplar.  Returns (N,). Near the shoulder an upper arm goes with the shoulder.
    """
    weights = torch.stack(
        [
            _nearness(places, exemplar.joints[list(bone)], exemplar.shoulder_width) * _known(exemplar, k)
            for k, bone in enumerate(BONES)
        ]
    )
    lost = [k for k in _ARMS if _known(exemplar, k) and not _known(query, k)]
    if not lost:
        return torch.ones_like(weights[0])
    share = weights[lost].sum(0) / weights.sum(0)
    away = torch.stack([(places - exemplar.joints[j]).norm(dim=1) for j in (0, 1)]).amin(0) / exemplar.shoulder_width
    return 1 - share * smoothstep((away - _ARM_FROM) / (_ARM_TO - _ARM_FROM))


def _known(skeleton: Skeleton, bone: int) -> bool:
    start, end = BONES[bone]
    return bool(skeleton.told[start] and skeleton.told[end])


def _nearness(places: Tensor, segment: Tensor, width: Tensor) -> Tensor:
    """Weight of a bone at places (N, 2).  segment: (2, 2) start and end.  Returns (N,)."""
    away, bone = places - segment[0], segment[1] - segment[0]
    share = ((away @ bone) / bone.square().sum().clamp_min(1e-6)).clamp(0, 1)
    distance = (away - share[:, None] * bone).norm(dim=1)
    return 1 / (distance / width + _NEAR) ** _POWER


def _along(places: Tensor, segment: Tensor, other: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Places of one bone's frame in the other's, (N, 2), and the turn (2, 2) back from the other to the first.

    ratio: length on the other per length here, beside the bone and beyond its ends.
    """
    (along, length), (other_along, other_length) = (_axis(s) for s in (segment, other))
    away = places - segment[0]
    forward, beside = away @ along, away @ _normal(along)
    within = torch.minimum(forward.clamp_min(0), length)
    forward = within * (other_length / length) + (forward - within) * ratio
    found = other[0] + forward[:, None] * other_along + (beside * ratio)[:, None] * _normal(other_along)
    turn = torch.outer(along, other_along) + torch.outer(_normal(along), _normal(other_along))
    return found, turn


def _axis(segment: Tensor) -> tuple[Tensor, Tensor]:
    bone = segment[1] - segment[0]
    length = bone.norm().clamp_min(1e-3)
    return bone / length, length


def _normal(axis: Tensor) -> Tensor:
    return torch.stack([-axis[1], axis[0]])
