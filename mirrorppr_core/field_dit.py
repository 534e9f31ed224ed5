"""Mini's field network: the dual-stream DiT between a convolutional stem and head, predicting a motion field.

    cells: noisy field | copied motion | query shape | exemplar shape  --stem-->  16 x 16 tokens + query features
           --DiT (text stream: operation)-->  head(tokens, stem)  -->  correction;   x_0 = copied motion + correction

The start is the exemplar's motion copied through the canonical view, which is already right for many operations;
the network corrects it for this face (thicker lips move further). A fresh network corrects by exactly zero, so an
untrained Mini is the training-free copy. All fields are in units of the operation's own scale (codecs.py), which
makes a weak and a strong operation look alike. Shapes: B batch, N cells a side, G image
tokens a side, Q operation tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .dit import DualStreamDiT

_INPUT_CHANNELS = 8  # noisy 2, copied 2, query shape 2, exemplar shape 2


@dataclass(frozen=True)
class FieldCondition:
    """What the network sees besides the noisy field.

    copied: (B, 2, N, N) scaled motion.  query_shape, exemplar_shape: (B, 2, N, N) cells.
    features: (B, M * M, D_mae) of the query, M MAE patches a side.
    """

    copied: Tensor
    query_shape: Tensor
    exemplar_shape: Tensor
    features: Tensor


class FieldDiT(nn.Module):
    """Predicts the clean field x_0 (B, 2, N, N), scaled."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        dit, channels = config.dit, config.dit.stem_channels
        self.grid = dit.grid
        self.patch = config.view.size // dit.grid
        self.stem = nn.Conv2d(_INPUT_CHANNELS, channels, 3, padding=1)
        self.to_tokens = nn.Conv2d(channels, dit.width, self.patch, stride=self.patch)
        self.feature_norm = nn.LayerNorm(config.mae.width)
        self.feature_in = nn.Linear(config.mae.width, dit.width)
        self.dit = DualStreamDiT(dit, in_channels=dit.width, out_channels=channels * self.patch**2 // 2)
        self.head = nn.Sequential(
            nn.Conv2d(channels + channels // 2, channels, 3, padding=1),
            nn.GELU(approximate="tanh"),
            nn.Conv2d(channels, 2, 3, padding=1),
        )
        nn.init.zeros_(self.head[2].weight)
        nn.init.zeros_(self.head[2].bias)

    def forward(self, *, noisy: Tensor, condition: FieldCondition, tokens: Tensor, t: Tensor) -> Tensor:
        """noisy: (B, 2, N, N), tokens: (B, Q, text_width), t: (B,). Returns x_0 (B, 2, N, N)."""
        cells = torch.cat([noisy, condition.copied, condition.query_shape, condition.exemplar_shape], dim=1)
        stem = F.gelu(self.stem(cells), approximate="tanh")  # (B, C, N, N)
        image = self.to_tokens(stem).flatten(2).transpose(1, 2)  # (B, G * G, D)
        image = image + self._features(condition.features)
        out = self.dit(image=image, text=tokens, t=t, height=self.grid, width=self.grid)
        out = out.transpose(1, 2).reshape(out.shape[0], -1, self.grid, self.grid)
        fine = F.pixel_shuffle(out, self.patch)  # (B, C / 2, N, N)
        return condition.copied + self.head(torch.cat([stem, fine], dim=1))

    def _features(self, features: Tensor) -> Tensor:
        """Query features on the token grid. (B, M * M, D_mae) -> (B, G * G, D)."""
        projected = self.feature_in(self.feature_norm(features))
        side = int(projected.shape[1] ** 0.5)
        grid = projected.transpose(1, 2).unflatten(2, (side, side))
        grid = F.interpolate(grid, size=(self.grid, self.grid), mode="bilinear", align_corners=False)
        return grid.flatten(2).transpose(1, 2)
