"""MAE-Large and the two R-Formers exactly as in the released program, up to its unseeded shuffle (patch_order.py).

    MAE        patches + positions (14 x 14, bicubic to the picture's grid) -> [CLS | patches] -> 24 layers -> LN
    R-Former   [8 queries | before | SEP | after] + positions + token type -> 4 layers -> LN -> the 8 queries

Both see the class token; the same projection reads before and after. The layers are the plain ViT's (vit.py), and the
parameter names are those of the released files (the MAE's without `vit.`).

Shapes: B batch, h x w patches, T = 1 + h * w tokens, D width, Q queries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..networks.mae import MAEEncoder
from ..networks.vit import LAYER_NORM_EPS, ViTEncoder, initialise
from .config import QwenConfig


class OfficialMAE(MAEEncoder):
    """Normalised pictures (B, 3, H, W) of any size -> (B, T, D), the class token first."""

    def forward(self, image: Tensor, order: Tensor | None = None) -> Tensor:
        """order: permutation (h * w,) of the patches, or None for raster order."""
        patches = self.embed(image)  # (B, h * w, D)
        return self.encode(patches if order is None else patches[:, order.to(patches.device)])  # (B, T, D)

    def embed(self, image: Tensor) -> Tensor:
        """Patches with their positions; pixels beyond the last whole patch are not seen. Returns (B, h * w, D)."""
        patches = self.embeddings.patch_embeddings.projection(image)  # (B, D, h, w)
        positions = self._positions(*patches.shape[-2:]).to(patches)
        return (patches + positions).flatten(2).transpose(1, 2)

    def _positions(self, height: int, width: int) -> Tensor:
        grid = self.config.grid
        table = self.embeddings.position_embeddings[:, 1:].transpose(1, 2).unflatten(2, (grid, grid))  # (1, D, G, G)
        if (height, width) == (grid, grid):
            return table
        return F.interpolate(table.float(), size=(height, width), mode="bicubic", align_corners=False)


class _Embeddings(nn.Module):
    """What both R-Formers embed alike; positions differ."""

    def __init__(self, config: QwenConfig):
        super().__init__()
        width = config.rformer.width
        self.latent_motion_token = nn.Parameter(torch.zeros(1, config.rformer.num_queries, width))
        self.sep_token = nn.Parameter(torch.zeros(1, 1, width))
        # Row 1 was meant for `after` but the released program adds row 0 to every token, so the weights expect that.
        self.token_type_embeddings = nn.Parameter(torch.zeros(2, width))
        self.projection = nn.Linear(config.mae.width, width)


class _FaceEmbeddings(_Embeddings):
    def __init__(self, config: QwenConfig):
        super().__init__(config)
        tokens = 1 + config.side_patches**2
        length = config.rformer.num_queries + 2 * tokens + 1
        self.position_embeddings = nn.Parameter(torch.zeros(1, length, config.rformer.width))

    def positions(self, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
        return self.position_embeddings


class _ProEmbeddings(_Embeddings):
    def __init__(self, config: QwenConfig):
        super().__init__(config)
        width, rows = config.rformer.width, config.side_patches
        for part in ("cond", "target"):
            for axis in "xy":
                self.register_parameter(f"pos_emb_{axis}_{part}", nn.Parameter(torch.zeros(1, rows, width // 2)))
            self.register_parameter(f"cls_pos_emb_{part}", nn.Parameter(torch.zeros(1, 1, width)))
        self.query_pos_embedding = nn.Parameter(torch.zeros(1, config.rformer.num_queries, width))
        self.sep_pos_embedding = nn.Parameter(torch.zeros(1, 1, width))

    def positions(self, before: tuple[int, int], after: tuple[int, int]) -> Tensor:
        parts = [self.query_pos_embedding, *self._part("cond", *before)]
        return torch.cat([*parts, self.sep_pos_embedding, *self._part("target", *after)], dim=1)

    def _part(self, part: str, height: int, width: int) -> tuple[Tensor, Tensor]:
        y = getattr(self, f"pos_emb_y_{part}")[0, :height, None].expand(-1, width, -1)
        x = getattr(self, f"pos_emb_x_{part}")[0, None, :width].expand(height, -1, -1)
        return getattr(self, f"cls_pos_emb_{part}"), torch.cat([y, x], dim=-1).flatten(0, 1)[None]  # y half first


class OfficialRFormer(nn.Module):
    """Features of a pair (B, T, D_mae) each -> operation tokens (B, Q, D)."""

    def __init__(self, config: QwenConfig):
        super().__init__()
        self.config = config
        self.embeddings = _FaceEmbeddings(config) if config.kind == "face" else _ProEmbeddings(config)
        self.encoder = ViTEncoder(config.rformer.width, config.rformer.heads, config.rformer.depth)
        self.layernorm = nn.LayerNorm(config.rformer.width, eps=LAYER_NORM_EPS)
        initialise(self)
        for parameter in self.embeddings.parameters(recurse=False):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(
        self, before: Tensor, after: Tensor, *, before_grid: tuple[int, int], after_grid: tuple[int, int]
    ) -> Tensor:
        """before_grid, after_grid: patches (h, w) of the two pictures."""
        for name, features, grid in (("before", before, before_grid), ("after", after, after_grid)):
            self._check(name, features, grid)
        parts = self.embeddings
        batch = before.shape[0]
        queries, sep = parts.latent_motion_token.expand(batch, -1, -1), parts.sep_token.expand(batch, -1, -1)
        sequence = torch.cat(
            [queries, parts.projection(before), sep, parts.projection(after)], dim=1
        )  # (B, Q + 2 T + 1, D)
        sequence = sequence + parts.positions(before_grid, after_grid) + parts.token_type_embeddings[0]
        return self.layernorm(self.encoder(sequence))[:, : self.config.rformer.num_queries]  # (B, Q, D)

    def _check(self, name: str, features: Tensor, grid: tuple[int, int]) -> None:
        side = self.config.side_patches
        if features.shape[1] != 1 + grid[0] * grid[1]:
            raise ValueError(f"{name} has {features.shape[1]} tokens but grid {grid}: need 1 + {grid[0] * grid[1]}")
        if self.config.kind == "face" and grid != (side, side):
            raise ValueError(f"{name} has {grid} patches: the Face R-Former reads exactly {side} x {side}")
        if max(grid) > side:
            raise ValueError(f"{name} has {grid} patches: this R-Former knows at most {side} a side. Reduce the pair.")
