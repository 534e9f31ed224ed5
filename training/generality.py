"""How well a set repeats tools that nobody here wrote, from one, two and three exemplars.

    python -m training.generality --portraits DIR [--cases N] [--weights SET] [--out FILE] [--geometry]

Prints a Markdown table: the exemplars' motion copied with perfect landmarks, copied as measured, and the set's own
answer (training/evaluation/generality.py). --geometry leaves the pictures out: the first row alone, in seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mirrorppr_core.file_writing import write_file

from .evaluation.benchmark_cases import load_people
from .evaluation.generality import (
    COPY,
    GEOMETRY,
    MINI,
    NUM_EXEMPLARS,
    copied_errors,
    generality_report,
    list_generality_cases,
    score_case,
)
from .evaluation.intervals import mean_interval
from .evaluation.retouchers import first_cases, load_model
from .program import Parser, run

PER_FAMILY = 12


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser("generality", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--cases", type=int, help="run the first N, a fair sample; all by default")
    parser.add_argument("--weights", type=Path, help="folder of a matched set; the bundled one by default")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--geometry", action="store_true", help="perfect landmarks and motion only, no pictures")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    model = load_model(options.weights)
    view = model.extractor.sight.view
    cases = list_generality_cases(load_people(options.portraits), view, per_family=PER_FAMILY)
    cases = first_cases(cases, options.cases)
    if options.geometry:
        people = [case.people[-1].identity for case in cases]
        errors = [copied_errors(case, view) for case in cases]
        for num in NUM_EXEMPLARS:
            print(f"{GEOMETRY}, {num} exemplars: relEPE {mean_interval([e[num] for e in errors], people).text()}")
        return
    results = []
    for number, case in enumerate(cases):
        results.append(score_case(model, case, options.portraits))
        rows = ((row, num) for row in (GEOMETRY, COPY, MINI) for num in (1, 3))
        told = ", ".join(f"{row} {num}: {results[-1].errors[row, num]:.2f}" for row, num in rows)
        print(f"{number + 1}/{len(cases)} {case.family}: {told}", file=sys.stderr, flush=True)
    report = generality_report(results)
    print(report)
    if options.out:
        write_file(options.out, report + "\n")


if __name__ == "__main__":
    sys.exit(main())
