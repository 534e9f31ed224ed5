"""What the tests of Qwen training share: the tiny model's training settings, and quadruplets made of noise.

The toy retouch brightens a square; how much is the operation, the same on exemplar and query.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from tiny_qwen import TINY_FACE, randomise, transformer
from torch import Tensor

from mirrorppr_core.networks.config import LoRAConfig
from mirrorppr_core.qwen.config import QwenConfig
from mirrorppr_core.qwen.networks import OfficialMAE, OfficialRFormer
from training.qwen.config import LORA_TARGETS, DecoderConfig, QwenTrainConfig
from training.qwen.stages import QwenExtractorStage, QwenJointStage

SIDE = 64


def tiny_train_config(model: QwenConfig = TINY_FACE, **changes) -> QwenTrainConfig:
    return QwenTrainConfig(
        model=model,
        lora=LoRAConfig(rank=4, alpha=4, targets=LORA_TARGETS),
        decoder=DecoderConfig(width=32, depth=2, heads=2),
        storage=changes.pop("storage", "float32"),
        **changes,
    )


@dataclass(frozen=True)
class ToyQuadruplet:
    before: Tensor
    after: Tensor
    query: Tensor
    target: Tensor


@dataclass(frozen=True)
class ToyBucket:
    """Smooth noise with a brighter square. Sample i is a function of (seed, i)."""

    length: int = 12
    exemplar_size: tuple[int, int] = (SIDE, SIDE)
    query_size: tuple[int, int] = (SIDE, SIDE)
    seed: int = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ToyQuadruplet:
        generator = torch.Generator().manual_seed(1000 * self.seed + index)
        amount = 0.1 + 0.4 * float(torch.rand((), generator=generator))
        before, query = (_noise(size, generator) for size in (self.exemplar_size, self.query_size))
        return ToyQuadruplet(before, _retouched(before, amount), query, _retouched(query, amount))


class ToyEncoder:
    """In the place of language model and VAE: text and latent are functions of the picture, of the right shapes."""

    def text(self, picture: Tensor) -> Tensor:
        cells = F.adaptive_avg_pool2d(picture, (3, 3)).flatten(1).T  # (9, 3)
        return cells.repeat(1, 11)[:, :32] * 4

    def latent(self, picture: Tensor) -> Tensor:
        return F.avg_pool2d(picture, 8).repeat(6, 1, 1)[:16] * 4 - 2


def extractor_stage(config: QwenTrainConfig, *, seed: int = 0, **extra) -> QwenExtractorStage:
    torch.manual_seed(seed)
    return QwenExtractorStage(config, tiny_mae(config), **extra)


def joint_stage(config: QwenTrainConfig, *, seed: int = 0) -> QwenJointStage:
    torch.manual_seed(seed)
    base = transformer()
    if config.storage != "float32":
        base = base.to(torch.bfloat16)
    if config.storage == "fp8":
        base.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    return QwenJointStage(config, tiny_mae(config), base, OfficialRFormer(config.model))


def tiny_mae(config: QwenTrainConfig) -> OfficialMAE:
    mae = randomise(OfficialMAE(config.model.mae))
    return mae if config.storage == "float32" else mae.to(torch.bfloat16)


def _noise(size: tuple[int, int], generator: torch.Generator) -> Tensor:
    coarse = torch.rand(1, 3, 4, 4, generator=generator)
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def _retouched(picture: Tensor, amount: float) -> Tensor:
    height, width = (side // 4 for side in picture.shape[-2:])
    after = picture.clone()
    after[..., height : 2 * height, width : 2 * width] += amount
    return after.clamp(0, 1)
