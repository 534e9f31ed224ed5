"""Connector: operation tokens become conditioning tokens of the DiT's text width.

A small Qwen2-style encoder with L2-normalised queries and keys, SwiGLU and RMS norms, then a two-layer projection
(paper section 3; the shape is that of MetaQueries). No rotary embedding is applied, so the connector treats its
tokens as a set. Parameter names are those of the released connector file.

Shapes: B batch, Q tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .config import ConnectorConfig

_RMS_EPS = 1e-6
_OUTPUT_RMS_EPS = 1e-5  # the last norm of the released connector differs


class _HeadNorm(nn.Module):
    """Each head's vector to length sqrt(d), times a learnt gain."""

    def __init__(self, heads: int, head_dim: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, 1, head_dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) * self.gamma * x.shape[-1] ** 0.5  # (B, h, Q, d)


class _Attention(nn.Module):
    def __init__(self, config: ConnectorConfig):
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width, bias=False)
        self.q_norm = _HeadNorm(config.heads, width // config.heads)
        self.k_norm = _HeadNorm(config.heads, width // config.heads)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            rearrange(p(x), "b t (h d) -> b h t d", h=self.heads) for p in (self.q_proj, self.k_proj, self.v_proj)
        )  # (B, h, Q, d) each
        mixed = F.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v)
        return self.o_proj(rearrange(mixed, "b h t d -> b t (h d)"))  # (B, Q, D)


class _GatedMLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.gate_proj = nn.Linear(width, 4 * width, bias=False)
        self.up_proj = nn.Linear(width, 4 * width, bias=False)
        self.down_proj = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gated = F.silu(self.gate_proj(x)) * self.up_proj(x)  # (B, Q, 4 D)
        return self.down_proj(gated)  # (B, Q, D)


class _Layer(nn.Module):
    def __init__(self, config: ConnectorConfig):
        super().__init__()
        self.self_attn = _Attention(config)
        self.mlp = _GatedMLP(config.width)
        self.input_layernorm = nn.RMSNorm(config.width, eps=_RMS_EPS)
        self.post_attention_layernorm = nn.RMSNorm(config.width, eps=_RMS_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))  # (B, Q, D)


class _Encoder(nn.Module):
    def __init__(self, config: ConnectorConfig):
        super().__init__()
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))


class Connector(nn.Module):
    """Operation tokens (B, Q, width) -> conditioning tokens (B, Q, output)."""

    def __init__(self, config: ConnectorConfig):
        super().__init__()
        self.encoder = _Encoder(config)
        self.proj = nn.Sequential(
            nn.Linear(config.width, config.output),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.output, config.output),
            nn.RMSNorm(config.output, eps=_OUTPUT_RMS_EPS),
        )
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=0.014 if config.width >= 512 else config.width**-0.5)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.encoder.layers:
            tokens = layer(tokens)  # (B, Q, width)
        return self.proj(tokens)  # (B, Q, output)
