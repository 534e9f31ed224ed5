"""Cases with known truth from a folder of portraits: exact, even, of two people, the same every time."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mirrorppr_core.geometry.displacement import warp
from training.data.landmark_sources import NpzLandmarks
from training.data.picture_files import read_picture
from training.data.portrait_folder import PortraitFolder
from training.evaluation.outputs import load_cases
from training.make_cases import CasesConfig, make_cases
from training.recipes.recipe import Recipe, recipe_displacement, recipe_folds

SIZE = 128
SMALL = CasesConfig(
    num_cases=4, operations=("mouth_resize", "nose_alar"), min_face_px=25, combined_share=0.5, max_strength=60
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three drawn portraits; points that are no face but have something to move."""
    root = tmp_path_factory.mktemp("portraits")
    generator = torch.Generator().manual_seed(0)
    y, x = np.mgrid[:SIZE, :SIZE] / 10
    for name, phase in (("a", 0), ("b", 2), ("c", 4)):
        channels = [np.sin(x + phase), np.cos(y - phase), np.sin(x + y)]
        Image.fromarray(np.uint8(127 + 100 * np.stack(channels, -1))).save(root / f"{name}.png")
    meshes = 44 + 40 * torch.rand(3, 478, 2, generator=generator)
    np.savez(root / "landmarks.npz", files=np.array(["a.png", "b.png", "c.png"]), mesh=meshes.numpy() + 0.5)
    return PortraitFolder(root, NpzLandmarks(root / "landmarks.npz"), min_side=SIZE)


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("cases") / "one"
    make_cases(folder, out, SMALL)
    return out


def test_both_pairs_are_the_recipe_done_exactly(folder, made):
    rows = json.loads((made / "dataset.json").read_text())
    for case, row in zip(load_cases(made / "dataset.json"), rows, strict=True):
        recipe = Recipe.from_json(row["recipe"])
        for before, after in ((case.exemplar_before, case.exemplar_after), (case.query, case.target)):
            portrait = folder.read("abc".index(before.stem[-1]))
            motion = recipe_displacement(recipe, portrait.mesh, portrait.pose, (SIZE, SIZE))
            expected = (warp(portrait.image, motion) * 255).round() / 255
            assert torch.equal(read_picture(before), portrait.image)
            assert torch.equal(read_picture(after), expected)
            assert float(motion.norm(dim=1).amax()) * 512 / SIZE >= SMALL.min_motion_px and not recipe_folds(motion)


def test_cases_are_of_two_people_and_visit_operations_and_directions_in_turn(made):
    cases = load_cases(made / "dataset.json")
    assert all(case.exemplar_before != case.query for case in cases)
    rows = json.loads((made / "dataset.json").read_text())
    steps = [[(s["operation"], s["strength"] > 0) for s in row["recipe"]["steps"]] for row in rows]
    assert [first for first, *_ in steps] == [(name, up) for name in SMALL.operations for up in (True, False)]
    assert Counter(len(s) for s in steps) == {1: 2, 2: 2}
    assert all(len({name for name, _ in s}) == len(s) for s in steps)
    assert [case.operation for case in cases if case.operation != "two operations"] == [
        f"{name} {'+' if up else '-'}" for ((name, up), *more) in steps if not more
    ]


def test_the_same_seed_gives_the_same_files_and_another_seed_others(folder, made, tmp_path):
    make_cases(folder, tmp_path / "again", SMALL)
    names = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
    assert names == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert all((made / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in names)
    make_cases(folder, tmp_path / "other", CasesConfig(**{**vars(SMALL), "seed": 1, "num_cases": 1}))
    assert (tmp_path / "other/images/case0000_pair2_edited.png").read_bytes() != (
        made / "images/case0000_pair2_edited.png"
    ).read_bytes()


def test_a_folder_that_cannot_show_an_operation_says_which(folder, tmp_path):
    body = CasesConfig(num_cases=1, operations=("body_shape_slim_leg",), min_face_px=25)
    with pytest.raises(ValueError, match="show body_shape_slim_leg"):
        make_cases(folder, tmp_path, body)
    assert not (tmp_path / "dataset.json").exists()


def test_cases_are_never_mixed_into_a_folder_that_holds_some(folder, made):
    with pytest.raises(ValueError, match="already holds a dataset.json"):
        make_cases(folder, Path(made), SMALL)


def test_impossible_requests_are_refused():
    with pytest.raises(ValueError, match="one or more"):
        CasesConfig(num_cases=0)
    with pytest.raises(ValueError, match="0 < min <= max"):
        CasesConfig(min_strength=0)
