"""Photos and motion with known truth, for tests and benchmarks."""

import io
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mirrorppr_core.geometry.displacement import jacobian_determinant, length, pixel_grid


def bump(
    height: int, width: int, *, centre: tuple[float, float], radius: float, shift: tuple[float, float]
) -> torch.Tensor:
    """A smooth push with compact support: exactly zero outside the radius.  (1, 2, H, W)."""
    away = pixel_grid(height, width) - torch.tensor(centre).view(1, 2, 1, 1)
    weight = (1 - away.square().sum(1, keepdim=True) / radius**2).clamp_min(0) ** 2
    return weight * torch.tensor(shift).view(1, 2, 1, 1)


def load_portrait(path: Path, size: int) -> torch.Tensor:
    picture = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255


def random_bumps(size: int, generator: torch.Generator, *, longest_px: tuple[float, float]) -> torch.Tensor:
    """3-7 smooth edits with compact support in the middle of the picture, without folds.  (1, 2, size, size)."""
    num_bumps = int(_uniform(3, 8, generator))
    centres = [
        torch.tensor([_uniform(0.3, 0.7, generator), _uniform(0.25, 0.75, generator)]) * size for _ in range(num_bumps)
    ]
    return _bumps(size, centres, (0.06 * size, 0.2 * size), generator, longest_px)


def face_bumps(
    size: int, mesh: torch.Tensor, generator: torch.Generator, *, longest_px: tuple[float, float]
) -> torch.Tensor:
    """The same on a face, as retouchers do it: centres on its mesh (478, 2), sizes by its width."""
    num_bumps = int(_uniform(3, 8, generator))
    centres = [mesh[int(_uniform(0, len(mesh), generator))] for _ in range(num_bumps)]
    width = float(mesh[:, 0].max() - mesh[:, 0].min())
    return _bumps(size, centres, (0.15 * width, 0.45 * width), generator, longest_px)


def _bumps(
    size: int,
    centres: list[torch.Tensor],
    radii: tuple[float, float],
    generator: torch.Generator,
    longest_px: tuple[float, float],
) -> torch.Tensor:
    """Pushes, pinches and bloats."""
    total = torch.zeros(1, 2, size, size)
    for centre in centres:
        radius = _uniform(*radii, generator)
        away = (pixel_grid(size, size) - centre.view(1, 2, 1, 1)) / radius
        weight = (1 - away.square().sum(1, keepdim=True)).clamp_min(0) ** 2
        if _uniform(0, 1, generator) < 0.5:
            angle = _uniform(0, 2 * np.pi, generator)
            direction = torch.tensor([np.cos(angle), np.sin(angle)]).float().view(1, 2, 1, 1)
        else:
            direction = away * (2.0 if _uniform(0, 1, generator) < 0.5 else -2.0)
        # A push of a third of the radius is as far as it goes before it folds.
        total = total + weight * direction * _uniform(0.1, 0.25, generator) * radius
    total = total * (_uniform(*longest_px, generator) / length(total).amax())
    while jacobian_determinant(total).amin() < 0.3:
        total = total * 0.8
    return total


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def vae_like(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Blur, white and coarse noise, new gain and offset per channel, and a slow colour drift."""
    size = image.shape[-1]

    def noise(cells: int, scale: float) -> torch.Tensor:
        field = torch.randn(1, 3, cells, cells, generator=generator) * scale
        return F.interpolate(field, (size, size), mode="bicubic", align_corners=False)

    taps = torch.tensor([0.17, 0.66, 0.17])
    kernel = torch.outer(taps, taps).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(image, (1,) * 4, mode="replicate"), kernel, groups=3)
    gain = 1 + (torch.rand(1, 3, 1, 1, generator=generator) - 0.5) * 0.1
    offset = (torch.rand(1, 3, 1, 1, generator=generator) - 0.5) * 12 / 255
    noisy = blurred * gain + offset + noise(size, 2 / 255) + noise(size // 4, 2 / 255) + noise(4, 2 / 255)
    return noisy.clamp(0, 1)


def recoloured(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A warmer, brighter, more contrasty grade with a vignette: the retoucher's other work."""
    size = image.shape[-1]
    away = pixel_grid(size, size) / size - 0.5
    vignette = 1.08 - 0.5 * away.square().sum(1, keepdim=True)
    graded = image.clamp_min(1e-4) ** torch.tensor([0.82, 0.88, 0.98]).view(1, 3, 1, 1)
    return (graded * vignette * 1.05 - 0.02).clamp(0, 1)


def jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    array = (image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)[None] / 255
