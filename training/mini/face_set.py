"""Portraits as the trainer sees them: canonical crops, face shapes and tables of motion, computed once and kept.

    portraits.csv + landmarks.npz + pictures  ->  FaceSet: crops, shapes, landmarks; what operations truly do to each
                                                  face, and what a locator that errs a little believes they do

Everything after this file lives in the view (64 x 64 cells): a face is its straightened 128 px crop and its shape
map, and an operation is a motion in cells. That makes a sample cheap enough to draw fresh ones on one CPU core.
Shapes: F faces, N cells a side, O operations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import FACE_POINTS
from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.faces.view import CanonicalView, FaceView, ViewConfig
from mirrorppr_core.file_writing import replacing
from mirrorppr_core.operations.atoms import KNOWN_OPERATIONS, atoms_of
from mirrorppr_core.operations.bank import PhotoFace, bank_motions
from mirrorppr_core.operations.llw import OPERATIONS, llw_displacement_at
from mirrorppr_core.operations.professional import OPERATIONS as PROFESSIONAL
from mirrorppr_core.operations.professional import professional_displacement_at

from ..data.labelled import LabelledPortrait, labelled_portraits, source_weights
from ..data.tables import read_arrays
from ..locator.errors import LOOK_ERROR, landmark_errors

TABLE_STRENGTHS = (-100, -50, 50, 100)
# Professional operations of the face, and the rows of the table that each of them adds up: (right, left) where it is
# paired, else one. They are linear in their strength, so one entry at +100 is enough.
PROFESSIONAL_FACE = tuple(name for name, operation in PROFESSIONAL.items() if not operation.on_body)
_SIDES = tuple((n, s) for n in PROFESSIONAL_FACE for s in (("right", "left") if PROFESSIONAL[n].paired else ("both",)))
PROFESSIONAL_ROWS = {n: tuple(r for r, (m, _) in enumerate(_SIDES) if m == n) for n in PROFESSIONAL_FACE}


LOOKS = 2  # of a locator at each face, every one with its own error
_BATCH = 32
_TABLES = 2  # raise it when tables that lie in caches are wrong; 1 took the size of a neighbour for every picture


@dataclass
class FaceSet:
    """One split in the canonical view.

    pixels: (F, 3, S, S) uint8.  shapes: (F, 2, N, N) cells.  points: (F, 130, 2) cells.
    weight: (F,) sampling weight, so that no source dominates.  identity: F names.  place: (F,) rows of the tables.
    Tables, which subsets share, as they are large (R rows, float16, motions in cells):
    llw: (R, O, 4, 2, N, N) true motion at TABLE_STRENGTHS, operations in the order of OPERATIONS.
    professional: (R, P, 2, N, N) true motion at +100, columns as in PROFESSIONAL_ROWS.
    atoms: (R, LOOKS, M, 2, N, N) the bank of all known operations as a locator's look at the face gives it.
    errors: (R, LOOKS, 130, 2) cells, what that look gets wrong.
    """

    pixels: Tensor
    shapes: Tensor
    points: Tensor
    weight: Tensor
    identity: list[str]
    place: Tensor
    llw: Tensor
    professional: Tensor
    atoms: Tensor
    errors: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, rows: Tensor) -> FaceSet:
        names = [self.identity[int(r)] for r in rows]
        own = {name: getattr(self, name)[rows] for name in ("pixels", "shapes", "points", "weight", "place")}
        return replace(self, identity=names, **own)


def load_faces(
    folder: Path, *, split: str, locator: Locator, view: ViewConfig, cache: Path, crop_size: int = 128
) -> FaceSet:
    """All faces of a split that have landmarks. The first call takes minutes; the result is cached on disk.

    folder: of portraits.csv, landmarks.npz and the pictures (data/labelled.py); those under body/ are left out, as
    their faces are too small for the crops.
    """
    canonical = CanonicalView(view, locator.mean_face)
    key = _key(canonical, crop_size, locator)
    tables = [cache / f"{name}_{split}_{key}.npz" for name in ("faces", "professional", "atoms")]
    cache.mkdir(parents=True, exist_ok=True)
    makers = (
        lambda portraits: _faces_and_llw(portraits, canonical, crop_size),
        lambda portraits: {"professional": _professional(portraits, canonical)},
        lambda portraits: _looks(portraits, canonical, locator),
    )
    for stored, make in zip(tables, makers, strict=True):
        if not stored.exists():
            _write(stored, make(labelled_portraits(folder, split=split)))
    arrays: dict[str, np.ndarray] = {}
    for stored in tables:
        arrays |= read_arrays(stored, remedy="delete it, it is made anew")
    names = [str(name) for name in arrays.pop("identity")]
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return FaceSet(**tensors, identity=names, place=torch.arange(len(names)))


def _key(canonical: CanonicalView, crop_size: int, locator: Locator) -> str:
    """Changes with all that tables follow from: settings, the locator's mesh, what operations do to its mean face."""
    mesh = locator.mean_mesh * 100 + 256
    seen = canonical.fit(mesh[list(FACE_POINTS)])
    atoms = bank_motions(atoms_of(KNOWN_OPERATIONS), PhotoFace(mesh, (512, 512)), seen, canonical)[0]
    points, halves = seen.positions.flatten(2).mT, []
    for name in OPERATIONS:
        halves += [llw_displacement_at(points, mesh[None], (512, 512), operation=name, strength=s) for s in (-50, 50)]
    settings = (_TABLES, canonical.config, crop_size, TABLE_STRENGTHS, LOOKS, LOOK_ERROR)
    digest = hashlib.sha256(str(settings).encode())
    digest.update(locator.mean_mesh.numpy().tobytes() + locator.ridge.numpy().tobytes())
    for motion, steps_per_unit in ((atoms, 20), (torch.cat(halves), 2)):
        # Coarse: other processors round the last digits otherwise.
        digest.update((motion * steps_per_unit).round().short().contiguous().numpy().tobytes())
    return digest.hexdigest()[:8]


def split_by_identity(faces: FaceSet, *, held_out: float, seed: int) -> tuple[FaceSet, FaceSet]:
    """Training and validation faces with no identity in common."""
    names = sorted(set(faces.identity))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {names[i] for i in order[: max(1, int(len(names) * held_out))]}
    is_held = torch.tensor([name in held for name in faces.identity])
    return faces.subset((~is_held).nonzero()[:, 0]), faces.subset(is_held.nonzero()[:, 0])


def _faces_and_llw(portraits: Sequence[LabelledPortrait], canonical: CanonicalView, crop_size: int) -> dict:
    size = canonical.config.size
    pixels, shapes, points = [], [], []
    for count, portrait in enumerate(portraits, 1):
        face = canonical.fit(portrait.points)
        crop = canonical.see(portrait.picture(), face, size=crop_size)[0]
        pixels.append((crop.clamp(0, 1) * 255).round().byte())
        shapes.append(face.shape[0])
        points.append(face.similarity.inverse(portrait.points[None])[0])
        _told(count, portraits, "crops")
    llw = np.zeros((len(portraits), len(OPERATIONS), len(TABLE_STRENGTHS), 2, size, size), np.float16)
    done = 0
    for rows, picture_size in _alike(portraits):
        mesh = torch.stack([portraits[row].mesh for row in rows])  # (B, 478, 2)
        views = [canonical.fit(portraits[row].points) for row in rows]
        positions = _positions(views)
        for o, name in enumerate(OPERATIONS):
            for s, strength in enumerate(TABLE_STRENGTHS):
                moved = llw_displacement_at(positions, mesh, picture_size, operation=name, strength=strength)
                llw[rows, o, s] = _in_cells(moved, views, canonical)
        done += len(rows)
        _told(done, portraits, "LLW")
    return {
        "pixels": torch.stack(pixels).numpy(),
        "shapes": torch.stack(shapes).numpy(),
        "points": torch.stack(points).numpy(),
        "llw": llw,
        "weight": source_weights(portraits).numpy(),
        "identity": np.array([portrait.identity for portrait in portraits]),
    }


def _alike(portraits: Sequence[LabelledPortrait]) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Rows in batches of pictures of one size, (H, W): operations are measured in the size of their picture."""
    by_size: dict[tuple[int, int], list[int]] = {}
    for row, portrait in enumerate(portraits):
        by_size.setdefault(portrait.size(), []).append(row)
    for size, rows in by_size.items():
        for start in range(0, len(rows), _BATCH):
            yield rows[start : start + _BATCH], size


def _professional(portraits: Sequence[LabelledPortrait], canonical: CanonicalView) -> np.ndarray:
    """(R, P, 2, N, N)."""
    size = canonical.config.size
    table = np.zeros((len(portraits), len(_SIDES), 2, size, size), np.float16)
    for start in range(0, len(portraits), _BATCH):
        batch = portraits[start : start + _BATCH]
        mesh, views = torch.stack([p.mesh for p in batch]), [canonical.fit(p.points) for p in batch]
        positions = _positions(views)
        for row, (name, side) in enumerate(_SIDES):
            moved = professional_displacement_at(positions, mesh, None, operation=name, strength=100, side=side)
            table[start : start + len(mesh), row] = _in_cells(moved, views, canonical)
        _told(start + len(batch), portraits, "professional operations")
    return table


def _looks(portraits: Sequence[LabelledPortrait], canonical: CanonicalView, locator: Locator) -> dict:
    """The bank as it is seen through a locator: its errors, and a mesh that it only guesses from 130 points."""
    atoms, size = atoms_of(KNOWN_OPERATIONS), canonical.config.size
    generator = torch.Generator().manual_seed(0)
    table = np.zeros((len(portraits), LOOKS, len(atoms), 2, size, size), np.float16)
    errors = torch.zeros(len(portraits), LOOKS, len(FACE_POINTS), 2)
    for index, portrait in enumerate(portraits):
        errors[index] = landmark_errors(generator, LOOKS) * canonical.cells_per_eye_distance
        points = portrait.points
        _, similarity = canonical.shapes(points[None])
        for look in range(LOOKS):
            seen = similarity.apply(similarity.inverse(points[None]) + errors[index, look])[0]
            face = PhotoFace(locator.mesh(seen), portrait.size())
            table[index, look] = bank_motions(atoms, face, canonical.fit(seen), canonical)[0].half().numpy()
        _told(index + 1, portraits, "bank")
    return {"atoms": table, "errors": errors.numpy()}


def _told(done: int, portraits: Sequence[LabelledPortrait], what: str) -> None:
    if done % (3 * _BATCH) == 0 or done == len(portraits):
        print(f"{what} of {done}/{len(portraits)} faces", flush=True)


def _positions(views: list[FaceView]) -> Tensor:
    """(B, N * N, 2) photo pixels of every cell."""
    return torch.cat([v.positions for v in views]).flatten(2).transpose(1, 2)


def _in_cells(moved: Tensor, views: list[FaceView], canonical: CanonicalView) -> np.ndarray:
    """Photo displacements (B, N * N, 2) px at the cells -> (B, 2, N, N) float16 cells."""
    undo = torch.cat([torch.linalg.inv(v.similarity.linear()) for v in views])
    size = canonical.config.size
    motion = torch.einsum("bij,bnj->bin", undo, moved).reshape(-1, 2, size, size)
    return (motion * canonical.window).half().numpy()


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as stream:
        np.savez(stream, **arrays)
