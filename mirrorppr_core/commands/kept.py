"""An operation kept as a file: the words that every command which writes one takes, and what it tells of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..mini.explain import explain
from ..mini.operation import Operation
from ..mini.operation_file import PICTURES, check_name, opened, save_operation
from ..mini.pipeline import MirrorPPR
from ..operations.atoms import atoms_of


def add_kept(parser: Any) -> None:
    parser.add_argument("--out", type=Path, required=True, help="the file to write, .safetensors; never overwritten")
    parser.add_argument("--name", help="what to call the operation (default: the file's name)")
    parser.add_argument(
        "--pictures",
        choices=PICTURES,
        default="thumbnails",
        help="what the file shows of the exemplar, which is a person",
    )


def check_kept(options: Any) -> None:
    """Raise ValueError or FileExistsError where the file could not be written as asked, before any work is done."""
    check_name(_name(options))
    if options.out.suffix != ".safetensors":
        raise ValueError(f"{options.out} does not end in .safetensors: name the operation file to write")
    if options.out.exists():
        raise FileExistsError(f"{options.out} exists already and is not overwritten: choose another name")


def keep(options: Any, operation: Operation, model: MirrorPPR) -> dict[str, Any]:
    """Write the file. Returns what to tell of it."""
    name = _name(options)
    save_operation(options.out, operation, name=name, pictures=options.pictures)
    told = explain(operation, atoms_of(model.editor.config.dit.operations))
    return {
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
        "body": list(told.bodies),
        "notes": list(operation.notes),
    }


def _name(options: Any) -> str:
    return options.name or options.out.stem
