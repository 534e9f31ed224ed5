"""Portraits become faces in the canonical view, once, and nobody is in both training and validation."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from toys import TINY, drawn_face, drawn_faces, drawn_view, seeded

from mirrorppr_core.faces.landmarks import FACE_POINTS
from mirrorppr_core.faces.locator import Locator, LocatorConfig
from mirrorppr_core.operations.atoms import KNOWN_OPERATIONS, atoms_of
from mirrorppr_core.operations.bank import PhotoFace, bank_motions
from mirrorppr_core.operations.llw import OPERATIONS, llw_displacement, llw_displacement_at
from mirrorppr_core.operations.professional import professional_displacement
from training.mini import face_set as tables
from training.mini.face_set import (
    LOOKS,
    PROFESSIONAL_ROWS,
    TABLE_STRENGTHS,
    landmark_errors,
    load_faces,
    split_by_identity,
)


def test_training_and_validation_share_no_identity():
    faces = drawn_faces(10)
    training, held_out = split_by_identity(faces, held_out=0.4, seed=0)
    assert not set(training.identity) & set(held_out.identity)
    assert len(training) == 6 and len(held_out) == 4
    assert all(torch.equal(getattr(training.subset(torch.tensor([0])), k)[0], getattr(training, k)[0])
               for k in ("pixels", "shapes", "points", "place"))  # fmt: skip


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


def drawn_locator(face=None) -> Locator:
    """One whose mean face is this one and whose mesh follows it."""
    face, locator = drawn_face() if face is None else face, Locator(LocatorConfig())
    locator.mean_mesh[list(FACE_POINTS)] = face
    return locator


def load(portraits, cache, split="train", face=None):
    size = TINY.mae.image_size
    return load_faces(
        portraits[0], split=split, locator=drawn_locator(face), view=TINY.view, cache=cache, crop_size=size
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


def test_every_look_at_a_face_errs_and_gives_the_bank_that_it_sees(portraits, tmp_path):
    faces, view = load(portraits, tmp_path), drawn_view()
    assert faces.atoms.shape[:3] == (1, LOOKS, len(atoms_of(KNOWN_OPERATIONS))) and faces.errors.shape[:2] == (1, LOOKS)
    mesh, locator = portraits[1][list(FACE_POINTS)], drawn_locator()
    _, similarity = view.shapes(mesh[None])
    seen = similarity.apply(faces.points + faces.errors[:, 1])[0]
    expected = bank_motions(atoms_of(KNOWN_OPERATIONS), PhotoFace(locator.mesh(seen), (256, 256)), view.fit(seen), view)
    assert_close(faces.atoms[0, 1].float(), expected[0], atol=1e-2, rtol=1e-2)
    assert not torch.equal(faces.errors[0, 0], faces.errors[0, 1])


def test_errors_of_a_look_are_about_those_of_the_bundled_locator():
    """It errs by 1.4 per cent of the eye distance (python -m training.train_locator --evaluate)."""
    error = landmark_errors(seeded(), 200).norm(dim=-1).mean(1)
    assert 0.010 < error.mean() < 0.014 and error.amin() < 0.006 and error.amax() > 0.018


def test_faces_are_computed_once_and_read_again(portraits, tmp_path):
    first = load(portraits, tmp_path)
    stored = tmp_path / next(p.name for p in tmp_path.iterdir() if p.name.startswith("faces_"))
    written = stored.stat().st_mtime_ns
    assert all(torch.equal(getattr(load(portraits, tmp_path), k), getattr(first, k)) for k in ("pixels", "llw"))
    assert stored.stat().st_mtime_ns == written


def test_another_template_is_computed_anew(portraits, tmp_path):
    first = load(portraits, tmp_path)
    wider = drawn_face() * torch.tensor([1.2, 1.0])
    other = load(portraits, tmp_path, face=wider)
    assert not torch.equal(other.shapes, first.shapes) and len(list(tmp_path.iterdir())) == 6


def another_bank(monkeypatch):
    monkeypatch.setattr(tables, "bank_motions", lambda *face: 1.1 * bank_motions(*face))


def another_half_strength(monkeypatch):
    def other(points, mesh, size, *, operation, strength):
        return llw_displacement_at(points, mesh, size, operation=operation, strength=strength * 0.9)

    monkeypatch.setattr(tables, "llw_displacement_at", other)


def larger_errors(monkeypatch):
    monkeypatch.setattr(tables, "LOOK_ERROR", 0.02)


@pytest.mark.parametrize("change", [another_bank, another_half_strength, larger_errors])
def test_tables_that_other_code_made_are_not_found(change, monkeypatch):
    view, locator = drawn_view(), drawn_locator()
    before = tables._key(view, 64, locator)
    assert tables._key(view, 64, locator) == before
    change(monkeypatch)
    assert tables._key(view, 64, locator) != before


def test_tables_of_another_locator_are_not_found():
    view, locator = drawn_view(), drawn_locator()
    before = tables._key(view, 64, locator)
    locator.ridge += 0.1
    assert tables._key(view, 64, locator) != before


def test_a_face_has_the_same_table_whatever_photos_stand_beside_it(portraits, tmp_path):
    """LLW is measured in the size of the picture: that of a neighbour must not count."""
    mesh = portraits[1].numpy()
    small, large = np.zeros((256, 256, 3), np.uint8), np.zeros((900, 1200, 3), np.uint8)
    tables = {}
    for beside in ("nobody", "larger"):
        folder, pictures = tmp_path / beside, {"train/a.png": small}
        if beside == "larger":
            pictures["train/b.png"] = large
        (folder / "train").mkdir(parents=True)
        for name, pixels in pictures.items():
            Image.fromarray(pixels).save(folder / name)
        rows = [f"{name},train,{name},here" for name in pictures]
        (folder / "portraits.csv").write_text("\n".join(["file,split,identity,source", *rows]))
        np.savez(folder / "landmarks.npz", files=list(pictures), mesh=np.stack([mesh + 0.5] * len(pictures)))
        tables[beside] = load((folder, None), folder / "cache")
    alone, among = tables["nobody"], tables["larger"]
    for table in ("llw", "professional", "atoms"):
        assert_close(getattr(among, table)[0], getattr(alone, table)[0], atol=1e-3, rtol=1e-3)
    own, neighbour = among.llw.float()
    assert (own - neighbour).norm() > 0.1 * own.norm(), "and a larger picture does change it"


def test_a_split_without_portraits_is_refused(portraits, tmp_path):
    with pytest.raises(ValueError, match="landmarks.npz has no face of split 'eval'"):
        load(portraits, tmp_path, split="eval")
