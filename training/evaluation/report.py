"""What an evaluation found: one JSON for programs, one Markdown for people.

Intervals are 95 % bootstrap intervals over the people whom the queries show, not over cases (intervals.py). JSON has
the published report's keys (`summary`, `individual_results`) for the first folder, ours beside them under `honest`,
and the same for every other folder and for the unchanged query under `others`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from .intervals import Interval, mean_interval, ratio_interval
from .known_truth import REGION_PX, REGION_SHARE
from .outputs import CONTROLS, COPY_QUERY, IDENTITY, REVERSED, CaseFiles, ToolResult
from .perceptual import INSTALL_IDENTITY, INSTALL_LPIPS, LearnedMeasures
from .scores import LEAST_ERROR, decibel


@dataclass(frozen=True)
class Evaluation:
    """Cases, the results on them (the unchanged query first), and what was measured."""

    cases: Sequence[CaseFiles]
    results: Sequence[ToolResult]
    learned: LearnedMeasures
    only_official: bool = False

    def people(self, indices: Sequence[int]) -> list[str]:
        """Whom the queries of these cases show: the data set's name, or else the picture."""
        shown = {case.index: case.person or str(case.query) for case in self.cases}
        return [shown[index] for index in indices]

    @property
    def tools(self) -> Sequence[ToolResult]:
        return [result for result in self.results if result.name != COPY_QUERY]


def pooled_psnr(evaluation: Evaluation, result: ToolResult) -> Interval:
    """Squared errors pooled over all pixels of all pictures."""
    scores = [result.official[i] for i in result.official]
    return ratio_interval(
        [score.squared_error for score in scores],
        [score.num_values for score in scores],
        evaluation.people(list(result.official)),
        lambda error: -10 * error.log10(),
    )


def mean_of(evaluation: Evaluation, scores: dict[int, Any], name: str) -> tuple[Interval | None, int]:
    """The mean of one field over the cases that have it, and how many do."""
    values = {index: getattr(score, name) for index, score in scores.items() if getattr(score, name) is not None}
    if not values:
        return None, 0
    return mean_interval(list(values.values()), evaluation.people(list(values))), len(values)


def pooled_decibel(evaluation: Evaluation, result: ToolResult, name: str) -> Interval | None:
    """PSNR of the mean of per-case errors; every case counts alike, however large its region is."""
    errors = {i: getattr(score, name) for i, score in result.honest.items() if getattr(score, name) is not None}
    if not errors:
        return None
    return ratio_interval(
        list(errors.values()), [1.0] * len(errors), evaluation.people(list(errors)), lambda error: -10 * error.log10()
    )


# JSON


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    first, *rest = evaluation.tools
    others = [*rest, *(result for result in evaluation.results if result.name == COPY_QUERY)]
    return {
        "name": first.name,
        **_tool_json(evaluation, first),
        "others": {result.name: _tool_json(evaluation, result) for result in others},
    }


def _tool_json(evaluation: Evaluation, result: ToolResult) -> dict[str, Any]:
    lpips, _ = mean_of(evaluation, result.official, "lpips")
    identity, num_identity = mean_of(evaluation, result.official, "identity")
    similarity, _ = mean_of(evaluation, result.official, "ssim")
    psnr = pooled_psnr(evaluation, result) if result.official else None
    report = {
        "summary": {
            "total_samples": len(evaluation.cases),
            "valid_pixel_samples": len(result.official),
            "average_psnr": _finite(psnr and psnr.value),
            "average_ssim": similarity and similarity.value,
            "average_lpips": lpips.value if lpips else _not_measured(evaluation.learned.lpips, INSTALL_LPIPS),
            "valid_identity_samples": num_identity,
            "average_identity_similarity_edited": (
                identity.value if identity else _not_measured(evaluation.learned.identity, INSTALL_IDENTITY)
            ),
        },
        "individual_results": [_case_json(case, result) for case in evaluation.cases],
        "missing": {str(index): why for index, why in result.missing.items()},
    }
    if not evaluation.only_official:
        report["honest"] = _honest_json(evaluation, result)
    return report


def _honest_json(evaluation: Evaluation, result: ToolResult) -> dict[str, Any]:
    errors, num_moving = mean_of(evaluation, result.honest, "relative_epe")
    gain, num_regions = mean_of(evaluation, result.honest, "gain_db")
    repainted, _ = mean_of(evaluation, result.honest, "repainted")
    values = {
        "relative_epe": errors,
        "in_region_psnr": pooled_decibel(evaluation, result, "inside_error"),
        "in_region_gain_db": gain,
        "out_of_region_psnr": pooled_decibel(evaluation, result, "outside_error"),
        "repainted_share": repainted,
    }
    return {
        **{name: interval and asdict(interval) for name, interval in values.items()},
        "cases_with_motion": num_moving,
        "cases_with_region": num_regions,
        "controls": {name: _control(evaluation, result, name) for name in CONTROLS if result.controls[name]},
        "relative_epe_by_operation": {
            operation: errors for operation, (errors, _) in _by_operation(evaluation, result).items()
        },
    }


def _case_json(case: CaseFiles, result: ToolResult) -> dict[str, Any]:
    row: dict[str, Any] = {"test_index": case.index, "operation": case.label}
    if case.index in result.official:
        score = result.official[case.index]
        path = result.outputs.get(case.index, case.query)
        row |= {"output_image_path": str(path), "psnr": _finite(score.psnr), "ssim": score.ssim}
        row |= {"lpips": score.lpips, "identity_similarity_edited": score.identity}
    if case.index in result.honest:
        row["honest"] = asdict(result.honest[case.index])
    if case.index in result.missing:
        row["missing"] = result.missing[case.index]
    return row


def _finite(value: float | None) -> float | None:
    """JSON has no infinity; null says that the pictures are equal."""
    return value if value is not None and math.isfinite(value) else None


def _not_measured(measure: Callable | None, install: str) -> str:
    return f"not measured ({install})" if measure is None else "not measured (no face was found in any pair)"


# Markdown


def to_markdown(evaluation: Evaluation) -> str:
    lines = [
        "# Evaluation",
        "",
        f"{len(evaluation.cases)} cases, {len(set(evaluation.people([c.index for c in evaluation.cases])))} people as "
        "queries. [ ]: 95 % bootstrap interval over them.",
        "",
        "## The published protocol",
        "",
        "PSNR: squared error pooled over all pixels of all pictures. SSIM, LPIPS, identity similarity with the target: "
        "means. A picture of another size is resized to the target's, bilinear. A missing one is left out of the "
        "means.",
        "",
        *_official_table(evaluation),
        "",
    ]
    if not evaluation.only_official:
        lines += [*_honest_section(evaluation), ""]
    return "\n".join([*lines, *_missing_section(evaluation)]).rstrip() + "\n"


def _official_table(evaluation: Evaluation) -> list[str]:
    lines = ["| | pictures | PSNR | SSIM | LPIPS (VGG) | identity similarity |", "|---|---|---|---|---|---|"]
    for result in evaluation.results:
        psnr = pooled_psnr(evaluation, result).text(2) if result.official else "-"
        similarity, _ = mean_of(evaluation, result.official, "ssim")
        cells = [psnr, _text(similarity, 4)]
        for name, measure, install in (
            ("lpips", evaluation.learned.lpips, INSTALL_LPIPS),
            ("identity", evaluation.learned.identity, INSTALL_IDENTITY),
        ):
            interval, count = mean_of(evaluation, result.official, name)
            dropped = f" ({count} pictures)" if interval and count < len(result.official) else ""
            cells.append(interval.text() + dropped if interval else _not_measured(measure, install))
        lines.append(f"| {result.name} | {len(result.official)} of {len(evaluation.cases)} | {' | '.join(cells)} |")
    return lines


def _honest_section(evaluation: Evaluation) -> list[str]:
    reference = evaluation.results[0]
    _, num_moving = mean_of(evaluation, reference.honest, "relative_epe")
    _, num_regions = mean_of(evaluation, reference.honest, "gain_db")
    lines = [
        "## Inside and outside the edit",
        "",
        f"relEPE: error of the output's measured motion / true motion, 0 perfect, 1 did nothing ({num_moving} cases "
        f"whose target moves). The region is where the target moved by more than {REGION_SHARE:.0%} of its longest "
        f"motion and {REGION_PX:g} px, or else visibly changed ({num_regions} cases). PSNR: of the mean error of the "
        f"cases, at most {decibel(LEAST_ERROR):.1f} dB, the rounding of 8 bits. Gain: over the unchanged query. "
        "Repainted: pixels outside the region that visibly differ from the query. A missing picture counts as the "
        "query unchanged.",
        "",
        "| | relEPE mean | median | in-region PSNR | in-region gain, dB | out-of-region PSNR | repainted |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in evaluation.results:
        errors, _ = mean_of(evaluation, result.honest, "relative_epe")
        gain, _ = mean_of(evaluation, result.honest, "gain_db")
        repainted, _ = mean_of(evaluation, result.honest, "repainted")
        lines.append(
            f"| {result.name} | {_text(errors)} | {_median(result)} | "
            f"{_text(pooled_decibel(evaluation, result, 'inside_error'), 2)} | "
            f"{'-' if gain is None else gain.text(2, sign=True)} | "
            f"{_text(pooled_decibel(evaluation, result, 'outside_error'), 2)} | "
            f"{repainted.value:.2%} |"
        )
    return [*lines, "", *_controls_table(evaluation), *_operation_table(evaluation)]


def _controls_table(evaluation: Evaluation) -> list[str]:
    ran = [result for result in evaluation.tools if any(result.controls.values())]
    if not ran:
        return ["Controls (exemplar without change, reversed, of another case): no folder holds their outputs.", ""]
    lines = [
        "| controls | exemplar without change: largest px at 1024 | reversed after forward: motion left | "
        "another case's exemplar: relEPE | own exemplar, same cases |",
        "|---|---|---|---|---|",
    ]
    for result in ran:
        cells = []
        for name in CONTROLS:
            control = _control(evaluation, result, name)
            cells.append("-" if control is None else f"{control['text']} ({control['cases']})")
        own = {i: result.honest[i] for i in result.controls[CONTROLS[-1]]}
        lines.append(f"| {result.name} | {' | '.join(cells)} | {_text(mean_of(evaluation, own, 'relative_epe')[0])} |")
    return [*lines, "", "In brackets behind a number: cases.", ""]


def _control(evaluation: Evaluation, result: ToolResult, name: str) -> dict[str, Any] | None:
    values = result.controls[name]
    if not values:
        return None
    if name == IDENTITY:
        return {"cases": len(values), "value": max(values.values()), "text": f"{max(values.values()):.3f}"}
    interval = mean_interval(list(values.values()), evaluation.people(list(values)))
    meaning = "motion left" if name == REVERSED else "relative_epe"
    return {"cases": len(values), "value": interval.value, "text": interval.text(), "meaning": meaning}


def _operation_table(evaluation: Evaluation) -> list[str]:
    tables = [_by_operation(evaluation, result) for result in evaluation.tools]
    lines = [
        "relEPE by operation, mean (cases):",
        "",
        f"| | {' | '.join(result.name for result in evaluation.tools)} |",
        "|---|" + "---|" * len(tables),
    ]
    for operation in sorted(tables[0]):
        cells = ["-" if table[operation][0] is None else f"{table[operation][0]:.2f}" for table in tables]
        lines.append(f"| {operation} ({tables[0][operation][1]}) | {' | '.join(cells)} |")
    return lines


def _by_operation(evaluation: Evaluation, result: ToolResult) -> dict[str, tuple[float | None, int]]:
    groups: dict[str, list[float]] = {}
    for case in evaluation.cases:
        error = result.honest[case.index].relative_epe
        groups.setdefault(case.label, []).extend([] if error is None else [error])
    return {
        operation: (sum(errors) / len(errors) if errors else None, len(errors)) for operation, errors in groups.items()
    }


def _missing_section(evaluation: Evaluation) -> list[str]:
    lines = []
    for result in evaluation.tools:
        if result.missing:
            lines += [f"{result.name}: {len(result.missing)} of {len(evaluation.cases)} outputs are missing:", ""]
            lines += [f"- case {index}: {why}" for index, why in sorted(result.missing.items())] + [""]
    return lines or ["No output is missing."]


def _median(result: ToolResult) -> str:
    errors = [score.relative_epe for score in result.honest.values() if score.relative_epe is not None]
    return f"{float(torch.tensor(errors, dtype=torch.float64).quantile(0.5)):.3f}" if errors else "-"


def _text(interval: Interval | None, digits: int = 3) -> str:
    return "-" if interval is None else interval.text(digits)
