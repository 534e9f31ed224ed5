"""Held-out scores and sample sheets of Mini's stages: whole predictions from pure noise, as the product makes them.

The loss sees half-finished fields; here nothing of the truth goes in. Scores are taken in the canonical view, where
samples live: relEPE over the cells that move, and the PSNR gained over leaving the query as it is, over their pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirrorppr_core.geometry.displacement import length
from mirrorppr_core.mini.codec import FieldCodec, motion_scale
from mirrorppr_core.networks.flow import integrate

from ..evaluation.metrics import region_psnr, relative_epe
from .samples import Batch
from .stages import BackboneStage, ExtractorStage, GeometryStage, JointStage, condition_of, extract_tokens
from .view_batches import warp_view

_MOVES_CELLS = 0.05  # what moves less is not part of the edit
_NUM_STEPS = 2  # of the flow, the product's default
_MAGNIFIED = 4  # differences in sheets
_BEST_DB = 60.0  # equal pictures would count as infinitely good


class MiniExaminer:
    """See held_out.Examiner."""

    def numbers(self, module: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """relEPE and gain_db; nothing for a stage that predicts no motion."""
        motion = predicted_motion(module, batch, generator)
        if motion is None:
            return {}
        region = (length(batch.target) > _MOVES_CELLS).float()
        moves = region.flatten(1).any(1)
        region, truth, query = region[moves], batch.target[moves], batch.query_pixels[moves]
        if _blind(batch):
            return {"relEPE": float(relative_epe(motion[moves], truth, region).mean())}
        wide = F.interpolate(region, size=query.shape[-2:])
        edited, wanted = warp_view(query, motion[moves]), warp_view(query, truth)
        gain = _decibel(edited, wanted, wide) - _decibel(query, wanted, wide)
        return {
            "relEPE": float(relative_epe(motion[moves], truth, region).mean()),
            "gain_db": float(gain.mean()),
        }

    def pictures(self, module: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        motion = predicted_motion(module, batch, generator)
        if motion is None or _blind(batch):
            return {}
        query = batch.query_pixels
        target, prediction = warp_view(query, batch.target), warp_view(query, motion)
        return {
            "exemplar before": batch.exemplar_pixels,
            "exemplar after": batch.exemplar_after,
            "query": query,
            "target": target,
            "prediction": prediction,
            "|target - query| x 4": _MAGNIFIED * (target - query).abs(),
            "|target - prediction| x 4": _MAGNIFIED * (target - prediction).abs(),
        }

    def sheet_numbers(self, batch: Batch, columns: dict[str, Tensor]) -> dict[str, float]:
        """None: `numbers` judges every batch."""
        return {}


@torch.no_grad()
def predicted_motion(module: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor | None:
    """(B, 2, N, N) cells, as the stage's network would move the query. None for a stage without motion."""
    codec, scale = FieldCodec(), motion_scale(batch.copied)
    if isinstance(module, ExtractorStage):
        tokens = extract_tokens(module.rformer, module.mae, batch, scale)
        return codec.decode(module.head(tokens, batch.query_atoms.float() / scale.clamp(min=1e-6)[:, None]), scale)
    if isinstance(module, GeometryStage):
        condition = condition_of(batch, codec.encode(batch.copied, scale))
        latent = module.field_dit.without_dit(condition, module.names(batch.operation, batch.strength))
        return codec.decode(latent, scale)
    if isinstance(module, BackboneStage):
        text = module.names(batch.operation, batch.strength)
    elif isinstance(module, JointStage):
        text = module.connector(extract_tokens(module.rformer, module.mae, batch, scale))
    else:
        return None
    condition = condition_of(batch, codec.encode(batch.copied, scale), module.mae(batch.query_pixels))
    latent = integrate(
        lambda x_t, t: module.field_dit(noisy=x_t, condition=condition, tokens=text, t=x_t.new_full((len(x_t),), t)),
        torch.randn(batch.target.shape, generator=generator).to(batch.target.device),
        num_steps=_NUM_STEPS,
    )
    return codec.decode(latent, scale)


def _blind(batch: Batch) -> bool:
    """Whether the stage sees geometry only: its batches hold no pictures."""
    return batch.query_pixels.shape[-1] == 1


def _decibel(picture: Tensor, wanted: Tensor, region: Tensor) -> Tensor:
    return region_psnr(picture, wanted, region).clamp(max=_BEST_DB)
