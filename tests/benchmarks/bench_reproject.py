"""Reprojection on portraits edited by known fields and then degraded as editors do.

    python tests/benchmarks/bench_reproject.py [--images 8] [--sheet sheet.png]

Portraits: the folder named by MIRRORPPR_PORTRAITS, or ../shared/portraits beside the repository; its eval split with
the meshes of landmarks.npz, enlarged to 1024 px. Each is edited by 3-7 compact bumps of 8-25 px with centres on the
face. End-point errors in pixels, mean over the pictures and worst: "in" where the true motion is above 0.5 px, "out"
below 0.02 px. SSIM and PSNR: of the edited picture and of the reprojected one, against the photo warped by the truth.
Seconds are CPU time of one thread.
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

from portraits import LANDMARKS, PORTRAITS, real_meshes
from synthetic import face_bumps, jpeg, load_portrait, random_bumps, recoloured, vae_like

from mirrorppr_core.geometry.displacement import compose, length, pixel_grid, warp
from mirrorppr_core.motion.reproject import Reprojected, reproject
from training.evaluation.metrics import psnr, ssim

SIZE = 1024


def slipped(edit: torch.Tensor) -> torch.Tensor:
    """The edit, then the whole picture zoomed by 1 % and shifted by 6 px, as diffusion editors do."""
    zoom = 0.01 * (pixel_grid(SIZE, SIZE) - (SIZE - 1) / 2) + torch.tensor([6.0, -2.0]).view(1, 2, 1, 1)
    return compose(edit, zoom)


# How the edited picture is made: from the photo's true field, then degraded.
KEEP = {"motion": lambda edit: edit, "edit": face_bumps}
CASES = {
    "clean": KEEP | {"degrade": lambda image, _: image},
    "JPEG 88": KEEP | {"degrade": lambda image, _: jpeg(image, 88)},
    "VAE-like": KEEP | {"degrade": vae_like},
    "VAE-like, slipped": KEEP | {"degrade": vae_like, "motion": slipped},
    "recoloured, clipped": KEEP | {"degrade": recoloured},
    "VAE-like, anywhere": KEEP | {"degrade": vae_like, "edit": lambda size, _, g, **k: random_bumps(size, g, **k)},
}


def portraits(num: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Photos and their meshes, in pixels of SIZE."""
    if not LANDMARKS.exists():
        sys.exit("no portraits: set MIRRORPPR_PORTRAITS to a folder with an eval/ of portraits and landmarks.npz")
    meshes = real_meshes()
    names = list(meshes)[:: max(1, len(meshes) // num)][:num]
    return [(load_portrait(PORTRAITS / name, SIZE), (meshes[name] + 0.5) * SIZE / 512 - 0.5) for name in names]


def timed(original: torch.Tensor, edited: torch.Tensor) -> tuple[Reprojected, float]:
    start = time.process_time()
    result = reproject(original, edited)
    return result, time.process_time() - start


def accuracy(pictures: list, sheet: Path | None) -> None:
    columns = ("in", "worst", "p95", "out", "worst", "SSIM", "PSNR dB", "s")
    print(f"{'':20}" + "".join(f"{c:>{16 if c in ('SSIM', 'PSNR dB') else 8}}" for c in columns))
    for name, case in CASES.items():
        rows = []
        for i, (photo, mesh) in enumerate(pictures):
            generator = torch.Generator().manual_seed(i)
            true = case["edit"](SIZE, mesh, generator, longest_px=(8, 25))
            edited = case["degrade"](warp(photo, case["motion"](true)), generator)
            result, seconds = timed(photo, edited)
            found, wanted = result.field.dense(), warp(photo, true)
            error, size = length(found - true), length(true)
            inside, outside = error[size > 0.5], error[size < 0.02]
            # The degraded picture itself, without the slip, so that its score is the editor's at its best.
            degraded = case["degrade"](wanted, generator)
            scores = [float(metric(p, wanted)) for metric in (ssim, psnr) for p in (degraded, result.image)]
            rows.append([inside.mean(), inside.quantile(0.95), outside.mean(), *scores, seconds])
            if sheet and i < 3:
                stem = f"{sheet.stem}-{i}-{name.lower().replace(' ', '').replace(',', '-')}{sheet.suffix}"
                draw(sheet.with_name(stem), photo, edited, result, true, error)
        table = np.array(rows)
        mean, worst = table.mean(axis=0), table.max(axis=0)
        print(
            f"{name:20}{mean[0]:8.3f}{worst[0]:8.3f}{mean[1]:8.2f}{mean[2]:8.4f}{worst[2]:8.3f}"
            f"{f'{mean[3]:.3f} > {mean[4]:.4f}':>16}{f'{mean[5]:.1f} > {mean[6]:.1f}':>16}{mean[7]:8.2f}",
            flush=True,
        )


def identity(pictures: list) -> None:
    """An edited picture that changed no shape must give back the photo, bit for bit."""
    degradations = {"VAE-like": vae_like, "JPEG 80": lambda p, _: jpeg(p, 80), "recoloured, clipped": recoloured}
    for name, degrade in degradations.items():
        same = 0
        for i, (photo, _) in enumerate(pictures):
            result = reproject(photo, degrade(photo, torch.Generator().manual_seed(i)))
            same += torch.equal(result.image, photo)
        print(f"no edit, {name}: {same} of {len(pictures)} returned bit for bit", flush=True)


def speed(photo: torch.Tensor, mesh: torch.Tensor) -> None:
    """Edited at 1024 px, applied to larger 8-bit originals."""
    generator = torch.Generator().manual_seed(0)
    edited = vae_like(warp(photo, face_bumps(SIZE, mesh, generator, longest_px=(8, 25))), generator)
    for side in (1024, 2048, 4096, 8192):
        large = F.interpolate(photo, (side, side), mode="bicubic", align_corners=False)
        large = (large.clamp(0, 1) * 255).round().to(torch.uint8)
        result, seconds = timed(large, edited)
        print(
            f"{side} px original, {SIZE} px edited: {seconds:.2f} s, {result.field.max_px:.1f} px at most", flush=True
        )


def draw(path: Path, photo, edited, result: Reprojected, true: torch.Tensor, error: torch.Tensor) -> None:
    """Original, edited, reprojected; true and found motion as colour, grey is none; error, white is 2 px."""
    full = float(length(true).amax())

    def colour(field: torch.Tensor) -> torch.Tensor:
        x, y = (field / full).clamp(-1, 1).split(1, dim=1)
        return torch.cat([0.5 + x / 2, 0.5 + y / 2, torch.full_like(x, 0.5)], dim=1)

    grey = (error / 2).clamp(0, 1).expand(-1, 3, -1, -1)
    row = torch.cat([photo, edited, result.image, colour(true), colour(result.field.dense()), grey], dim=-1)
    row = F.interpolate(row, scale_factor=0.375, mode="bilinear", antialias=True)
    Image.fromarray((row[0].permute(1, 2, 0).clamp(0, 1) * 255).byte().numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--sheet", type=Path, help="write pictures of the first three portraits in every case")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pictures = portraits(args.images)
    print(f"{len(pictures)} portraits at {SIZE} px")
    accuracy(pictures, args.sheet)
    identity(pictures)
    speed(*pictures[0])


if __name__ == "__main__":
    main()
