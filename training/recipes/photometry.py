"""Light, colour and wear of a photo, drawn at random: what a retouching operation has nothing to do with.

    brightness, contrast, colour, cast, grey   one 3 x 3 matrix and an offset on RGB
    blur, noise, JPEG                          each with a probability of its own

The query and its target get the same `Look`, noise included, the exemplar none or another one: so a network finds
nothing in the light of the exemplar that helps it with the query, and unmoved pixels of the query pair stay equal.
JPEG works on blocks of 8 or 16 pixels; it alone lets the difference of moved pixels leak as far as their block goes.
Pictures are (1, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.images import LUMA

from ..data.packed_pixels import as_jpeg, decoded, to_pixels, to_planes


@dataclass(frozen=True, kw_only=True)
class PhotometricConfig:
    """Ranges are drawn from evenly; shares are probabilities."""

    brightness: tuple[float, float] = (0.75, 1.2)  # factor
    contrast: tuple[float, float] = (0.8, 1.2)  # factor about mid-grey
    colour: tuple[float, float] = (0.6, 1.4)  # saturation, factor
    cast: float = 0.1  # each channel is multiplied by 1 - cast .. 1 + cast
    grey_share: float = 0.1  # black and white
    blur_share: float = 0.2
    blur_px: tuple[float, float] = (0.4, 1.2)  # sigma
    noise_share: float = 0.3
    noise: tuple[float, float] = (1 / 255, 8 / 255)  # sigma
    jpeg_share: float = 0.4
    jpeg_quality: tuple[int, int] = (40, 95)

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "colour", "blur_px", "noise", "jpeg_quality"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name}={low, high}: use a lower and an upper end, 0 or more")
        for name in ("cast", "grey_share", "blur_share", "noise_share", "jpeg_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: use 0 to 1")
        if not 1 <= self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100:
            raise ValueError(f"jpeg_quality={self.jpeg_quality}: use 1 to 100")


@dataclass(frozen=True, kw_only=True)
class Look:
    """One draw. Zero or None: not done."""

    matrix: tuple[tuple[float, float, float], ...]  # rows: output R, G, B
    offset: tuple[float, float, float]
    blur_px: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0
    jpeg_quality: int | None = None


def draw_look(generator: torch.Generator, config: PhotometricConfig = PhotometricConfig()) -> Look:
    """The same number of random numbers is drawn whatever comes out."""
    draws = torch.rand(13, generator=generator, dtype=torch.float64).tolist()
    noise_seed = int(torch.randint(2**62, (), generator=generator))
    gain, contrast, colour = (
        low + (high - low) * draws[i]
        for i, (low, high) in enumerate((config.brightness, config.contrast, config.colour))
    )
    cast = [1 + config.cast * (2 * draw - 1) for draw in draws[3:6]]
    if draws[6] < config.grey_share:
        colour = 0.0
    # Towards grey by the luma, then the gains, then contrast about 0.5.
    matrix = tuple(
        tuple(
            contrast * gain * cast[row] * (colour * (row == column) + (1 - colour) * LUMA[column])
            for column in range(3)
        )
        for row in range(3)
    )
    quality = config.jpeg_quality[0] + draws[12] * (config.jpeg_quality[1] - config.jpeg_quality[0])
    return Look(
        matrix=matrix,
        offset=(0.5 * (1 - contrast),) * 3,
        blur_px=_drawn(draws[7], config.blur_share, draws[8], config.blur_px),
        noise=_drawn(draws[9], config.noise_share, draws[10], config.noise),
        noise_seed=noise_seed,
        jpeg_quality=round(quality) if draws[11] < config.jpeg_share else None,
    )


def apply_look(images: Tensor, look: Look) -> Tensor:
    """images: (B, 3, H, W) in [0, 1], all with the same noise.  Returns the same.

    Equal pixels become equal pixels, except within JPEG blocks.
    """
    matrix, offset = images.new_tensor(look.matrix), images.new_tensor(look.offset)
    result = torch.baddbmm(offset.view(1, 3, 1), matrix.expand(len(images), 3, 3), images.flatten(2)).view_as(images)
    if look.blur_px:
        result = _blurred(result, look.blur_px)
    if look.noise:
        generator = torch.Generator().manual_seed(look.noise_seed)
        result = result + look.noise * torch.randn(result.shape[1:], generator=generator)
    result = result.clamp(0, 1)
    if look.jpeg_quality is None:
        return result
    return torch.cat([_through_jpeg(image, look.jpeg_quality) for image in result.split(1)])


def _drawn(draw: float, share: float, amount: float, ends: tuple[float, float]) -> float:
    return ends[0] + (ends[1] - ends[0]) * amount if draw < share else 0.0


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Gaussian, the border going on. Shifted sums, twice as fast as convolving so few pictures."""
    radius = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(radius + 1) / sigma) ** 2)
    kernel = (kernel / (2 * kernel.sum() - 1)).tolist()  # one half of it
    for dim, padding in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        padded, length = F.pad(image, padding, mode="replicate"), image.shape[dim]
        image = padded.narrow(dim, radius, length) * kernel[0]
        for offset in range(1, radius + 1):
            both = padded.narrow(dim, radius - offset, length) + padded.narrow(dim, radius + offset, length)
            image.add_(both, alpha=kernel[offset])
    return image


def _through_jpeg(image: Tensor, quality: int) -> Tensor:
    """image: (1, 3, H, W).  Returns the same."""
    return to_planes(decoded(as_jpeg(to_pixels((image[0] * 255).round_().numpy()), quality=quality))).div_(255)
