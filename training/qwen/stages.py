"""The paper's two stages on Qwen-Image-Edit, each one module: batch in, loss out.

    I  extractor   (X_s, X_t) -> frozen MAE -> R-Former -> tokens -> MLP -> one token, added to every patch of X_q
                   -> ViT decoder -> Y_q.   Loss: squared error, LPIPS beside it if wanted. MLP and decoder are
                   thrown away afterwards.
    II joint       R-Former, connector and LoRA learn together; MAE and DiT stay frozen, VL and VAE are not even here:
                   the batch brings their answers.   Loss: flow matching (flow.py).

The paper names the parts of Stage I, not their sizes; these follow Moto (arXiv:2412.04445), from which the R-Former
comes, but for sine positions in place of a learned table, so that queries of any size fit. Stage II tells the DiT what
inference tells it: [words about the query][operation tokens], [noisy latent][latent of the query].

Shapes: B batch, S exemplar side, H x W query, h x w latent, L text tokens, Q operation tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.networks.mae import normalise
from mirrorppr_core.networks.vit import LAYER_NORM_EPS, ViTEncoder, initialise
from mirrorppr_core.qwen.conditioning import append_operation
from mirrorppr_core.qwen.denoise import velocity
from mirrorppr_core.qwen.networks import OfficialMAE, OfficialRFormer
from mirrorppr_core.qwen.schedule import reference_time

from ..evaluation.perceptual import lpips_network
from .base import add_lora
from .config import DecoderConfig, QwenTrainConfig
from .flow import region_weights, time_weights, training_times

Perceptual = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class PictureBatch:
    """Stage I.  before, after: (B, 3, S, S'), ImageNet-normalised.  query, target: (B, 3, H, W) in [0, 1]."""

    before: Tensor
    after: Tensor
    query: Tensor
    target: Tensor


@dataclass(frozen=True, kw_only=True)
class LatentBatch:
    """Stage II.  text: (B, L, D) of the language model.  query, target: (B, 16, h, w) latents.

    region: (B, 1, h, w), 1 where the target differs from the query.
    """

    before: Tensor
    after: Tensor
    text: Tensor
    query: Tensor
    target: Tensor
    region: Tensor


class ReconstructionDecoder(nn.Module):
    """Query pixels and operation tokens -> the retouched query's pixels."""

    def __init__(self, config: DecoderConfig, *, num_tokens: int, token_width: int, checkpointing: bool):
        super().__init__()
        self.patch, self.checkpointing = config.patch, checkpointing
        self.to_one = nn.Sequential(
            nn.Linear(num_tokens * token_width, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.embed = nn.Conv2d(3, config.width, config.patch, stride=config.patch)
        self.encoder = ViTEncoder(config.width, config.heads, config.depth)
        self.layernorm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.predict = nn.Linear(config.width, 3 * config.patch**2)
        initialise(self)

    def forward(self, query: Tensor, tokens: Tensor) -> Tensor:
        """query: (B, 3, H, W) in [0, 1].  tokens: (B, Q, D).  Returns (B, 3, H, W), not clamped."""
        height, width = query.shape[-2:]
        if height % self.patch or width % self.patch:
            raise ValueError(f"query is {width}x{height}: Stage I needs sides that are multiples of {self.patch}")
        grid = height // self.patch, width // self.patch
        x = self.embed(normalise(query)).flatten(2).transpose(1, 2)  # (B, T, D)
        x = x + self.to_one(tokens.flatten(1))[:, None] + sine_positions(*grid, x.shape[-1]).to(x)
        for layer in self.encoder.layer:
            x = checkpoint(layer, x, use_reentrant=False) if self.checkpointing and self.training else layer(x)
        pixels = self.predict(self.layernorm(x)).transpose(1, 2).unflatten(2, grid)
        return F.pixel_shuffle(pixels, self.patch).float() + 0.5  # a network that says nothing paints grey


class QwenExtractorStage(nn.Module):
    """Stage I: the tokens must say what was done, for the decoder to do it to another picture."""

    def __init__(self, config: QwenTrainConfig, mae: OfficialMAE, *, perceptual: Perceptual | None = None):
        super().__init__()
        if (config.lpips_weight > 0) != (perceptual is not None):
            raise ValueError("lpips_weight above 0 and a perceptual distance go together: give both or neither")
        self.config = config
        self.mae = mae.requires_grad_(False)
        self.rformer = OfficialRFormer(config.model)
        self.decoder = ReconstructionDecoder(
            config.decoder,
            num_tokens=config.model.rformer.num_queries,
            token_width=config.model.rformer.width,
            checkpointing=config.gradient_checkpointing,
        )
        self._perceptual = perceptual

    def forward(self, batch: PictureBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Nothing is drawn here: augmentations belong to the data."""
        painted = self.paint(batch)
        squared = (painted - batch.target).square().mean()
        loss = squared
        if self._perceptual is not None:
            loss = loss + self.config.lpips_weight * self._perceptual(painted, batch.target).mean()
        copied = (batch.query - batch.target).square().mean()
        return loss, {"mse": squared.item(), "copy_mse": copied.item()}

    def paint(self, batch: PictureBatch) -> Tensor:
        """The decoder's answer, (B, 3, H, W), not clamped."""
        with mixed(self.mae):
            tokens = extract_tokens(self.rformer, self.mae, batch.before, batch.after)
            return self.decoder(batch.query, tokens)


class QwenJointStage(nn.Module):
    """Stage II. transformer: the frozen base from qwen_base.load_transformer; it is given its adapters here."""

    def __init__(self, config: QwenTrainConfig, mae: OfficialMAE, transformer: nn.Module, rformer: OfficialRFormer):
        super().__init__()
        self.config = config
        self.mae = mae.requires_grad_(False)
        self.transformer = transformer.requires_grad_(False)
        self.adapted = tuple(add_lora(self.transformer, config.lora))
        if config.gradient_checkpointing:
            self.transformer.enable_gradient_checkpointing()
        self.rformer = rformer.requires_grad_(True)
        self.connector = Connector(config.model.connector)
        self.register_buffer("times", training_times(), persistent=False)
        self.register_buffer("time_weights", time_weights(config.weighting), persistent=False)

    def forward(self, batch: LatentBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        x_0 = batch.target.float()
        index = torch.randint(len(self.times), (len(x_0),), generator=generator).to(x_0.device)
        noise = torch.randn(x_0.shape, generator=generator).to(x_0.device)
        s = self.times[index]
        x_s = torch.lerp(x_0, noise, s[:, None, None, None])
        with mixed(self.transformer):
            tokens = self.connector(extract_tokens(self.rformer, self.mae, batch.before, batch.after))
            predicted = velocity(
                self.transformer,
                x_s,
                query=batch.query,
                text=append_operation(batch.text, tokens),
                t=reference_time(s) if self.transformer.dtype == torch.bfloat16 else s,  # as denoise.denoise
            )
        squared = (predicted - (noise - x_0)).square()
        weights = region_weights(batch.region, self.config.region_weight)
        loss = ((squared * weights).mean((1, 2, 3)) * self.time_weights[index]).mean()
        with torch.no_grad():
            guess = x_s - s[:, None, None, None] * predicted
            region = batch.region.expand_as(x_0)
            wrong, copied = ((p - x_0).square() * region for p in (guess, batch.query))
            share = wrong.sum() / copied.sum().clamp(min=1e-6)
        return loss, {"flow": squared.mean().item(), "region_error": share.item()}


def extract_tokens(rformer: OfficialRFormer, mae: OfficialMAE, before: Tensor, after: Tensor) -> Tensor:
    """Operation tokens (B, Q, D) of normalised exemplars; the frozen MAE leaves no graph behind. Raster order."""
    with torch.no_grad():
        features = [mae(picture.to(mae.layernorm.weight)) for picture in (before, after)]
    grids = [tuple(side // mae.config.patch for side in picture.shape[-2:]) for picture in (before, after)]
    weight = rformer.layernorm.weight
    return rformer(*(f.to(weight.dtype) for f in features), before_grid=grids[0], after_grid=grids[1])


def sine_positions(height: int, width: int, dim: int) -> Tensor:
    """Two-dimensional sine positions of any grid, x half before y half. Returns (1, h * w, dim)."""
    frequency = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    axes = []
    for length in (height, width):
        angle = torch.arange(length, dtype=torch.float64)[:, None] * frequency
        axes.append(torch.cat([angle.sin(), angle.cos()], dim=1))  # (n, D/2)
    y, x = axes[0][:, None].expand(-1, width, -1), axes[1][None].expand(height, -1, -1)
    return torch.cat([x, y], dim=-1).reshape(1, height * width, dim).float()


def lpips_loss() -> Perceptual:
    """VGG-LPIPS of pictures in [0, 1], one number a picture; stages take any function of this kind."""
    network = lpips_network()
    return lambda a, b: network.to(a.device)(2 * a - 1, 2 * b - 1)


def mixed(frozen: nn.Module) -> AbstractContextManager:
    """bfloat16 arithmetic around a bfloat16 base; float32 parameters stay float32 in memory."""
    parameter = next(p for p in frozen.parameters() if p.is_floating_point())
    dtype = getattr(frozen, "dtype", parameter.dtype)
    if dtype == torch.float32:
        return nullcontext()
    return torch.autocast(parameter.device.type, dtype=torch.bfloat16)
