"""The training stages as modules: each takes a Batch and returns its loss and what to log.

    0a encoder    MAE learns to paint in hidden patches of straightened faces               (arXiv:2111.06377)
    0b backbone   the field DiT learns to edit from *named* operations with strengths       ("pre-trained editor")
    I  extractor  R-Former learns to read pairs: one token rebuilds the query's edit        (paper, Stage I)
    II joint      R-Former, connector and LoRA learn together; MAE and DiT stay frozen      (paper, Stage II)

The paper's Stage I rebuilds the pixels of the retouched query; ours rebuilds its motion field, which fixes those
pixels up to resampling and is a far stronger signal on a small machine. Shapes: B batch, N cells, G tokens a side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mirrorppr_core.codecs import FieldCodec, motion_scale
from mirrorppr_core.config import ModelConfig
from mirrorppr_core.connector import Connector
from mirrorppr_core.field_dit import FieldCondition, FieldDiT
from mirrorppr_core.fields import length
from mirrorppr_core.flow import interpolate
from mirrorppr_core.lora import inject
from mirrorppr_core.mae import MAEEncoder, normalise, sincos_positions, to_patches
from mirrorppr_core.rformer import RFormer
from mirrorppr_core.vit import ViTEncoder, initialise
from mirrorppr_core.warping import OPERATIONS

from .samples import Batch

HIDDEN_SHARE = 0.75


class EncoderStage(nn.Module):
    """Masked reconstruction of straightened faces. The decoder is thrown away afterwards."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        mae, width = config.mae, 96
        self.mae = MAEEncoder(mae)
        self.patch = mae.patch
        self.decoder_embed = nn.Linear(mae.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sincos_positions(mae.grid, width), persistent=False)
        self.decoder = ViTEncoder(width, 4, 2)
        self.predict = nn.Linear(width, 3 * mae.patch**2)
        initialise(self.decoder)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        image = torch.cat([batch.query_pixels, batch.exemplar_after])
        target = to_patches(normalise(image), self.patch)
        deviation = (target.var(-1, keepdim=True) + 1e-4).sqrt()
        target = (target - target.mean(-1, keepdim=True)) / deviation
        patches = self.mae.embed(image)
        count, length = patches.shape[:2]
        order = torch.rand(count, length, generator=generator).argsort(1)
        keep = order[:, : int(length * (1 - HIDDEN_SHARE))]
        visible = torch.take_along_dim(patches, keep[..., None], dim=1)
        seen = self.decoder_embed(self.mae.encode(visible)[:, 1:])
        full = self.mask_token.expand(count, length, -1).scatter(1, keep[..., None].expand_as(seen), seen)
        rebuilt = self.predict(self.decoder(full + self.positions[:, 1:]))
        hidden = torch.ones(count, length).scatter(1, keep, 0.0)
        error = (rebuilt - target).square().mean(-1)
        return (error * hidden).sum() / hidden.sum(), {}


class NamedOperations(nn.Module):
    """Operation names and strengths as text tokens (B, 3, text_width). Row 0 is 'none', the last 'unnamed'."""

    def __init__(self, width: int):
        super().__init__()
        self.name = nn.Embedding(len(OPERATIONS) + 2, width)
        self.strength = nn.Embedding(len(OPERATIONS) + 2, 2 * width)

    def forward(self, operation: Tensor, strength: Tensor) -> Tensor:
        plus, minus = self.strength(operation).chunk(2, dim=-1)
        s = strength[..., None]
        return self.name(operation) + plus * s.clamp(min=0) + minus * (-s).clamp(min=0)


class BackboneStage(nn.Module):
    """Flow matching over fields, conditioned on named operations. The MAE is frozen."""

    def __init__(self, config: ModelConfig, mae: MAEEncoder):
        super().__init__()
        self.mae = mae.requires_grad_(False)
        self.field_dit = FieldDiT(config)
        self.names = NamedOperations(config.dit.text_width)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        size = len(batch.target)
        # A third of the samples are unnamed, a tenth have no motion to copy: each cue must work alone.
        unnamed = torch.rand(size, 1, generator=generator) < 0.33
        # (Part operations have no name, so hiding their motion would leave nothing to go by.)
        nameable = (batch.operation <= len(OPERATIONS)).all(1, keepdim=True) & ~unnamed
        blind = ((torch.rand(size, 1, generator=generator) < 0.1) & nameable)[..., None, None]
        operation = torch.where(unnamed, torch.full_like(batch.operation, len(OPERATIONS) + 1), batch.operation)
        text = self.names(operation, batch.strength * ~unnamed)
        return field_loss(self.field_dit, batch, text, self.mae, generator, hide_copied=blind)


class ReconstructionHead(nn.Module):
    """Stage I's throw-away half: operation tokens -> one token, added to the query's patches -> decoder -> field."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        width, self.grid = config.mae.width, config.mae.grid
        self.patch = config.view.size // self.grid
        self.to_one = nn.Sequential(
            nn.Linear(config.rformer.num_queries * config.rformer.width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
        )
        self.shape_in = nn.Linear(2 * self.patch**2, width)
        self.register_buffer("positions", sincos_positions(self.grid, width)[:, 1:], persistent=False)
        self.decoder = ViTEncoder(width, config.mae.heads, 2)
        self.predict = nn.Linear(width, 2 * self.patch**2)
        initialise(self.decoder)

    def forward(self, tokens: Tensor, features: Tensor, shape: Tensor) -> Tensor:
        cells = rearrange(shape, "b c (h p) (w q) -> b (h w) (c p q)", p=self.patch, q=self.patch)
        one = self.to_one(tokens.flatten(1))[:, None]
        out = self.predict(self.decoder(features + self.shape_in(cells) + self.positions + one))
        return F.pixel_shuffle(out.transpose(1, 2).unflatten(2, (self.grid, self.grid)), self.patch)


class ExtractorStage(nn.Module):
    """Stage I: the R-Former must say in its tokens what happened, for another face to repeat it."""

    def __init__(self, config: ModelConfig, mae: MAEEncoder):
        super().__init__()
        self.mae = mae.requires_grad_(False)
        self.rformer = RFormer(config)
        self.head = ReconstructionHead(config)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        scale = motion_scale(batch.copied)
        tokens = extract_tokens(self.rformer, self.mae, batch, scale)
        with torch.no_grad():
            features = self.mae(batch.query_pixels)
        predicted = self.head(tokens, features, batch.query_shape)
        return relative_loss(predicted, batch, scale)


class JointStage(nn.Module):
    """Stage II: R-Former, connector and LoRA; everything else frozen."""

    def __init__(self, config: ModelConfig, mae: MAEEncoder, field_dit: FieldDiT, rformer: RFormer):
        super().__init__()
        self.mae = mae.requires_grad_(False)
        self.field_dit = field_dit
        inject(self.field_dit, config.lora)
        self.rformer = rformer.requires_grad_(True)
        self.connector = Connector(config.connector)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        scale = motion_scale(batch.copied)
        text = self.connector(extract_tokens(self.rformer, self.mae, batch, scale))
        return field_loss(self.field_dit, batch, text, self.mae, generator)


def extract_tokens(rformer: RFormer, mae: MAEEncoder, batch: Batch, scale: Tensor) -> Tensor:
    with torch.no_grad():
        before, after = mae(torch.cat([batch.exemplar_pixels, batch.exemplar_after])).chunk(2)
    motion = torch.cat([FieldCodec().encode(batch.copied, scale), batch.exemplar_shape], dim=1)
    return rformer(before, after, motion)


def field_loss(
    field_dit: FieldDiT,
    batch: Batch,
    text: Tensor,
    mae: MAEEncoder,
    generator: torch.Generator,
    *,
    hide_copied: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Flow matching with a clean-field prediction: draw t towards noise, where the answer must come from the cues."""
    codec, scale = FieldCodec(), motion_scale(batch.copied)
    size = len(batch.target)
    with torch.no_grad():
        features = mae(batch.query_pixels)
    t = torch.where(
        torch.rand(size, generator=generator) < 0.5, torch.ones(size), torch.rand(size, generator=generator).sqrt()
    )
    noise = torch.randn(batch.target.shape, generator=generator)
    noisy = interpolate(codec.encode(batch.target, scale), noise, t)
    copied = codec.encode(batch.copied, scale)
    if hide_copied is not None:
        copied = copied * ~hide_copied
    condition = FieldCondition(
        copied=copied, query_shape=batch.query_shape, exemplar_shape=batch.exemplar_shape, features=features
    )
    predicted = field_dit(noisy=noisy, condition=condition, tokens=text, t=t)
    return relative_loss(predicted, batch, scale)


def relative_loss(predicted: Tensor, batch: Batch, scale: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Mean end-point error over the mean true motion, the number we are judged by (design: relEPE).

    predicted: (B, 2, N, N) latent. An unweighted mean would sit at the zero field: most cells do not move.
    """
    codec = FieldCodec()
    target, copied = codec.encode(batch.target, scale), codec.encode(batch.copied, scale)
    error = ((predicted - target).square().sum(1) + 1e-4).sqrt() - 1e-2
    size = torch.maximum(length(target).mean((1, 2, 3)), 0.5 * length(copied).mean((1, 2, 3)))
    per_sample = error.mean((1, 2)) / size.clamp(min=1e-3)
    with torch.no_grad():
        # Gated as the product gates it, and only where the truth moves.
        region = length(target) > 0.05
        final = codec.decode(predicted, torch.ones_like(scale))
        epe = _relative(final, target, region)
        copy = _relative(copied, target, region)
    return per_sample.mean(), {"relEPE": float(epe.mean()), "copy": float(copy.mean())}


def _relative(predicted: Tensor, target: Tensor, region: Tensor) -> Tensor:
    error = (length(predicted - target) * region).sum((1, 2, 3))
    return error / (length(target) * region).sum((1, 2, 3)).clamp(min=1e-6)
