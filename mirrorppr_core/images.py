"""Pictures inside core: what is accepted, and how a large one is reduced.

A photo is (1, C, H, W), C = 3 (RGB) or 4 (with alpha), float in [0, 1] or uint8. 8-bit photos stay 8-bit all the way
to the warp, so that 24 megapixels cost 72 MB, not 288. Nothing here resizes, clamps or repairs without being asked.
"""

from __future__ import annotations

from math import isfinite

import torch
from torch import Tensor

from .stopping import stop_if_asked
from .windows import block_mean

MIN_SIDE = 256  # of the longer side
MIN_NARROW = 128  # of the shorter: a tall cut-out of one person is a photo too; its face must still be found
LUMA = (0.299, 0.587, 0.114)  # Rec. 601: what JPEG and Pillow call grey
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PLAIN = 2 / 255
_STRIP_ROWS = 512  # rows turned into floats at a time


def check_photo(image: Tensor, name: str) -> None:
    """Raise ValueError unless this is one usable photo. name: how the user knows it ("exemplar before")."""
    if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] not in (3, 4):
        raise ValueError(f"{name} has shape {tuple(image.shape)}: need one RGB or RGBA picture, (1, 3 or 4, H, W)")
    height, width = image.shape[-2:]
    if max(height, width) < MIN_SIDE or min(height, width) < MIN_NARROW:
        raise ValueError(
            f"{name} is {width}x{height} pixels: the longer side must be at least {MIN_SIDE} and the "
            f"shorter {MIN_NARROW}. "
            "Use the original photo, or enlarge it first."
        )
    if image.dtype == torch.uint8:
        return
    if not image.is_floating_point():
        raise ValueError(f"{name} has {image.dtype} pixels: pass float in [0, 1] or uint8")
    low, high = (float(v) for v in image.aminmax())  # one pass; NaN and infinity show in it too
    if not (isfinite(low) and isfinite(high)):
        raise ValueError(
            f"{name} contains NaN or infinite pixels: the node or file it came from is broken. "
            "Save and reload the picture, or look at the step before."
        )
    # Sharp resizing overshoots [0, 1] a little; 8-bit and HDR values go far beyond.
    if low < -0.5 or high > 1.5:
        raise ValueError(
            f"{name} has values from {low:.3g} to {high:.3g}: pixels must lie in [0, 1]. "
            "Divide 8-bit values by 255, and tone-map HDR pictures first."
        )


def check_not_plain(image: Tensor, name: str) -> None:
    """Raise ValueError on a picture of one colour, all black for example."""
    low, high = as_float(image[:, :3, ::8, ::8]).aminmax()
    if float(high - low) < _PLAIN:
        raise ValueError(f"{name} is one plain colour all over: choose the photo itself")


def reduce(image: Tensor, factor: int) -> Tensor:
    """Average whole factor x factor blocks into float RGB. (1, C, H, W) -> (1, 3, ceil(H / f), ceil(W / f)).

    Works in strips, so that a large 8-bit photo is never a float picture as a whole. The pixel (x, y) of the result
    lies at (x * f + (f - 1) / 2, ...) of the photo; blocks cut by the right or lower edge average what is there.
    """
    rgb = image[:, :3]
    if factor == 1:
        return as_float(rgb)
    rows = max(1, _STRIP_ROWS // factor) * factor
    strips = []
    for top in range(0, image.shape[-2], rows):
        stop_if_asked()
        strips.append(block_mean(as_float(rgb[:, :, top : top + rows]), factor))
    return torch.cat(strips, dim=2)


def as_float(image: Tensor) -> Tensor:
    return image / 255 if image.dtype == torch.uint8 else image.float()
