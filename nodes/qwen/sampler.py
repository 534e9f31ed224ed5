"""Retouch Sampler (Qwen): the reference's schedule and noise through the host's own sampling.

Previews, progress, interruption, patches and offloading are the host's. Stock samplers take the same connections, with
their own schedules: none of those ends at the reference's last sigma.
"""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ...mirrorppr_core.qwen.schedule import NUM_STEPS, SEED, native_noise, official_noise, official_sigmas
from ..sockets import ADVANCED, found_by
from .loaders import check_is_qwen
from .sockets import CATEGORY

_NOISES = {"official": official_noise, "native": native_noise}
_LATENT_PX = 8


class QwenSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_QwenSampler",
            display_name="Retouch Sampler (MirrorPPR, Qwen)",
            category=CATEGORY,
            **found_by("ksampler", "retouch", "qwen image edit"),
            description="Samples with the reference's schedule and noise, one model call per step: the same result as "
            "the authors' two. Every picture of a batch is retouched by itself, as if it were alone.",
            inputs=[
                io.Model.Input("model", tooltip="From Apply to Qwen."),
                io.Conditioning.Input("positive", tooltip="From Retouch Conditioning."),
                io.Conditioning.Input("negative", tooltip="From Retouch Conditioning."),
                io.Latent.Input("latent", tooltip="From Retouch Conditioning."),
                io.Int.Input(
                    "steps",
                    default=NUM_STEPS,
                    min=1,
                    max=200,
                    tooltip="Start with 40, the reference's.",
                    **ADVANCED,
                ),
                io.Int.Input(
                    "seed",
                    default=SEED,
                    min=0,
                    max=0xFFFF_FFFF_FFFF_FFFF,
                    control_after_generate=False,
                    tooltip="Start with 123, the reference's. The same seed gives the same picture.",
                    **ADVANCED,
                ),
                io.Float.Input(
                    "guidance",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    tooltip="Start with 1. Other values go further along the operation than the model would, or less "
                    "far, and take twice the time.",
                ),
                io.Combo.Input(
                    "noise",
                    options=list(_NOISES),
                    default="official",
                    optional=True,
                    tooltip="Start with official, drawn as the authors' program does. native: as KSampler does.",
                ),
            ],
            outputs=[io.Latent.Output("samples", display_name="samples", tooltip="For VAE Decode, then Restore Size.")],
        )

    @classmethod
    def validate_inputs(cls, noise: str | None = None) -> bool | str:
        return noise is None or noise in _NOISES or f"noise={noise!r}: use one of {', '.join(_NOISES)}"

    @classmethod
    def execute(cls, model, positive, negative, latent, steps, seed, guidance, noise="official") -> io.NodeOutput:
        check_is_qwen(model)
        if "noise_mask" in latent or bool(latent["samples"].any()):
            raise ValueError(
                "latent is a picture or carries a mask, but this sampler starts from noise alone: connect the latent "
                "of Retouch Conditioning, or use KSampler for inpainting and partial denoising"
            )
        empty = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
        results = []
        for index in range(len(empty)):
            conditions = [of_photo(one, index, len(empty)) for one in (positive, negative)]
            drawn = _NOISES[noise](*_size(empty), seed=seed).unsqueeze(2)
            results.append(sample(model, *conditions, noise=drawn, steps=steps, seed=seed, guidance=guidance))
        return io.NodeOutput({**latent, "samples": torch.cat(results)})


def sample(
    model: ModelPatcher, positive: list, negative: list, *, noise: Tensor, steps: int, seed: int, guidance: float
) -> Tensor:
    """One photo. noise: (1, 16, 1, h, w). Returns the host's latent of the same shape."""
    height, width = _size(noise)
    sigmas = official_sigmas(steps, height=height, width=width)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(guidance)
    return guider.sample(
        noise,
        torch.zeros_like(noise),
        comfy.samplers.sampler_object("euler"),
        sigmas,
        callback=latent_preview.prepare_callback(model, steps),
        disable_pbar=False,
        seed=seed,
    ).cpu()


def of_photo(conditioning: list, index: int, num_photos: int) -> list:
    """Conditioning of a batch -> that of one photo. What is not one for each photo is for all."""
    return [[_one(words, index, num_photos), _ones(beside, index, num_photos)] for words, beside in conditioning]


def _ones(beside: dict, index: int, num_photos: int) -> dict:
    changed = dict(beside)
    if "reference_latents" in beside:
        changed["reference_latents"] = [_one(one, index, num_photos) for one in beside["reference_latents"]]
    if isinstance(mask := beside.get("attention_mask"), Tensor):
        changed["attention_mask"] = _one(mask, index, num_photos)
    return changed


def _one(tensor: Tensor, index: int, num_photos: int) -> Tensor:
    return tensor[index : index + 1] if len(tensor) == num_photos else tensor


def _size(latent: Tensor) -> tuple[int, int]:
    """Height and width in pixels."""
    height, width = latent.shape[-2:]
    return height * _LATENT_PX, width * _LATENT_PX
