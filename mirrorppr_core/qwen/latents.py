"""Pictures to latents and back with diffusers' Qwen-Image VAE, and the DiT's 2 x 2 packing of them.

Latents are (1, 16, H / 8, W / 8) in the DiT's units, (z - mean) / std per channel. A token is a 2 x 2 square of them:
64 numbers in the order channel, row, column. Encoding takes the mean of the posterior: nothing is drawn.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn


@torch.no_grad()
def encode(vae: nn.Module, image: Tensor) -> Tensor:
    """(1, 3, H, W) in [0, 1] -> (1, 16, H / 8, W / 8) float32."""
    frame = (2 * image - 1).unsqueeze(2).to(vae.device, vae.dtype)  # (1, 3, 1, H, W)
    mean, std = _statistics(vae)
    return ((vae.encode(frame).latent_dist.mode().float() - mean) / std)[:, :, 0]


@torch.no_grad()
def decode(vae: nn.Module, latent: Tensor) -> Tensor:
    """(1, 16, h, w) -> (1, 3, 8 h, 8 w) in [0, 1], float32, on the latent's device."""
    mean, std = _statistics(vae)
    frame = (latent.to(vae.device).unsqueeze(2).float() * std + mean).to(vae.dtype)
    return ((vae.decode(frame).sample[:, :, 0].float() + 1) / 2).clamp(0, 1).to(latent.device)


def pack(latent: Tensor) -> Tensor:
    """(B, C, h, w) -> tokens (B, h/2 * w/2, 4 C), row by row."""
    return rearrange(latent, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)


def unpack(tokens: Tensor, *, height: int, width: int) -> Tensor:
    """Inverse of pack for a latent of height x width."""
    return rearrange(tokens, "b (h w) (c p q) -> b c (h p) (w q)", h=height // 2, w=width // 2, p=2, q=2)


def _statistics(vae: nn.Module) -> tuple[Tensor, Tensor]:
    shape = (1, -1, 1, 1, 1)
    mean, std = vae.config.latents_mean, vae.config.latents_std
    return tuple(torch.tensor(v, device=vae.device).view(shape) for v in (mean, std))
