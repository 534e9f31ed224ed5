"""Benchmark B: the same body operation on two people; the result on one is predicted from a pair of the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.geometry.displacement import warp
from mirrorppr_core.operations.professional import LEAST_VISIBILITY, professional_displacement
from mirrorppr_core.operations.professional_table import OPERATIONS, operation_named

from ..data.labelled import labelled_portraits
from ..data.picture_files import read_picture
from ..evaluation.benchmark_report import MINI, CaseResult, mean, median, people_of
from ..evaluation.intervals import mean_interval
from ..evaluation.known_truth import (
    MARGIN_PX,
    CasePictures,
    check_strengths,
    edited_region,
    score,
    strength_of,
    to_eight_bits,
)
from ..evaluation.retouchers import Retoucher, try_extract, try_retouch

BODY_OPERATIONS = tuple(name for name, operation in OPERATIONS.items() if operation.on_body)
_MAX_DRAWS = 400
_LEAST_SHOULDERS = 2.0  # eye distances


@dataclass(frozen=True, kw_only=True)
class BodyBenchmarkConfig:
    num_each: int = 16  # cases of each operation, half of them in each direction
    seed: int = 0
    min_strength: float = 60.0  # percent
    max_strength: float = 100.0
    min_motion_px: float = 2.0  # largest displacement on either person must reach this, at 512 px

    def __post_init__(self) -> None:
        if self.num_each < 1:
            raise ValueError(f"num_each={self.num_each}: use 1 or more")
        check_strengths(self.min_strength, self.max_strength)


@dataclass(frozen=True, kw_only=True)
class Body:
    """One eval portrait.  pose: (33, 4) pixels and visibility, 0 for joints outside the picture."""

    file: str
    identity: str
    pose: Tensor = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class BodyCase:
    exemplar: Body
    query: Body
    operation: str
    strength: float

    @property
    def label(self) -> str:
        chosen = operation_named(self.operation)
        return f"{self.operation.removeprefix('body_shape_')}: {chosen.plus if self.strength > 0 else chosen.minus}"


def load_bodies(portraits: Path, *, size: int = 512) -> list[Body]:
    """The body portraits of split eval with a pose and a face. portraits: folder of portraits.csv and landmarks.npz."""
    bodies = []
    for portrait in labelled_portraits(portraits, split="eval", bodies=True):
        if portrait.is_body and portrait.pose is not None:
            pose, mesh = portrait.pose.clone(), portrait.mesh
            eyes = (mesh[[33, 133]].mean(0) - mesh[[263, 362]].mean(0)).norm()
            if not is_plausible(pose, mesh) or (pose[11, :2] - pose[12, :2]).norm() < _LEAST_SHOULDERS * eyes:
                continue
            inside = ((pose[:, :2] >= 0) & (pose[:, :2] < size)).all(1)
            pose[:, 3] *= inside
            bodies.append(Body(file=portrait.file, identity=portrait.identity, pose=pose))
    if len(bodies) < 2:
        raise ValueError(f"{portraits}: need two or more body portraits of split eval with landmarks")
    return bodies


def is_plausible(pose: Tensor, mesh: Tensor) -> bool:
    """Both shoulders below the mouth: elsewhere they are MediaPipe's mistake.  pose: (33, 4).  mesh: (478, 2)."""
    return bool((pose[[11, 12], 1] > mesh[[13, 14], 1].mean()).all())


def list_cases(
    bodies: list[Body], config: BodyBenchmarkConfig, *, size: tuple[int, int] = (512, 512)
) -> list[BodyCase]:
    """The cases, shuffled: the first N of them are a fair sample. Operations that no two portraits show have none."""
    generator = torch.Generator().manual_seed(config.seed)
    cases = []
    for name in BODY_OPERATIONS:
        seen: set[tuple] = set()
        for number in range(config.num_each):
            case = _draw_case(bodies, name, 1 if number % 2 == 0 else -1, config, size, generator, seen)
            if case is not None:
                cases.append(case)
                seen.add((case.exemplar.file, case.query.file, case.strength > 0))
    order = torch.randperm(len(cases), generator=generator).tolist()
    return [cases[i] for i in order]


def _draw_case(
    bodies: list[Body],
    name: str,
    sign: int,
    config: BodyBenchmarkConfig,
    size: tuple[int, int],
    generator: torch.Generator,
    seen: set[tuple],
) -> BodyCase | None:
    for _ in range(_MAX_DRAWS):
        first, second = torch.randperm(len(bodies), generator=generator)[:2].tolist()
        span, share = (config.min_strength, config.max_strength), float(torch.rand((), generator=generator))
        exemplar, query = bodies[first], bodies[second]
        if exemplar.identity == query.identity or (exemplar.file, query.file, sign > 0) in seen:
            continue
        case = BodyCase(exemplar=exemplar, query=query, operation=name, strength=strength_of(sign, share, span))
        motions = [_true_motion(case, pose, (size[0], size[1])) for pose in _shared_poses(case)]
        if all(motion is not None and float(motion.norm(dim=1).amax()) >= config.min_motion_px for motion in motions):
            return case
    return None


def _shared_poses(case: BodyCase) -> tuple[Tensor, Tensor]:
    """Both poses, with the joints that either of them lacks marked as not visible in both."""
    visible = torch.minimum(case.exemplar.pose[:, 3], case.query.pose[:, 3])
    return tuple(torch.cat([body.pose[:, :3], visible[:, None]], dim=1) for body in (case.exemplar, case.query))


def _true_motion(case: BodyCase, pose: Tensor, size: tuple[int, int]) -> Tensor | None:
    """The operation on one person, or None where none of its joints is seen."""
    visible = pose[:, 3] >= LEAST_VISIBILITY
    pushes = [push for side in operation_named(case.operation).sides().values() for push in side]
    if not any(bool(visible[list(push.landmarks)].all()) for push in pushes):
        return None
    return professional_displacement(None, pose, size, operation=case.operation, strength=case.strength)


def build_case(case: BodyCase, portraits: Path) -> CasePictures:
    """Load and retouch both portraits."""
    before, query = (read_picture(portraits / body.file) for body in (case.exemplar, case.query))
    shown, wanted = (
        _true_motion(case, pose, tuple(image.shape[-2:]))
        for pose, image in zip(_shared_poses(case), (before, query), strict=True)
    )
    return CasePictures(
        exemplar_before=before,
        exemplar_after=to_eight_bits(warp(before, shown)),
        query=query,
        query_after=to_eight_bits(warp(query, wanted)),
        displacement=wanted,
        region=edited_region(wanted),
    )


def score_case(retoucher: Retoucher, case: BodyCase, pictures: CasePictures) -> CaseResult:
    """One row, without controls."""
    started = time.perf_counter()
    operation, refused = try_extract(retoucher, pictures.exemplar_before, pictures.exemplar_after)
    extract_seconds = time.perf_counter() - started
    retouched, seconds, refused = try_retouch(retoucher, pictures.query, operation, MINI, refused)
    scores = {MINI: score(pictures, retouched, seconds=seconds, refused=refused)}
    return CaseResult(case=case, scores=scores, controls={}, extract_seconds=extract_seconds)


def write_report(results: Sequence[CaseResult], config: BodyBenchmarkConfig) -> str:
    """Markdown: one line for each operation and one for all."""
    lines = [
        "# Benchmark B: body operations",
        "",
        "Made by `python -m training.body_benchmark --portraits DIR`; do not edit.",
        "",
        f"{len(results)} cross-identity cases on body portraits of split eval, strengths {config.min_strength:g} to "
        f"{config.max_strength:g} in both directions, seed {config.seed}. relEPE: mean error of the motion / mean true "
        "motion in the edited region; the query unchanged scores 1. [ ]: 95 % bootstrap interval over the "
        f"{len(set(people_of(results)))} people whom the queries show.",
        "",
        f"| operation | cases | relEPE mean | median | in-region gain, dB | changed outside | beyond {MARGIN_PX} px |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in (*BODY_OPERATIONS, "all"):
        chosen = [result for result in results if name in (result.case.operation, "all")]
        if not chosen:
            lines.append(f"| {name} | 0 | no two portraits show it | | | | |")
            continue
        scores = [result.scores[MINI] for result in chosen]
        errors = [s.relative_epe for s in scores]
        lines.append(
            f"| {name.removeprefix('body_shape_')} | {len(chosen)} | "
            f"{mean_interval(errors, people_of(chosen)).text()} | {median(errors):.3f} | "
            f"{mean(s.gain_db for s in scores):+.2f} | {mean(s.changed_outside for s in scores):.2%} | "
            f"{mean(s.changed_beyond for s in scores):.2%} |"
        )
    every = [result.scores[MINI] for result in results]
    lines += [
        "",
        f"Refused (no usable face), scored as the query unchanged: {sum(bool(s.refused) for s in every)}.",
        f"Extraction, median at 512 px: {median(result.extract_seconds for result in results):.2f} s.",
        f"Retouching, median at 512 px: {median(s.seconds for s in every):.2f} s.",
    ]
    return "\n".join(lines) + "\n"
