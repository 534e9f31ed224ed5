"""Contact sheet: every professional operation at -100, -50, 50 and 100 on real portraits, to look at.

    python -m training.contact_sheet --portraits DIR --out FILE.png [--operations face_trans ...] [--num 3]

DIR holds landmarks.npz (FaceMesh points and body poses) and the pictures it names. A row is one operation on one
portrait, the untouched photo in the middle. Face operations use eval portraits, body operations the body portraits
whose pose shows what they move. The sheets show people: look at them, do not publish them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from mirrorppr_core.file_writing import replacing
from mirrorppr_core.geometry.displacement import warp
from mirrorppr_core.operations.professional import LEAST_VISIBILITY, professional_displacement
from mirrorppr_core.operations.professional_table import OPERATIONS, operation_named
from mirrorppr_core.photo_files import prepare_folder

from .data.landmark_sources import NpzLandmarks
from .data.landmarks import Landmarks
from .data.picture_files import read_picture
from .program import Parser, run

STRENGTHS = (-100, -50, 0, 50, 100)
CELL_PX = 256
CAPTION_PX = 18
FACE_MARGIN = 0.35  # shown around the face, as a share of its longest side


def draw_row(image: Tensor, mesh: Tensor, pose: Tensor | None, name: str) -> Image.Image:
    """One operation on one portrait.  image: (1, 3, H, W).  mesh: (478, 2).  pose: (33, 4)."""
    operation = operation_named(name)
    row = Image.new("RGB", (CELL_PX * len(STRENGTHS), CELL_PX + CAPTION_PX), "white")
    draw = ImageDraw.Draw(row)
    for column, strength in enumerate(STRENGTHS):
        displacement = professional_displacement(mesh, pose, image.shape[-2:], operation=name, strength=strength)
        pixels = (warp(image, displacement)[0].permute(1, 2, 0) * 255).round().byte().numpy()
        picture = Image.fromarray(pixels)
        if not operation.on_body:
            low, high = mesh.amin(0), mesh.amax(0)
            centre, half = (low + high) / 2, float((high - low).max()) * (0.5 + FACE_MARGIN)
            picture = picture.crop([round(float(v)) for v in (*(centre - half), *(centre + half))])
        row.paste(picture.resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS), (column * CELL_PX, CAPTION_PX))
        meaning = operation.plus if strength > 0 else operation.minus if strength < 0 else name
        caption = f"{strength:+d} {meaning}" if strength else name
        draw.text((column * CELL_PX + 4, 3), caption[:44], fill="black")
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("contact_sheet", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with landmarks.npz and its pictures")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--operations", nargs="+", default=list(OPERATIONS), help="default: all")
    parser.add_argument("--num", type=int, default=3, help="portraits per operation")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    sheet = draw_sheet(options.portraits, options.operations, options.num, out=options.out)
    with replacing(options.out) as stream:
        sheet.save(stream, format="PNG")
    print(f"{options.out}: {sheet.height // (CELL_PX + CAPTION_PX)} rows, {sheet.width}x{sheet.height}")


def draw_sheet(portraits: Path, operations: list[str], num: int, *, out: Path) -> Image.Image:
    """out: where it will be saved; that it can be is checked before any work. Raises ValueError or OSError."""
    for name in operations:
        operation_named(name)
    if num < 1:
        raise ValueError(f"--num {num}: use 1 or more")
    if out.suffix.lower() != ".png" or out.is_dir():
        raise ValueError(f"--out {out}: give a file whose name ends in .png")
    prepare_folder(out.parent)
    source = NpzLandmarks(portraits / "landmarks.npz")
    known = {file: source.find(file, torch.zeros(1, 3, 1, 1)) for file in sorted(source.files)}
    rows = []
    for name in operations:
        chosen = _choose(name, portraits, known, num)
        if not chosen:
            raise ValueError(
                f"no portrait in {portraits / 'landmarks.npz'} shows what {name} moves (faces are taken from eval/): "
                "leave it out of --operations"
            )
        for file in chosen:
            rows.append(draw_row(read_picture(portraits / file), known[file].mesh, known[file].pose, name))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * row.height))
    return sheet


def _choose(name: str, folder: Path, known: dict[str, Landmarks], num: int) -> list[str]:
    """Portraits spread evenly over those on which the operation has something to move."""
    with_face = [file for file, marks in known.items() if marks.mesh is not None]
    if operation_named(name).on_body:
        files = [f for f in with_face if known[f].pose is not None and _shows(name, folder / f, known[f].pose)]
    else:
        files = [file for file in with_face if file.startswith("eval/")]
    return [files[i * len(files) // num] for i in range(min(num, len(files)))]


def _shows(name: str, picture: Path, pose: Tensor) -> bool:
    """Whether half of the operation's pushes or more lie inside the picture and are visible."""
    with Image.open(picture) as opened:
        size = torch.tensor(opened.size)
    inside = ((pose[:, :2] >= 0) & (pose[:, :2] < size)).all(1) & (pose[:, 3] >= LEAST_VISIBILITY)
    pushes = [push for side in operation_named(name).sides().values() for push in side]
    return 2 * sum(bool(inside[list(push.landmarks)].all()) for push in pushes) >= len(pushes)


if __name__ == "__main__":
    sys.exit(main())
