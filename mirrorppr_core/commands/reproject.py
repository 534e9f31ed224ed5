"""`reproject`: what an editor did to a photo's shape, done to the photo's own pixels.

    python -m mirrorppr_core reproject --original O --edited E --out F.png

The result has exactly the original's size, alpha and colour profile; the edited picture may be smaller.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from ..geometry.field_files import check_new_field, write_field
from ..motion.reproject import ReprojectConfig, reproject
from ..photo_files import Photo, prepare_folder, read_photo, write_photo


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("reproject", help="give a photo the shape of its edited version, in its own pixels")
    parser.add_argument("--original", type=Path, required=True, help="the photo before editing, at full resolution")
    parser.add_argument("--edited", type=Path, required=True, help="any editor's version of it, of any size")
    parser.add_argument("--out", type=Path, required=True, help="the result, a .png of the original's size")
    parser.add_argument("--residual", type=Path, help="also write what no motion explains, a grey .png")
    parser.add_argument("--field", type=Path, help="also write the motion: ST map .exr or .tiff, or 16-bit .png, new")
    parser.add_argument(
        "--paste", action="store_true", help="take such places (teeth, closed eyes) from the edited one"
    )
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Returns the exit status, 0. Raises OSError or ValueError before anything is written."""
    targets = [path for path in (options.out, options.residual) if path is not None]
    _check_targets(targets, keep=(options.original, options.edited))
    if options.field is not None:
        check_new_field(options.field)
        if options.field.resolve() in {target.resolve() for target in targets}:
            raise ValueError(f"{options.field} is named twice: the motion needs a file of its own")
    began = time.perf_counter()
    original, edited = read_photo(options.original), read_photo(options.edited)
    read = time.perf_counter()
    for target in targets:
        prepare_folder(target.parent)
    result = reproject(original.pixels, edited.pixels, ReprojectConfig(paste_residual=options.paste))
    done = time.perf_counter()
    write_photo(options.out, original.with_pixels(result.image))
    if options.residual is not None:
        grey = (result.residual * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)
        write_photo(options.residual, Photo(grey))
    if options.field is not None:
        write_field(options.field, result.field)
    changed = (result.image != original.pixels).any(dim=1).float().mean()
    report = {
        "output": str(options.out),
        "size": [original.pixels.shape[-1], original.pixels.shape[-2]],
        "largest_displacement_px": round(result.field.max_px, 3),
        "changed_share": round(float(changed), 6),
        "unexplained_share": round(float((result.residual > 0).float().mean()), 6),
        "read_seconds": round(read - began, 3),
        "seconds": round(done - read, 3),
        "notes": list(result.notes),
    }
    print(json.dumps(report, indent=1))
    return 0


def _check_targets(targets: list[Path], *, keep: tuple[Path, Path]) -> None:
    """Results are PNG files of their own and replace no input."""
    for target in targets:
        if target.suffix.lower() != ".png":
            raise ValueError(f"{target} does not end in .png: results are PNG files, which keep every pixel")
        if target.is_dir():
            raise ValueError(f"{target} is a folder: name the file to write, for example {target / 'result.png'}")
        if target.resolve() in {path.resolve() for path in keep}:
            raise ValueError(f"the result would replace {target}: choose another name")
    if len({target.resolve() for target in targets}) < len(targets):
        raise ValueError(f"{targets[0]} is named twice: the result and its residual need a file each")
