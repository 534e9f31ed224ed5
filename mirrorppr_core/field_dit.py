"""Mini's field network: the dual-stream DiT between a convolutional stem and head, predicting a motion field.

    cells: noisy field | copied motion | query shape | exemplar shape  --stem-->  8 x 8 tokens + query features
           --DiT (text stream: operation; modulation: operation x face shapes)-->  head  -->  gain g, shift w, rest r

    x_0(u) = exp(g(u)) * copied(u + w(u)) + r(u)

The start is the exemplar's motion copied through the canonical view, which is already right for many operations. What
changes from face to face is mostly how far things move (a longer upper lip lets the mouth move further) and a little
where, so the network answers with a gain, a shift and a rest, which it learnt faster than a free correction alone. A
fresh network answers zero to all three, so an untrained Mini is the training-free copy. The answer lives on every
second cell: detail finer than that comes from the copied motion itself. Fields are in units of the operation's own
scale (codecs.py), which makes a weak and a strong operation look alike.

Shapes: B batch, N cells a side, G image tokens a side, Q operation tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .dit import DualStreamDiT
from .fields import pixel_grid, sample

_INPUT_CHANNELS = 8  # noisy 2, copied 2, query shape 2, exemplar shape 2
_OUTPUT_CHANNELS = 6  # gain 2, shift 2, rest 2
_GEOMETRY_GRID = 16  # face shapes are seen as a whole at this resolution
_MAX_LOG_GAIN = 1.5


@dataclass(frozen=True)
class FieldCondition:
    """What the network sees besides the noisy field.

    copied: (B, 2, N, N) scaled motion.  query_shape, exemplar_shape: (B, 2, N, N) cells.
    features: (B, G * G, D_mae) of the query.
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
        self.patch = config.view.size // (2 * dit.grid)  # half cells a token spans
        self.stem = nn.Conv2d(_INPUT_CHANNELS, channels, 4, stride=2, padding=1)
        self.to_tokens = nn.Conv2d(channels, dit.width, self.patch, stride=self.patch)
        self.feature_norm = nn.LayerNorm(config.mae.width)
        self.feature_in = nn.Linear(config.mae.width, dit.width)
        self.dit = DualStreamDiT(dit, in_channels=dit.width, out_channels=channels * self.patch**2)
        self.shape_code = nn.Linear(2 * _GEOMETRY_GRID**2, dit.shape_codes)
        hidden = 2 * dit.width
        self.geometry_in = nn.Linear(3 * dit.shape_codes, hidden)
        self.operation_in = nn.Linear(2 * _GEOMETRY_GRID**2 + dit.text_width, hidden)
        self.geometry_out = nn.Linear(hidden, dit.width)
        self.direct = nn.Linear(hidden, _OUTPUT_CHANNELS * dit.grid**2)
        self.head = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.GELU(approximate="tanh"),
            nn.Conv2d(channels, _OUTPUT_CHANNELS, 3, padding=1),
        )
        for layer in (self.head[2], self.direct):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, *, noisy: Tensor, condition: FieldCondition, tokens: Tensor, t: Tensor) -> Tensor:
        """noisy: (B, 2, N, N), tokens: (B, Q, text_width), t: (B,). Returns x_0 (B, 2, N, N)."""
        cells = torch.cat([noisy, condition.copied, condition.query_shape, condition.exemplar_shape], dim=1)
        stem = F.gelu(self.stem(cells), approximate="tanh")  # (B, C, N / 2, N / 2)
        image = self.to_tokens(stem).flatten(2).transpose(1, 2)  # (B, G * G, D)
        image = image + self.feature_in(self.feature_norm(condition.features))
        adaptation = self.adaptation(condition, tokens)
        extra = self.geometry_out(adaptation)
        out = self.dit(image=image, text=tokens, t=t, height=self.grid, width=self.grid, extra=extra)
        out = out.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        fine = F.pixel_shuffle(out, self.patch)  # (B, C, N / 2, N / 2)
        answer = self.head(torch.cat([stem, fine], dim=1))
        direct = self.direct(adaptation).unflatten(1, (_OUTPUT_CHANNELS, self.grid, self.grid))
        answer = answer + F.interpolate(direct, size=answer.shape[-2:], mode="bilinear", align_corners=False)
        answer = F.interpolate(answer, scale_factor=2, mode="bilinear", align_corners=False)  # (B, 6, N, N)
        gain, shift, rest = answer.chunk(3, dim=1)
        copied = sample(condition.copied, pixel_grid(*shift.shape[-2:]) + shift, mode="bilinear")
        return (_MAX_LOG_GAIN * torch.tanh(gain)).exp() * copied + rest

    def adaptation(self, condition: FieldCondition, tokens: Tensor) -> Tensor:
        """What this operation makes of the difference between the two faces: a product, because the same longer
        upper lip means a larger gain for moving the mouth and nothing for the eyes. Returns (B, hidden)."""
        query, exemplar = self.code(condition.query_shape), self.code(condition.exemplar_shape)
        faces = self.geometry_in(torch.cat([query, exemplar, query - exemplar], dim=1))
        motion = F.adaptive_avg_pool2d(condition.copied, _GEOMETRY_GRID).flatten(1)
        operation = self.operation_in(torch.cat([motion, tokens.mean(1)], dim=1))
        return faces * torch.tanh(operation)

    def code(self, shape: Tensor) -> Tensor:
        """A face's shape in a few numbers. (B, 2, N, N) -> (B, shape_codes)."""
        return self.shape_code(F.adaptive_avg_pool2d(shape, _GEOMETRY_GRID).flatten(1))

    @torch.no_grad()
    def start_from_shapes(self, shapes: Tensor) -> None:
        """Set the shape code to the whitened principal components of many faces' shapes (F, 2, N, N).

        How far a mouth may move depends on lengths that are small differences within the shape map; in the raw map
        they drown in the face's width and height.
        """
        pooled = F.adaptive_avg_pool2d(shapes, _GEOMETRY_GRID).flatten(1)
        mean = pooled.mean(0)
        _, deviation, axes = torch.linalg.svd(pooled - mean, full_matrices=False)
        count = self.shape_code.out_features
        basis = axes[:count] / (deviation[:count, None] / len(pooled) ** 0.5)
        self.shape_code.weight.copy_(basis)
        self.shape_code.bias.copy_(-basis @ mean)
