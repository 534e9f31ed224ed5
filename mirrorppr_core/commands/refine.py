"""`refine`: one result that was corrected by hand makes an operation file better for the rest of the album.

    python -m mirrorppr_core refine --operation LOOK.safetensors --before Q --corrected C --out BETTER.safetensors

The photo as it was and as it should be join the pairs that the operation was read from. The file that it was read from
stays as it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..exemplar import Exemplar
from ..mini.files import bundled_set
from ..mini.pipeline import MirrorPPR
from ..mini.reuse import load_operation
from ..photo_files import read_photo
from .kept import add_kept, check_kept, keep
from .source import add_joints, exemplar_poses


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("refine", help="make an operation file better by a result corrected by hand")
    parser.add_argument("--operation", type=Path, required=True, help="the operation file, as `extract` writes it")
    parser.add_argument("--before", type=Path, required=True, help="the photo that was retouched, as it was")
    parser.add_argument("--corrected", type=Path, required=True, help="the same photo as it should be, same size")
    add_joints(parser)
    add_kept(parser)
    parser.add_argument("--face", default="only", help="whose retouch was corrected, where the photo shows several")
    parser.add_argument("--weights", type=Path, help="folder of a matched set (default: the bundled Mini)")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Returns the exit status, 0. Raises OSError or ValueError before anything is written."""
    check_kept(options)
    correction = Exemplar(read_photo(options.before).pixels, read_photo(options.corrected).pixels)
    (pose,) = exemplar_poses(options, [correction])
    model = MirrorPPR.from_folder(options.weights or bundled_set())
    kept = load_operation(options.operation, model.extractor)
    operation = model.refine(kept.operation, correction, face=options.face, pose=pose)
    print(json.dumps(keep(options, operation, model), indent=1))
    return 0
