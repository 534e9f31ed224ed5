"""The plain pre-norm ViT layer that MAE and R-Former are built of.

    x = x + attention(LN(x));  x = x + mlp(LN(x))        exact (erf) GELU, LN eps 1e-12, biases everywhere

Parameter names are those of Hugging Face's ViT, because the released MAE and R-Former files use them.
Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-12


class _QKV(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)


class _Dense(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention = _QKV(width)
        self.output = _Dense(width, width)

    def forward(self, x: Tensor) -> Tensor:
        qkv = (self.attention.query(x), self.attention.key(x), self.attention.value(x))
        q, k, v = (rearrange(y, "b t (h d) -> b h t d", h=self.heads) for y in qkv)  # (B, h, T, d) each
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.output.dense(rearrange(mixed, "b h t d -> b t (h d)"))  # (B, T, D)


class ViTLayer(nn.Module):
    """One layer. x: (B, T, D) -> (B, T, D)."""

    def __init__(self, width: int, heads: int, mlp_ratio: int = 4):
        super().__init__()
        self.attention = _Attention(width, heads)
        self.intermediate = _Dense(width, mlp_ratio * width)
        self.output = _Dense(mlp_ratio * width, width)
        self.layernorm_before = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.layernorm_after = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layernorm_before(x))
        wide = F.gelu(self.intermediate.dense(self.layernorm_after(x)))  # (B, T, mlp_ratio D)
        return x + self.output.dense(wide)  # (B, T, D)


class ViTEncoder(nn.Module):
    """A stack of layers, named `layer.N` as in Hugging Face's ViT."""

    def __init__(self, width: int, heads: int, depth: int):
        super().__init__()
        self.layer = nn.ModuleList(ViTLayer(width, heads) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x)
        return x  # (B, T, D)


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Truncated normal weights, zero biases, unit norms: MAE's and R-Former's initialisation."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.trunc_normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
