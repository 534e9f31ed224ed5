"""The training stages as modules: each takes a Batch and returns its loss and what to log.

    0a encoder    MAE learns to paint in hidden patches of straightened faces               (arXiv:2111.06377)
    0b geometry   bank fit and adaptation learn from landmarks and motions alone, without pictures
       backbone   the field DiT learns to edit from *named* operations with strengths       ("pre-trained editor")
    I  extractor  R-Former learns to read pairs: one token rebuilds the query's edit        (paper, Stage I)
    II joint      R-Former, connector and LoRA learn together; MAE and DiT stay frozen      (paper, Stage II)

The paper's Stage I rebuilds the pixels of the retouched query; ours rebuilds its motion field, which fixes those
pixels up to resampling and is a far stronger signal on a small machine. Shapes: B batch, N cells, G tokens a side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mirrorppr_core.geometry.displacement import length
from mirrorppr_core.mini.bank_fit import mixed
from mirrorppr_core.mini.codec import FieldCodec, motion_scale
from mirrorppr_core.mini.field_dit import FieldCondition, FieldDiT
from mirrorppr_core.networks.config import ModelConfig
from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.networks.flow import interpolate
from mirrorppr_core.networks.lora import inject
from mirrorppr_core.networks.mae import MAEEncoder, normalise, sincos_positions, to_patches
from mirrorppr_core.networks.rformer import RFormer
from mirrorppr_core.networks.vit import ViTEncoder, initialise
from mirrorppr_core.operations.atoms import atoms_of

from .config import NAMED, UNNAMED
from .samples import Batch

HIDDEN_SHARE = 0.75
_PURE_NOISE = 0.8  # share of samples at t = 1: elsewhere the noisy field gives part of the answer away


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
        order = torch.rand(count, length, generator=generator).argsort(1).to(image.device)
        keep = order[:, : int(length * (1 - HIDDEN_SHARE))]
        visible = torch.take_along_dim(patches, keep[..., None], dim=1)
        seen = self.decoder_embed(self.mae.encode(visible)[:, 1:])
        empty = self.mask_token.to(seen.dtype).expand(count, length, -1)
        full = empty.scatter(1, keep[..., None].expand_as(seen), seen)
        rebuilt = self.predict(self.decoder(full + self.positions[:, 1:]))
        hidden = torch.ones_like(rebuilt[..., 0]).scatter(1, keep, 0.0)
        error = (rebuilt - target).square().mean(-1)
        return (error * hidden).sum() / hidden.sum(), {}


class NamedOperations(nn.Module):
    """Operation names and strengths of both sides as text tokens (B, 3, text_width). Row 0 is 'none', the last
    'unnamed'."""

    def __init__(self, width: int):
        super().__init__()
        self.name = nn.Embedding(len(NAMED) + 2, width)
        self.strength = nn.Embedding(len(NAMED) + 2, 4 * width)

    def forward(self, operation: Tensor, strength: Tensor) -> Tensor:
        amounts = torch.cat([strength.clamp(min=0), (-strength).clamp(min=0)], dim=-1)  # (B, 3, 4)
        moves = self.strength(operation).unflatten(-1, (4, -1))
        return self.name(operation) + (amounts[..., None] * moves).sum(-2)

    def masked(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The tokens of a batch, a third of it unnamed: there the copied motion must do."""
        unnamed = torch.rand(len(batch.target), 1, generator=generator).to(batch.strength.device) < 0.33
        operation = torch.where(unnamed, torch.full_like(batch.operation, UNNAMED), batch.operation)
        return self(operation, batch.strength * ~unnamed[..., None])


class GeometryStage(nn.Module):
    """The adaptation alone learns how named operations differ from face to face; no pixels, no noise, no DiT.

    Many times cheaper than the whole network, so it sees a million pairs where the backbone could see a tenth.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.field_dit = FieldDiT(config).requires_grad_(False)
        for module in self.field_dit.adaptation_modules().values():
            module.requires_grad_(True)
        self.names = NamedOperations(config.dit.text_width)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        text = self.names.masked(batch, generator)
        scale = motion_scale(batch.copied)
        condition = condition_of(batch, FieldCodec().encode(batch.copied, scale))
        return relative_loss(self.field_dit.without_dit(condition, text), batch, scale)


class BackboneStage(nn.Module):
    """Flow matching over fields, conditioned on named operations. The MAE is frozen."""

    def __init__(self, config: ModelConfig, mae: MAEEncoder, field_dit: FieldDiT):
        super().__init__()
        self.mae = mae.requires_grad_(False)
        self.field_dit = field_dit
        self.names = NamedOperations(config.dit.text_width)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        return field_loss(self.field_dit, batch, self.names.masked(batch, generator), self.mae, generator)


class ReconstructionHead(nn.Module):
    """Stage I's throw-away half: operation tokens -> one token -> how much of each of the query's atoms.

    The paper adds the one token to the query's patches and decodes pixels with a ViT. Here it says what to do with the
    operations that have a name, as they look on the query: tokens that can say this say what happened.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        width = config.dit.adaptation_width
        self.to_one = nn.Sequential(
            nn.Linear(config.rformer.num_queries * config.rformer.width, width),
            nn.GELU(approximate="tanh"),
            nn.Linear(width, width),
            nn.GELU(approximate="tanh"),
        )
        self.amounts = nn.Linear(width, len(atoms_of(config.dit.operations)))

    def forward(self, tokens: Tensor, query_atoms: Tensor) -> Tensor:
        """tokens: (B, Q, D), query_atoms: (B, M, 2, N, N).  Returns x_0 (B, 2, N, N)."""
        return mixed(self.amounts(self.to_one(tokens.flatten(1))), query_atoms)


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
        predicted = self.head(tokens, batch.query_atoms.float() / scale.clamp(min=1e-6)[:, None])
        # Squares, as in the paper's reconstruction: distances pull towards the zero field while tokens say little.
        target = FieldCodec().encode(batch.target, scale)
        missed = (predicted - target).square().mean((1, 2, 3)) / target.square().mean((1, 2, 3)).clamp(min=1e-4)
        return missed.mean(), relative_loss(predicted, batch, scale)[1]


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
) -> tuple[Tensor, dict[str, float]]:
    """Flow matching with a clean-field prediction: draw t towards noise, where the answer must come from the cues."""
    codec, scale = FieldCodec(), motion_scale(batch.copied)
    size, device = len(batch.target), batch.target.device
    with torch.no_grad():
        features = mae(batch.query_pixels)
    pure = torch.rand(size, generator=generator) < _PURE_NOISE
    t = torch.where(pure, 1.0, torch.rand(size, generator=generator).sqrt()).to(device)
    noise = torch.randn(batch.target.shape, generator=generator).to(device)
    noisy = interpolate(codec.encode(batch.target, scale), noise, t)
    copied = codec.encode(batch.copied, scale)
    predicted = field_dit(noisy=noisy, condition=condition_of(batch, copied, features), tokens=text, t=t)
    return relative_loss(predicted, batch, scale)


def condition_of(batch: Batch, copied: Tensor, features: Tensor | None = None) -> FieldCondition:
    return FieldCondition(
        copied=copied,
        query_shape=batch.query_shape,
        exemplar_shape=batch.exemplar_shape,
        query_points=batch.query_points,
        exemplar_points=batch.exemplar_points,
        query_atoms=batch.query_atoms.float(),
        exemplar_atoms=batch.exemplar_atoms.float(),
        features=features,
    )


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
