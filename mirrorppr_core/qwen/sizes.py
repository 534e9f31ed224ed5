"""The size at which a query is retouched, and the way back to its own.

Pictures of any size come in. The DiT works best near the one to four megapixels it was trained on and needs sides that
are multiples of 32: of 16 for its 2 x 2 patches of latents, of 32 because hosts centre odd grids differently. So a
query is reduced where it is too large, padded by repeating its edge, and afterwards cropped and enlarged again. A
picture that fits is passed through bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..images import as_float

MULTIPLE = 32
MAX_PIXELS = 2048 * 2048  # the largest that the reference was evaluated at


@dataclass(frozen=True, kw_only=True)
class WorkingSize:
    """own: the photo's (height, width). scaled: after reduction. padded: what the DiT sees."""

    own: tuple[int, int]
    scaled: tuple[int, int]
    padded: tuple[int, int]

    def prepare(self, image: Tensor) -> Tensor:
        """(1, C, *own) -> float RGB (1, 3, *padded) in [0, 1]. Alpha is dropped, not blended."""
        pixels = resize(as_float(image[:, :3]), *self.scaled)
        (height, width), (full_height, full_width) = self.scaled, self.padded
        if (height, width) == (full_height, full_width):
            return pixels
        return F.pad(pixels, (0, full_width - width, 0, full_height - height), mode="replicate")

    def restore(self, image: Tensor) -> Tensor:
        """(1, C, *padded) -> (1, C, *own): the padding off, the size back."""
        return resize(image[..., : self.scaled[0], : self.scaled[1]], *self.own)


def working_size(height: int, width: int, *, max_pixels: int = MAX_PIXELS, multiple: int = MULTIPLE) -> WorkingSize:
    """Reduce only what has more than max_pixels, keeping the aspect ratio; pad to the multiple."""
    if multiple < 1 or max_pixels < multiple**2:
        raise ValueError(f"max_pixels={max_pixels}, multiple={multiple}: allow one tile at least, 1048576 is usual")
    scale = min(1.0, math.sqrt(max_pixels / (height * width)))
    scaled = max(1, math.floor(height * scale)), max(1, math.floor(width * scale))
    if scale == 1:
        scaled = height, width
    padded = -(-scaled[0] // multiple) * multiple, -(-scaled[1] // multiple) * multiple
    return WorkingSize(own=(height, width), scaled=scaled, padded=padded)


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Bicubic with antialiasing, clamped to [0, 1]; the same tensor when the size is right already."""
    if image.shape[-2:] == (height, width):
        return image
    return F.interpolate(
        image, size=(height, width), mode="bicubic", antialias=True, align_corners=False
    ).clamp(0, 1)  # fmt: skip
