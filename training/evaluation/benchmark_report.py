"""What a run of Benchmark P found, as a Markdown table.

Means and medians come with 95 % intervals over the people whom the queries show (intervals.py): with some 200 cases, a
difference inside the interval is no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch

from .benchmark_cases import BenchmarkConfig, Case
from .intervals import mean_interval, median_interval
from .known_truth import MARGIN_PX, REGION_PX, REGION_SHARE, Score

COPY_QUERY, COPIED_MOTION, MINI = "copy query", "copied motion, no network", "Mini"
ROWS = (COPIED_MOTION, MINI)  # those that run the retoucher


@dataclass(frozen=True, kw_only=True)
class Controls:
    """What one row does to a case with exemplars that should do something else."""

    identity_px: float  # longest displacement at 1024 px after an exemplar without change
    undone: float  # motion left after the reversed exemplar, relative to the true motion
    shuffled: float  # relEPE with the exemplar of another case


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """case: of Benchmark P, or a BodyCase of Benchmark B."""

    case: Case
    scores: dict[str, Score]  # by row
    controls: dict[str, Controls]  # by row; empty where they were not run
    extract_seconds: float


def write_report(results: Sequence[CaseResult], config: BenchmarkConfig) -> str:
    """All tables, as the text of a Markdown file."""
    single = [result for result in results if len(result.case.steps) == 1]
    lines = [
        "# Benchmark P",
        "",
        "Made by `python -m training.benchmark --portraits DIR`; do not edit.",
        "",
        f"{len(results)} cross-identity cases ({len(single)} single operations, {len(results) - len(single)} of two), "
        f"strengths {config.min_strength:g} to {config.max_strength:g}, both directions, seed {config.seed}, "
        "512 px eval portraits never seen in training; true motion from training/evaluation/benchmark_cases.py. "
        "relEPE: mean error of the motion / mean true motion inside the edited region, 0 is perfect, 1 is doing "
        "nothing. "
        f"[ ]: 95 % bootstrap interval over the {len(set(people_of(results)))} people whom the queries show. "
        f"Cases in which a face would move less than {config.min_motion_px:g} px, or "
        "whose true motion folds, are drawn again, so the set is a little easier than the operations at random.",
        "",
        *_main_table(results),
        "",
        f"*Changed outside*: share of the pixels outside the edited region (motion above "
        f"{REGION_SHARE:.0%} of its largest and {REGION_PX:g} px) that differ from the query; "
        f"*beyond*: further than {MARGIN_PX} px from it. Seconds: median of a call, 512 px.",
        "",
        *_controls_table(results),
        "",
        "relEPE by operation and direction, mean (number of cases):",
        "",
        *_operation_table(results),
        "",
        *_refusals(results),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _main_table(results: Sequence[CaseResult]) -> list[str]:
    lines = [
        "| | relEPE mean | relEPE median | in-region gain, dB | PSNR | SSIM | changed outside | beyond | seconds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in (COPY_QUERY, *ROWS):
        scores = [result.scores[row] for result in results]
        errors, people = [score.relative_epe for score in scores], people_of(results)
        lines.append(
            f"| {row} | {mean_interval(errors, people).text()} | {median_interval(errors, people).text()} | "
            f"{mean(s.gain_db for s in scores):+.2f} | {mean(s.psnr for s in scores):.2f} | "
            f"{mean(s.ssim for s in scores):.4f} | {mean(s.changed_outside for s in scores):.2%} | "
            f"{mean(s.changed_beyond for s in scores):.3%} | {median(s.seconds for s in scores):.2f} |"
        )
    extraction = median(result.extract_seconds for result in results)
    return [*lines, "", f"Extraction: {extraction:.2f} s (median), once per exemplar."]


def _controls_table(results: Sequence[CaseResult]) -> list[str]:
    lines = [
        "| controls | cases | exemplar without change: largest px at 1024 | reversed after forward: motion left | "
        "another case's exemplar: relEPE | own exemplar, same cases |",
        "|---|---|---|---|---|---|",
    ]
    for row in ROWS:
        ran = [result for result in results if row in result.controls]
        if not ran:
            lines.append(f"| {row} | 0 | - | - | - | - |")
            continue
        controls, people = [result.controls[row] for result in ran], people_of(ran)
        lines.append(
            f"| {row} | {len(ran)} | {max(c.identity_px for c in controls):.3f} | "
            f"{mean_interval([c.undone for c in controls], people).text()} | "
            f"{mean_interval([c.shuffled for c in controls], people).text()} | "
            f"{mean_interval([r.scores[row].relative_epe for r in ran], people).text()} |"
        )
    return lines


def _operation_table(results: Sequence[CaseResult]) -> list[str]:
    def kind(result: CaseResult) -> str:
        return result.case.label if len(result.case.steps) == 1 else "two operations"

    lines = [f"| | {' | '.join(ROWS)} |", "|---|" + "---|" * len(ROWS)]
    for label, group in groupby(sorted(results, key=kind), key=kind):
        members = list(group)
        errors = [mean(member.scores[row].relative_epe for member in members) for row in ROWS]
        lines.append(f"| {label} ({len(members)}) | " + " | ".join(f"{error:.2f}" for error in errors) + " |")
    return lines


def _refusals(results: Sequence[CaseResult]) -> list[str]:
    refused = [(r.case, r.scores[MINI].refused) for r in results if r.scores[MINI].refused]
    if not refused:
        return ["No case was refused."]
    lines = [f"{len(refused)} cases were refused and are scored as the query unchanged:", ""]
    return lines + [f"- {case.exemplar.file} -> {case.query.file}, {case.label}: {why}" for case, why in refused]


def people_of(results: Sequence[CaseResult]) -> list[str]:
    """Whose face was to be moved: what intervals are drawn over."""
    return [result.case.query.identity for result in results]


def mean(values: Iterable[float]) -> float:
    return float(torch.tensor(list(values), dtype=torch.float64).mean())


def median(values: Iterable[float]) -> float:
    return float(torch.tensor(list(values), dtype=torch.float64).quantile(0.5))
