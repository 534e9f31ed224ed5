"""Contact sheet: every professional operation at -100, -50, 50 and 100 on real portraits, to look at.

    python -m training.contact_sheet --portraits DIR --out FILE.png [--operations face_trans ...] [--num 3]

DIR holds landmarks.npz (FaceMesh points and body poses) and the pictures it names. A row is one operation on one
portrait, the untouched photo in the middle. Face operations use eval portraits, body operations the body portraits
whose pose shows what they move. The sheets show people: look at them, do not publish them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from mirrorppr_core.fields import warp
from mirrorppr_core.landmarks import load_landmarks
from mirrorppr_core.professional import LEAST_VISIBILITY, professional_displacement
from mirrorppr_core.professional_operations import OPERATIONS, operation_named

from .portraits import load_picture

STRENGTHS = (-100, -50, 0, 50, 100)
CELL_PX = 256
CAPTION_PX = 18
FACE_MARGIN = 0.35  # shown around the face, as a share of its longest side


def load_poses(path: Path) -> dict[str, Tensor]:
    """File name -> (33, 4) pose in pixels from the centre of the first pixel, bodies that were found only."""
    with np.load(path) as stored:
        files, poses = stored["body_files"], torch.from_numpy(stored["pose"]).float()
    poses[..., :2] -= 0.5  # MediaPipe measures from the picture's edge
    return {str(name): pose for name, pose in zip(files, poses, strict=True) if pose.isfinite().all()}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with landmarks.npz and its pictures")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--operations", nargs="+", default=list(OPERATIONS), help="default: all 27")
    parser.add_argument("--num", type=int, default=3, help="portraits per operation")
    arguments = parser.parse_args()
    for name in arguments.operations:
        operation_named(name)  # before any work
    if arguments.num < 1:
        raise ValueError(f"--num {arguments.num}: use 1 or more")
    stored = arguments.portraits / "landmarks.npz"
    if not stored.exists():
        raise ValueError(f"{stored} does not exist: --portraits is the folder that holds landmarks.npz")
    meshes, poses = load_landmarks(str(stored)), load_poses(stored)
    rows = []
    for name in arguments.operations:
        chosen = _choose(name, arguments.portraits, meshes, poses, arguments.num)
        if not chosen:
            raise ValueError(f"no portrait in {stored} shows what {name} moves: leave it out of --operations")
        for file in chosen:
            image = load_picture(arguments.portraits / file)
            rows.append(draw_row(image, meshes[file], poses.get(file), name))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    sheet.save(arguments.out)
    print(f"{arguments.out}: {len(rows)} rows, {sheet.width}x{sheet.height}")


def _choose(name: str, folder: Path, meshes: dict[str, Tensor], poses: dict[str, Tensor], num: int) -> list[str]:
    """Portraits spread evenly over those on which the operation has something to move."""
    if operation_named(name).on_body:
        files = [file for file in poses if file in meshes and _shows(name, folder / file, poses[file])]
    else:
        files = [file for file in meshes if file.startswith("eval/")]
    return [files[i * len(files) // num] for i in range(min(num, len(files)))]


def _shows(name: str, picture: Path, pose: Tensor) -> bool:
    """Whether half of the operation's pushes or more lie inside the picture and are visible."""
    with Image.open(picture) as opened:
        size = torch.tensor(opened.size)
    inside = ((pose[:, :2] >= 0) & (pose[:, :2] < size)).all(1) & (pose[:, 3] >= LEAST_VISIBILITY)
    pushes = [push for side in operation_named(name).sides().values() for push in side]
    return 2 * sum(bool(inside[list(push.landmarks)].all()) for push in pushes) >= len(pushes)


if __name__ == "__main__":
    main()
