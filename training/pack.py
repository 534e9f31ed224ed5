"""A light copy of a portrait folder, for training on a machine that little can be carried to.

    python -m training.pack --portraits DIR --out SMALL

Pictures are reduced and landmarks with them; LLW and the professional operations scale with the picture, so the
operations are the same. Mini sees a face in 128 pixels, which 288 pixels of a head-and-shoulders portrait still hold.
The weights of the shipped set were trained on the full folder: a packed copy gives nearly, not exactly, the same crops.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .program import Parser, run

_BODY = "body/"


def pack(portraits: Path, out: Path, *, split: str = "train", side: int = 288, quality: int = 80) -> int:
    """Write the split's portraits with landmarks to `out`, those of bodies with their poses. Returns their number.

    side: pixels of the longer side; bodies, whose faces are small, keep twice as many.

    Raises FileExistsError when out exists, ValueError when the split has no face portraits.
    """
    if side < 128 or not 1 <= quality <= 95:
        raise ValueError(f"side={side}, quality={quality}: use a side of 128 or more and a quality of 1 to 95")
    with np.load(portraits / "landmarks.npz") as stored:
        meshes = _by_file(stored, "files", "face_avg")
        poses = _by_file(stored, "body_files", "pose") if "pose" in stored else {}
    with open(portraits / "portraits.csv", newline="") as handle:
        rows = [r for r in csv.DictReader(handle) if r["split"] == split and r["file"].startswith((f"{split}/", _BODY))]
    rows = [r for r in rows if r["file"] in meshes and np.isfinite(meshes[r["file"]]).all()]
    if not any(r["file"].startswith(f"{split}/") for r in rows):
        raise ValueError(f"{portraits}: portraits.csv lists no pictures under {split}/ that landmarks.npz knows")
    if out.exists():
        raise FileExistsError(f"{out} exists: give a new folder")
    small, small_poses = [], {}
    for row in rows:
        (out / row["file"]).parent.mkdir(parents=True, exist_ok=True)
        with Image.open(portraits / row["file"]) as picture:
            most = 2 * side if row["file"].startswith(_BODY) else side
            factor = min(1.0, most / max(picture.size))
            size = tuple(round(length * factor) for length in picture.size)
            picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(out / row["file"], quality=quality)
            # Both sides are rounded: each axis has its own factor. Landmarks are measured from the picture's edge.
            scale = np.array(size) / np.array(picture.size)
            small.append(meshes[row["file"]] * scale)
            if row["file"] in poses:
                small_poses[row["file"]] = poses[row["file"]] * np.array([*scale, 1, 1])
    with open(out / "portraits.csv", "w", newline="") as handle:
        writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    landmarks = {"files": np.array([r["file"] for r in rows]), "face_avg": np.array(small, np.float32)}
    if small_poses:
        landmarks |= {
            "body_files": np.array(list(small_poses)),
            "pose": np.array(list(small_poses.values()), np.float32),
        }
    np.savez(out / "landmarks.npz", **landmarks)
    return len(rows)


def _by_file(stored: np.lib.npyio.NpzFile, files: str, values: str) -> dict[str, np.ndarray]:
    return dict(zip((str(file) for file in stored[files]), stored[values], strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("pack", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with portraits.csv and landmarks.npz")
    parser.add_argument("--out", type=Path, required=True, help="new folder")
    parser.add_argument("--side", type=int, default=288, help="pixels of the longer side")
    parser.add_argument("--quality", type=int, default=80, help="of the JPEG files")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    count = pack(options.portraits, options.out, side=options.side, quality=options.quality)
    total = sum(f.stat().st_size for f in options.out.rglob("*") if f.is_file())
    print(f"{count} portraits in {options.out}, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
