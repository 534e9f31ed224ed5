"""Portraits become faces in the canonical view, once, and nobody is in both training and validation."""

import numpy as np
import pytest
import torch
from PIL import Image
from toys import TINY, drawn_face, drawn_faces, drawn_view, seeded

from mirrorppr_core.landmarks import FACE_POINTS
from mirrorppr_core.professional import professional_displacement
from mirrorppr_core.warping import OPERATIONS, llw_displacement
from training.portraits import PROFESSIONAL_ROWS, TABLE_STRENGTHS, load_faces, split_by_identity


def test_training_and_validation_share_no_identity():
    faces = drawn_faces(10)
    training, held_out = split_by_identity(faces, held_out=0.4, seed=0)
    assert not set(training.identity) & set(held_out.identity)
    assert len(training) == 6 and len(held_out) == 4
    assert all(torch.equal(getattr(training.subset(torch.tensor([0])), k)[0], getattr(training, k)[0])
               for k in ("pixels", "shapes", "points", "llw"))  # fmt: skip


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Two drawn portraits in the layout that the trainer reads; the second has no landmarks."""
    folder, generator = tmp_path_factory.mktemp("portraits"), seeded(2)
    mesh = 100 + 40 * torch.rand(478, 2, generator=generator) * torch.tensor([1.4, 2.0])
    mesh[list(FACE_POINTS)] = drawn_face() * 40 + torch.tensor([128.0, 110.0])
    (folder / "train").mkdir()
    for name in ("train/a.png", "train/b.png"):
        noise = (torch.rand(256, 256, 3, generator=generator) * 255).byte().numpy()
        Image.fromarray(noise).save(folder / name)
    lines = ["file,split,identity,source", "train/a.png,train,ann,here", "train/b.png,train,bob,here"]
    (folder / "portraits.csv").write_text("\n".join(lines) + "\n")
    found = np.stack([mesh.numpy() + 0.5, np.full((478, 2), np.nan)])
    np.savez(folder / "landmarks.npz", files=np.array(["train/a.png", "train/b.png"]), face_avg=found)
    return folder, mesh


def load(portraits, cache, split="train"):
    return load_faces(
        portraits[0], split=split, mean_face=drawn_face(), view=TINY.view, cache=cache, crop_size=TINY.mae.image_size
    )


def test_the_table_holds_what_the_view_sees_of_each_operation(portraits, tmp_path):
    faces, view, mesh = load(portraits, tmp_path), drawn_view(), portraits[1]
    assert faces.identity == ["ann"], "a portrait without landmarks is left out"
    face = view.fit(mesh[list(FACE_POINTS)])
    for o, name in enumerate(OPERATIONS):
        dense = llw_displacement(mesh, (256, 256), operation=name, strength=50).displacement
        seen = view.motion_from_photo(dense, face)[0]
        error = (faces.llw[0, o, TABLE_STRENGTHS.index(50)].float() - seen).norm(dim=0).mean()
        assert error < 0.25 * seen.norm(dim=0).mean(), name


def test_professional_operations_are_tabulated_side_by_side(portraits, tmp_path):
    faces, view, mesh = load(portraits, tmp_path), drawn_view(), portraits[1]
    face, seen_at_all = view.fit(mesh[list(FACE_POINTS)]), 0
    for name, rows in PROFESSIONAL_ROWS.items():
        dense = professional_displacement(mesh, None, (256, 256), operation=name, strength=100)
        seen = view.motion_from_photo(dense, face)[0]
        error = (faces.professional[0, list(rows)].float().sum(0) - seen).norm(dim=0).mean()
        if seen.norm(dim=0).amax() > 0.3:  # a random mesh has parts that are too small to see in 32 cells
            assert error < 0.25 * seen.norm(dim=0).mean(), name
            seen_at_all += 1
    assert seen_at_all > 8


def test_faces_are_computed_once_and_read_again(portraits, tmp_path):
    first = load(portraits, tmp_path)
    stored = tmp_path / next(p.name for p in tmp_path.iterdir() if p.name.startswith("faces_"))
    written = stored.stat().st_mtime_ns
    assert all(torch.equal(getattr(load(portraits, tmp_path), k), getattr(first, k)) for k in ("pixels", "llw"))
    assert stored.stat().st_mtime_ns == written


def test_another_template_is_computed_anew(portraits, tmp_path):
    first = load(portraits, tmp_path)
    wider = drawn_face() * torch.tensor([1.2, 1.0])
    other = load_faces(
        portraits[0], split="train", mean_face=wider, view=TINY.view, cache=tmp_path, crop_size=TINY.mae.image_size
    )
    assert not torch.equal(other.shapes, first.shapes) and len(list(tmp_path.iterdir())) == 4


def test_a_split_without_portraits_is_refused(portraits, tmp_path):
    with pytest.raises(
        ValueError, match="no portraits with landmarks under eval. and with split 'eval' in portraits.csv"
    ):
        load(portraits, tmp_path, split="eval")
