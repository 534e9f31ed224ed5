"""What the DiT's latents mean. FieldCodec: a latent is a motion field in units of the operation's own scale.

    latent = motion / scale          scale = mean length of the longest twentieth of the exemplar's motion, in cells

Dividing by the scale makes a weak and a strong operation look alike to the network, and the loss with it. Decoding
multiplies back and sets what is negligible to exactly zero, so that untouched pixels can be copied bit for bit. What
the exemplar itself shows is told from nothing already, so a third of it is enough there.
Shapes: B batch, N view cells a side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry.displacement import length, smoothstep

# Below the first share of the scale a motion is noise and becomes zero; above the second it is untouched.
_GATE = (0.05, 0.12)
_STRONGEST_SHARE = 0.05
_SHOWN_COUNTS = 3.0  # times


def motion_scale(motion: Tensor) -> Tensor:
    """(B, 2, N, N) cells -> (B, 1, 1, 1) cells; zero where nothing moves."""
    lengths = length(motion).flatten(1)
    strongest = lengths.topk(max(1, int(lengths.shape[1] * _STRONGEST_SHARE)), dim=1).values
    return strongest.mean(dim=1).view(-1, 1, 1, 1)


class FieldCodec:
    """Between motion in cells and the DiT's latents. Holds no weights."""

    def encode(self, motion: Tensor, scale: Tensor) -> Tensor:
        """(B, 2, N, N) cells and its (B, 1, 1, 1) scale -> latent."""
        return motion / scale.clamp(min=1e-6)

    def decode(self, latent: Tensor, scale: Tensor, *, shown: Tensor | None = None) -> Tensor:
        """Latent -> (B, 2, N, N) cells, negligible motion exactly zero.

        shown: latent of what was measured on the exemplar, exactly zero where nothing moved.
        """
        low, high = _GATE
        size = length(latent)
        if shown is not None:
            size = torch.maximum(size, _SHOWN_COUNTS * length(shown))
        return latent * scale * smoothstep((size - low) / (high - low))
