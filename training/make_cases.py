"""Test cases with known truth from any folder of portraits, in the format of SimFace-100.

    python -m training.make_cases --portraits DIR --out DIR [--cases 100] [--operations simulated] [--landmarks mini]

A case shows a retouch on one person (exemplar before and after) and asks for it on another (query; target is what it
should become). Both are made by one recipe (recipes/recipe.py), so the target is exact. The operations come in turn, in
both directions; one case in four has two of them. Motion that nobody can see on either face, or that folds, is drawn
again. Everything follows from the seed and the folder.

    OUT/dataset.json    a list of {pair1_origin, pair1_edited, pair2_origin, pair2_edited, edit_instruction, operation,
                        recipe, person}, paths relative to it; person: whom the query shows
    OUT/images/         8-bit PNG
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import FACE_POINTS, face_size
from mirrorppr_core.file_writing import write_file
from mirrorppr_core.geometry.displacement import length, warp
from mirrorppr_core.photo_files import Photo, prepare_folder, write_photo

from .data.landmark_sources import KINDS, landmark_source
from .data.portrait_folder import Portrait, PortraitFolder
from .evaluation.known_truth import check_strengths, second_direction, strength_of
from .program import Parser, run
from .recipes.recipe import GROUPS, Recipe, Step, operations_for, operations_named, recipe_displacement, recipe_folds

_MAX_DRAWS = 300
_PICTURES_KEPT = 64  # in memory; a portrait is drawn again and again


@dataclass(frozen=True, kw_only=True)
class CasesConfig:
    num_cases: int = 100
    operations: tuple[str, ...] = GROUPS["simulated"]
    seed: int = 0
    combined_share: float = 0.25  # of the cases have two operations
    min_strength: float = 40.0  # percent
    max_strength: float = 100.0
    min_motion_px: float = 1.5  # largest displacement of either portrait, scaled to 512 px; less is hard to measure
    min_face_px: float = 100.0  # longest side of the landmarks; where there is a face

    def __post_init__(self) -> None:
        if self.num_cases < 1:
            raise ValueError(f"num_cases={self.num_cases}: ask for one or more")
        if not self.operations:
            raise ValueError("no operations: name one or more, or a group such as 'simulated'")
        check_strengths(self.min_strength, self.max_strength)
        if not 0 <= self.combined_share <= 1:
            raise ValueError(f"combined_share={self.combined_share}: use 0 to 1")


@dataclass(frozen=True, kw_only=True)
class DrawnCase:
    """A recipe on two portraits. The displacements are (1, 2, H, W) of each."""

    recipe: Recipe
    exemplar: Portrait
    query: Portrait
    exemplar_motion: Tensor
    query_motion: Tensor


def make_cases(folder: PortraitFolder, out: Path, config: CasesConfig) -> list[dict]:
    """Draw all cases and write them under `out`. Returns what dataset.json lists.

    Raises ValueError where the folder cannot show an operation on two people.
    """
    if (out / "dataset.json").exists():
        raise ValueError(f"{out} already holds a dataset.json: choose another folder, or remove it")
    prepare_folder(out / "images")
    generator = torch.Generator().manual_seed(config.seed)
    draw = lru_cache(maxsize=_PICTURES_KEPT)(folder.read)
    rows, originals = [], {}
    for index in range(config.num_cases):
        case = _draw_case(folder, draw, _plan(index, config), config, generator)
        paths = {}
        for side, portrait, motion in (
            ("pair1", case.exemplar, case.exemplar_motion),
            ("pair2", case.query, case.query_motion),
        ):
            if portrait.file not in originals:
                originals[portrait.file] = f"images/{len(originals):04d}_{Path(portrait.file).stem}.png"
                _write(out / originals[portrait.file], portrait.image)
            paths[f"{side}_origin"] = originals[portrait.file]
            paths[f"{side}_edited"] = f"images/case{index:04d}_{side}_edited.png"
            _write(out / paths[f"{side}_edited"], warp(portrait.image, motion))
        steps = case.recipe.steps
        rows.append(
            {
                **paths,
                "edit_instruction": " + ".join(f"{step.operation} {step.strength:+g}" for step in steps),
                "operation": _direction(steps[0]) if len(steps) == 1 else "two operations",
                "recipe": case.recipe.to_json(),
                "person": case.query.identity,
            }
        )
    # Written last: a folder with a dataset.json is complete.
    write_file(out / "dataset.json", json.dumps(rows, indent=1))
    return rows


def _plan(index: int, config: CasesConfig) -> tuple[tuple[str, int], ...]:
    """Operations and signs of a case: all in turn, a second one at a fixed distance."""
    directions = [(name, sign) for name in config.operations for sign in (1, -1)]
    first = directions[index % len(directions)]
    is_combined = int((index + 1) * config.combined_share) > int(index * config.combined_share)
    second = second_direction(directions, index) if is_combined else None
    return (first,) if second is None else (first, second)


def _draw_case(folder: PortraitFolder, draw, plan, config: CasesConfig, generator: torch.Generator) -> DrawnCase:
    for _ in range(_MAX_DRAWS):
        pair = [draw(i) for i in torch.randint(len(folder), (2,), generator=generator).tolist()]
        spread = torch.rand(len(plan), generator=generator).tolist()
        if not all(isinstance(one, Portrait) and _suits(one, plan, config) for one in pair):
            continue
        exemplar, query = pair
        if exemplar.identity == query.identity:
            continue
        span, drawn = (config.min_strength, config.max_strength), zip(plan, spread, strict=True)
        steps = (Step(operation=name, strength=strength_of(sign, share, span)) for (name, sign), share in drawn)
        recipe = Recipe(steps=tuple(steps))
        motions = [recipe_displacement(recipe, p.mesh, p.pose, tuple(p.image.shape[-2:])) for p in pair]
        if all(_is_deliverable(motion, config) for motion in motions):
            return DrawnCase(
                recipe=recipe, exemplar=exemplar, query=query, exemplar_motion=motions[0], query_motion=motions[1]
            )
    raise ValueError(
        f"{folder.path}: no two people show {', '.join(name for name, _ in plan)} without folding in {_MAX_DRAWS} "
        "draws. Leave that operation out of --operations, or use more or larger portraits"
    )


def _suits(portrait: Portrait, plan, config: CasesConfig) -> bool:
    names = [name for name, _ in plan]
    if len(operations_for(names, portrait.mesh, portrait.pose)) < len(names):
        return False
    return portrait.mesh is None or float(face_size(portrait.mesh[list(FACE_POINTS)])) >= config.min_face_px


def _is_deliverable(motion: Tensor, config: CasesConfig) -> bool:
    longest_px = float(length(motion).amax()) * 512 / min(motion.shape[-2:])
    return longest_px >= config.min_motion_px and not recipe_folds(motion)


def _direction(step: Step) -> str:
    return f"{step.operation} {'+' if step.strength > 0 else '-'}"


def _write(path: Path, image: Tensor) -> None:
    write_photo(path, Photo((image * 255).round().byte()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("make_cases", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of pictures; portraits.csv is optional")
    parser.add_argument("--out", type=Path, required=True, help="folder for dataset.json and images/")
    parser.add_argument("--landmarks", default="mini", help=f"where they come from: {', '.join(KINDS)}")
    parser.add_argument("--split", help="only portraits of this split, for example eval")
    parser.add_argument("--cases", type=int, default=CasesConfig.num_cases)
    parser.add_argument("--operations", default="simulated", help=f"{', '.join(GROUPS)}, or names with commas")
    parser.add_argument("--seed", type=int, default=CasesConfig.seed)
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    config = CasesConfig(num_cases=options.cases, operations=operations_named(options.operations), seed=options.seed)
    folder = PortraitFolder(options.portraits, landmark_source(options.landmarks), split=options.split)
    rows = make_cases(folder, options.out, config)
    print(f"{options.out / 'dataset.json'}: {len(rows)} cases")


if __name__ == "__main__":
    sys.exit(main())
