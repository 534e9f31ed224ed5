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

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.geometry.displacement import jacobian_determinant, pixel_grid
from mirrorppr_core.operations.llw import OPERATIONS, apply_llw, llw_sequence_at

from ..data.labelled import labelled_portraits
from ..data.picture_files import read_picture
from .known_truth import CasePictures, check_strengths, edited_region, second_direction, strength_of, to_eight_bits

_MAX_DRAWS = 500


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    num_single: int = 160  # cases of one operation: ten of each of the 16 operations and directions
    num_combined: int = 48  # cases of two operations, one after the other
    seed: int = 0
    min_strength: float = 40.0  # percent
    max_strength: float = 100.0
    min_motion_px: float = 0.5  # largest displacement of either face must reach this, at 512 px

    def __post_init__(self) -> None:
        if self.num_single < 0 or self.num_combined < 0 or self.num_single + self.num_combined == 0:
            raise ValueError(f"{self.num_single} single and {self.num_combined} combined cases: ask for one or more")
        check_strengths(self.min_strength, self.max_strength)


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


def load_people(portraits: Path) -> list[Person]:
    """The eval portraits of faces in which one was found. portraits: folder of portraits.csv and landmarks.npz."""
    people = [
        Person(file=portrait.file, identity=portrait.identity, mesh=portrait.mesh)
        for portrait in labelled_portraits(portraits, split="eval")
    ]
    if len({person.identity for person in people}) < 2:
        raise ValueError(f"{portraits}: need eval portraits of two people or more. Check portraits.csv")
    return people


def list_cases(people: list[Person], config: BenchmarkConfig, *, size: tuple[int, int] = (512, 512)) -> list[Case]:
    """The cases, shuffled: the first N of them are a fair sample.  size: (H, W) of the portraits."""
    generator = torch.Generator().manual_seed(config.seed)
    directions = [(name, sign) for name in OPERATIONS for sign in (1, -1)]
    plans = [(directions[i % len(directions)],) for i in range(config.num_single)]
    for i in range(config.num_combined):
        plans.append((directions[i % len(directions)], second_direction(directions, i)))
    order = torch.randperm(len(plans), generator=generator).tolist()
    return [_draw_case(people, plans[i], config, size, generator) for i in order]


def build_case(case: Case, portraits: Path) -> CasePictures:
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
        region=edited_region(truth.displacement),
    )


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
        span, shares = (config.min_strength, config.max_strength), torch.rand(len(plan), generator=generator).tolist()
        steps = tuple((name, strength_of(sign, s, span)) for (name, sign), s in zip(plan, shares, strict=True))
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
