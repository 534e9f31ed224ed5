"""R-Former: learnable queries read a before/after pair and answer with the operation between the two.

    [queries | before patches | SEP | after patches] -> ViT layers -> the first Q tokens        (paper, section 3)

Mini's own addition: the *measured* canonical motion and the exemplar's face shape are added to the after patches,
because a photo and its own warp let us measure the geometry to a fraction of a pixel instead of guessing it. (The
released R-Former, with its class tokens and token types, is in qwen/networks.py.)

Before and after have separate position rows, so the order of the pair matters. Shapes: B batch, G MAE patches a
side, D width, Q queries, N view cells a side.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import ModelConfig
from .vit import LAYER_NORM_EPS, ViTEncoder, initialise

_POSITION_STD = 0.3
# A face's shape is some cells, its motion a fraction of the scale in few places: unscaled it would drown.
_MOTION_GAIN = (4.0, 4.0, 0.25, 0.25)


class _Embeddings(nn.Module):
    def __init__(self, config: ModelConfig):
        super().__init__()
        rformer, mae = config.rformer, config.mae
        tokens = mae.grid**2
        width = rformer.width
        self.latent_motion_token = nn.Parameter(torch.zeros(1, rformer.num_queries, width))
        self.sep_token = nn.Parameter(torch.zeros(1, 1, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, rformer.num_queries + 2 * tokens + 1, width))
        self.projection = nn.Linear(mae.width, width)
        if rformer.motion_channels:
            cells = config.view.size // mae.grid
            self.motion_projection = nn.Linear(rformer.motion_channels * cells**2, width)


class RFormer(nn.Module):
    """Pair features to operation tokens. Returns (B, Q, D)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = ViTEncoder(config.rformer.width, config.rformer.heads, config.rformer.depth)
        self.layernorm = nn.LayerNorm(config.rformer.width, eps=LAYER_NORM_EPS)
        # The paper's 0.02 suits a width of 768. At Mini's width it leaves attention even over all patches and the
        # motion a whisper in it: Stage I then stays at the zero field.
        initialise(self, std=config.rformer.width**-0.5)
        for name in ("latent_motion_token", "sep_token", "position_embeddings"):
            nn.init.trunc_normal_(getattr(self.embeddings, name), std=_POSITION_STD)

    def forward(self, before: Tensor, after: Tensor, motion: Tensor | None = None) -> Tensor:
        """before, after: (B, G * G, D_mae) from MAEEncoder. motion: (B, motion_channels, N, N), scaled
        motion and shape, or None where motion_channels is 0."""
        parts = self.embeddings
        before, after = parts.projection(before), parts.projection(after)  # (B, G * G, D)
        if self.config.rformer.motion_channels:
            if motion is None:
                raise ValueError("this R-Former was trained with measured motion: pass motion=(B, C, N, N)")
            side = self.config.mae.grid
            motion = motion * motion.new_tensor(_MOTION_GAIN).view(1, -1, 1, 1)
            cells = rearrange(motion, "b c (h p) (w q) -> b (h w) (c p q)", h=side, w=side)  # (B, G * G, C p q)
            after = after + parts.motion_projection(cells)  # (B, G * G, D)
        batch = before.shape[0]
        queries, sep = parts.latent_motion_token.expand(batch, -1, -1), parts.sep_token.expand(batch, -1, -1)
        sequence = torch.cat([queries, before, sep, after], dim=1)  # (B, Q + 2 G * G + 1, D)
        tokens = self.layernorm(self.encoder(sequence + parts.position_embeddings))
        return tokens[:, : self.config.rformer.num_queries]  # (B, Q, D)
