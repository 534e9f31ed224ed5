"""Accuracy of the motion estimator on portraits warped by known smooth bumps.

    python tests/benchmarks/bench_motion.py [--images 16] [--size 1024] [--sheet sheet.png]

Portraits: the folder named by MIRRORPPR_PORTRAITS, or ../shared/portraits beside the
repository; its eval split, enlarged to --size. Each is warped by 3-7 compact bumps of 8-25 px:
pushes, pinches and bloats. Some land on plain white or black, where nothing can be seen to
move; they make the means, not the medians. Then the pictures are degraded. End-point errors in
pixels over the pictures, mean / median of the means: "in" where the true motion is above
0.5 px, "out" below 0.02 px.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

from synthetic import jpeg, load_portrait, portraits_folder, random_bumps, recoloured, vae_like

from mirrorppr_core.geometry.displacement import length, warp
from mirrorppr_core.motion.estimate import estimate_motion

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
    """Mean end-point error inside the edit and outside it."""
    error, size = length(found - true), length(true)
    return [float(error[size > 0.5].mean()), float(error[size < 0.02].mean())]


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
    columns = ("raw in", "raw out", "cleaned in", "cleaned out", "worst in/out")
    print(f"{'':12}" + "".join(f"{column:>15}" for column in columns) + f"{'s':>7}")
    for name, degrade in DEGRADE.items():
        rows, seconds = [], []
        for i, file in enumerate(files):
            generator = torch.Generator().manual_seed(i)
            before = load_portrait(file, args.size)
            true = random_bumps(args.size, generator, longest_px=(8, 25))
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
        mean, median = table.mean(axis=0), np.median(table, axis=0)
        cells = "".join(f"{f'{mean[k]:.3f} / {median[k]:.3f}':>15}" for k in range(4))
        worst = f"{table[:, 2].max():.2f}/{table[:, 3].max():.3f}"
        print(f"{name:12}{cells}{worst:>15}{np.mean(seconds):7.2f}", flush=True)


if __name__ == "__main__":
    main()
