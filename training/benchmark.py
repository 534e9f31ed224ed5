"""Run Benchmark P and write its table.

    python -m training.benchmark --portraits DIR [--cases N] [--only OPERATION ...] [--out training/BENCHMARK.md]

Three rows: the query unchanged (relEPE 1 by definition), the exemplar's motion copied in the
canonical view without the network, and the bundled model. Whole-image PSNR hardly sees the
difference, so the motion itself is scored (relEPE), inside and outside the edit are told
apart, and three controls say what the score is worth: an exemplar without change must change
nothing, a reversed one must undo, another case's exemplar must do worse.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.file_writing import write_file
from mirrorppr_core.geometry.displacement import compose
from mirrorppr_core.mini.editor import Retouched
from mirrorppr_core.operations.llw import OPERATIONS

from .evaluation.benchmark_cases import BenchmarkConfig, Case, build_case, list_cases, load_people
from .evaluation.benchmark_report import COPY_QUERY, ROWS, CaseResult, Controls, write_report
from .evaluation.known_truth import CasePictures, score, to_eight_bits
from .evaluation.metrics import relative_epe
from .evaluation.retouchers import Retoucher, first_cases, load_model, try_extract, try_retouch
from .program import Parser, run


def run_benchmark(
    retoucher: Retoucher, cases: list[Case], portraits: Path, *, control_every: int = 4
) -> list[CaseResult]:
    """Score every case, and the controls on every `control_every`-th."""
    results = []
    for index, case in enumerate(cases):
        pictures = build_case(case, portraits)
        started = time.perf_counter()
        operation, refused = try_extract(retoucher, pictures.exemplar_before, pictures.exemplar_after)
        extract_seconds = time.perf_counter() - started
        scores, controls = {COPY_QUERY: score(pictures, None)}, {}
        for row in ROWS:
            retouched, seconds, problem = try_retouch(retoucher, pictures.query, operation, row, refused)
            scores[row] = score(pictures, retouched, seconds=seconds, refused=problem)
            stranger = _stranger(cases, index)
            if index % control_every == 0 and retouched is not None and stranger is not None:
                other = build_case(stranger, portraits)
                controls[row] = _controls(retoucher, row, pictures, retouched, other)
        results.append(CaseResult(case=case, scores=scores, controls=controls, extract_seconds=extract_seconds))
        errors = ", ".join(f"{row} {scores[row].relative_epe:.2f}" for row in ROWS)
        print(f"{index + 1}/{len(cases)} {case.label}: relEPE {errors}", flush=True)
    return results


def cases_of(cases: list[Case], operations: Sequence[str]) -> list[Case]:
    """The cases made of these operations alone: what a set that was trained without them is judged by."""
    unknown = [name for name in operations if name not in OPERATIONS]
    if unknown:
        raise ValueError(f"--only {', '.join(unknown)}: use names from {', '.join(OPERATIONS)}")
    return [case for case in cases if all(name in operations for name, _ in case.steps)]


def _stranger(cases: list[Case], index: int) -> Case | None:
    """The next case around the list that shares no operation with this one."""
    own = {name for name, _ in cases[index].steps}
    around = [*cases[index + 1 :], *cases[:index]]
    return next((case for case in around if own.isdisjoint(name for name, _ in case.steps)), None)


def _controls(
    retoucher: Retoucher, row: str, pictures: CasePictures, forward: Retouched, stranger: CasePictures
) -> Controls:
    """Where the retoucher refuses a control, it leaves the picture as it is."""

    def motion(before: Tensor, after: Tensor, query: Tensor) -> Tensor:
        operation, _ = try_extract(retoucher, before, after)
        result, _, _ = try_retouch(retoucher, query, operation, row)
        return torch.zeros_like(truth) if result is None else result.field.dense()

    before, after, truth = pictures.exemplar_before, pictures.exemplar_after, pictures.displacement
    identity = motion(before, before, pictures.query)
    undone = compose(forward.field.dense(), motion(after, before, to_eight_bits(forward.image)))
    shuffled = motion(stranger.exemplar_before, stranger.exemplar_after, pictures.query)
    return Controls(
        identity_px=float(identity.norm(dim=1).amax()) * 1024 / min(identity.shape[-2:]),
        undone=float(relative_epe(truth + undone, truth, pictures.region)),
        shuffled=float(relative_epe(shuffled, truth, pictures.region)),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("benchmark", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--cases", type=int, help="run the first N, a fair sample; all by default")
    parser.add_argument("--only", nargs="+", metavar="OPERATION", help="only cases made of these operations alone")
    parser.add_argument("--controls", type=int, default=4, help="run the controls on every N-th case")
    parser.add_argument("--weights", type=Path, help="folder of a matched set; the bundled one by default")
    parser.add_argument("--out", type=Path, help="training/BENCHMARK.md by default; none with --only")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    if options.controls < 1:
        raise ValueError(f"--controls {options.controls}: use 1 or more")
    config = BenchmarkConfig()
    cases = list_cases(load_people(options.portraits), config)
    if options.only:
        cases = cases_of(cases, options.only)
    cases = first_cases(cases, options.cases)
    model = load_model(options.weights)
    results = run_benchmark(model, cases, options.portraits, control_every=options.controls)
    report = write_report(results, config)
    print(report)
    out = options.out or (None if options.only else Path("training/BENCHMARK.md"))
    if out:
        write_file(out, report)


if __name__ == "__main__":
    sys.exit(main())
