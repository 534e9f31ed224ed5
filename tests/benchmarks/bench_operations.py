"""Do the operations fold, and does the inverse bring the portrait back? One table row for each.

    python tests/benchmarks/bench_operations.py --portraits DIR [--num 24] [--strengths 60 100] [--folds-only]

Face operations run on portraits with a face, body operations on those with a pose that shows what they move, each in
both directions, alone, in exact mode (`training.recipes.recipe_field`, what the data engine uses).

    folds     share of portraits on which some pixel's map turns over (`training.recipes.folds`), by strength
    restored  PSNR of warp(warp(portrait, d), invert(d)) against the portrait, lowest and median over portraits,
              directions and strengths: inside the oval of the face (bodies: in the region that moves).  "moved" is
              the same over the moved pixels alone, which no unmoved ones flatter
    half px   the same over the moved pixels for the whole picture shifted by half a pixel and back: what two bicubic
              resamplings alone cost there at worst, without any doubt about the inverse
    below     share of these runs under 40 dB inside the face (bodies: in the region that moves)

Pixels that the motion pushed out of the picture cannot come back and are not counted. Portraits are spread evenly over
those that show what an operation moves: faces of one split, bodies of all.
"""

import argparse
import math
import os
import statistics
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before numpy starts its threads

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image, ImageDraw  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mirrorppr_core.geometry.displacement import changed_mask, invert, pixel_grid, warp
from mirrorppr_core.geometry.field import Field
from mirrorppr_core.operations.professional import OVAL
from training.data.landmark_sources import landmark_source
from training.data.portrait_folder import Portrait, PortraitFolder
from training.recipes.recipe import PROFESSIONAL_BODY, Recipe, Step, can_do, folds, operations_named, recipe_field

BAR_DB = 40
MOST_DB = 100.0  # equal pictures
MARGIN_PX = 4  # around the motion's box: what bicubic sampling reads beyond it


def restored_db(portrait: Portrait, field: Field, shifted: torch.Tensor) -> tuple[float, float, float] | None:
    """PSNR inside the face (without a mesh: of all that moves), of moved pixels, and what `shifted` leaves of them.

    shifted: (H, W), from `shift_error`.  None where nothing moves.
    """
    left, top, right, bottom = field.box
    height, width = portrait.image.shape[-2:]
    reach = math.ceil(field.max_px) + MARGIN_PX
    left, top = max(left - reach, 0), max(top - reach, 0)
    right, bottom = min(right + reach, width), min(bottom + reach, height)
    part = field.dense()[..., top:bottom, left:right]
    moved = changed_mask(part)[0, 0].bool()
    if not moved.any():
        return None
    image = portrait.image[..., top:bottom, left:right]
    inverse = invert(part)
    squared = (warp(warp(image, part), inverse) - image)[0].square().mean(0)
    # Where a pixel went; beyond the picture nobody can fetch it.
    places = pixel_grid(bottom - top, right - left) + inverse + torch.tensor([left, top]).view(2, 1, 1)
    (x, y), edge = places[0], 0.5
    kept = (x >= -edge) & (x <= width - 1 + edge) & (y >= -edge) & (y <= height - 1 + edge)
    moved_db = decibels(squared[moved & kept].mean())
    half_db = decibels(shifted[top:bottom, left:right][moved & kept].mean())
    if portrait.mesh is None:
        return moved_db, moved_db, half_db
    face = oval(portrait.mesh, (height, width))
    inside = face[top:bottom, left:right] & kept
    return decibels(squared[inside].sum() / face.sum()), moved_db, half_db


def shift_error(image: torch.Tensor) -> torch.Tensor:
    """Squared error of the picture moved by half a pixel in x and y, and back.  (1, 3, H, W) -> (H, W)."""
    aside = torch.full((1, 2, *image.shape[-2:]), 0.5)
    return (warp(warp(image, aside), -aside) - image)[0].square().mean(0)


def oval(mesh: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(H, W) bool, the inside of the face's outline."""
    drawn = Image.new("1", size[::-1])
    ImageDraw.Draw(drawn).polygon([tuple(point) for point in mesh[list(OVAL)].tolist()], fill=1)
    return torch.from_numpy(np.array(drawn))


def decibels(squared_error: torch.Tensor) -> float:
    return min(MOST_DB, -10 * math.log10(max(float(squared_error), 1e-12)))


class Row:
    """What was measured of one operation."""

    def __init__(self):
        self.folded: dict[float, list[bool]] = {}
        self.inside: list[float] = []
        self.moved: list[float] = []
        self.half: list[float] = []

    def add(self, portrait: Portrait, operation: str, strength: float, shifted: torch.Tensor | None) -> None:
        """shifted: from `shift_error`, or None to look for folds only."""
        recipe = Recipe(steps=(Step(operation=operation, strength=strength),))
        field = recipe_field(recipe, portrait.mesh, portrait.pose, tuple(portrait.image.shape[-2:]))
        self.folded.setdefault(strength, []).append(folds(field))
        if shifted is None:
            return
        whole_body = Portrait(**{**portrait.__dict__, "mesh": None}) if operation in PROFESSIONAL_BODY else portrait
        found = restored_db(whole_body, field, shifted)
        if found is not None:
            self.inside.append(found[0])
            self.moved.append(found[1])
            self.half.append(found[2])

    def cells(self, strengths: list[float]) -> list[str]:
        found = [self.folded.get(strength, []) for strength in strengths]
        cells = [f"{sum(values) / len(values):.1%}" if values else "-" for values in found]
        for values in (self.inside, self.moved, self.half):
            cells.append(f"{min(values):.1f} / {statistics.median(values):.1f}" if values else "-")
        below = [value < BAR_DB for value in self.inside]
        return [str(max(map(len, found))), *cells, f"{sum(below) / len(below):.1%}" if below else "-"]


def chosen(portraits: PortraitFolder, operation: str, num: int, least_face: float) -> list[int]:
    """Numbers of up to num portraits (0: all) spread evenly over those that show what the operation moves."""
    recipe, usable = Recipe(steps=(Step(operation=operation, strength=100),)), []
    for index, file in enumerate(portraits.files):
        marks = portraits.landmarks.find(file, torch.empty(0))  # of an npz, which looks at no picture
        if can_do(recipe, marks.mesh, marks.pose) and (
            operation in PROFESSIONAL_BODY or float((marks.mesh[454] - marks.mesh[234]).norm()) >= least_face
        ):
            usable.append(index)
    return [usable[i * len(usable) // num] for i in range(num)] if 0 < num < len(usable) else usable


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True)
    parser.add_argument("--landmarks", type=Path, help="npz file; default: landmarks.npz in the folder")
    parser.add_argument("--split", default="eval", help="of the faces, in portraits.csv; default eval")
    parser.add_argument("--num", type=int, default=24, help="portraits an operation; 0: all; default 24")
    parser.add_argument("--strengths", type=int, nargs="+", default=[60, 100], help="each in both directions")
    parser.add_argument("--operations", default="all", help="a group or names separated by commas; default all")
    parser.add_argument("--least-face", type=float, default=100, help="px across; smaller faces show nothing")
    parser.add_argument("--folds-only", action="store_true", help="do not restore")
    args = parser.parse_args()
    torch.set_num_threads(1)
    operations = operations_named(args.operations)
    strengths = [sign * strength for strength in sorted(set(args.strengths)) for sign in (1, -1)]
    source = landmark_source(f"npz:{args.landmarks or args.portraits / 'landmarks.npz'}")
    rows, began = {name: Row() for name in operations}, time.monotonic()
    # Nobody learns from these bodies, and in few splits do they show legs.
    for body, split in ((False, args.split), (True, None)):
        names = [name for name in operations if (name in PROFESSIONAL_BODY) == body]
        if not names:
            continue
        portraits = PortraitFolder(args.portraits, source, split=split)
        wanted = {name: set(chosen(portraits, name, args.num, args.least_face)) for name in names}
        for index in sorted(set().union(*wanted.values())):
            portrait = portraits.read(index)
            if not isinstance(portrait, Portrait):
                continue
            shifted = None if args.folds_only else shift_error(portrait.image)
            for name in (name for name in names if index in wanted[name]):
                for strength in strengths:
                    rows[name].add(portrait, name, strength, shifted)
    folded = [f"folds {strength:+d}" for strength in strengths]
    titles = ["operation", "portraits", *folded, "face dB, min / median", "moved dB, min / median"]
    titles += ["half px dB, min / median", f"below {BAR_DB}"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name, row in rows.items():
        print(f"| {' | '.join([name, *row.cells(strengths)])} |")
    runs = [run for row in rows.values() for run in zip(row.inside, row.moved, row.half, strict=True)]
    if runs:
        below = [moved > half for inside, moved, half in runs if inside < BAR_DB]
        print(f"\n{len(runs) - len(below)} of {len(runs)} runs restore the portrait to {BAR_DB} dB or more.")
        print(f"Of the others, {sum(below)} keep more of what moves than half a pixel aside and back does.")
    print(f"\n{time.monotonic() - began:.0f} s.")


if __name__ == "__main__":
    main()
