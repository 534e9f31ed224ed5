"""`extract`: the retouch of a before/after pair, kept as a file.

    python -m mirrorppr_core extract --before B --after A --out LOOK.safetensors [--pictures exemplar]
    python -m mirrorppr_core retouch --operation LOOK.safetensors --query Q [Q ...] --out DIR

The file is what Save Operation writes and Load Operation reads. It shows a person, unless --pictures is none; what it
shows is said in the answer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..mini.explain import explain
from ..mini.files import bundled_set
from ..mini.operation_file import PICTURES, check_name, opened, save_operation
from ..mini.pipeline import MirrorPPR
from ..operations.atoms import atoms_of
from .source import add_pairs, read_pairs


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("extract", help="keep the retouch shown by a before/after pair as a file")
    add_pairs(parser, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the file to write, .safetensors; never overwritten")
    parser.add_argument("--name", help="what to call the operation (default: the file's name)")
    parser.add_argument(
        "--pictures",
        choices=PICTURES,
        default="thumbnails",
        help="what the file shows of the exemplar, which is a person",
    )
    parser.add_argument(
        "--exemplar-face", default="only", help="whose retouch to read, where the exemplar shows several"
    )
    parser.add_argument("--weights", type=Path, help="folder of a matched set (default: the bundled Mini)")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Returns the exit status, 0. Raises OSError or ValueError before anything is written."""
    name = options.name or options.out.stem
    check_name(name)
    if options.out.suffix != ".safetensors":
        raise ValueError(f"{options.out} does not end in .safetensors: name the operation file to write")
    if options.out.exists():
        raise FileExistsError(f"{options.out} exists already and is not overwritten: choose another name")
    pairs = read_pairs(options)
    model = MirrorPPR.from_folder(options.weights or bundled_set())
    operation = model.extract(pairs, face=options.exemplar_face)
    save_operation(options.out, operation, name=name, pictures=options.pictures)
    told = explain(operation, atoms_of(model.editor.config.dit.operations))
    report = {
        "output": str(options.out),
        "name": name,
        "set": operation.set_id,
        "pairs": operation.pairs,
        "privacy": opened(options.out).metadata["privacy"],
        "largest_displacement_px": round(operation.largest_px, 3),
        "confidence": operation.confidence,
        "unchanged": operation.is_identity,
        "explained": {one.slider.name: round(one.percent, 1) for one in told.found},
        "left_over": round(told.left_over, 3),
        "notes": list(operation.notes),
    }
    print(json.dumps(report, indent=1))
    return 0
