"""Where a command's retouch comes from: a before/after pair, or an operation file kept of one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..bodies.given import read_poses
from ..bodies.sources import SOURCES, PoseChoice
from ..exemplar import Exemplar
from ..mini.arithmetic import AnyOperation
from ..mini.operation import Operation
from ..mini.pipeline import MirrorPPR
from ..mini.reuse import load_operation
from ..photo_files import read_photo


@dataclass(frozen=True, kw_only=True)
class Source:
    """operation: ready for use.  report: {"exemplar": ...} or {"operation": ...}, what to tell of it."""

    operation: AnyOperation
    report: dict[str, Any]


def add_source(parser: Any) -> None:
    parser.add_argument("--before", type=Path, help="the exemplar portrait before retouching")
    parser.add_argument("--after", type=Path, help="the same photo after retouching, same size")
    parser.add_argument("--operation", type=Path, help="instead of both: an operation file, as `extract` writes it")
    parser.add_argument("--pose", choices=SOURCES, default=SOURCES[0], help="who finds joints (default: auto)")
    parser.add_argument("--pose-before", type=Path, help="joints of before as OpenPose JSON; else they are looked for")


def pose_choice(joints: str, file: Path | None, photo: Tensor) -> PoseChoice:
    """Where the joints of a photo (1, C, H, W) come from: a file, or else who looks for them."""
    return PoseChoice(joints, () if file is None else read_poses(file, (photo.shape[-2], photo.shape[-1])))


def source_files(options: Any) -> tuple[Path, ...]:
    """The files that the retouch comes from. Raises ValueError unless it is a pair or an operation, one of them."""
    pair = [name for name in ("before", "after") if getattr(options, name) is not None]
    if options.operation is not None:
        if pair:
            raise ValueError(f"--operation and --{pair[0]} exclude each other: the file holds the retouch already")
        return (options.operation,)
    if len(pair) < 2:
        raise ValueError("name the exemplar with --before and --after, or an operation file with --operation")
    return options.before, options.after


def take(options: Any, model: MirrorPPR) -> Source:
    """Extract or load. Raises OSError or ValueError with the remedy."""
    files = source_files(options)
    began = time.perf_counter()
    if options.operation is None:
        before, after = (read_photo(path).pixels for path in files)
        pose = pose_choice(options.pose, options.pose_before, before)
        operation = model.extract(Exemplar(before, after), face=options.exemplar_face, pose=pose)
        kind, about, notes = "exemplar", {}, operation.notes
    else:
        kept = load_operation(options.operation, model.extractor)
        operation, kind, about, notes = kept.operation, "operation", {"name": kept.name}, kept.notes
    if isinstance(operation, Operation):
        about["largest_displacement_px"] = round(operation.largest_px, 3)
    about |= {
        "seconds": round(time.perf_counter() - began, 3),
        "unchanged": operation.is_identity,
        "notes": list(notes),
    }
    return Source(operation=operation, report={kind: about})
