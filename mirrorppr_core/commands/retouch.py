"""`retouch`: photos after an exemplar pair, or an operation that was kept of one.

    python -m mirrorppr_core retouch --before B --after A --query Q [Q ...] --out DIR
    python -m mirrorppr_core retouch --operation LOOK.safetensors --query Q [Q ...] --out DIR
    python -m mirrorppr_core retouch ... --format same     16-bit TIFF stays 16-bit TIFF, JPEG stays JPEG
    python -m mirrorppr_core retouch ... --frames each     an animation or a file of pages: a result for each
    python -m mirrorppr_core retouch --engine qwen --weights SET --base QWEN_IMAGE_EDIT ...

Everything that can be checked is checked before the first result is written. A query that fails (no face, say) is
reported and does not stop the others.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..images import check_photo
from ..mini.arithmetic import AnyOperation
from ..mini.editor import MAX_STRENGTH, RetouchConfig
from ..mini.files import bundled_set
from ..mini.pipeline import MirrorPPR
from ..photo_files import Photo, check_saving, count_frames, prepare_folder, write_photo
from ..photo_saving import Saving
from .ending import tell_when_stopped
from .results import add_results, read_query, saving_of
from .source import add_source, pair_files, pose_choice, read_pairs, source_files, take


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("retouch", help="give photos the retouch shown by a before/after pair")
    add_source(parser)
    parser.add_argument("--query", type=Path, nargs="+", required=True, help="the portraits to retouch")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results, named after the queries")
    parser.add_argument(
        "--strength", type=float, default=1.0, help=f"-{MAX_STRENGTH:g} to {MAX_STRENGTH:g}; negative reverses"
    )
    parser.add_argument("--steps", type=int, help="steps of the flow (default: 2 for mini, 40 for qwen)")
    parser.add_argument("--seed", type=int, help="same seed, same file (default: 0 for mini, 123 for qwen)")
    parser.add_argument(
        "--face", default="only", help="only, largest, all, or a number counted from the left (default: only)"
    )
    parser.add_argument(
        "--exemplar-face", default="only", help="whose retouch to read, where the exemplar shows several: as --face"
    )
    parser.add_argument(
        "--pose-query", type=Path, nargs="+", help="joints of the queries as OpenPose JSON, a file for each"
    )
    parser.add_argument("--weights", type=Path, help="folder of a matched set (default: the bundled Mini)")
    add_results(parser)
    parser.add_argument(
        "--frames",
        choices=("refuse", "each"),
        default="refuse",
        help="queries that hold several frames or pages: refuse them, or retouch each by itself into NAME_0001 ...",
    )
    qwen = parser.add_argument_group("with --engine qwen")
    parser.add_argument("--engine", choices=("mini", "qwen"), default="mini", help="mini (default) or the paper's")
    qwen.add_argument("--base", type=Path, help="diffusers folder of Qwen-Image-Edit")
    qwen.add_argument("--device", default="cpu", help="where to compute: cpu or cuda (default: cpu)")
    qwen.add_argument("--guidance", type=float, default=1.0, help="along the operation; other than 1 costs double")
    qwen.add_argument("--generated", action="store_true", help="write the generated picture, not the moved photo")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Returns the exit status: 0 all retouched, 1 some failed, 2 all. Raises OSError or ValueError at the start."""
    if options.engine == "qwen":
        report = _retouch_qwen(options)
    else:
        report = _retouch(options)
    print(json.dumps(report, indent=1))
    failed = sum("error" in row for row in report["queries"])
    if failed and failed == len(report["queries"]):
        _leave_no_empty_folder(options.out)
        return 2
    return 1 if failed else 0


def _retouch(options: Any) -> dict[str, Any]:
    num_steps = RetouchConfig.num_steps if options.steps is None else options.steps
    seed = 0 if options.seed is None else options.seed
    config = RetouchConfig(strength=options.strength, num_steps=num_steps, seed=seed, face=options.face)
    saving = saving_of(options)
    targets = _targets(options, saving, keep=source_files(options))
    joints = dict(zip(options.query, options.pose_query or [None] * len(options.query), strict=False))
    if options.pose_query and len(options.pose_query) != len(options.query):
        raise ValueError(
            f"--pose-query names {len(options.pose_query)} files for {len(options.query)} queries: give one for each"
        )
    began = time.perf_counter()
    model = MirrorPPR.from_folder(options.weights or bundled_set())
    loaded = time.perf_counter()
    source = take(options, model)
    prepare_folder(options.out)
    rows: list[dict[str, Any]] = []
    tell_when_stopped(set=model.editor.set_id, **source.report, queries=rows)
    for target in targets:
        rows.append(_one(model, source.operation, config, target, joints[target.query], options))
    return {
        "set": model.editor.set_id,
        **source.report,
        "load_seconds": round(loaded - began, 3),
        "queries": rows,
    }


def _one(
    model: MirrorPPR,
    operation: AnyOperation,
    config: RetouchConfig,
    target: Target,
    pose: Path | None,
    options: Any,
) -> dict[str, Any]:
    began, query = time.perf_counter(), target.query
    try:
        photo = read_query(query, options, target.frame)
        check_saving(photo, saving_of(options), query.name)
        result = model.retouch(photo.pixels, operation, config, pose=pose_choice(options.pose, pose, photo.pixels))
        lost = write_photo(target.path, photo.with_pixels(result.image), saving_of(options))
    except (ValueError, OSError) as error:
        return _failure(query, error)
    changed = (result.image != photo.pixels).any(dim=1).float().mean()
    return {
        "query": str(query),
        **({} if target.frame is None else {"frame": target.frame + 1}),
        "output": str(target.path),
        "seconds": round(time.perf_counter() - began, 3),
        "largest_displacement_px": round(result.field.max_px, 3),
        "changed_share": round(float(changed), 6),
        "faces_found": result.num_found,
        "faces_retouched": min(len(result.faces), result.num_found),
        "confidence": result.confidence,
        "unchanged": operation.is_identity,
        "notes": list(result.notes + lost),
    }


def _retouch_qwen(options: Any) -> dict[str, Any]:
    # diffusers and transformers take seconds to import and are not needed for Mini.
    from ..qwen.album import retouch_album
    from ..qwen.schedule import NUM_STEPS, SEED
    from ..qwen.standalone import QwenEngine, QwenRetouchConfig

    if options.operation is not None:
        raise ValueError("--operation is Mini's: the Qwen engine extracts from --before and --after. Name both.")
    source_files(options)
    if options.weights is None or options.base is None:
        raise ValueError("--engine qwen needs --weights (`python -m mirrorppr_core fetch`) and --base: name both")
    if options.frames != "refuse":
        raise ValueError("--frames is Mini's: give the Qwen engine single pictures")
    if options.face != "only":
        raise ValueError("--face is Mini's: the Qwen engine sees the whole picture. Leave it out, or crop the photo.")
    RetouchConfig(strength=options.strength)  # same range
    num_steps = NUM_STEPS if options.steps is None else options.steps
    seed = SEED if options.seed is None else options.seed
    config = QwenRetouchConfig(num_steps=num_steps, seed=seed, guidance=options.guidance)
    if len(options.before) > 1:
        raise ValueError("--engine qwen reads one pair: name one --before and one --after")
    saving = saving_of(options)
    targets = [(one.query, one.path) for one in _targets(options, saving, keep=pair_files(options))]
    exemplar = read_pairs(options)[0]
    engine = QwenEngine.from_folders(weights=options.weights, base=options.base, device=options.device)
    operation = engine.extract(exemplar)
    prepare_folder(options.out)
    failed, reading, rows = [], deque(), []
    tell_when_stopped(set=engine.files.set_id, queries=rows, failed=failed)
    photos = _readable(targets, reading, failed, options)
    for result in retouch_album(
        engine, photos, operation, config, strength=options.strength, generated=options.generated
    ):
        query, target, photo = reading.popleft()
        if isinstance(result, ValueError):
            rows.append(_failure(query, result))
            continue
        pixels = result.image if result.image.dtype == photo.pixels.dtype else (result.image * 255).round().byte()
        try:
            lost = write_photo(target, photo.with_pixels(pixels), saving)
        except (ValueError, OSError) as error:
            rows.append(_failure(query, error))
            continue
        largest = None if result.field is None else round(result.field.max_px, 3)
        row = {"query": str(query), "output": str(target), "largest_displacement_px": largest}
        rows.append({**row, "notes": list(result.notes + lost)})
    return {"set": engine.files.set_id, "queries": rows + failed}


def _readable(
    targets: list[tuple[Path, Path]],
    reading: deque[tuple[Path, Path, Photo]],
    failed: list[dict[str, Any]],
    options: Any,
) -> Iterator[Tensor]:
    """The pixels of those queries that can be read, one by one; which ones they are is left in `reading`."""
    for query, target in targets:
        try:
            photo = read_query(query, options)
            check_photo(photo.pixels, query.name)
            check_saving(photo, saving_of(options), query.name)
        except (ValueError, OSError) as error:
            failed.append(_failure(query, error))
            continue
        reading.append((query, target, photo))
        yield photo.pixels


def _failure(query: Path, error: Exception) -> dict[str, Any]:
    print(f"error: {query}: {error}", file=sys.stderr)
    return {"query": str(query), "error": str(error)}


@dataclass(frozen=True)
class Target:
    """A photo to retouch and its result file.  frame: of a query that holds several, from 0."""

    query: Path
    path: Path
    frame: int | None = None


def _targets(options: Any, saving: Saving, *, keep: tuple[Path, ...]) -> list[Target]:
    """Each query with its result file. Refuses missing queries, name clashes and results over any of the inputs."""
    missing = [str(q) for q in options.query if not q.is_file()]
    if missing:
        raise FileNotFoundError(f"no such file: {', '.join(missing)}. Check the paths; nothing was written.")
    targets: dict[Path, Target] = {}
    for query, frame in ((q, frame) for q in options.query for frame in _frames(q, options.frames)):
        path = options.out / saving.name_for(query, frame)
        if path in targets:
            raise ValueError(
                f"{targets[path].query} and {query} would both be written to {path}: rename one, or run them into "
                "two folders"
            )
        if path.is_dir():
            raise ValueError(f"{path} is a folder where the result should go: move it, or choose another --out folder")
        if path.exists() and path.resolve() in {one.resolve() for one in (*options.query, *keep)}:
            raise ValueError(f"the result for {query} would replace {path}: choose another --out folder")
        targets[path] = Target(query, path, frame)
    return list(targets.values())


def _frames(query: Path, wanted: str) -> Sequence[int | None]:
    """The frames of a query that are each retouched; None for a photo, and for what reading it will refuse."""
    if wanted != "each":
        return (None,)
    try:
        count = count_frames(query)
    except (ValueError, OSError):
        return (None,)
    return range(count) if count > 1 else (None,)


def _leave_no_empty_folder(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        out.rmdir()
