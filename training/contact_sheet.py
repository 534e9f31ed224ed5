"""Contact sheet: every professional operation at -100, -50, 50 and 100 on real portraits, to look at.

    python -m training.contact_sheet --portraits DIR --out FILE.png [--operations face_trans ...] [--num 3]

DIR is a folder of portraits with landmarks.npz (data/labelled.py). A row is one operation on one portrait of the split
eval, the untouched photo in the middle. Body operations use the portraits whose pose shows what they move. The sheets
show people: look at them, do not publish them.
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

from .data.labelled import LabelledPortrait, labelled_portraits
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
    known = labelled_portraits(portraits, split="eval", bodies=True)
    rows = []
    for name in operations:
        chosen = _choose(name, known, num)
        if not chosen:
            raise ValueError(
                f"no portrait of split eval in {portraits} shows what {name} moves: leave it out of --operations"
            )
        rows += [draw_row(portrait.picture(), portrait.mesh, portrait.pose, name) for portrait in chosen]
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    for number, row in enumerate(rows):
        sheet.paste(row, (0, number * row.height))
    return sheet


def _choose(name: str, known: list[LabelledPortrait], num: int) -> list[LabelledPortrait]:
    """Portraits spread evenly over those on which the operation has something to move."""
    on_body = operation_named(name).on_body
    shown = [p for p in known if (_shows(name, p) if on_body else not p.is_body)]
    return [shown[i * len(shown) // num] for i in range(min(num, len(shown)))]


def _shows(name: str, portrait: LabelledPortrait) -> bool:
    """Whether half of the operation's pushes or more lie inside the picture and are visible."""
    if portrait.pose is None:
        return False
    height, width = portrait.size()
    pose = portrait.pose
    inside = ((pose[:, :2] >= 0) & (pose[:, :2] < torch.tensor([width, height]))).all(1)
    inside &= pose[:, 3] >= LEAST_VISIBILITY
    pushes = [push for side in operation_named(name).sides().values() for push in side]
    return 2 * sum(bool(inside[list(push.landmarks)].all()) for push in pushes) >= len(pushes)


if __name__ == "__main__":
    sys.exit(main())
