"""Photos and motion with known truth, for tests and benchmarks."""

import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mirrorppr_core.fields import jacobian_determinant, length, pixel_grid

ROOT = Path(__file__).resolve().parents[1]


def bump(
    height: int, width: int, *, centre: tuple[float, float], radius: float, shift: tuple[float, float]
) -> torch.Tensor:
    """A smooth push with compact support: exactly zero outside the radius.  (1, 2, H, W)."""
    away = pixel_grid(height, width) - torch.tensor(centre).view(1, 2, 1, 1)
    weight = (1 - away.square().sum(1, keepdim=True) / radius**2).clamp_min(0) ** 2
    return weight * torch.tensor(shift).view(1, 2, 1, 1)


def portraits_folder() -> Path | None:
    folder = Path(os.environ.get("MIRRORPPR_PORTRAITS", ROOT.parent / "shared" / "portraits"))
    return folder if (folder / "eval").is_dir() else None


def load_portrait(path: Path, size: int) -> torch.Tensor:
    picture = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255


def random_bumps(size: int, generator: torch.Generator, *, longest_px: tuple[float, float]) -> torch.Tensor:
    """3-7 smooth edits with compact support around the face, without folds.  (1, 2, size, size)."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    total = torch.zeros(1, 2, size, size)
    for _ in range(int(uniform(3, 8))):
        centre = torch.tensor([uniform(0.3, 0.7), uniform(0.25, 0.75)]).view(1, 2, 1, 1) * size
        radius = uniform(0.06, 0.2) * size
        away = (pixel_grid(size, size) - centre) / radius
        weight = (1 - away.square().sum(1, keepdim=True)).clamp_min(0) ** 2
        if uniform(0, 1) < 0.5:
            angle = uniform(0, 2 * np.pi)
            direction = torch.tensor([np.cos(angle), np.sin(angle)]).float().view(1, 2, 1, 1)
        else:
            direction = away * (2.0 if uniform(0, 1) < 0.5 else -2.0)
        # A push of a third of the radius is as far as it goes before it folds.
        total = total + weight * direction * uniform(0.1, 0.25) * radius
    longest = uniform(*longest_px)
    total = total * (longest / length(total).amax())
    while jacobian_determinant(total).amin() < 0.3:
        total = total * 0.8
    return total


def jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    array = (image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)[None] / 255
