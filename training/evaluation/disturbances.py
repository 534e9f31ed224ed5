"""What happens to photos between the camera and us, done to a picture and to its true motion alike.

A disturbed portrait is turned about its middle, rescaled, darkened, made grey, saved as JPEG, in that order. Turning
and rescaling carry a displacement along exactly,

    d'(A p) = A d(p)        A: the picture's own turn and scale

so a case with known truth stays a case with known truth. Pictures are (1, 3, H, W) in [0, 1] and come back as
multiples of 1/255, as files are; displacements are (1, 2, H, W) pixels, backward.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mirrorppr_core.geometry.displacement import pixel_grid, resize_displacement, sample
from mirrorppr_core.images import LUMA

from .known_truth import to_eight_bits


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    name: str
    degrees: float = 0.0  # clockwise on screen; the frame stays, what leaves it is lost
    scale: float = 1.0  # of the frame and everything in it
    brightness: float = 1.0  # factor on all channels; what exceeds white is lost
    grey: bool = False
    jpeg: int | None = None  # quality

    def __post_init__(self) -> None:
        if not -45 <= self.degrees <= 45:
            raise ValueError(f"{self.name}: {self.degrees} degrees; use -45 to 45, beyond that no portrait is upright")
        if not 0.1 <= self.scale <= 10 or not 0 < self.brightness <= 10:
            raise ValueError(f"{self.name}: scale {self.scale}, brightness {self.brightness}; use factors around 1")
        if self.jpeg is not None and not 1 <= self.jpeg <= 100:
            raise ValueError(f"{self.name}: JPEG quality {self.jpeg}; use 1 to 100, 60 to 95 is usual")

    def picture(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) -> (1, 3, H * scale, W * scale)."""
        if self.degrees:
            image = sample(image, _origins(image, self.degrees)).clamp(0, 1)
        if self.scale != 1:
            image = F.interpolate(image, self._size(image), mode="bicubic", align_corners=False, antialias=True)
        image = (image * self.brightness).clamp(0, 1)
        if self.grey:
            image = torch.einsum("bchw,c->bhw", image, image.new_tensor(LUMA))[:, None].expand(-1, 3, -1, -1)
        image = to_eight_bits(image)
        return image if self.jpeg is None else _through_jpeg(image, self.jpeg)

    def motion(self, displacement: Tensor) -> Tensor:
        """The true motion of the disturbed picture.  (1, 2, H, W) -> (1, 2, H * scale, W * scale)."""
        if self.degrees:
            turned = sample(displacement, _origins(displacement, self.degrees), mode="bilinear")
            displacement = torch.einsum("ij,bjhw->bihw", _turn(self.degrees), turned)
        if self.scale != 1:
            displacement = resize_displacement(displacement, *self._size(displacement))
        return displacement

    def _size(self, image: Tensor) -> tuple[int, int]:
        return round(image.shape[-2] * self.scale), round(image.shape[-1] * self.scale)


# The bar of this project's trainer: none of the single ones may cost more than 0.1 of relative_epe.
SINGLE = (
    Disturbance(name="turned 20 degrees right", degrees=20),
    Disturbance(name="turned 20 degrees left", degrees=-20),
    Disturbance(name="half the size", scale=0.5),
    Disturbance(name="twice the size", scale=2.0),
    Disturbance(name="JPEG 60", jpeg=60),
    Disturbance(name="20 % brighter", brightness=1.2),
    Disturbance(name="20 % darker", brightness=0.8),
    Disturbance(name="grey", grey=True),
)
COMBINED = (
    Disturbance(name="half the size, JPEG 60", scale=0.5, jpeg=60),
    Disturbance(name="turned 20 degrees right, 20 % darker, JPEG 60", degrees=20, brightness=0.8, jpeg=60),
    Disturbance(name="turned 20 degrees left, twice the size, grey", degrees=-20, scale=2.0, grey=True),
)


def _turn(degrees: float) -> Tensor:
    """(2, 2), clockwise on screen, since y points down."""
    angle = math.radians(degrees)
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _origins(image: Tensor, degrees: float) -> Tensor:
    """Where every pixel of the turned picture comes from, (1, 2, H, W)."""
    height, width = image.shape[-2:]
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2]).view(1, 2, 1, 1)
    return centre + torch.einsum("ij,bjhw->bihw", _turn(-degrees), pixel_grid(height, width) - centre)


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    array = (image[0].permute(1, 2, 0) * 255).round().byte().contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as picture:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255
