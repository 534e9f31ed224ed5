"""From what the pose network says of a joint to the probability that it can be trusted.

A joint can be trusted where it is found within a fifth of the torso, be it seen, hidden or a little beyond the photo:
retouches of half bodies lean on hips and elbows that the frame cuts off. A network that has learnt its pictures by
heart is too sure of itself, so this is measured on people it was not trained on: one logistic regression for each joint
and its mirror image, drawn towards that of all joints together, since there are few people.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.bodies.pose import signs_of
from mirrorppr_core.bodies.pose_network import CROP_PX, JOINTS, MIRROR_JOINTS, PoseNet

from .crops import PoseBatch, near_use
from .data import PosePhoto

NEAR = 0.2  # of the torso: found
LOOKS = 4  # squares of each photo
_AT_ONCE = 16
_REAL_WEIGHT, _OTHER_WEIGHT = 1.0, 0.15  # of a photo: what matters is the judgement on real ones
_POOLED = 8.0  # strength of the pull towards all joints together
_STEPS = 25


@torch.no_grad()
def measured_trust(network: PoseNet, photos: Sequence[PosePhoto], *, size: int = CROP_PX) -> Tensor:
    """(J, 4) for PoseNet.trust.  photos: of people the network was not trained on."""
    device = network.trust.device
    signs, right, asked = [], [], []
    for look in range(LOOKS):
        for start in range(0, len(photos), _AT_ONCE):
            part = photos[start : start + _AT_ONCE]
            batch = near_use(part, [1000 * look + start + i for i in range(len(part))], size)
            places, features = (found.cpu() for found in signs_of(network, batch.pixels.to(device)))
            real = torch.tensor([photo.group not in ("render", "figure") for photo in part])
            signs.append(features.double())
            right.append(is_right(places, batch).double())
            asked.append(can_judge(batch).double() * torch.where(real, _REAL_WEIGHT, _OTHER_WEIGHT)[:, None] / LOOKS)
    features, targets, weights = torch.cat(signs), torch.cat(right), torch.cat(asked)
    prior = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    together = _fitted(features.flatten(0, 1), targets.flatten(), weights.flatten(), prior, 1.0)
    trust = torch.empty(len(JOINTS), 4)
    for joint, partner in enumerate(MIRROR_JOINTS):
        pair = sorted({joint, partner})
        own = [values[:, pair].flatten(0, 1) for values in (features, targets, weights)]
        trust[joint] = _fitted(*own, together, _POOLED).float()
    return trust


def is_right(places: Tensor, batch: PoseBatch) -> Tensor:
    """(B, J) whether a joint's place is known and was found."""
    return (batch.weight > 0) & ((places - batch.places).norm(dim=-1) < NEAR * batch.torso[:, None])


def can_judge(batch: PoseBatch) -> Tensor:
    """(B, J) whether the label says enough: surely not to be seen, or seen at a place that is known."""
    return (batch.sure == 1) & ((batch.told == 0) | (batch.weight == 1))


def _fitted(features: Tensor, targets: Tensor, weights: Tensor, prior: Tensor, pull: float) -> Tensor:
    """Logistic regression by Newton's method, drawn towards `prior`.  features: (N, F).  Returns (F,)."""
    found = prior.clone()
    for _ in range(_STEPS):
        chance = (features @ found).sigmoid()
        slope = features.T @ (weights * (targets - chance)) - pull * (found - prior)
        curve = (features * (weights * chance * (1 - chance))[:, None]).T @ features
        step = torch.linalg.solve(curve + pull * torch.eye(len(prior), dtype=features.dtype), slope)
        best = _cost(features, targets, weights, prior, pull, found)
        while _cost(features, targets, weights, prior, pull, found + step) > best and float(step.norm()) > 1e-9:
            step = step / 2  # Newton's steps may be too long far from the answer
        found = found + step
    return found


def _cost(features: Tensor, targets: Tensor, weights: Tensor, prior: Tensor, pull: float, found: Tensor) -> float:
    wrong = F.binary_cross_entropy_with_logits(features @ found, targets, weights, reduction="sum")
    return float(wrong + pull / 2 * (found - prior).square().sum())


def reliability(told: np.ndarray, right: np.ndarray, *, bins: int = 5) -> list[tuple[float, float, int]]:
    """For equal bins of the told probability: its mean, how often it was right, and how many joints."""
    place = np.minimum((told * bins).astype(int), bins - 1)
    return [
        (float(told[place == b].mean()), float(right[place == b].mean()), int((place == b).sum()))
        for b in range(bins)
        if (place == b).any()
    ]
