"""Folders of outputs against a list of cases: who is scored on what.

A tool is a name and a folder. Its picture for a case is found by name (`find_output`), so any program's outputs can be
scored beside ours. What is missing is never passed over in silence: it is listed, it is left out of the published
protocol's means as that protocol does, and in ours it counts as the query unchanged. The query unchanged is the first
"tool" of every evaluation.

A tool's folder may have subfolders of controls, each with outputs of the same names:

    identity    from the exemplar's before as both of its pictures: nothing may move
    reversed    from the exemplar backwards, on the tool's own output: the query must come back
    shuffled    from another case's exemplar: must be worse
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path

from torch import Tensor

from ..data.picture_files import SUFFIXES, UnusablePicture, read_picture
from ..released.formats import read_simface
from .perceptual import LearnedMeasures
from .scores import HonestScore, OfficialScore, Truth, honest_score, motion_left, official_score, to_size, truth_of

COPY_QUERY = "copy query"
IDENTITY, REVERSED, SHUFFLED = "identity", "reversed", "shuffled"
CONTROLS = (IDENTITY, REVERSED, SHUFFLED)
PUBLISHED_PATTERN = "*idx{index:04d}_*"  # mirrorppr_face_idx0007_p1_STEM_p2_STEM.jpg


@dataclass(frozen=True)
class CaseFiles:
    """One row of dataset.json, paths absolute.  operation, instruction, person: "" where the row has none."""

    index: int
    exemplar_before: Path
    exemplar_after: Path
    query: Path
    target: Path
    operation: str = ""
    instruction: str = ""
    person: str = ""  # whom the query shows

    @property
    def label(self) -> str:
        """What is grouped by in tables."""
        return self.operation or self.instruction or "not stated"


@dataclass(frozen=True)
class Tool:
    name: str
    folder: Path


@dataclass(frozen=True, kw_only=True)
class ToolResult:
    """By index of the case. `missing` says why there is no picture; those cases have no official score.

    controls: by name and index: longest motion in pixels at 1024 (identity), motion left (reversed), relEPE (shuffled).
    """

    name: str
    outputs: dict[int, Path] = field(default_factory=dict)
    official: dict[int, OfficialScore] = field(default_factory=dict)
    honest: dict[int, HonestScore] = field(default_factory=dict)
    missing: dict[int, str] = field(default_factory=dict)
    controls: dict[str, dict[int, float]] = field(default_factory=lambda: {name: {} for name in CONTROLS})


def load_cases(dataset: Path, *, resolution: str = "base", operations: Sequence[str] = ()) -> list[CaseFiles]:
    """All rows of a dataset.json (SimFace-100's format, with an optional key `operation`).

    operations: only cases whose operation is one of these names or begins with one, as in "eye_resize +".
    Raises FileNotFoundError or ValueError: a row that names a missing file is an error here, not a smaller data set.
    """
    released = read_simface(dataset, dataset.parent, resolution=resolution)
    if released.unusable:
        rows = "; ".join(f"row {row.row}: {row.reason}, {row.detail}" for row in released.unusable[:5])
        raise ValueError(f"{dataset}: {len(released.unusable)} rows cannot be used ({rows}). Complete the data set")
    stored = json.loads(dataset.read_text())
    cases = [
        CaseFiles(
            index=row.index,
            exemplar_before=row.exemplar_before,
            exemplar_after=row.exemplar_after,
            query=row.query,
            target=row.target,
            operation=str(stored[row.index].get("operation") or ""),
            instruction=row.instruction or "",
            person=str(stored[row.index].get("person") or ""),
        )
        for row in released.records
    ]
    if not operations:
        return cases
    chosen = [case for case in cases if any(case.label == name or case.label.split()[0] == name for name in operations)]
    if not chosen:
        labels = ", ".join(sorted({case.label for case in cases}))
        raise ValueError(f"{dataset} has no case of {', '.join(operations)}; it has {labels}")
    return chosen


def find_output(folder: Path, case: CaseFiles, pattern: str = PUBLISHED_PATTERN) -> Path | None:
    """The picture for this case, or None.

    pattern: a file name in which {index} (also {index:04d}), {exemplar_before}, {exemplar_after}, {query} and {target}
    stand for the case's number and the stems of its pictures; * stands for anything. A suffix is optional.
    """
    stems = {name: escape(stem) for name, stem in _stems(case).items()}
    try:
        name = pattern.format(index=case.index, **stems)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(
            f"pattern {pattern!r} cannot be filled in ({error!r}): use {{index}} or {{index:04d}}, "
            f"{{{'}, {'.join(stems)}}} and *"
        ) from error
    if not name or Path(name).is_absolute():
        raise ValueError(f"pattern {pattern!r} is no file name: give one relative to the tool's folder")
    found = {path for path in [*folder.glob(name), *folder.glob(name + ".*")] if path.suffix.lower() in SUFFIXES}
    if len(found) > 1:
        names = ", ".join(sorted(path.name for path in found))
        raise ValueError(
            f"{folder} has {len(found)} pictures for case {case.index}: {names}. Keep one, or use --pattern"
        )
    return found.pop() if found else None


def evaluate(
    cases: Sequence[CaseFiles],
    tools: Sequence[Tool],
    *,
    pattern: str = PUBLISHED_PATTERN,
    learned: LearnedMeasures | None = None,
    only_official: bool = False,
) -> list[ToolResult]:
    """Score every tool on every case; the query unchanged comes first.

    Raises ValueError where a picture of the data set is unusable, or a tool has no picture for any case.
    """
    learned = learned or LearnedMeasures()
    results = [ToolResult(name=COPY_QUERY), *(ToolResult(name=tool.name) for tool in tools)]
    found = [{case.index: find_output(tool.folder, case, pattern) for case in cases} for tool in tools]
    for tool, outputs in zip(tools, found, strict=True):
        if not any(outputs.values()):
            expected = pattern.format(index=cases[0].index, **_stems(cases[0]))
            raise ValueError(
                f"{tool.folder}: no picture is named {expected!r} or so. Name the outputs like that, or say with "
                "--pattern how they are named"
            )
    for number, case in enumerate(cases, start=1):
        query, target = _read(case.query, case.index), _read(case.target, case.index)
        truth = truth_of(query, target) if not only_official else None
        _score(results[0], case, query, target, truth, learned)
        for tool, result, outputs in zip(tools, results[1:], found, strict=True):
            path = outputs[case.index]
            try:
                output = None if path is None else read_picture(path)
            except UnusablePicture as error:
                output, result.missing[case.index] = None, f"{path.name}: {error}"
            if output is None:
                result.missing.setdefault(case.index, "no such file")
                if truth is not None:
                    result.honest[case.index] = results[0].honest[case.index]
                continue
            result.outputs[case.index] = path
            _score(result, case, output, target, truth, learned)
            if truth is not None and truth.moves:
                _score_controls(result, tool, case, truth, pattern)
        print(f"{number}/{len(cases)} {case.label}", flush=True)
    return results


def _score(
    result: ToolResult, case: CaseFiles, output: Tensor, target: Tensor, truth: Truth | None, learned: LearnedMeasures
) -> None:
    score = official_score(output, target)
    if learned.lpips is not None:
        score = replace(score, lpips=learned.lpips(to_size(output, target), target))
    if learned.identity is not None:
        score = replace(score, identity=learned.identity(output, target))
    result.official[case.index] = score
    if truth is not None:
        result.honest[case.index] = honest_score(output, truth)


def _score_controls(result: ToolResult, tool: Tool, case: CaseFiles, truth: Truth, pattern: str) -> None:
    for control in CONTROLS:
        path = find_output(tool.folder / control, case, pattern)
        if path is None:
            continue
        output = _read(path, case.index)
        if control == REVERSED:
            value = motion_left(output, truth)
        else:
            score = honest_score(output, truth)
            value = score.longest_px if control == IDENTITY else score.relative_epe
        result.controls[control][case.index] = value


def _read(path: Path, index: int) -> Tensor:
    try:
        return read_picture(path)
    except UnusablePicture as error:
        raise ValueError(f"case {index}: {path} cannot be used, {error}. Repair or replace it") from error


def _stems(case: CaseFiles) -> dict[str, str]:
    return {name: getattr(case, name).stem for name in ("exemplar_before", "exemplar_after", "query", "target")}
