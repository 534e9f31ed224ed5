"""Similarities (scale, rotation, shift): least squares in closed form (Umeyama 1991, without reflection).

The only alignment used. Points are (..., K, 2), x then y; everything takes leading batch dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Similarity:
    """p -> scale * R(rotation) p + translation, for one face or a batch.

    scale, rotation (radians, clockwise on screen because y points down): (...).
    translation: (..., 2).
    """

    scale: Tensor
    rotation: Tensor
    translation: Tensor

    def linear(self) -> Tensor:
        """scale * R, (..., 2, 2)."""
        cos, sin = torch.cos(self.rotation) * self.scale, torch.sin(self.rotation) * self.scale
        return torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))

    def apply(self, points: Tensor) -> Tensor:
        """points: (..., K, 2).  Returns (..., K, 2)."""
        return points @ self.linear().mT + self.translation.unsqueeze(-2)

    def inverse(self, points: Tensor) -> Tensor:
        """Undoes apply.  points: (..., K, 2).  Returns (..., K, 2)."""
        undo = self.linear() / self.scale[..., None, None].square()
        return (points - self.translation.unsqueeze(-2)) @ undo

    def inverted(self) -> Similarity:
        """The map whose apply is this one's inverse."""
        origin = self.inverse(torch.zeros_like(self.translation).unsqueeze(-2)).squeeze(-2)
        return Similarity(1 / self.scale, -self.rotation, origin)

    def after(self, first: Similarity) -> Similarity:
        """The one map that does `first`, then this."""
        moved = self.apply(first.translation.unsqueeze(-2)).squeeze(-2)
        return Similarity(self.scale * first.scale, self.rotation + first.rotation, moved)

    def __getitem__(self, index) -> Similarity:
        return Similarity(self.scale[index], self.rotation[index], self.translation[index])


def fit_similarity(src: Tensor, dst: Tensor) -> Similarity:
    """The similarity that takes src closest to dst in the least-squares sense.

    src, dst: (..., K, 2), K >= 2; they broadcast against each other.
    """
    src_mean, dst_mean = src.mean(dim=-2), dst.mean(dim=-2)
    s, d = src - src_mean.unsqueeze(-2), dst - dst_mean.unsqueeze(-2)
    spread = s.square().sum(dim=(-2, -1))
    cos = (s * d).sum(dim=(-2, -1)) / spread
    sin = (s[..., 0] * d[..., 1] - s[..., 1] * d[..., 0]).sum(dim=-1) / spread
    turn = Similarity(torch.hypot(cos, sin), torch.atan2(sin, cos), torch.zeros_like(dst_mean))
    shift = dst_mean - turn.apply(src_mean.unsqueeze(-2)).squeeze(-2)
    return Similarity(turn.scale, turn.rotation, shift)
