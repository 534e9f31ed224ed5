"""Accuracy of the motion estimator on portraits warped by known smooth bumps.

    python tests/benchmarks/bench_motion.py [--images 16] [--size 1024] [--sheet sheet.png]

Portraits: the folder named by MIRRORPPR_PORTRAITS, or ../shared/portraits beside the
repository; its eval split, enlarged to --size. Each is warped by 3-7 compact bumps of 8-25 px
(pushes, pinches and bloats), then degraded. Numbers are end-point errors in pixels, mean (95th
percentile) over the pictures: "in" where the true motion is above 0.5 px, "out" below 0.02 px.
"""

import argparse
import io
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mirrorppr_core.fields import jacobian_determinant, length, pixel_grid, warp  # noqa: E402
from mirrorppr_core.motion import estimate_motion  # noqa: E402


def portraits_folder() -> Path | None:
    folder = Path(os.environ.get("MIRRORPPR_PORTRAITS", ROOT.parent / "shared" / "portraits"))
    return folder if (folder / "eval").is_dir() else None


def load(path: Path, size: int) -> torch.Tensor:
    picture = Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None] / 255


def random_bumps(size: int, generator: torch.Generator) -> torch.Tensor:
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
    longest = uniform(8, 25) * size / 1024
    total = total * (longest / length(total).amax())
    while jacobian_determinant(total).amin() < 0.3:
        total = total * 0.8
    return total


def jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    array = (image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)[None] / 255


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


DEGRADE = {
    "clean": lambda image, generator: image,
    "JPEG 88": lambda image, generator: jpeg(image, 88),
    "VAE-like": vae_like,
    "recoloured": recoloured,
}


def sheet(path: Path, before: torch.Tensor, after: torch.Tensor, true: torch.Tensor, found: torch.Tensor):
    """Before, after, true motion, found motion, error (x10): motion as colour, grey is none."""

    def colour(field: torch.Tensor, full_px: float) -> torch.Tensor:
        x, y = (field / full_px).clamp(-1, 1).split(1, dim=1)
        return torch.cat([0.5 + x / 2, 0.5 + y / 2, torch.full_like(x, 0.5)], dim=1)

    full = float(length(true).amax())
    row = torch.cat([before, after, colour(true, full), colour(found, full), colour(found - true, full / 10)], dim=-1)
    row = F.interpolate(row, scale_factor=0.375, mode="bilinear", antialias=True)
    Image.fromarray((row[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy()).save(path)


def errors(found: torch.Tensor, true: torch.Tensor) -> list[float]:
    """Mean and 95th percentile of the end-point error, inside then outside the edit."""
    error, size = length(found - true), length(true)
    inside, outside = error[size > 0.5], error[size < 0.02]
    return [float(v) for part in (inside, outside) for v in (part.mean(), np.percentile(part.numpy(), 95))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--sheet", type=Path, help="write a picture of the first case's true and found motion")
    args = parser.parse_args()
    folder = portraits_folder()
    if folder is None:
        sys.exit("no portraits: set MIRRORPPR_PORTRAITS to a folder with an eval/ of portraits")
    files = sorted((folder / "eval").glob("*.jpg"))
    files = files[:: max(1, len(files) // args.images)][: args.images]
    print(f"{len(files)} portraits at {args.size} px")
    print(f"{'':12}{'raw in':>15}{'raw out':>15}{'cleaned in':>15}{'cleaned out':>15}{'worst in/out':>15}{'s':>7}")
    for name, degrade in DEGRADE.items():
        rows, seconds = [], []
        for i, file in enumerate(files):
            generator = torch.Generator().manual_seed(i)
            before = load(file, args.size)
            true = random_bumps(args.size, generator)
            after = degrade(warp(before, true), generator)
            if name == "JPEG 88":
                before = degrade(before, generator)
            start = time.perf_counter()
            motion = estimate_motion(source=before, target=after)
            seconds.append(time.perf_counter() - start)
            rows.append(errors(motion.raw, true) + errors(motion.displacement, true))
            if args.sheet and i == 0:
                stem = f"{args.sheet.stem}-{name.lower().replace(' ', '')}{args.sheet.suffix}"
                sheet(args.sheet.with_name(stem), before, after, true, motion.displacement)
        table = np.array(rows)
        mean = table.mean(axis=0)
        cells = "".join(f"{f'{mean[k]:.3f} ({mean[k + 1]:.2f})':>15}" for k in (0, 2, 4, 6))
        worst = f"{table[:, 4].max():.2f}/{table[:, 6].max():.3f}"
        print(f"{name:12}{cells}{worst:>15}{np.mean(seconds):7.2f}", flush=True)


if __name__ == "__main__":
    main()
