"""Benchmark B: the same body operation on two people; the result on one is predicted from a pair of the other."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import changed_mask, warp
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.professional import LEAST_VISIBILITY, professional_displacement
from mirrorppr_core.operations.professional_table import OPERATIONS, operation_named

from ..data.landmarks import load_landmarks, load_poses
from ..data.picture_files import read_picture
from ..evaluation.benchmark_cases import to_eight_bits
from ..evaluation.metrics import region_psnr, relative_epe
from .data import is_plausible

BODY_OPERATIONS = tuple(name for name, operation in OPERATIONS.items() if operation.on_body)
_RESAMPLES = 2000
_MAX_DRAWS = 400
_LEAST_SHOULDERS = 2.0  # eye distances
_BEYOND_PX = 8  # further than this from the edited region nothing should change


@dataclass(frozen=True, kw_only=True)
class BodyBenchmarkConfig:
    num_each: int = 16  # cases of each operation, half of them in each direction
    seed: int = 0
    min_strength: float = 60.0  # percent
    max_strength: float = 100.0
    min_motion_px: float = 2.0  # largest displacement on either person must reach this, at 512 px
    region_share: float = 0.02  # the edited region is where motion exceeds this share of its largest,
    region_px: float = 0.1  # and this many pixels

    def __post_init__(self) -> None:
        if self.num_each < 1:
            raise ValueError(f"num_each={self.num_each}: use 1 or more")
        if not 0 < self.min_strength <= self.max_strength <= 100:
            raise ValueError(f"strengths {self.min_strength} to {self.max_strength}: need 0 < min <= max <= 100")


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


@dataclass(frozen=True, kw_only=True)
class BodyPictures:
    """A case, drawn. Pictures (1, 3, H, W), multiples of 1/255."""

    before: Tensor
    after: Tensor
    query: Tensor
    query_after: Tensor
    displacement: Tensor  # (1, 2, H, W) true motion of the query
    region: Tensor  # (1, 1, H, W) 1 where the query is edited


@dataclass(frozen=True, kw_only=True)
class BodyScore:
    """A case that was refused counts as the query unchanged."""

    case: BodyCase
    relative_epe: float
    gain_db: float  # in-region PSNR above the unchanged query's
    changed_outside: float  # share of the pixels outside the edited region that differ from the query
    changed_beyond: float  # the same, further than 8 pixels from it
    extract_seconds: float
    retouch_seconds: float
    refused: str
    notes: tuple[str, ...]


def load_bodies(portraits: Path, *, size: int = 512) -> list[Body]:
    """The body portraits of split eval with a pose and a face. portraits: folder of portraits.csv and landmarks.npz."""
    poses = load_poses(portraits / "landmarks.npz")
    faces = load_landmarks(str(portraits / "landmarks.npz"))
    with open(portraits / "portraits.csv", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["file"].startswith("body/") and row["split"] == "eval"]
    bodies = []
    for row in rows:
        if row["file"] in poses and row["file"] in faces:
            pose, mesh = poses[row["file"]].clone(), faces[row["file"]]
            eyes = (mesh[[33, 133]].mean(0) - mesh[[263, 362]].mean(0)).norm()
            if not is_plausible(pose, mesh) or (pose[11, :2] - pose[12, :2]).norm() < _LEAST_SHOULDERS * eyes:
                continue
            inside = ((pose[:, :2] >= 0) & (pose[:, :2] < size)).all(1)
            pose[:, 3] *= inside
            bodies.append(Body(file=row["file"], identity=row["identity"], pose=pose))
    if len(bodies) < 2:
        raise ValueError(f"{portraits}: need two or more body portraits of split eval with landmarks")
    return bodies


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
        span = config.max_strength - config.min_strength
        strength = round(sign * (config.min_strength + span * float(torch.rand((), generator=generator))), 1)
        exemplar, query = bodies[first], bodies[second]
        if exemplar.identity == query.identity or (exemplar.file, query.file, sign > 0) in seen:
            continue
        case = BodyCase(exemplar=exemplar, query=query, operation=name, strength=strength)
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


def build_case(case: BodyCase, portraits: Path, config: BodyBenchmarkConfig) -> BodyPictures:
    """Load and retouch both portraits."""
    before, query = (read_picture(portraits / body.file) for body in (case.exemplar, case.query))
    shown, wanted = (
        _true_motion(case, pose, tuple(image.shape[-2:]))
        for pose, image in zip(_shared_poses(case), (before, query), strict=True)
    )
    largest = float(wanted.norm(dim=1).amax())
    return BodyPictures(
        before=before,
        after=to_eight_bits(warp(before, shown)),
        query=query,
        query_after=to_eight_bits(warp(query, wanted)),
        displacement=wanted,
        region=changed_mask(wanted, max(config.region_share * largest, config.region_px)),
    )


def score_case(model: MirrorPPR, case: BodyCase, pictures: BodyPictures) -> BodyScore:
    started, extracted, refused, notes, motion, image = time.perf_counter(), 0.0, "", (), None, pictures.query
    try:
        operation = model.extract(Exemplar(pictures.before, pictures.after), face="largest")
        extracted = time.perf_counter()
        result = model.retouch(pictures.query, operation, RetouchConfig(face="largest"))
        motion, image, notes = result.field.dense(), to_eight_bits(result.image), result.notes
    except ValueError as error:
        refused = str(error)
    ended, extracted = time.perf_counter(), extracted or time.perf_counter()
    motion = torch.zeros_like(pictures.displacement) if motion is None else motion
    region, target = pictures.region, pictures.query_after
    near = F.max_pool2d(region, 2 * _BEYOND_PX + 1, stride=1, padding=_BEYOND_PX)
    changed = (image != pictures.query).any(1, keepdim=True).float()
    gain = region_psnr(image, target, region) - region_psnr(pictures.query, target, region)
    return BodyScore(
        case=case,
        relative_epe=float(relative_epe(motion, pictures.displacement, region)),
        gain_db=float(gain),
        changed_outside=float((changed * (1 - region)).sum() / (1 - region).sum().clamp_min(1)),
        changed_beyond=float((changed * (1 - near)).sum() / (1 - near).sum().clamp_min(1)),
        extract_seconds=extracted - started,
        retouch_seconds=ended - extracted,
        refused=refused,
        notes=notes,
    )


def write_report(scores: Sequence[BodyScore], config: BodyBenchmarkConfig) -> str:
    """Markdown: one line for each operation and one for all."""
    lines = [
        "# Benchmark B: body operations",
        "",
        "Made by `python -m training.body_benchmark --portraits DIR`; do not edit.",
        "",
        f"{len(scores)} cross-identity cases on body portraits of split eval, strengths {config.min_strength:g} to "
        f"{config.max_strength:g} in both directions, seed {config.seed}. relEPE: mean error of the motion / mean true "
        "motion in the edited region; the query unchanged scores 1. [ ]: 95 % bootstrap interval.",
        "",
        "| operation | cases | relEPE mean | median | in-region gain, dB | changed outside | beyond 8 px |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in (*BODY_OPERATIONS, "all"):
        chosen = [s for s in scores if name in (s.case.operation, "all")]
        if not chosen:
            lines.append(f"| {name} | 0 | no two portraits show it | | | | |")
            continue
        errors = torch.tensor([s.relative_epe for s in chosen])
        lines.append(
            f"| {name.removeprefix('body_shape_')} | {len(chosen)} | {_interval(errors)} | "
            f"{float(errors.quantile(0.5)):.3f} | {_mean(chosen, lambda s: s.gain_db):+.2f} | "
            f"{_mean(chosen, lambda s: s.changed_outside):.2%} | {_mean(chosen, lambda s: s.changed_beyond):.2%} |"
        )
    refused = sum(bool(s.refused) for s in scores)
    lines += ["", f"Refused (no usable face), scored as the query unchanged: {refused}."]
    for what, seconds in (("Extraction", "extract_seconds"), ("retouching", "retouch_seconds")):
        median = torch.tensor([getattr(s, seconds) for s in scores]).quantile(0.5)
        lines.append(f"{what}, median at 512 px: {float(median):.2f} s.")
    return "\n".join(lines) + "\n"


def _interval(values: Tensor) -> str:
    """Mean and its 95 % bootstrap interval; the same for the same values."""
    picks = torch.randint(len(values), (_RESAMPLES, len(values)), generator=torch.Generator().manual_seed(0))
    low, high = values[picks].mean(dim=1).quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{float(values.mean()):.3f} [{low:.3f}, {high:.3f}]"


def _mean(scores: Sequence[BodyScore], what: Callable[[BodyScore], float]) -> float:
    return sum(what(score) for score in scores) / len(scores)
