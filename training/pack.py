"""A light copy of a portrait folder, for training on a machine that little can be carried to.

    python -m training.pack --portraits DIR --out SMALL

Pictures are reduced and landmarks with them; LLW and the professional operations scale with the picture, so the
operations are the same. Mini sees a face in 128 pixels, which 288 pixels of a head-and-shoulders portrait still hold.
The weights of the shipped set were trained on the full folder: a packed copy gives nearly, not exactly, the same crops.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mirrorppr_core.file_writing import replacing, write_file
from mirrorppr_core.images import as_float

from .data.labelled import LANDMARKS, LabelledPortrait, labelled_portraits
from .data.landmark_sources import landmark_arrays
from .data.landmarks import Landmarks
from .data.portrait_folder import TABLE, portrait_rows
from .program import Parser, run


def pack(portraits: Path, out: Path, *, split: str = "train", side: int = 288, quality: int = 80) -> int:
    """Write the split's portraits with landmarks to `out`, those of bodies with their poses. Returns their number.

    side: pixels of the longer side; bodies, whose faces are small, keep twice as many.

    Raises FileExistsError when out exists, ValueError when the split has no face portraits.
    """
    if side < 128 or not 1 <= quality <= 95:
        raise ValueError(f"side={side}, quality={quality}: use a side of 128 or more and a quality of 1 to 95")
    chosen = labelled_portraits(portraits, split=split, bodies=True)
    if all(portrait.is_body for portrait in chosen):
        raise ValueError(f"{portraits}: the split {split!r} has no portraits of faces, only of bodies")
    if out.exists():
        raise FileExistsError(f"{out} exists: give a new folder")
    small = {}
    for portrait in chosen:
        picture = _upright(portrait)
        factor = min(1.0, (2 * side if portrait.is_body else side) / max(picture.size))
        size = tuple(round(length * factor) for length in picture.size)
        (out / portrait.file).parent.mkdir(parents=True, exist_ok=True)
        with replacing(out / portrait.file) as stream:
            picture.resize(size, Image.Resampling.LANCZOS).save(stream, format=_format(portrait.file), quality=quality)
        # Both sides are rounded: each axis has its own factor.
        small[portrait.file] = _scaled(portrait, torch.tensor(size) / torch.tensor(picture.size))
    rows = [row for row in portrait_rows(portraits) if row["file"] in small]
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_file(out / TABLE, table.getvalue())
    with replacing(out / LANDMARKS) as stream:
        np.savez(stream, **landmark_arrays(small))
    return len(rows)


def _format(file: str) -> str:
    """Pillow's name for a picture file's ending."""
    return Image.registered_extensions()[Path(file).suffix.lower()]


def _upright(portrait: LabelledPortrait) -> Image.Image:
    pixels = (as_float(portrait.pixels()) * 255).round().byte()
    return Image.fromarray(pixels[0].permute(1, 2, 0).contiguous().numpy())


def _scaled(portrait: LabelledPortrait, scale: torch.Tensor) -> Landmarks:
    """scale: (2,).  Landmarks are measured from the first pixel's centre, sizes from the picture's edge."""
    mesh = (portrait.mesh + 0.5) * scale - 0.5
    pose = portrait.pose
    if pose is not None:
        pose = torch.cat([(pose[:, :2] + 0.5) * scale - 0.5, pose[:, 2:]], dim=1)
    return Landmarks(mesh=mesh, pose=pose)


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
