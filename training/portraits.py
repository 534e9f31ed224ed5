"""Portraits as the trainer sees them: canonical crops, face shapes and LLW motion tables, computed once and kept.

    portraits.csv + landmarks.npz + pictures  ->  FaceSet(pixels, shapes, meshes)   in the canonical view

Everything after this file lives in the view (64 x 64 cells): a face is its straightened 128 px crop and its shape
map, and an operation is a motion in cells. That makes a sample cheap enough to draw fresh ones on one CPU core.
Shapes: F faces, N cells a side, O operations.
"""

from __future__ import annotations

import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mirrorppr_core.config import ViewConfig
from mirrorppr_core.landmarks import FACE_POINTS, load_landmarks
from mirrorppr_core.professional import OPERATIONS as PROFESSIONAL
from mirrorppr_core.professional import professional_displacement_at
from mirrorppr_core.views import CanonicalView, FaceView
from mirrorppr_core.warping import OPERATIONS, llw_displacement_at

TABLE_STRENGTHS = (-100, -50, 50, 100)
# Professional operations of the face, and the rows of the table that each of them adds up: (right, left) where it is
# paired, else one. They are linear in their strength, so one entry at +100 is enough.
PROFESSIONAL_FACE = tuple(name for name, operation in PROFESSIONAL.items() if not operation.on_body)
_SIDES = tuple((n, s) for n in PROFESSIONAL_FACE for s in (("right", "left") if PROFESSIONAL[n].paired else ("both",)))
PROFESSIONAL_ROWS = {n: tuple(r for r, (m, _) in enumerate(_SIDES) if m == n) for n in PROFESSIONAL_FACE}


_BATCH = 32


@dataclass
class FaceSet:
    """One split in the canonical view.

    pixels: (F, 3, S, S) uint8.  shapes: (F, 2, N, N) cells.  points: (F, 130, 2) cells.
    llw: (F, O, 4, 2, N, N) float16 motion in cells at TABLE_STRENGTHS, operations in the order of OPERATIONS.
    professional: (F, R, 2, N, N) float16 motion in cells at +100, rows as in PROFESSIONAL_ROWS.
    weight: (F,) sampling weight, so that no source dominates.  identity: F names.
    """

    pixels: Tensor
    shapes: Tensor
    points: Tensor
    llw: Tensor
    professional: Tensor
    weight: Tensor
    identity: list[str]

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, rows: Tensor) -> FaceSet:
        names = [self.identity[int(r)] for r in rows]
        tensors = (self.pixels, self.shapes, self.points, self.llw, self.professional, self.weight)
        return FaceSet(*(t[rows] for t in tensors), names)


def load_faces(
    folder: Path, *, split: str, mean_face: Tensor, view: ViewConfig, cache: Path, crop_size: int = 128
) -> FaceSet:
    """All faces of a split that have landmarks. The first call takes minutes; the result is cached on disk.

    folder holds the pictures under train/ and eval/, portraits.csv (columns file, split, identity, source) and
    landmarks.npz (files, face_avg: (n, 478, 2) MediaPipe FaceMesh points in pixels).
    """
    # Everything in the tables follows from these; another mean face or view must not find them.
    key = hashlib.sha256(f"{view}{crop_size}".encode() + mean_face.numpy().tobytes()).hexdigest()[:8]
    stored, moved = cache / f"faces_{split}_{key}.npz", cache / f"professional_{split}_{key}.npz"
    canonical = CanonicalView(view, mean_face)
    cache.mkdir(parents=True, exist_ok=True)
    if not stored.exists():
        _write(stored, _faces_and_llw(folder, split, canonical, crop_size))
    if not moved.exists():
        _write(moved, _professional(folder, split, canonical))
    with np.load(stored) as z, np.load(moved) as m:
        tensors = {k: torch.from_numpy(z[k]) for k in ("pixels", "shapes", "points", "llw", "weight")}
        return FaceSet(
            **tensors, professional=torch.from_numpy(m["professional"]), identity=[str(n) for n in z["identity"]]
        )


def split_by_identity(faces: FaceSet, *, held_out: float, seed: int) -> tuple[FaceSet, FaceSet]:
    """Training and validation faces with no identity in common."""
    names = sorted(set(faces.identity))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {names[i] for i in order[: max(1, int(len(names) * held_out))]}
    is_held = torch.tensor([name in held for name in faces.identity])
    return faces.subset((~is_held).nonzero()[:, 0]), faces.subset(is_held.nonzero()[:, 0])


def _listed(folder: Path, split: str) -> tuple[list[dict[str, str]], dict[str, Tensor]]:
    meshes = load_landmarks(str(folder / "landmarks.npz"))
    with open(folder / "portraits.csv", newline="") as handle:
        listed = [r for r in csv.DictReader(handle) if r["split"] == split and r["file"] in meshes]
    rows = [r for r in listed if r["file"].startswith(f"{split}/")]  # body/ has faces too small for the crops
    if not rows:
        raise ValueError(
            f"{folder}: no portraits with landmarks under {split}/ and with split {split!r} in portraits.csv"
        )
    return rows, meshes


def _faces_and_llw(folder: Path, split: str, canonical: CanonicalView, crop_size: int) -> dict[str, np.ndarray]:
    rows, meshes = _listed(folder, split)
    sources = [r["source"] for r in rows]
    # The square root of a source's share: large sources still count more, but do not drown the others.
    weight = np.array([sources.count(s) ** -0.5 for s in sources])
    size, face_points = canonical.config.size, list(FACE_POINTS)
    pixels, shapes, points = [], [], []
    llw = np.zeros((len(rows), len(OPERATIONS), len(TABLE_STRENGTHS), 2, size, size), np.float16)
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        mesh = torch.stack([meshes[r["file"]] for r in batch])  # (B, 478, 2)
        views = [canonical.fit(m[face_points]) for m in mesh]
        for r, m, face in zip(batch, mesh, views, strict=True):
            image = load_picture(folder / r["file"])
            pixels.append((canonical.see(image, face, size=crop_size)[0].clamp(0, 1) * 255).round().byte())
            shapes.append(face.shape[0])
            points.append(face.similarity.inverse(m[None, face_points])[0])
        positions = _positions(views)
        for o, name in enumerate(OPERATIONS):
            for s, strength in enumerate(TABLE_STRENGTHS):
                moved = llw_displacement_at(positions, mesh, tuple(image.shape[-2:]), operation=name, strength=strength)
                llw[start : start + len(batch), o, s] = _in_cells(moved, views, canonical)
        print(f"{split}: {start + len(batch)}/{len(rows)} faces", flush=True)
    return {
        "pixels": torch.stack(pixels).numpy(),
        "shapes": torch.stack(shapes).numpy(),
        "points": torch.stack(points).numpy(),
        "llw": llw,
        "weight": weight.astype(np.float32),
        "identity": np.array([r["identity"] for r in rows]),
    }


def _professional(folder: Path, split: str, canonical: CanonicalView) -> dict[str, np.ndarray]:
    rows, meshes = _listed(folder, split)
    size = canonical.config.size
    table = np.zeros((len(rows), len(_SIDES), 2, size, size), np.float16)
    for start in range(0, len(rows), _BATCH):
        mesh = torch.stack([meshes[r["file"]] for r in rows[start : start + _BATCH]])
        views = [canonical.fit(m[list(FACE_POINTS)]) for m in mesh]
        positions = _positions(views)
        for row, (name, side) in enumerate(_SIDES):
            moved = professional_displacement_at(positions, mesh, None, operation=name, strength=100, side=side)
            table[start : start + len(mesh), row] = _in_cells(moved, views, canonical)
        print(f"{split}: professional operations of {start + len(mesh)}/{len(rows)} faces", flush=True)
    return {"professional": table}


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
    temporary = path.with_suffix(".part.npz")
    np.savez(temporary, **arrays)
    os.replace(temporary, path)


def load_picture(path: Path) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    with Image.open(path) as picture:
        array = np.asarray(picture.convert("RGB"), dtype=np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1)[None]
