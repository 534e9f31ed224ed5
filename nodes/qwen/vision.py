"""What Qwen2.5-VL sees of a query through the host's CLIP, with picture tokens in their places.

Some hosts leave the tokens in the order of attention windows (mirrorppr_core/qwen/window_order.py). A probe, once for
each text encoder, tells; `seeing` then mends it for as long as it is open, and leaves the host's class alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...mirrorppr_core.qwen.conditioning import TEMPLATE, VL_CELL, vl_picture
from ...mirrorppr_core.qwen.window_order import finds_window_order, to_raster

_WRONG_CLIP = (
    "clip is {what}: the query must be shown to Qwen2.5-VL-7B. Load it with CLIPLoader, type qwen_image (a GGUF needs "
    "its mmproj file beside it)."
)
_MENDED = "this ComfyUI leaves picture tokens in window order: put right for this node (stock encode nodes keep it)"
_seen: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()  # vision tower -> leaves tokens in window order


def words_for(clip: Any, picture: Tensor) -> tuple[Tensor, dict]:
    """(1, 3, H, W) in [0, 1] -> conditioning tensor (1, L, D) and the host's dict beside it. Inside `seeing`."""
    shown = vl_picture(picture).movedim(1, -1)
    tokens = clip.tokenize("", images=[shown], llama_template=TEMPLATE)
    pictures = [one for batches in tokens.values() for row in batches for one in row if isinstance(one[0], dict)]
    if len(pictures) != 1:
        raise ValueError(_WRONG_CLIP.format(what="one without pictures"))
    ((words, beside),) = clip.encode_from_tokens_scheduled(tokens)
    num_cells = (shown.shape[1] // VL_CELL) * (shown.shape[2] // VL_CELL)
    if words.shape[1] <= num_cells or not words.isfinite().all():
        raise ValueError(_WRONG_CLIP.format(what="incomplete, or its vision part is missing"))
    return words, beside


@contextmanager
def seeing(clip: Any) -> Iterator[str | None]:
    """Inside, the CLIP's vision tower gives tokens row by row. Gives a note if that took mending, or None."""
    model = vision_model(clip)
    clip.load_model()
    if model.visual not in _seen:
        _seen[model.visual] = finds_window_order(lambda picture: _picture_tokens(clip, model, picture))
    if not _seen[model.visual]:
        yield None
        return
    with _row_by_row(model.visual):
        yield _MENDED


def vision_model(clip: Any) -> nn.Module:
    """The language model inside the host's CLIP, which has a `visual` tower."""
    stage = clip.cond_stage_model
    model = getattr(getattr(stage, str(getattr(stage, "clip", "")), None), "transformer", None)
    if not isinstance(getattr(model, "visual", None), nn.Module) or not hasattr(model, "preprocess_embed"):
        raise ValueError(_WRONG_CLIP.format(what=f"{type(stage).__name__}, which sees no pictures"))
    return model


@torch.no_grad()
def _picture_tokens(clip: Any, model: nn.Module, picture: Tensor) -> Tensor:
    embed = {"type": "image", "data": picture.movedim(1, -1), "original_type": "image"}
    with _without_mixing(model.visual):
        return model.preprocess_embed(embed, device=clip.patcher.load_device)[0]


@contextmanager
def _without_mixing(visual: nn.Module) -> Iterator[None]:
    """Inside, the tower's blocks pass on what they get: each token depends on its own cell alone.

    The order of tokens stays what it is, and the probe's answer does not depend on what 32 trained blocks spread.
    """
    blocks = getattr(visual, "blocks", ())
    handles = [block.register_forward_hook(_passed_on, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _passed_on(_block: nn.Module, args: tuple, kwargs: dict, _output: Tensor) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


@contextmanager
def _row_by_row(visual: nn.Module) -> Iterator[None]:
    plain, own = visual.forward, vars(visual).get("forward")

    def forward(pixel_values: Tensor, image_grid_thw: Tensor) -> Tensor:
        _, rows, columns = (int(n) for n in image_grid_thw[0])
        return to_raster(plain(pixel_values, image_grid_thw), rows // 2, columns // 2)

    visual.forward = forward
    try:
        yield
    finally:
        del visual.forward
        if own is not None:
            visual.forward = own
