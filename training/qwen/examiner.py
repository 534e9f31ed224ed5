"""Held-out scores and sample sheets of the Qwen stages.

    Stage I    what the decoder paints, of every held-out batch: PSNR where the truth differs from the query
    Stage II   velocity loss and region_error come with the loss; retouched pictures cost a walk of NUM_STEPS DiT calls
               each, so they are made for the people of a sheet alone: PSNR of what it shows
    both       relEPE of what a sheet shows

The pictures of Stage II come out of the VAE, the query's and the truth's too, so the VAE's own error does not count.
relEPE compares measured motions (scores.py), so it is as rough as the generated pictures are; 1 is doing nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirrorppr_core.images import MIN_SIDE
from mirrorppr_core.qwen.conditioning import append_operation
from mirrorppr_core.qwen.denoise import denoise
from mirrorppr_core.qwen.extractor import normalise
from mirrorppr_core.qwen.latents import decode
from mirrorppr_core.qwen.schedule import official_sigmas

from ..evaluation.scores import honest_score, truth_of
from .stages import LatentBatch, PictureBatch, QwenExtractorStage, QwenJointStage, extract_tokens, mixed

NUM_STEPS = 8  # of a sheet's pictures; the product walks 40
_LATENT_PX = 8
_CHANGED = 3 / 255


class QwenExaminer:
    """See held_out.Examiner. load_vae: called before the first sheet of Stage II."""

    def __init__(self, load_vae: Callable[[], nn.Module]):
        self._load_vae = load_vae

    @cached_property
    def _vae(self) -> nn.Module:
        return self._load_vae()

    def numbers(self, module: nn.Module, batch: object, generator: torch.Generator) -> dict[str, float]:
        """Of Stage I: psnr_region of the painting, and copy_psnr_region of the query as it came, in dB."""
        if not isinstance(batch, PictureBatch):
            return {}
        region = (batch.query - batch.target).abs().amax(1, keepdim=True) > _CHANGED
        pictures = {"psnr_region": module.paint(batch), "copy_psnr_region": batch.query}
        return {name: region_decibel(picture, batch.target, region) for name, picture in pictures.items()}

    def pictures(
        self, module: QwenExtractorStage | QwenJointStage, batch: PictureBatch | LatentBatch, generator: torch.Generator
    ) -> Mapping[str, Tensor]:
        exemplar = {"exemplar before": _plain(batch.before), "exemplar after": _plain(batch.after)}
        if isinstance(batch, PictureBatch):
            return {**exemplar, "query": batch.query, "result": module.paint(batch).clamp(0, 1), "truth": batch.target}
        latents = {"query": batch.query, "result": retouched(module, batch, generator), "truth": batch.target}
        # One by one: a decoder takes more memory a picture than the rest of this.
        return exemplar | {
            name: torch.cat([decode(self._vae, one[None]) for one in latent]) for name, latent in latents.items()
        }

    def sheet_numbers(self, batch: PictureBatch | LatentBatch, columns: Mapping[str, Tensor]) -> dict[str, float]:
        """sheet_relEPE, and of Stage II sheet_psnr_region and that of the query."""
        query, result, truth = (columns[name].float().cpu() for name in ("query", "result", "truth"))
        scores = motion_error(query, result, truth)
        if isinstance(batch, LatentBatch):
            region = F.interpolate(batch.region.float().cpu(), scale_factor=_LATENT_PX) > 0
            scores["sheet_psnr_region"] = region_decibel(result, truth, region)
            scores["sheet_copy_psnr_region"] = region_decibel(query, truth, region)
        return scores


def motion_error(query: Tensor, result: Tensor, truth: Tensor) -> dict[str, float]:
    """sheet_relEPE, the mean over pictures (B, 3, H, W); one whose truth does not measurably move counts as 1.

    Empty below MIN_SIDE, where no motion is measured.
    """
    if min(query.shape[-2:]) < MIN_SIDE:
        return {}
    errors = []
    for before, after, wanted in zip(query.split(1), result.split(1), truth.split(1), strict=True):
        case = truth_of(before, wanted)
        errors.append(honest_score(after, case).relative_epe if case.moves else 1.0)
    return {"sheet_relEPE": sum(errors) / len(errors)}


@torch.no_grad()
def retouched(module: QwenJointStage, batch: LatentBatch, generator: torch.Generator) -> Tensor:
    """The stage's answer from pure noise, latents (B, 16, h, w)."""
    height, width = (_LATENT_PX * side for side in batch.query.shape[-2:])
    noise = torch.randn(batch.query.shape, generator=generator).to(batch.query.device)
    with mixed(module.transformer):
        tokens = module.connector(extract_tokens(module.rformer, module.mae, batch.before, batch.after))
        return denoise(
            module.transformer,
            noise=noise,
            query=batch.query,
            text=append_operation(batch.text, tokens),
            sigmas=official_sigmas(NUM_STEPS, height=height, width=width).to(noise.device),
        )


def region_decibel(picture: Tensor, target: Tensor, region: Tensor) -> float:
    """PSNR over the marked pixels of a batch.  picture, target: (B, 3, H, W).  region: (B, 1, H, W) bool."""
    error = ((picture - target).square() * region).sum() / (3 * region.sum()).clamp(min=1)
    return float(-10 * torch.log10(error.clamp(min=1e-10)))


def _plain(normalised: Tensor) -> Tensor:
    """An exemplar as the eye knows it: `normalise` undone, which maps black and white to these two."""
    black, white = (normalise(torch.full((1, 3, 1, 1), v, device=normalised.device)) for v in (0.0, 1.0))
    return ((normalised.float() - black) / (white - black)).clamp(0, 1)
