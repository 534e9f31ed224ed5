"""Does the confidence know which retouches are bad? Ranks and a reliability table; and the fit of its weights.

    python -m training.confidence_benchmark --portraits DIR [--cases 27] [--half test]
    python -m training.confidence_benchmark --portraits DIR --half fit      prints weights for mini/confidence.py

The evaluation's people are split into halves by a seed: weights are fitted on cases among the ones, and judged on cases
among the others, whom the fit has never seen, neither as exemplar nor as query. Cases are drawn as Benchmark P's. Each
is run undisturbed, with its query disturbed, with its exemplar disturbed (disturbances.py, by turns) and with its
exemplar spoiled (spoiled_exemplars.py, by turns). The error is relEPE of the retouch; one that is refused says so
itself and is not counted.

Spearman's rank correlation between what the confidence expects and the error is asked to be 0.5 at least.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.file_writing import write_file
from mirrorppr_core.mini.confidence import GOOD, LOW, Cues, confidence_in
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.pipeline import MirrorPPR

from .evaluation.benchmark_cases import BenchmarkConfig, Case, Person, build_case, list_cases, load_people
from .evaluation.disturbances import COMBINED, SINGLE
from .evaluation.intervals import mean_interval
from .evaluation.known_truth import CasePictures, edited_region
from .evaluation.metrics import relative_epe
from .evaluation.retouchers import load_model, try_extract
from .evaluation.spoiled_exemplars import SPOILS, Pair, Spoil
from .program import Parser, run

HALVES = ("fit", "test")
BAR = 0.5
_SEED = 1
_RIDGE = 3.0  # in trials
_BINS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
_SPOILS = ("median 7", "Gaussian 2 px", "sunglasses", "bars on the face", "sharpened",
           "half the size", "strap removed on the face", "JPEG 40")  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One retouch.  what: the case and what was done to it."""

    what: str
    person: str
    cues: Cues
    error: float


def half_of(people: list[Person], half: str) -> list[Person]:
    """The people of one half, all their portraits."""
    names = sorted({person.identity for person in people})
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(_SEED)).tolist()
    first = {names[i] for i in order[: len(names) // 2]}
    return [person for person in people if (person.identity in first) == (half == "fit")]


def trials(model: MirrorPPR, cases: Sequence[Case], portraits: Path) -> Iterator[Trial]:
    everything = (*SINGLE, *COMBINED)
    spoils = [spoil for spoil in SPOILS if spoil.name in _SPOILS]
    for index, case in enumerate(cases):
        pictures = build_case(case, portraits)
        before, after, query = pictures.exemplar_before, pictures.exemplar_after, pictures.query
        of_query, of_exemplar = everything[index % len(everything)], everything[(index + 5) % len(everything)]
        disturbed = of_query.motion(pictures.displacement)
        runs = {
            "undisturbed": (before, after, query, pictures.displacement, pictures.region),
            f"query {of_query.name}": (
                before, after, of_query.picture(query), disturbed, edited_region(disturbed, scale=of_query.scale)
            ),
            f"exemplar {of_exemplar.name}": (
                of_exemplar.picture(before), of_exemplar.picture(after), query, pictures.displacement, pictures.region
            ),
        }  # fmt: skip
        spoil = spoils[index % len(spoils)]
        spoiled = _spoiled(spoil, case, pictures, index)
        runs[f"exemplar {spoil.name}"] = (*spoiled, query, pictures.displacement, pictures.region)
        for name, (first, second, photo, truth, region) in runs.items():
            found = _one(model, first, second, photo, truth, region)
            if found is not None:
                yield Trial(f"{case.label}, {name}", case.query.identity, *found)


def _spoiled(spoil: Spoil, case: Case, pictures: CasePictures, seed: int) -> tuple[Tensor, Tensor]:
    before = pictures.exemplar_before
    truth = torch.zeros_like(before[:, :2])  # not looked at by spoils that leave the motion as long as it is
    hidden = torch.zeros_like(before[:, :1], dtype=torch.bool)
    pair = Pair(
        before=before, after=pictures.exemplar_after, truth=truth, mesh=case.exemplar.mesh, hidden=hidden, seed=seed
    )
    worse = spoil.apply(pair)
    return worse.before, worse.after


def _one(
    model: MirrorPPR, before: Tensor, after: Tensor, query: Tensor, truth: Tensor, region: Tensor
) -> tuple[Cues, float] | None:
    """None where it was refused, or nothing was found to move."""
    operation, _ = try_extract(model, before, after)
    if operation is None:
        return None
    try:
        result = model.retouch(query, operation, RetouchConfig(face="largest"))
    except ValueError:
        return None
    if not result.cues or not result.cues[0]:
        return None
    return result.cues[0][0], float(relative_epe(result.field.dense(), truth, region))


def spearman(x: Tensor, y: Tensor) -> float:
    """Rank correlation of (N,) each; ties share their mean rank."""

    def ranks(values: Tensor) -> Tensor:
        less = (values[:, None] > values[None]).sum(1)
        same = (values[:, None] == values[None]).sum(1)
        return less + (same - 1) / 2

    pair = torch.stack([ranks(x.double()), ranks(y.double())])
    return float(torch.corrcoef(pair)[0, 1])


def fitted(found: Sequence[Trial]) -> tuple[dict[str, float], dict[str, float], float, float]:
    """Ridge regression of log error on the cues: usual values, weights, usual log error, spread."""
    names = [one.name for one in fields(Cues)]
    x = torch.tensor([[getattr(t.cues, name) for name in names] for t in found], dtype=torch.float64)
    y = torch.tensor([math.log(max(t.error, 0.02)) for t in found], dtype=torch.float64)
    usual, middle = x.median(0).values, y.mean()
    centred = x - x.mean(0)
    weights = torch.linalg.solve(centred.T @ centred + _RIDGE * torch.eye(len(names)), centred.T @ (y - middle))
    weights = weights.clamp(min=0)  # every cue is made to grow with the error
    at_usual = float(middle + weights @ (usual - x.mean(0)))
    spread = float((y - at_usual - (x - usual) @ weights).std())
    round_all = {name: round(float(v), 3) for name, v in zip(names, usual, strict=True)}
    return round_all, {n: round(float(w), 3) for n, w in zip(names, weights, strict=True)}, at_usual, spread


def report(found: Sequence[Trial]) -> str:
    expected = [confidence_in(trial.cues) for trial in found]
    errors = torch.tensor([trial.error for trial in found])
    values = torch.tensor([one.value for one in expected])
    correlation = spearman(torch.tensor([one.expected_error for one in expected]), errors)
    good = (errors <= GOOD).float()
    lines = [
        f"{len(found)} retouches of {len({trial.person for trial in found})} people, mean error {errors.mean():.3f}, "
        f"{100 * float(good.mean()):.0f} % of them good (at most {GOOD:g}).",
        f"Spearman of expected and real error: {correlation:.2f} (asked for: {BAR:g})",
        "",
        "| confidence | retouches | mean confidence | really good | mean error |",
        "|---|---|---|---|---|",
    ]
    for low, high in zip(_BINS, _BINS[1:], strict=False):
        inside = (values >= low) & ((values < high) | (high == 1.0))
        if inside.any():
            people = [trial.person for trial, one in zip(found, inside.tolist(), strict=True) if one]
            lines.append(
                f"| {low:.2f} to {high:.2f} | {int(inside.sum())} | {values[inside].mean():.2f} | "
                f"{mean_interval(good[inside].tolist(), people).text()} | {errors[inside].mean():.3f} |"
            )
    silent = errors[values >= LOW]
    lines += [
        "",
        f"Mean of |confidence - good| within these bins, weighted: {_calibration(values, good):.3f}. Worst error that "
        f"was not flagged (confidence {LOW:g} or more): {silent.max() if len(silent) else 0:.2f}.",
    ]
    return "\n".join(lines)


def _calibration(values: Tensor, good: Tensor) -> float:
    gaps = []
    for low, high in zip(_BINS, _BINS[1:], strict=False):
        inside = (values >= low) & ((values < high) | (high == 1.0))
        if inside.any():
            gaps.append(float((values[inside].mean() - good[inside].mean()).abs() * inside.sum()))
    return sum(gaps) / len(values)


def read_trials(path: Path) -> list[Trial]:
    """As `write_trials` left them."""
    rows = json.loads(path.read_text())
    return [Trial(row["what"], row["person"], Cues(**row["cues"]), row["error"]) for row in rows]


def write_trials(path: Path, found: Sequence[Trial]) -> None:
    write_file(path, json.dumps([asdict(trial) for trial in found], indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("confidence_benchmark", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--cases", type=int, default=27, help="so many, each run in four ways")
    parser.add_argument("--first", type=int, default=0, help="the case to begin with, to run it in parts")
    parser.add_argument("--half", choices=HALVES, default="test", help="whose people; fit prints new weights")
    parser.add_argument("--weights", type=Path, help="folder of a matched set; the bundled one by default")
    parser.add_argument("--trials", type=Path, nargs="+", help="files that earlier parts have written, beside this one")
    parser.add_argument("--out", type=Path, help="keep the trials in this file")
    parser.add_argument("--verbose", action="store_true", help="a line for each retouch")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    if options.cases < 0 or options.first < 0:
        raise ValueError(f"--cases {options.cases} --first {options.first}: use 0 or more")
    found = [trial for path in options.trials or () for trial in read_trials(path)]
    people = half_of(load_people(options.portraits), options.half)
    cases = list_cases(people, BenchmarkConfig(seed=HALVES.index(options.half)))
    if options.cases:
        for trial in trials(load_model(options.weights), cases[options.first :][: options.cases], options.portraits):
            found.append(trial)
            if options.verbose:
                sure = confidence_in(trial.cues)
                print(f"{trial.error:.3f}, expected {sure.expected_error:.3f}, {trial.what}", flush=True)
    if options.out:
        write_trials(options.out, found)
    if len(found) < 10:
        raise ValueError(f"{len(found)} retouches are too few to say anything: run more cases")
    print(report(found))
    if options.half == "fit":
        usual, weights, at_usual, spread = fitted(found)
        print("", f"_USUAL = {usual}", f"_WEIGHTS = {weights}", sep="\n")
        print(f"_USUAL_LOG_ERROR = {at_usual:.3f}", f"_SPREAD = {spread:.3f}", sep="\n")


if __name__ == "__main__":
    sys.exit(main())
