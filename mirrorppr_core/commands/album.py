"""`album`: one retouch on a whole shoot.

    python -m mirrorppr_core album --before B --after A --photos FOLDER [FILE ...] --out RESULTS
    python -m mirrorppr_core album ... --sequence      numbered frames of one person, steady over time
    python -m mirrorppr_core album --operation LOOK.safetensors --photos FOLDER [FILE ...] --out RESULTS

Every result is written under its photo's name; RESULTS/album/ holds the journal, a report and a contact sheet with the
most doubtful results first. Stopped at any moment, the same command goes on where it was. A photo that cannot be
retouched is written unchanged and named (--on-error skip), or ends the run (--on-error stop).
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from ..albums.doubt import ranked
from ..albums.journal import Journal
from ..albums.photos import Album, check_apart, find_photos
from ..albums.run import ON_ERROR, run_album, settings_of
from ..albums.sequence import look_through
from ..albums.sheet import FOLDER, draw_album_sheet
from ..bodies.sources import PoseChoice
from ..file_writing import replacing, write_file
from ..mini.editor import MAX_STRENGTH, RetouchConfig
from ..mini.files import bundled_set
from ..mini.pipeline import MirrorPPR
from ..mini.sequence import FrameSequence
from ..photo_files import prepare_folder
from .ending import tell_when_stopped
from .results import add_results, read_query, saving_of
from .source import Source, add_source, source_files, take


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("album", help="give every photo of a folder the retouch of one pair")
    add_source(parser)
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders and files to retouch")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--on-error", choices=ON_ERROR, default="skip", help="a photo that cannot be retouched")
    parser.add_argument(
        "--strength", type=float, default=1.0, help=f"-{MAX_STRENGTH:g} to {MAX_STRENGTH:g}; negative reverses"
    )
    parser.add_argument("--steps", type=int, default=RetouchConfig.num_steps, help="steps of the flow")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same file")
    parser.add_argument("--face", default="only", help="only, largest, all, or a number counted from the left")
    parser.add_argument("--exemplar-face", default="only", help="whose retouch to read: as --face")
    parser.add_argument(
        "--sequence",
        action="store_true",
        help="the photos are numbered frames of one person: the face is followed and steadied over time",
    )
    parser.add_argument("--weights", type=Path, help="folder of a matched set (default: the bundled Mini)")
    add_results(parser)
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Returns the exit status: 0 all retouched, 1 some were not, 2 none."""
    config = RetouchConfig(strength=options.strength, num_steps=options.steps, seed=options.seed, face=options.face)
    saving = saving_of(options)
    album = find_photos(options.photos, saving=saving)
    check_apart(album, options.out, keep=source_files(options))
    model = MirrorPPR.from_folder(options.weights or bundled_set())
    source = take(options, model)
    operation = source.operation
    prepare_folder(options.out / FOLDER)
    journal = Journal(
        options.out / FOLDER / "journal.jsonl",
        settings_of(operation, config, saving, sequence=options.sequence, joints=options.pose),
    )
    read = partial(read_query, options=options)
    pose = PoseChoice(options.pose)
    of_frame = None
    if options.sequence:
        sequence = FrameSequence(model.editor, operation, model.connector.connector, config)
        of_frame = look_through(album, sequence, read, pose)
    began, rows, repeated = time.perf_counter(), [], 0
    tell_when_stopped(set=model.editor.set_id, **source.report, photos=rows)
    steps = run_album(
        album,
        lambda photo: model.retouch(photo, operation, config, pose=pose),
        out=options.out,
        journal=journal,
        on_error=options.on_error,
        operation_notes=operation.notes,
        saving=saving,
        read=read,
        of_frame=of_frame,
    )
    for step in steps:
        repeated += step.repeated
        rows.append(step.row)
        if not step.repeated:
            print(f"photo {step.number} of {step.total}: {_in_words(step.row)}", file=sys.stderr, flush=True)
    report = _report(model.editor.set_id, source, album, rows, repeated, time.perf_counter() - began)
    write_file(options.out / FOLDER / "report.json", json.dumps(report, indent=1))
    with replacing(options.out / FOLDER / "sheet.png") as stream:
        draw_album_sheet(rows, options.out).save(stream, format="PNG")
    print(json.dumps({**report, "photos": f"{options.out / FOLDER / 'report.json'}"}, indent=1))
    failed = report["not_retouched"]
    return 0 if not failed else 2 if failed == len(rows) else 1


def _in_words(row: dict[str, Any]) -> str:
    if "error" in row:
        return f"{row['source']} {'left unchanged' if row['written'] else 'not readable'}: {row['error']}"
    return f"{row['output']}, largest motion {row['largest_displacement_px']:.1f} px"


def _report(
    set_id: str, source: Source, album: Album, rows: list[dict], repeated: int, seconds: float
) -> dict[str, Any]:
    return {
        "set": set_id,
        **source.report,
        "retouched": sum("error" not in row for row in rows),
        "not_retouched": sum("error" in row for row in rows),
        "done_before": repeated,
        "passed_over": album.passed_over,
        "seconds": round(seconds, 2),
        "photos": [{k: v for k, v in row.items() if k != "state"} for row in ranked(rows)],
    }
