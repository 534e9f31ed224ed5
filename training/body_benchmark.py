"""Benchmark B: a body retouch shown on one person, done to another, with the truth known.

    python -m training.body_benchmark --portraits DIR [--cases N] [--weights DIR] [--out FILE]

The five professional body operations (mirrorppr_core/operations/professional_table.py) at 60 to 100 in both directions,
made on one `body/` eval portrait and transferred to another. The truth is the same operation on the query, from
MediaPipe's body landmarks of landmarks.npz, which the model never sees. Both people move the joints that both of them
show: an arm
that one picture cuts off is still on the other. Two kinds of portrait are left out: those with a shoulder above the
mouth, where MediaPipe is wrong, and those from the side (shoulders less than 2 eye distances apart), because the
operations count in shoulder widths. Legs and waists are few among the portraits, so their lines say little.

`--list styles` takes other tools as well: windows of other widths, the forms measured on a commercial tool, freehand
brushes, one side and both, people from the side and with limbs that do not show; and each case a second time with the
true joints given, so that errors of joints and of the transfer are told apart.

The list is a function of a seed. relEPE: mean error of the motion / mean true motion inside the edited region, 0 is
perfect, 1 is doing nothing. Means come with 95 % intervals over the people whom the
queries show.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mirrorppr_core.file_writing import write_file

from .body.benchmark import BodyBenchmarkConfig, build_case, list_cases, load_bodies, score_case, write_report
from .body.style_cases import (
    StyleConfig,
    build_style_case,
    list_style_cases,
    load_shown,
    score_style_case,
    write_style_report,
)
from .evaluation.benchmark_report import MINI
from .evaluation.retouchers import first_cases, load_model
from .program import Parser, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("body_benchmark", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--cases", type=int, help="run the first N, a fair sample; all by default")
    parser.add_argument("--weights", type=Path, help="folder of a matched set; the bundled one by default")
    parser.add_argument(
        "--list", choices=("operations", "styles"), default="operations", help="our operations, or other tools as well"
    )
    parser.add_argument("--out", type=Path, help="where to write the table; printed only by default")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    report = _styles(options) if options.list == "styles" else _operations(options)
    if options.out:
        write_file(options.out, report)
    print(report)


def _styles(options: argparse.Namespace) -> str:
    config = StyleConfig()
    cases = first_cases(list_style_cases(load_shown(options.portraits), config), options.cases)
    model, results = load_model(options.weights), []
    for number, case in enumerate(cases, start=1):
        results.append(score_style_case(model, case, build_style_case(case, options.portraits)))
        errors = ", ".join(f"{row} {score.relative_epe:.2f}" for row, score in results[-1].scores.items())
        print(f"{number}/{len(cases)} {case.label}: relEPE {errors}", flush=True)
    return write_style_report(results, config)


def _operations(options: argparse.Namespace) -> str:
    config = BodyBenchmarkConfig()
    cases = first_cases(list_cases(load_bodies(options.portraits), config), options.cases)
    model, results = load_model(options.weights), []
    for number, case in enumerate(cases, start=1):
        results.append(score_case(model, case, build_case(case, options.portraits)))
        print(f"{number}/{len(cases)} {case.label}: relEPE {results[-1].scores[MINI].relative_epe:.2f}", flush=True)
    return write_report(results, config)


if __name__ == "__main__":
    sys.exit(main())
