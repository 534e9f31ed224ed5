"""How much a worse photo costs: Benchmark P again, with one side of each case disturbed.

    python -m training.robustness --portraits DIR [--cases 64] [--weights SET] [--out FILE.md]

Every disturbance (disturbances.py) is done once to the query and once to the exemplar, to both of its pictures alike;
the other side stays as it is, and the truth is carried along exactly. The numbers are differences of relEPE to the
same case undisturbed, so that what a case costs anyway does not blur them. A case that is refused counts as the query
unchanged, relEPE 1, and is counted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.file_writing import write_file
from mirrorppr_core.mini.operation import Operation

from .evaluation.benchmark_cases import BenchmarkConfig, Case, build_case, list_cases, load_people
from .evaluation.benchmark_report import COPIED_MOTION, MINI, ROWS
from .evaluation.disturbances import COMBINED, SINGLE, Disturbance
from .evaluation.intervals import Interval, mean_interval
from .evaluation.known_truth import CasePictures, edited_region
from .evaluation.metrics import relative_epe
from .evaluation.retouchers import Retoucher, first_cases, load_model, try_extract, try_retouch
from .program import Parser, run

BAR = 0.1  # what a single disturbance may add to relEPE
QUERY, EXEMPLAR = "query", "exemplar"
_CLEAN = Disturbance(name="undisturbed")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One case under one disturbance of one side: relEPE and refusal, by row of the benchmark."""

    side: str
    disturbance: str
    errors: dict[str, float]
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One case. trials: all disturbances of the query, then of the exemplar."""

    label: str
    query_file: str
    person: str  # whose query it is: intervals are drawn over people
    clean: Trial
    trials: tuple[Trial, ...]


def measure(
    retoucher: Retoucher,
    cases: Sequence[Case],
    portraits: Path,
    disturbances: Sequence[Disturbance],
) -> list[Measured]:
    """Run every case undisturbed, and under every disturbance of either side."""
    results = []
    for index, case in enumerate(cases):
        pictures = build_case(case, portraits)
        operation = try_extract(retoucher, pictures.exemplar_before, pictures.exemplar_after)
        clean, *of_query = (_query_trial(retoucher, pictures, operation, d) for d in (_CLEAN, *disturbances))
        of_exemplar = (_exemplar_trial(retoucher, pictures, d) for d in disturbances)
        trials = (*of_query, *of_exemplar)
        results.append(
            Measured(
                label=case.label, query_file=case.query.file, person=case.query.identity, clean=clean, trials=trials
            )
        )
        worst = max(trials, key=lambda trial: trial.errors[MINI])
        print(
            f"{index + 1}/{len(cases)} {case.label}: relEPE {clean.errors[MINI]:.2f}, at worst "
            f"{worst.errors[MINI]:.2f} ({worst.side} {worst.disturbance})",
            flush=True,
        )
    return results


def _query_trial(
    retoucher: Retoucher,
    pictures: CasePictures,
    operation: tuple[Operation | None, str],
    disturbance: Disturbance,
) -> Trial:
    """operation: the undisturbed exemplar's, or why there is none."""
    query, truth = disturbance.picture(pictures.query), disturbance.motion(pictures.displacement)
    # The edited region is carried along too: its threshold in pixels grows with the picture.
    region = edited_region(truth, scale=disturbance.scale)
    return _trial(retoucher, QUERY, disturbance, operation, query, truth, region)


def _exemplar_trial(retoucher: Retoucher, pictures: CasePictures, disturbance: Disturbance) -> Trial:
    before, after = (disturbance.picture(p) for p in (pictures.exemplar_before, pictures.exemplar_after))
    operation = try_extract(retoucher, before, after)
    truth = pictures.displacement
    return _trial(retoucher, EXEMPLAR, disturbance, operation, pictures.query, truth, pictures.region)


def _trial(
    retoucher: Retoucher,
    side: str,
    disturbance: Disturbance,
    operation: tuple[Operation | None, str],
    query: Tensor,
    truth: Tensor,
    region: Tensor,
) -> Trial:
    extracted, refused = operation
    errors = {}
    for row in ROWS:
        result, _, refused = try_retouch(retoucher, query, extracted, row, refused)
        motion = torch.zeros_like(truth) if result is None else result.field.dense()
        errors[row] = float(relative_epe(motion, truth, region))
    return Trial(side=side, disturbance=disturbance.name, errors=errors, refused=refused)


def added(results: Sequence[Measured], trial: int, row: str) -> Interval:
    """What the disturbance of that trial adds to relEPE, with its interval over people."""
    differences = [result.trials[trial].errors[row] - result.clean.errors[row] for result in results]
    return mean_interval(differences, [result.person for result in results])


def write_report(results: Sequence[Measured], disturbances: Sequence[Disturbance]) -> str:
    """Both tables, as the text of a Markdown file."""
    people = [result.person for result in results]
    clean = {row: mean_interval([r.clean.errors[row] for r in results], people).text() for row in ROWS}
    lines = [
        "# Robustness",
        "",
        "Made by `python -m training.robustness --portraits DIR`; do not edit.",
        "",
        f"The first {len(results)} cases of Benchmark P, one side disturbed, the truth carried along exactly. Numbers "
        f"are what that adds to relEPE, with 95 % bootstrap intervals over the {len(set(people))} people whom the "
        f"queries show. The bar for single disturbances is {BAR:g}; combinations are shown without one. "
        f"Undisturbed: {MINI} {clean[MINI]}, {COPIED_MOTION} {clean[COPIED_MOTION]}, "
        f"{sum(bool(result.clean.refused) for result in results)} refused.",
        "",
    ]
    for offset, side in ((0, QUERY), (len(disturbances), EXEMPLAR)):
        lines += [
            f"| the {side} is | {MINI} | {COPIED_MOTION} | refused | within the bar |",
            "|---|---|---|---|---|",
        ]
        for i, disturbance in enumerate(disturbances):
            cost = {row: added(results, offset + i, row) for row in ROWS}
            refused = sum(bool(result.trials[offset + i].refused) for result in results)
            verdict = "-" if disturbance in COMBINED else "yes" if cost[MINI].value <= BAR else "**no**"
            texts = " | ".join(cost[row].text(sign=True) for row in (MINI, COPIED_MOTION))
            lines.append(f"| {disturbance.name} | {texts} | {refused} | {verdict} |")
        lines.append("")
    return "\n".join([*lines, *_costliest(results)]).rstrip() + "\n"


def _costliest(results: Sequence[Measured], num: int = 10) -> list[str]:
    """The cases that a disturbance spoils most: where to look for a cause."""
    spoiled = [(t.errors[MINI] - r.clean.errors[MINI], r, t) for r in results for t in r.trials]
    spoiled.sort(key=lambda entry: -entry[0])
    lines = ["What costs most:", ""]
    for cost, result, trial in spoiled[:num]:
        why = f", {trial.refused}" if trial.refused else ""
        lines.append(f"- {cost:+.2f} {result.label} on {result.query_file}: {trial.side} {trial.disturbance}{why}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("robustness", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--cases", type=int, default=64, help="the first N of Benchmark P, a fair sample")
    parser.add_argument("--weights", type=Path, help="folder of a matched set; the bundled one by default")
    parser.add_argument("--out", type=Path, help="Markdown file to write the tables to")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    config = BenchmarkConfig()
    cases = first_cases(list_cases(load_people(options.portraits), config), options.cases)
    disturbances = (*SINGLE, *COMBINED)
    results = measure(load_model(options.weights), cases, options.portraits, disturbances)
    report = write_report(results, disturbances)
    print(report)
    if options.out:
        write_file(options.out, report)


if __name__ == "__main__":
    sys.exit(main())
