"""What the arithmetic and the words of operations are worth, on the cases of Benchmark P.

    python -m training.operation_benchmark --portraits DIR explain    [--cases N] [--seed S]
    python -m training.operation_benchmark --portraits DIR average    [--cases N] [--pairs 5]
    python -m training.operation_benchmark --portraits DIR sliders    [--cases N]
    python -m training.operation_benchmark --portraits DIR reverse    [--cases N]

explain: is the operation that was made the first that is named, and how far off is its strength?
average: the same operation on several people, pairs at half the size and as JPEG 60: relEPE of one, and of all.
sliders: the named motion on the located face against the exact one on the true landmarks, relEPE.
reverse: Reverse Operation on the result of the operation: the share of the motion that is left.
One JSON object; an exemplar in which no face is found counts as missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from mirrorppr_core.geometry.arithmetic import mixture
from mirrorppr_core.geometry.displacement import compose
from mirrorppr_core.mini.arithmetic import Undone
from mirrorppr_core.mini.arithmetic import averaged as average_of
from mirrorppr_core.mini.explain import explain
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.atoms import atoms_of
from mirrorppr_core.operations.llw import apply_llw
from mirrorppr_core.operations.sliders import Sliders

from .data.picture_files import read_picture
from .evaluation.benchmark_cases import BenchmarkConfig, Case, Person, build_case, list_cases, load_people
from .evaluation.benchmark_report import MINI
from .evaluation.disturbances import Disturbance
from .evaluation.known_truth import edited_region, to_eight_bits
from .evaluation.metrics import relative_epe
from .evaluation.retouchers import first_cases, load_model, try_extract, try_retouch
from .program import Parser, run

_WITHIN = 15.0  # points of strength that count as right
_NOISE = Disturbance(name="half the size, JPEG 60", scale=0.5, jpeg=60)


def explained(model: MirrorPPR, case: Case, portraits: Path) -> dict[str, Any]:
    """What is named of a case, and whether it is what was made."""
    pictures = build_case(case, portraits)
    operation, refused = try_extract(model, pictures.exemplar_before, pictures.exemplar_after)
    made = dict(case.steps)
    if operation is None:
        return {"made": made, "refused": refused}
    told = explain(operation, atoms_of(model.editor.config.dit.operations))
    found = {one.operation: round(one.percent, 1) for one in reversed(told.found)}
    first = told.found[0].operation if told.found else ""
    off = abs(found[first] - made[first]) if first in made else None
    named = sum(name in found for name in made) / len(made)
    return {"made": made, "found": found, "first": first, "off": off, "named": named, "left_over": told.left_over}


def averaged(
    model: MirrorPPR, case: Case, people: list[Person], portraits: Path, num_pairs: int
) -> dict[str, Any] | None:
    """relEPE of one pair, of the mean field of several, and of Average Operations of them. None where too few of the
    pairs can be read."""
    query = read_picture(portraits / case.query.file)
    truth = apply_llw(query, case.query.mesh, case.steps).displacement
    region, fields, operations = edited_region(truth), [], []
    start = people.index(case.exemplar)
    for person in [*people[start:], *people[:start]]:
        if person.identity == case.query.identity or len(fields) == num_pairs:
            continue
        before = read_picture(portraits / person.file)
        after = apply_llw(before, person.mesh, case.steps).image
        operation, _ = try_extract(model, _NOISE.picture(before), _NOISE.picture(after))
        result, _, _ = try_retouch(model, query, operation, MINI)
        if result is not None:
            fields.append(result.field)
            operations.append(operation)
    if len(fields) < num_pairs:
        return None
    single = [float(relative_epe(field.dense(), truth, region)) for field in fields]
    as_motion = mixture(fields, [1 / num_pairs] * num_pairs)
    together, _, _ = try_retouch(model, query, average_of(operations), MINI)
    if together is None:
        return None
    errors = [float(relative_epe(field.dense(), truth, region)) for field in (as_motion, together.field)]
    return {"made": dict(case.steps), "single": sum(single) / num_pairs, "motions": errors[0], "together": errors[1]}


def from_sliders(model: MirrorPPR, case: Case, portraits: Path) -> dict[str, Any] | None:
    """relEPE of the sliders set to what was made. None where no face is found."""
    query = read_picture(portraits / case.query.file)
    truth = apply_llw(query, case.query.mesh, case.steps).displacement
    result, _, refused = try_retouch(model, query, Sliders.of(dict(case.steps)), MINI)
    if result is None:
        return {"made": dict(case.steps), "refused": refused}
    error = float(relative_epe(result.field.dense(), truth, edited_region(truth)))
    return {"made": dict(case.steps), "relative_epe": error}


def taken_back(model: MirrorPPR, case: Case, portraits: Path) -> dict[str, Any] | None:
    """What is left of the motion after the operation and its reverse. None where no face is found."""
    pictures = build_case(case, portraits)
    operation, _ = try_extract(model, pictures.exemplar_before, pictures.exemplar_after)
    forward, _, _ = try_retouch(model, pictures.query, operation, MINI)
    if forward is None:
        return None
    back, _, _ = try_retouch(model, to_eight_bits(forward.image), Undone(of=operation), MINI)
    if back is None:
        return None
    left = compose(forward.field.dense(), back.field.dense())
    true = pictures.displacement
    return {"made": dict(case.steps), "left": float(relative_epe(true + left, true, edited_region(true)))}


def _explain_report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    report: dict[str, Any] = {}
    for kind, own in (("one operation", [r for r in rows if len(r["made"]) == 1]),
                      ("two operations", [r for r in rows if len(r["made"]) > 1])):  # fmt: skip
        if own:
            read = [row for row in own if "refused" not in row]
            right = [row for row in read if row["off"] is not None]
            offs = torch.tensor([row["off"] for row in right] or [0.0])
            report[kind] = {
                "cases": len(own),
                "read": len(read),
                "first_named_is_right": round(len(right) / len(own), 4),
                "of_those_strength_within_15": round(float((offs <= _WITHIN).float().mean()), 4),
                "strength_off_median": round(float(offs.median()), 2),
                "all_that_was_made_is_named": round(sum(row["named"] for row in read) / len(own), 4),
                "names_given": round(sum(len(row["found"]) for row in read) / max(1, len(read)), 2),
            }
    return report


def _average_report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    single, motions, together = (sum(row[key] for row in rows) / len(rows) for key in ("single", "motions", "together"))
    return {
        "cases": len(rows),
        "relEPE of one pair": round(single, 4),
        "relEPE of the mean of their motions": round(motions, 4),
        "relEPE of all pairs": round(together, 4),
        "lower by": round(1 - together / single, 4),
    }


def _sliders_report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    errors = torch.tensor([row["relative_epe"] for row in rows if "relative_epe" in row])
    return {
        "cases": len(rows),
        "read": len(errors),
        "relEPE mean": float(errors.mean()),
        "median": float(errors.median()),
    }


def _reverse_report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    left = torch.tensor([row["left"] for row in rows])
    return {"cases": len(rows), "motion left, mean": round(float(left.mean()), 4), "most": round(float(left.amax()), 4)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("operation_benchmark", __doc__)
    parser.add_argument("measure", choices=("explain", "average", "sliders", "reverse"))
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--cases", type=int, help="run the first N, a fair sample; all by default")
    parser.add_argument("--seed", type=int, default=0, help="0 is Benchmark P itself; others are drawn alike")
    parser.add_argument("--pairs", type=int, default=5, help="of `average`")
    parser.add_argument("--weights", type=Path, help="folder of a matched set; the bundled one by default")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    if options.pairs < 2:
        raise ValueError(f"--pairs {options.pairs}: use 2 or more")
    config = BenchmarkConfig(seed=options.seed)
    people = load_people(options.portraits)
    cases, model = first_cases(list_cases(people, config), options.cases), load_model(options.weights)
    rows = []
    for number, case in enumerate(cases, start=1):
        if options.measure == "explain":
            row = explained(model, case, options.portraits)
        elif options.measure == "average":
            row = averaged(model, case, people, options.portraits, options.pairs)
        elif options.measure == "reverse":
            row = taken_back(model, case, options.portraits)
        else:
            row = from_sliders(model, case, options.portraits)
        print(f"{number}/{len(cases)} {json.dumps(row)}", file=sys.stderr, flush=True)
        rows += [row] if row is not None else []
    if not rows:
        raise ValueError("no case could be run: no face was found in any of the portraits")
    reports = {
        "explain": _explain_report,
        "average": _average_report,
        "sliders": _sliders_report,
        "reverse": _reverse_report,
    }
    print(json.dumps(reports[options.measure](rows), indent=1))


if __name__ == "__main__":
    sys.exit(main())
