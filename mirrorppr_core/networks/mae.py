"""The frozen MAE encoder: a picture becomes one feature vector per patch.

A plain ViT trained to paint in hidden patches (He et al., arXiv:2111.06377). Here only its encoder runs, on all
patches, in raster order. (The stock transformers class permutes the patches at random even when it hides none; we
never do.) Parameter names are those of ViTMAE without the `vit.` prefix.

Shapes: B batch, G patches a side, D width. Pixels in [0, 1] are normalised with ImageNet's mean and deviation.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..images import IMAGENET_MEAN, IMAGENET_STD
from .config import MAEConfig
from .vit import LAYER_NORM_EPS, ViTEncoder, initialise


class _PatchEmbeddings(nn.Module):
    def __init__(self, patch: int, width: int):
        super().__init__()
        self.projection = nn.Conv2d(3, width, patch, stride=patch)


class _Embeddings(nn.Module):
    def __init__(self, config: MAEConfig):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + config.grid**2, config.width))
        self.patch_embeddings = _PatchEmbeddings(config.patch, config.width)


class MAEEncoder(nn.Module):
    """Image (B, 3, S, S) in [0, 1] -> patch features (B, G * G, D), raster order, class token dropped."""

    def __init__(self, config: MAEConfig):
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = ViTEncoder(config.width, config.heads, config.depth)
        self.layernorm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        initialise(self)
        nn.init.trunc_normal_(self.embeddings.cls_token, std=0.02)
        self.embeddings.position_embeddings.data.copy_(sincos_positions(config.grid, config.width))

    def forward(self, image: Tensor) -> Tensor:
        return self.encode(self.embed(image))[:, 1:]  # (B, G * G, D)

    def embed(self, image: Tensor) -> Tensor:
        """Patches with their positions, before any layer. Returns (B, G * G, D)."""
        size = self.config.image_size
        if image.shape[-2:] != (size, size):
            raise ValueError(f"MAE input is {tuple(image.shape[-2:])}, needs {size}x{size}: use CanonicalView.see")
        patches = self.embeddings.patch_embeddings.projection(normalise(image))  # (B, D, G, G)
        patches = patches.flatten(2).transpose(1, 2)  # (B, G * G, D)
        return patches + self.embeddings.position_embeddings[:, 1:]

    def encode(self, patches: Tensor) -> Tensor:
        """Class token and any subset of embedded patches through the layers. (B, T, D) -> (B, 1 + T, D)."""
        cls = self.embeddings.cls_token + self.embeddings.position_embeddings[:, :1]
        tokens = torch.cat([cls.expand(patches.shape[0], -1, -1), patches], dim=1)  # (B, 1 + T, D)
        return self.layernorm(self.encoder(tokens))


def normalise(image: Tensor) -> Tensor:
    """[0, 1] pixels to ImageNet-normalised ones. (B, 3, H, W) -> (B, 3, H, W)."""
    mean = torch.tensor(IMAGENET_MEAN, dtype=image.dtype, device=image.device).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD, dtype=image.dtype, device=image.device).view(1, 3, 1, 1)
    return (image - mean) / std


def to_patches(image: Tensor, patch: int) -> Tensor:
    """(B, C, H, W) -> (B, H/p * W/p, p * p * C), the order in which the MAE decoder predicts pixels."""
    return F.pixel_unshuffle(image, patch).flatten(2).transpose(1, 2)


def sincos_positions(grid: int, width: int) -> Tensor:
    """MAE's fixed 2-D positions, class token (zeros) first, x half before y half. Returns (1, 1 + G * G, D)."""
    quarter = width // 4
    frequency = 10000 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * frequency  # (G, D/4)
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)  # (G, D/2)
    x = axis[None].expand(grid, grid, -1)
    y = axis[:, None].expand(grid, grid, -1)
    positions = torch.cat([x, y], dim=-1).reshape(1, grid * grid, width)
    return torch.cat([torch.zeros(1, 1, width), positions.float()], dim=1)
