"""Benchmark P: what an exemplar shows on one person, done to another, with the truth known.

A case is an exemplar portrait, a query portrait of somebody else, and one or two simulated
operations (mirrorppr_core/operations/llw.py, exact mode) with their strengths. Both faces get the
same operations, so the query's true result and its true motion are known to the pixel:

    exemplar before -> exemplar after  ==(what the model must learn)==>  query -> query after

Faces are `eval` portraits, which no training run has seen. The list is a function of a seed;
every operation and direction comes equally often. Two kinds of case are drawn again: a motion that
nobody can see on either face, and a motion that folds, which no retoucher would deliver.
Pictures are built when a case is asked for and rounded to 8 bits, as files are.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.geometry.displacement import changed_mask, jacobian_determinant, pixel_grid
from mirrorppr_core.operations.llw import OPERATIONS, apply_llw, llw_sequence_at

from ..data.landmarks import load_landmarks
from ..data.picture_files import read_picture

_MAX_DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    num_single: int = 160  # cases of one operation: ten of each of the 16 operations and directions
    num_combined: int = 48  # cases of two operations, one after the other
    seed: int = 0
    min_strength: float = 40.0  # percent
    max_strength: float = 100.0
    min_motion_px: float = 0.5  # largest displacement of either face must reach this, at 512 px
    region_share: float = 0.02  # the edited region is where motion exceeds this share of its largest,
    region_px: float = 0.1  # and this many pixels

    def __post_init__(self) -> None:
        if self.num_single < 0 or self.num_combined < 0 or self.num_single + self.num_combined == 0:
            raise ValueError(f"{self.num_single} single and {self.num_combined} combined cases: ask for one or more")
        if not 0 < self.min_strength <= self.max_strength <= 100:
            raise ValueError(f"strengths {self.min_strength} to {self.max_strength}: need 0 < min <= max <= 100")


@dataclass(frozen=True, kw_only=True)
class Person:
    """One eval portrait."""

    file: str
    identity: str
    mesh: Tensor = field(repr=False)  # (478, 2)


@dataclass(frozen=True, kw_only=True)
class Case:
    """steps: (operation, strength) pairs, at most two."""

    exemplar: Person
    query: Person
    steps: tuple[tuple[str, float], ...]

    @property
    def label(self) -> str:
        return " + ".join(
            f"{name} {OPERATIONS[name].plus if s >= 0 else OPERATIONS[name].minus}" for name, s in self.steps
        )


@dataclass(frozen=True, kw_only=True)
class CasePictures:
    """A case, drawn. Pictures (1, 3, H, W), multiples of 1/255."""

    exemplar_before: Tensor
    exemplar_after: Tensor
    query: Tensor
    query_after: Tensor
    displacement: Tensor  # (1, 2, H, W) true motion of the query
    region: Tensor  # (1, 1, H, W) 1 where the query is edited


def load_people(portraits: Path) -> list[Person]:
    """The eval portraits of faces in which one was found. portraits: folder of portraits.csv and landmarks.npz."""
    meshes = load_landmarks(str(portraits / "landmarks.npz"))
    with open(portraits / "portraits.csv", newline="") as handle:
        # Bodies have the split "eval" too, in a folder of their own.
        rows = [row for row in csv.DictReader(handle) if row["file"].startswith("eval/") and row["file"] in meshes]
    people = [Person(file=row["file"], identity=row["identity"], mesh=meshes[row["file"]]) for row in rows]
    if len({person.identity for person in people}) < 2:
        raise ValueError(f"{portraits}: need eval portraits of two people or more. Check portraits.csv")
    return people


def list_cases(people: list[Person], config: BenchmarkConfig, *, size: tuple[int, int] = (512, 512)) -> list[Case]:
    """The cases, shuffled: the first N of them are a fair sample.  size: (H, W) of the portraits."""
    generator = torch.Generator().manual_seed(config.seed)
    directions = [(name, sign) for name in OPERATIONS for sign in (1, -1)]
    plans = [(directions[i % len(directions)],) for i in range(config.num_single)]
    for i in range(config.num_combined):
        first = directions[i % len(directions)]
        others = [d for d in directions if d[0] != first[0]]
        # A stride that shares no factor with their number visits all of them before any twice.
        plans.append((first, others[(5 * i + i // len(directions)) % len(others)]))
    order = torch.randperm(len(plans), generator=generator).tolist()
    return [_draw_case(people, plans[i], config, size, generator) for i in order]


def build_case(case: Case, portraits: Path, config: BenchmarkConfig) -> CasePictures:
    """Load and retouch both portraits."""
    before, query = (read_picture(portraits / person.file) for person in (case.exemplar, case.query))
    after = apply_llw(before, case.exemplar.mesh, case.steps).image
    truth = apply_llw(query, case.query.mesh, case.steps)
    return CasePictures(
        exemplar_before=before,
        exemplar_after=to_eight_bits(after),
        query=query,
        query_after=to_eight_bits(truth.image),
        displacement=truth.displacement,
        region=edited_region(truth.displacement, config),
    )


def edited_region(displacement: Tensor, config: BenchmarkConfig) -> Tensor:
    """(1, 2, H, W) -> (1, 1, H, W) of 0 and 1."""
    largest = float(displacement.norm(dim=1).amax())
    return changed_mask(displacement, max(config.region_share * largest, config.region_px))


def to_eight_bits(image: Tensor) -> Tensor:
    """What a PNG keeps of it."""
    return (image * 255).round() / 255


def _draw_case(
    people: list[Person],
    plan: tuple[tuple[str, int], ...],
    config: BenchmarkConfig,
    size: tuple[int, int],
    generator: torch.Generator,
) -> Case:
    """Two people and strengths for the planned operations, drawn until the edit can be seen and does not fold."""
    for _ in range(_MAX_DRAWS):
        exemplar, query = (people[i] for i in torch.randperm(len(people), generator=generator)[:2].tolist())
        span = config.max_strength - config.min_strength
        strengths = config.min_strength + span * torch.rand(len(plan), generator=generator)
        steps = tuple((name, round(sign * s, 1)) for (name, sign), s in zip(plan, strengths.tolist(), strict=True))
        if exemplar.identity != query.identity and all(
            _is_deliverable(person.mesh, steps, config, size) for person in (exemplar, query)
        ):
            return Case(exemplar=exemplar, query=query, steps=steps)
    raise ValueError(
        f"no pair of portraits shows {plan} without folding in {_MAX_DRAWS} draws: lower min_motion_px "
        f"({config.min_motion_px}) or use portraits with larger faces"
    )


def _is_deliverable(mesh: Tensor, steps: tuple, config: BenchmarkConfig, size: tuple[int, int]) -> bool:
    spacing = min(size) / 512 * 2  # every second pixel of a 512 px portrait is enough to judge
    grid = pixel_grid(round(size[0] / spacing), round(size[1] / spacing)) * spacing
    motion = llw_sequence_at(grid.flatten(2)[0].T, mesh, size, steps).T.reshape(grid.shape)
    seen = float(motion.norm(dim=1).amax()) * 512 / min(size) >= config.min_motion_px
    return seen and bool((jacobian_determinant(motion / spacing) > 0).all())
