"""What the DiT is told: the prompt template, the picture the language model sees, and where the operation stands.

    text stream    [what Qwen2.5-VL says about the query, from <|vision_start|> on][operation tokens]
    image stream   [noisy latent][latent of the query]

Only the query is shown to the language model, never the exemplars. The prompt is empty: the operation tokens are the
instruction. Facts of Qwen-Image-Edit (first generation); nodes and standalone share this file.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .sizes import resize

# The template of Qwen-Image-Edit; {} takes the prompt. Its first 64 tokens (the system turn and the user turn's head)
# are not shown to the DiT.
TEMPLATE = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{}<|im_end|>\n<|im_start|>assistant\n"
)
IMAGE_TOKEN = "<|image_pad|>"
NUM_DROPPED = 64

VL_CELL = 28  # pixels a side of one language-model token: patch 14, merged 2 x 2
_VL_MIN_PIXELS, _VL_MAX_PIXELS = 3136, 12_845_056  # of Qwen-Image-Edit's processor
_VL_MEAN = (0.48145466, 0.4578275, 0.40821073)
_VL_STD = (0.26862954, 0.26130258, 0.27577711)


def vl_size(height: int, width: int) -> tuple[int, int]:
    """Size of the picture that the language model sees: sides to the nearest multiple of 28."""
    if max(height, width) > 200 * min(height, width):
        raise ValueError(f"query is {width}x{height}: too narrow for the language model, which takes up to 200 : 1")
    rounded = round(height / VL_CELL) * VL_CELL, round(width / VL_CELL) * VL_CELL
    if rounded[0] * rounded[1] > _VL_MAX_PIXELS:
        shrink = math.sqrt(height * width / _VL_MAX_PIXELS)
        return tuple(max(VL_CELL, math.floor(side / shrink / VL_CELL) * VL_CELL) for side in (height, width))
    if rounded[0] * rounded[1] < _VL_MIN_PIXELS:
        grow = math.sqrt(_VL_MIN_PIXELS / (height * width))
        return tuple(math.ceil(side * grow / VL_CELL) * VL_CELL for side in (height, width))
    return rounded


def vl_picture(image: Tensor) -> Tensor:
    """The query as the language model gets it, (1, 3, H, W) in [0, 1].

    Resized here, bicubic with antialiasing as the reference does, so that hosts that would resize otherwise find
    nothing left to do.
    """
    return resize(image, *vl_size(*image.shape[-2:]))


def vl_patches(picture: Tensor, *, patch: int, merge: int, frames: int) -> tuple[Tensor, Tensor]:
    """A vl_picture cut up for Qwen2.5-VL's vision tower, as the reference's image processor does.

    Returns patches (h * w, 3 * frames * patch * patch), the merge x merge neighbours one after the other, and the
    grid [[1, h, w]].  frames: a still picture stands in all frames of one temporal patch.
    """
    mean, std = (torch.tensor(v).to(picture).view(1, 3, 1, 1) for v in (_VL_MEAN, _VL_STD))
    height, width = (side // patch for side in picture.shape[-2:])
    cells = ((picture - mean) / std).reshape(3, height // merge, merge, patch, width // merge, merge, patch)
    cells = cells.permute(1, 4, 2, 5, 0, 3, 6).unsqueeze(5)  # (h/m, w/m, m, m, 3, 1, p, p)
    cells = cells.expand(-1, -1, -1, -1, -1, frames, -1, -1)
    return cells.reshape(height * width, -1), torch.tensor([[1, height, width]])


def append_operation(embeddings: Tensor, tokens: Tensor) -> Tensor:
    """Operation tokens (1 or B, Q, D) after the language model's (B, L, D), as the released LoRA was trained."""
    if embeddings.shape[-1] != tokens.shape[-1]:
        raise ValueError(
            f"operation tokens are {tokens.shape[-1]} wide, the text embeddings {embeddings.shape[-1]}: the text "
            "encoder must be Qwen2.5-VL-7B (CLIPLoader, type qwen_image)"
        )
    return torch.cat([embeddings, tokens.to(embeddings).expand(len(embeddings), -1, -1)], dim=1)


def append_to_mask(mask: Tensor, num_tokens: int) -> Tensor:
    """An attention mask (B, L) of the text stream, with the operation tokens attended to."""
    return torch.cat([mask, mask.new_ones(len(mask), num_tokens)], dim=1)
