"""Dual-stream DiT: image and text tokens keep their own weights and meet in joint attention.

The block of Qwen-Image (and of Stable Diffusion 3 before it, arXiv:2403.03206), with diffusers' parameter names, so
that LoRA targets, key formats and the trainer are the same for Mini and for the 20B backbone:

    modulation(t) -> LN -> joint attention over [text, image] -> gated residual -> LN -> MLP -> gated residual

Rotary positions: image tokens at (frame, row, column) centred on zero; text tokens follow on the diagonal. Gates
start at zero (adaLN-Zero), so a fresh block is the identity. Shapes: B batch, T text tokens, L image tokens, D width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import DiTConfig

_EPS = 1e-6
_TIME_CHANNELS = 256
_ROPE_THETA = 10000.0


class _TimestepEmbedder(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear_1 = nn.Linear(_TIME_CHANNELS, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        half = _TIME_CHANNELS // 2
        frequency = torch.exp(-math.log(10000) * torch.arange(half, device=t.device) / half)
        angle = 1000 * t[:, None] * frequency  # (B, 128); t in [0, 1]
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)  # (B, 256)
        return self.linear_2(F.silu(self.linear_1(waves)))  # (B, D)


class _TimeTextEmbed(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.timestep_embedder = _TimestepEmbedder(width)


class _GELUProjection(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")  # (B, L, 4 D)


class _FeedForward(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.net = nn.ModuleList([_GELUProjection(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.net:
            x = layer(x)
        return x  # (B, L, D)


class JointAttention(nn.Module):
    """Attention over [text, image] with per-stream projections and per-head RMS norms on queries and keys."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        width, self.heads = config.width, config.heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(width, width) for _ in range(3))
        self.norm_q, self.norm_k, self.norm_added_q, self.norm_added_k = (
            nn.RMSNorm(config.head_dim, eps=_EPS) for _ in range(4)
        )
        self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Identity()])
        self.to_add_out = nn.Linear(width, width)

    def forward(self, image: Tensor, text: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
        """image (B, L, D), text (B, T, D), rope (T + L, head_dim / 2) complex. Returns both, attended."""

        def split(x: Tensor) -> Tensor:
            return rearrange(x, "b t (h d) -> b h t d", h=self.heads)

        q = torch.cat([self.norm_added_q(split(self.add_q_proj(text))), self.norm_q(split(self.to_q(image)))], dim=2)
        k = torch.cat([self.norm_added_k(split(self.add_k_proj(text))), self.norm_k(split(self.to_k(image)))], dim=2)
        v = torch.cat([split(self.add_v_proj(text)), split(self.to_v(image))], dim=2)  # (B, h, T + L, d), as q and k
        mixed = F.scaled_dot_product_attention(apply_rope(q, rope), apply_rope(k, rope), v)
        mixed = rearrange(mixed, "b h t d -> b t (h d)")  # (B, T + L, D)
        text_out, image_out = mixed.split([text.shape[1], image.shape[1]], dim=1)
        return self.to_out[0](image_out), self.to_add_out(text_out)


class Modulation(NamedTuple):
    """What the time does to one part of a block, (B, 1, D) each: x + gate * part(LN(x) * (1 + scale) + shift)."""

    shift: Tensor
    scale: Tensor
    gate: Tensor

    def of(self, x: Tensor) -> Tensor:
        return _modulate(x, self.shift, self.scale)


def _modulations(layer: nn.Module, time: Tensor) -> tuple[Modulation, Modulation]:
    """Of a stream's attention and of its MLP.  layer: time (B, D) -> (B, 6 D)."""
    six = layer(time)[:, None].chunk(6, dim=-1)  # (B, 1, D) each
    return Modulation(*six[:3]), Modulation(*six[3:])


class DualStreamBlock(nn.Module):
    """One block. image (B, L, D), text (B, T, D), time (B, D) -> image, text."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        width = config.width
        self.img_mod = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.txt_mod = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.attn = JointAttention(config)
        self.img_mlp = _FeedForward(width)
        self.txt_mlp = _FeedForward(width)

    def forward(self, image: Tensor, text: Tensor, time: Tensor, rope: Tensor) -> tuple[Tensor, Tensor]:
        image_attn, image_mlp = _modulations(self.img_mod, time)
        text_attn, text_mlp = _modulations(self.txt_mod, time)
        image_out, text_out = self.attn(image=image_attn.of(image), text=text_attn.of(text), rope=rope)
        image, text = image + image_attn.gate * image_out, text + text_attn.gate * text_out
        image = image + image_mlp.gate * self.img_mlp(image_mlp.of(image))  # (B, L, D)
        text = text + text_mlp.gate * self.txt_mlp(text_mlp.of(text))  # (B, T, D)
        return image, text


class _NormOut(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.linear = nn.Linear(width, 2 * width)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.linear(F.silu(time))[:, None].chunk(2, dim=-1)  # (B, 1, D) each
        return _modulate(x, shift, scale)


class DualStreamDiT(nn.Module):
    """Image tokens, text tokens and a time to one output per image token.

    image: (B, L, in_channels), L = height * width of the token grid, row by row.  text: (B, T, text_width).
    t: (B,) in [0, 1].  extra: (B, width) added to the time embedding, or None.  Returns (B, L, out_channels).
    """

    def __init__(self, config: DiTConfig, *, in_channels: int, out_channels: int):
        super().__init__()
        width = config.width
        self.config = config
        self.time_text_embed = _TimeTextEmbed(width)
        self.txt_norm = nn.RMSNorm(config.text_width, eps=_EPS)
        self.img_in = nn.Linear(in_channels, width)
        self.txt_in = nn.Linear(config.text_width, width)
        self.transformer_blocks = nn.ModuleList(DualStreamBlock(config) for _ in range(config.depth))
        self.norm_out = _NormOut(width)
        self.proj_out = nn.Linear(width, out_channels)
        for block in self.transformer_blocks:
            for modulation in (block.img_mod, block.txt_mod):
                nn.init.zeros_(modulation[1].weight)
                nn.init.zeros_(modulation[1].bias)
        nn.init.zeros_(self.norm_out.linear.weight)
        nn.init.zeros_(self.norm_out.linear.bias)

    def forward(
        self, *, image: Tensor, text: Tensor, t: Tensor, height: int, width: int, extra: Tensor | None = None
    ) -> Tensor:
        rope = rope_table(self.config.rope_axes, text_length=text.shape[1], height=height, width=width)
        rope = rope.to(image.device)  # (T + L, head_dim / 2)
        time = self.time_text_embed.timestep_embedder(t)  # (B, D)
        if extra is not None:
            time = time + extra
        image, text = self.img_in(image), self.txt_in(self.txt_norm(text))  # (B, L, D), (B, T, D)
        for block in self.transformer_blocks:
            image, text = block(image=image, text=text, time=time, rope=rope)
        return self.proj_out(self.norm_out(image, time))  # (B, L, out_channels)


def rope_table(axes: tuple[int, int, int], *, text_length: int, height: int, width: int) -> Tensor:
    """Unit complex numbers (T + L, head_dim / 2): text first, then the image grid row by row.

    Rows run from -(height - height // 2); text token j sits at max(height // 2, width // 2) + j on every axis.
    """
    rows = torch.arange(height) - (height - height // 2)
    columns = torch.arange(width) - (width - width // 2)
    grid = torch.stack(torch.meshgrid(torch.zeros(1), rows.float(), columns.float(), indexing="ij"), dim=-1)
    start = max(height // 2, width // 2)
    text = (torch.arange(text_length) + start).float()[:, None].expand(-1, 3)
    positions = torch.cat([text, grid.reshape(-1, 3)])  # (T + L, 3)
    angles = []
    for axis, channels in enumerate(axes):
        frequency = _ROPE_THETA ** -(torch.arange(0, channels, 2).float() / channels)
        angles.append(positions[:, axis, None] * frequency)
    angle = torch.cat(angles, dim=1)
    return torch.polar(torch.ones_like(angle), angle)


def apply_rope(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate adjacent channel pairs. x: (B, h, S, d), rope: (S, d / 2) complex."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * rope).flatten(-2).to(x.dtype)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=_EPS) * (1 + scale) + shift
