"""The reference's two numerical deviations, as a switch: off by default, reversible, never on quantised models.

The released program runs on DiffSynth-Studio, whose Qwen-Image differs from diffusers' and ComfyUI's in two places:
both MLPs of every block use x * sigmoid(1.702 x) instead of the tanh GELU (up to 0.02 apart), and the frequencies of
the time embedding are rounded to bfloat16 (which turns the fast ones into other angles altogether). LoRA, R-Former
and connector were probably trained with both; what that does to pictures has not been measured.

The two hosts build these modules alike, so one table of replaced `forward`s serves both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType

import torch
from torch import Tensor, nn

from .schedule import reference_time

_PLAIN = (torch.float32, torch.float16, torch.bfloat16)
_CHANNELS = 256


def sigmoid_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def reference_time_embedding(t: Tensor) -> Tensor:
    """t: (B,) in [0, 1]. Returns (B, 256) float32: 128 cosines, then 128 sines."""
    half = _CHANNELS // 2
    exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=t.device) / half
    frequencies = exponent.exp().bfloat16().float()
    angles = 1000 * (t.float()[:, None] * frequencies)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def reference_forwards(dit: nn.Module, *, round_time: bool) -> dict[str, Callable[..., Tensor]]:
    """Replacement for each `forward` that deviates, by dotted path inside the DiT.

    dit: a diffusers QwenImageTransformer2DModel or a ComfyUI diffusion_model. round_time: also round the time as the
    reference does (schedule.reference_time); False where the caller passes rounded times already. In ComfyUI give
    each to ModelPatcher.add_object_patch(f"diffusion_model.{path}", forward): unloading undoes it.
    Raises ValueError on any other model and on quantised ones.
    """
    blocks = getattr(dit, "transformer_blocks", None)
    time_proj = getattr(getattr(dit, "time_text_embed", None), "time_proj", None)
    if blocks is None or time_proj is None or getattr(time_proj, "num_channels", None) != _CHANNELS:
        raise ValueError(f"reference numerics: {type(dit).__name__} is not a Qwen-Image DiT. Load Qwen-Image-Edit.")
    forwards = {"time_text_embed.time_proj.forward": _time_forward(round_time)}
    for index, block in enumerate(blocks):
        for stream in ("img_mlp", "txt_mlp"):
            activation = _activation(block, stream, f"transformer_blocks.{index}.{stream}.net.0")
            forwards[f"transformer_blocks.{index}.{stream}.net.0.forward"] = _mlp_forward(activation)
    return forwards


@contextmanager
def reference_numerics(dit: nn.Module, *, round_time: bool = False) -> Iterator[None]:
    """Inside, the DiT computes as the reference does; afterwards as before, whatever happened."""
    forwards = reference_forwards(dit, round_time=round_time)
    owners = [dit.get_submodule(path.removesuffix(".forward")) for path in forwards]
    # A host that undid such a patch leaves the class's own method behind as an attribute; anything else is a patch.
    if any(owner.forward != MethodType(type(owner).forward, owner) for owner in owners):
        raise ValueError("reference numerics: something already replaces parts of this model. Remove that patch first.")
    try:
        for owner, forward in zip(owners, forwards.values(), strict=True):
            owner.forward = forward
        yield
    finally:
        for owner in owners:
            vars(owner).pop("forward", None)


def _time_forward(round_time: bool) -> Callable[[Tensor], Tensor]:
    def forward(timesteps: Tensor) -> Tensor:
        return reference_time_embedding(reference_time(timesteps) if round_time else timesteps)

    return forward


def _mlp_forward(activation: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(hidden_states: Tensor) -> Tensor:
        return sigmoid_gelu(activation.proj(hidden_states))

    return forward


def _activation(block: nn.Module, stream: str, path: str) -> nn.Module:
    net = getattr(getattr(block, stream, None), "net", None)
    activation = net[0] if isinstance(net, nn.ModuleList) and len(net) else None
    layer = getattr(activation, "proj", None)
    layer = getattr(layer, "base_layer", layer)  # a LoRA that peft put around it
    if getattr(activation, "approximate", None) != "tanh" or not isinstance(layer, nn.Linear) or not _is_plain(layer):
        raise ValueError(
            f"reference numerics: {path} of this model is quantised or not built as expected ({type(layer).__name__}). "
            "Use the bfloat16 Qwen-Image-Edit, or turn reference numerics off: it is an option for comparisons only."
        )
    return activation


def _is_plain(layer: nn.Linear) -> bool:
    """Ordinary floating point weights, not bits packed by a quantiser."""
    weight = layer.weight
    return weight is not None and weight.dtype in _PLAIN and type(weight.data) is Tensor
