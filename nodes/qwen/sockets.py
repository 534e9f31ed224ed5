"""Connections of the Qwen engine's nodes, and two things that they share. Its sets do not fit Mini's sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor, nn

from ...mirrorppr_core.qwen.sizes import WorkingSize

QwenSetSocket = io.Custom("MIRRORPPR_QWEN_SET")  # core QwenSet
QwenOperationSocket = io.Custom("MIRRORPPR_QWEN_OPERATION")  # core QwenOperation
QwenSizeSocket = io.Custom("MIRRORPPR_QWEN_SIZE")  # QuerySize

CATEGORY = "MirrorPPR/Qwen"


@dataclass(frozen=True, kw_only=True)
class QuerySize:
    """What a batch of queries was before it was prepared. alpha: (B, 1, H, W), or None for RGB."""

    working: WorkingSize
    alpha: Tensor | None


@contextmanager
def at_work(*modules: nn.Module, room: int) -> Iterator[None]:
    """Modules on the host's compute device, inside, as one of its models; off it again afterwards.

    The host makes space by its own rules: other models move out if they must. room: bytes for activations.
    """
    device, home = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    patchers = [ModelPatcher(module, load_device=device, offload_device=home) for module in modules]
    try:
        comfy.model_management.load_models_gpu(patchers, memory_required=room, force_full_load=True)
        with torch.no_grad():
            yield
    finally:
        for patcher in patchers:
            patcher.detach()
