"""Where a command's retouch comes from: a before/after pair, several of one look, or an operation file kept of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..bodies.given import read_poses
from ..bodies.sources import SOURCES, PoseChoice
from ..exemplar import Exemplar
from ..mini.arithmetic import AnyOperation
from ..mini.explain import bodies_in
from ..mini.operation import Operation
from ..mini.pipeline import MirrorPPR
from ..mini.reuse import load_operation
from ..photo_files import read_photo


@dataclass(frozen=True, kw_only=True)
class Source:
    """operation: ready for use.  report: {"exemplar": ...} or {"operation": ...}, what to tell of it."""

    operation: AnyOperation
    report: dict[str, Any]


def add_pairs(parser: Any, *, required: bool = False) -> None:
    parser.add_argument(
        "--before",
        type=Path,
        action="append",
        required=required,
        help="the exemplar portrait before retouching; repeat --before and --after for up to eight pairs of one look",
    )
    parser.add_argument(
        "--after", type=Path, action="append", required=required, help="the same photo after retouching, same size"
    )


def pair_files(options: Any) -> tuple[Path, ...]:
    """Before and after of every pair by turns. Raises ValueError unless there are as many of both."""
    if len(options.before) != len(options.after):
        raise ValueError(
            f"{len(options.before)} --before but {len(options.after)} --after: name both for every pair, in one order"
        )
    return tuple(file for pair in zip(options.before, options.after, strict=True) for file in pair)


def read_pairs(options: Any) -> list[Exemplar]:
    cmyk = getattr(options, "cmyk", "refuse")
    photos = [read_photo(path, cmyk=cmyk).pixels for path in pair_files(options)]
    return [Exemplar(*pair) for pair in zip(photos[::2], photos[1::2], strict=True)]


def add_source(parser: Any) -> None:
    add_pairs(parser)
    parser.add_argument("--operation", type=Path, help="instead of both: an operation file, as `extract` writes it")
    add_joints(parser)


def add_joints(parser: Any) -> None:
    parser.add_argument("--pose", choices=SOURCES, default=SOURCES[0], help="who finds joints (default: auto)")
    parser.add_argument(
        "--pose-before",
        type=Path,
        action="append",
        help="joints of before as OpenPose JSON, a file for each --before; else they are looked for",
    )


def pose_choice(joints: str, file: Path | None, photo: Tensor) -> PoseChoice:
    """Where the joints of a photo (1, C, H, W) come from: a file, or else who looks for them."""
    return PoseChoice(joints, () if file is None else read_poses(file, (photo.shape[-2], photo.shape[-1])))


def exemplar_poses(options: Any, pairs: Sequence[Exemplar]) -> list[PoseChoice]:
    """Where the joints of each pair's before come from. Raises ValueError unless there is a file for each, or none."""
    files = options.pose_before or [None] * len(pairs)
    if len(files) != len(pairs):
        raise ValueError(f"{len(files)} --pose-before for {len(pairs)} pairs: name one for each --before, in one order")
    return [pose_choice(options.pose, file, pair.before) for file, pair in zip(files, pairs, strict=True)]


def source_files(options: Any) -> tuple[Path, ...]:
    """The files that the retouch comes from. Raises ValueError unless they are pairs or an operation, one of both."""
    pair = [name for name in ("before", "after") if getattr(options, name) is not None]
    if options.operation is not None:
        if pair:
            raise ValueError(f"--operation and --{pair[0]} exclude each other: the file holds the retouch already")
        if options.pose_before:
            raise ValueError(
                "--pose-before belongs to --before: an operation file holds its joints already, leave it out"
            )
        return (options.operation,)
    if len(pair) < 2:
        raise ValueError("name the exemplar with --before and --after, or an operation file with --operation")
    return pair_files(options)


def take(options: Any, model: MirrorPPR) -> Source:
    """Extract or load. Raises OSError or ValueError with the remedy."""
    source_files(options)
    began = time.perf_counter()
    if options.operation is None:
        pairs = read_pairs(options)
        operation = model.extract(pairs, face=options.exemplar_face, poses=exemplar_poses(options, pairs))
        kind, about, notes = "exemplar", {"pairs": operation.pairs}, operation.notes
    else:
        kept = load_operation(options.operation, model.extractor)
        operation, kind, about, notes = kept.operation, "operation", {"name": kept.name}, kept.notes
    if isinstance(operation, Operation):
        about |= {"largest_displacement_px": round(operation.largest_px, 3), "confidence": operation.confidence}
    about |= {
        "body": list(bodies_in(operation)),
        "seconds": round(time.perf_counter() - began, 3),
        "unchanged": operation.is_identity,
        "notes": list(notes),
    }
    unchecked = {"set_notes": list(model.extractor.sight.notes)} if model.extractor.sight.notes else {}
    return Source(operation=operation, report={**unchecked, kind: about})
