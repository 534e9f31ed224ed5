"""Does the confidence know which retouches are bad? Ranks and a reliability table; and the fit of its weights.

    python -m training.confidence_benchmark --portraits DIR [--cases 27] [--first 0] [--out FILE]
    python -m training.confidence_benchmark --portraits DIR --split train     prints weights for mini/confidence.py

Weights are fitted on cases among the train people and judged on cases among the eval people, whom the fit has never
seen, neither as exemplar nor as query; evaluation/confidence_trials.py says what a case is. The fit also tells its rank
correlation when every exemplar's person is left out in turn. Spearman's rank correlation between what the confidence
expects and the error is asked to be 0.5 at least.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.file_writing import write_file
from mirrorppr_core.mini.confidence import GOOD, LOW, Cues, confidence_in
from mirrorppr_core.operations.llw_table import OPERATIONS

from .data.labelled import labelled_portraits
from .evaluation.benchmark_cases import BenchmarkConfig, Person, list_cases
from .evaluation.confidence_trials import Trial, trials
from .evaluation.intervals import mean_interval
from .evaluation.retouchers import load_model
from .program import Parser, run

SPLITS = ("eval", "train")
BAR = 0.5
_SEEDS = {"eval": 0, "train": 7}  # eval: the cases of Benchmark P
_CUES = tuple(one.name for one in fields(Cues) if one.name != "kind")
_KINDS = tuple(OPERATIONS)
_RIDGE_CUES, _RIDGE_KINDS = 3.0, 5.0  # in trials; what is known of few cases is shrunk
_KIND_SCALE = 2.0
_BINS = (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)
_DRAWS = 1000  # of people, for the interval of the correlation


def spearman(x: Tensor, y: Tensor) -> float:
    """Rank correlation of (N,) each; ties share their mean rank."""

    def ranks(values: Tensor) -> Tensor:
        less = (values[:, None] > values[None]).sum(1)
        same = (values[:, None] == values[None]).sum(1)
        return less + (same - 1) / 2

    pair = torch.stack([ranks(x.double()), ranks(y.double())])
    return float(torch.corrcoef(pair)[0, 1])


@dataclass(frozen=True)
class Fit:
    """The log of the expected error is at_usual + weights of the cues, against the usual ones, + kinds by their share.

    usual, weights: by cue.  kinds: by operation.  spread: of log errors around it.
    """

    usual: dict[str, float]
    weights: dict[str, float]
    kinds: dict[str, float]
    at_usual: float
    spread: float

    def log_error(self, trial: Trial) -> float:
        own = sum(self.weights[name] * (getattr(trial.cues, name) - self.usual[name]) for name in _CUES)
        return self.at_usual + own + sum(self.kinds.get(name, 0.0) * share for name, share in trial.shares.items())


def fitted(found: Sequence[Trial]) -> Fit:
    """Ridge regression of log error on the cues and on the shares of named operations. No cue may lower the error."""
    cues = torch.tensor([[getattr(t.cues, name) for name in _CUES] for t in found], dtype=torch.float64)
    kinds = torch.tensor([[t.shares.get(name, 0.0) for name in _KINDS] for t in found], dtype=torch.float64)
    x = torch.cat([cues, _KIND_SCALE * kinds], dim=1)
    y = torch.tensor([math.log(max(t.error, 0.02)) for t in found], dtype=torch.float64)
    centred, ridge = x - x.mean(0), torch.tensor([_RIDGE_CUES] * len(_CUES) + [_RIDGE_KINDS] * len(_KINDS))
    used = torch.arange(x.shape[1])
    while True:
        part = centred[:, used]
        solved = torch.linalg.solve(part.T @ part + torch.diag(ridge[used].double()), part.T @ (y - y.mean()))
        against = (solved < 0) & (used < len(_CUES))
        if not against.any():
            break
        used = used[~against]
    weights = torch.zeros(x.shape[1], dtype=torch.float64).index_copy(0, used, solved)
    usual = cues.median(0).values
    at_usual = float(
        y.mean() + weights[: len(_CUES)] @ (usual - cues.mean(0)) - weights[len(_CUES) :] @ x.mean(0)[len(_CUES) :]
    )
    own = [round(float(w), 3) for w in weights[: len(_CUES)]]
    fit = Fit(
        usual={n: round(float(v), 2) for n, v in zip(_CUES, usual, strict=True)},
        weights=dict(zip(_CUES, own, strict=True)),
        kinds={n: round(_KIND_SCALE * float(w), 2) for n, w in zip(_KINDS, weights[len(_CUES) :], strict=True)},
        at_usual=round(at_usual, 3),
        spread=0.0,
    )
    off = y - torch.tensor([fit.log_error(trial) for trial in found], dtype=torch.float64)
    return Fit(**{**asdict(fit), "spread": round(float(off.std()), 3)})


def left_out(found: Sequence[Trial]) -> float:
    """Spearman where each exemplar's person is left out of the fit that judges them."""
    expected = [0.0] * len(found)
    for person in {trial.exemplar for trial in found}:
        fit = fitted([trial for trial in found if trial.exemplar != person])
        for i, trial in enumerate(found):
            if trial.exemplar == person:
                expected[i] = fit.log_error(trial)
    return spearman(torch.tensor(expected), torch.tensor([trial.error for trial in found]))


def interval_of(expected: Tensor, errors: Tensor, people: Sequence[str]) -> tuple[float, float]:
    """95 % of Spearman's correlation, people drawn with replacement."""
    names, generator = sorted({*people}), torch.Generator().manual_seed(0)
    rows = [torch.tensor([i for i, p in enumerate(people) if p == name]) for name in names]
    values = []
    for _ in range(_DRAWS):
        drawn = torch.cat([rows[i] for i in torch.randint(len(rows), (len(rows),), generator=generator).tolist()])
        values.append(spearman(expected[drawn], errors[drawn]))
    low, high = torch.tensor(values).nanquantile(torch.tensor([0.025, 0.975])).tolist()
    return low, high


def report(found: Sequence[Trial]) -> str:
    expected = [confidence_in(trial.cues) for trial in found]
    errors = torch.tensor([trial.error for trial in found])
    values = torch.tensor([one.value for one in expected])
    foretold = torch.tensor([one.expected_error for one in expected])
    low, high = interval_of(foretold, errors, [trial.person for trial in found])
    good = (errors <= GOOD).float()
    lines = [
        f"{len(found)} retouches of {len({trial.person for trial in found})} people, mean error {errors.mean():.3f}, "
        f"{100 * float(good.mean()):.0f} % of them good (at most {GOOD:g}).",
        f"Spearman of expected and real error: {spearman(foretold, errors):.2f} [{low:.2f}, {high:.2f}] (asked for: "
        f"{BAR:g}); undisturbed alone: {_of_undisturbed(found, foretold, errors):.2f}",
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


def _of_undisturbed(found: Sequence[Trial], foretold: Tensor, errors: Tensor) -> float:
    clean = torch.tensor([trial.what.endswith(", undisturbed") for trial in found])
    return spearman(foretold[clean], errors[clean])


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
    return [Trial(**{**row, "cues": Cues(**row["cues"])}) for row in rows]


def write_trials(path: Path, found: Sequence[Trial]) -> None:
    write_file(path, json.dumps([asdict(trial) for trial in found], indent=1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("confidence_benchmark", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--cases", type=int, default=27, help="so many, each run in four ways")
    parser.add_argument("--first", type=int, default=0, help="the case to begin with, to run it in parts")
    parser.add_argument("--split", choices=SPLITS, default=SPLITS[0], help="whose people; train prints new weights")
    parser.add_argument("--weights", type=Path, help="folder of a matched set; the bundled one by default")
    parser.add_argument("--trials", type=Path, nargs="+", help="files that earlier parts have written, beside this one")
    parser.add_argument("--out", type=Path, help="keep the trials in this file")
    parser.add_argument("--verbose", action="store_true", help="a line for each retouch")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    if options.cases < 0 or options.first < 0:
        raise ValueError(f"--cases {options.cases} --first {options.first}: use 0 or more")
    found = [trial for path in options.trials or () for trial in read_trials(path)]
    people = [
        Person(file=one.file, identity=one.identity, mesh=one.mesh)
        for one in labelled_portraits(options.portraits, split=options.split)
    ]
    cases = list_cases(people, BenchmarkConfig(seed=_SEEDS[options.split]))[options.first :][: options.cases]
    if cases:
        for trial in trials(load_model(options.weights), cases, options.portraits, first=options.first):
            found.append(trial)
            if options.verbose:
                sure = confidence_in(trial.cues)
                print(f"{trial.error:.3f}, expected {sure.expected_error:.3f}, {trial.what}", flush=True)
    if options.out:
        write_trials(options.out, found)
    if len(found) < 10:
        raise ValueError(f"{len(found)} retouches are too few to say anything: run more cases")
    print(report(found))
    if options.split == "train":
        print("", f"Spearman with each exemplar's person left out of the fit: {left_out(found):.2f}", sep="\n")
        print(*(f"{name} = {value}" for name, value in asdict(fitted(found)).items()), sep="\n")


if __name__ == "__main__":
    sys.exit(main())
