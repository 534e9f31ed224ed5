"""What an exemplar's reading loses when the pair is as real ones come: the motion read, against the true one.

    python -m training.exemplar_benchmark --portraits DIR [--exemplars 20] [--only KIND_OR_NAME ...]

Each eval exemplar of Benchmark P gets a known retouch and is read clean, then spoiled in every way of
evaluation/spoiled_exemplars.py. The reading is compared in the canonical view, in cells: relEPE over what the retouch
moved, without what was painted over, and the largest motion where nothing moved. No network is scored here.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.faces.view import CanonicalView, FaceView
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.llw import apply_llw

from .data.picture_files import read_picture
from .evaluation.benchmark_cases import BenchmarkConfig, Case, list_cases, load_people, to_eight_bits
from .evaluation.retouchers import load_model
from .evaluation.spoiled_exemplars import SPOILS, Pair, Spoil
from .program import Parser, run

_CLEAN = Spoil(name="clean", kind="clean", apply=lambda pair: pair)
_HEAD = (
    "| exemplar is | relEPE | added | added, worst | still px, mean | worst | new notes | refused | worst silent | "
    "seconds |",
    "|---|---|---|---|---|---|---|---|---|---|",
)
_REGION_SHARE, _MARGIN_CELLS = 0.05, 4  # of the largest true motion; around the moved region


@dataclass(frozen=True, kw_only=True)
class Reading:
    """error: relEPE, 1 where the pair was refused.  still_px: longest motion where nothing moved."""

    error: float
    still_px: float
    notes: tuple[str, ...]
    refused: str
    seconds: float


def pairs(cases: list[Case], portraits: Path, num: int) -> list[Pair]:
    """The first exemplars of the benchmark, each portrait once, with their own retouch."""
    found: dict[str, Pair] = {}
    for case in cases:
        person = case.exemplar
        if person.file not in found and len(found) < num:
            before = read_picture(portraits / person.file)
            edit = apply_llw(before, person.mesh, case.steps)
            hidden = torch.zeros_like(before[:, :1], dtype=torch.bool)
            found[person.file] = Pair(
                before=before,
                after=to_eight_bits(edit.image),
                truth=edit.displacement,
                mesh=person.mesh,
                hidden=hidden,
                seed=len(found),
            )
    return list(found.values())


def read(model: MirrorPPR, pair: Pair, clean_view: FaceView | None = None) -> Reading:
    """Extract, and compare with the truth in the view of the true pair."""
    began = time.perf_counter()
    try:
        operation = model.extract(Exemplar(pair.before, pair.after), face="largest")
    except ValueError as error:
        return Reading(error=1.0, still_px=0.0, notes=(), refused=str(error), seconds=time.perf_counter() - began)
    seconds = time.perf_counter() - began
    view = clean_view or view_of(model, pair.before)
    error, still = compared(operation, pair, view, model.extractor.sight.view)
    return Reading(error=error, still_px=still, notes=operation.notes, refused="", seconds=seconds)


def view_of(model: MirrorPPR, photo: Tensor) -> FaceView:
    return model.extractor.sight.view.fit(model.extractor.sight.faces(photo)[0].landmarks)


def compared(operation: Operation, pair: Pair, view: FaceView, canonical: CanonicalView) -> tuple[float, float]:
    """relEPE over what moved and was not painted, and the longest motion in pixels where nothing moved."""
    truth = canonical.motion_from_photo(pair.truth, view)
    hidden = canonical.motion_from_photo(pair.hidden.float().expand(-1, 2, -1, -1), view)[:, :1].abs() > 0.02
    size = truth.norm(dim=1, keepdim=True)
    moved = size > _REGION_SHARE * size.amax()
    seen = moved & ~(F.max_pool2d(hidden.float(), 3, 1, 1) > 0)
    seen = seen if seen.sum() > 0.1 * moved.sum() else moved  # all of it was painted over: ask for it all the same
    wrong = (operation.motion - truth).norm(dim=1, keepdim=True)
    error = float(wrong[seen].mean() / size[seen].mean())
    near = F.max_pool2d((size > 0.02 * size.amax()).float(), 2 * _MARGIN_CELLS + 1, 1, _MARGIN_CELLS) > 0
    still = float((wrong * ~near).amax()) * view.pixels_per_cell
    if operation.body is not None and operation.body.moves:
        still = max(still, operation.largest_px)  # nothing was moved on a body
    return error, still


def report_line(name: str, clean: list[Reading], spoiled: list[Reading]) -> str:
    added = torch.tensor([s.error - c.error for c, s in zip(clean, spoiled, strict=True)])
    error = torch.tensor([s.error for s in spoiled])
    new = [bool(set(s.notes) - set(c.notes)) for c, s in zip(clean, spoiled, strict=True)]
    refused = sum(bool(s.refused) for s in spoiled)
    silent = torch.tensor([0.0 if n or s.refused else float(s.error) for n, s in zip(new, spoiled, strict=True)])
    still = torch.tensor([s.still_px for s in spoiled])
    return (
        f"| {name} | {error.mean():.3f} | {added.mean():+.3f} | {added.max():+.3f} | {still.mean():.2f} | "
        f"{still.max():.1f} | {sum(new)} | {refused} | {silent.max():.2f} | "
        f"{torch.tensor([s.seconds for s in spoiled]).median():.2f} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("exemplar_benchmark", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--exemplars", type=int, default=20, help="so many eval portraits")
    parser.add_argument("--only", nargs="+", metavar="KIND_OR_NAME", help="kinds of spoils, or parts of their names")
    parser.add_argument("--weights", type=Path, help="folder of a matched set; the bundled one by default")
    parser.add_argument("--verbose", action="store_true", help="a line for each reading")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    only = options.only
    spoils = [s for s in SPOILS if not only or any(word == s.kind or word in s.name for word in only)]
    if not spoils:
        raise ValueError(
            f"--only {' '.join(only)}: use {', '.join(sorted({s.kind for s in SPOILS}))} or part of a name"
        )
    model = load_model(options.weights)
    cases = list_cases(load_people(options.portraits), BenchmarkConfig())
    exemplars = pairs(cases, options.portraits, options.exemplars)
    views = [view_of(model, pair.before) for pair in exemplars]
    clean = [read(model, pair, view) for pair, view in zip(exemplars, views, strict=True)]
    print(*_HEAD, report_line(_CLEAN.name, clean, clean), sep="\n", flush=True)
    for spoil in spoils:
        spoiled = []
        for index, (pair, view) in enumerate(zip(exemplars, views, strict=True)):
            worse = spoil.apply(pair)
            spoiled.append(read(model, worse, view if worse.size == pair.size else None))
            if options.verbose:
                _print_one(index, spoil, clean[index], spoiled[-1])
        print(report_line(spoil.name, clean, spoiled), flush=True)


def _print_one(index: int, spoil: Spoil, clean: Reading, found: Reading) -> None:
    said = found.refused or "; ".join(found.notes)
    print(
        f"{index} {spoil.name}: {clean.error:.3f} -> {found.error:.3f}, still {found.still_px:.1f} px, {said}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
