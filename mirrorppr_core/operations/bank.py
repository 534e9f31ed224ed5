"""The motion of every operation that has a name, on one face, as the canonical view sees it.

    landmarks of a face  ->  M atoms (M, 2, N, N) in cells: each named operation at full strength, on this very face

A named operation says exactly what it does to a face whose landmarks are known (llw_table.py, professional.py).
So when an exemplar shows one, there is nothing to transfer: it is recognised among the exemplar's atoms (bank_fit.py)
and the query's own atom is used, which fits the query by construction. Only what no atom explains is carried over.

LLW's grid belongs to the photo, so its atoms are laid on the photo's own frame. Not so in a wide shot, where that grid
is coarser than a face, and on a tilted head, whose mouth should move along the face and not along the picture: there
the frame is a square around the face, turned with it and as large as in a portrait.
Shapes: B faces, M atoms, N cells a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ..faces.landmarks import NUM_MESH
from ..faces.view import CanonicalView, FaceView
from ..side_by_side import side_by_side
from .atoms import Atom
from .llw import llw_displacement_at
from .llw_table import OPERATIONS as LLW
from .professional_atoms import professional_atoms_at

_TILTED = math.radians(10)
_WIDEST_CELLS = 144.0  # short side of a photo whose grid is still fine for a face; training portraits have 40 to 138


@dataclass(frozen=True)
class PhotoFace:
    """A face and the photo it is in.  mesh: (478, 2) px.  size: (H, W) px."""

    mesh: Tensor
    size: tuple[int, int]


def bank_motions(atoms: tuple[Atom, ...], face: PhotoFace, seen: FaceView, view: CanonicalView) -> Tensor:
    """Every atom on one face.  seen: the face in the view.  Returns (1, M, 2, N, N) cells."""
    if face.mesh.shape != (NUM_MESH, 2):
        raise ValueError(f"mesh is {tuple(face.mesh.shape)}: pass one face's ({NUM_MESH}, 2) pixels")
    n = view.config.size
    framed, points, turn = _framed(face, seen)
    moved = points.new_empty(len(atoms), n * n, 2)

    def llw(name: str, places: list[int]) -> Tensor:
        strength = points.new_tensor([atoms[place].strength for place in places])
        faces = framed.mesh.expand(len(places), -1, -1)
        return llw_displacement_at(
            points.expand(len(places), -1, -1), faces, framed.size, operation=name, strength=strength
        )

    others = [place for place, atom in enumerate(atoms) if atom.operation not in LLW]
    rows, calls = [], []
    if others:
        rows.append(others)
        calls.append(lambda: professional_atoms_at(points[0], framed.mesh, tuple(atoms[place] for place in others)))
    for name in dict.fromkeys(atom.operation for atom in atoms if atom.operation in LLW):
        rows.append([place for place, atom in enumerate(atoms) if atom.operation == name])
        calls.append(partial(llw, name, rows[-1]))
    for places, motion in zip(rows, side_by_side(*calls), strict=True):
        moved[places] = motion
    undo = torch.linalg.inv(seen.similarity.linear())  # (1, 2, 2)
    return (moved @ turn.mT @ undo.mT).mT.unflatten(2, (n, n))[None] * view.window


def _framed(face: PhotoFace, seen: FaceView) -> tuple[PhotoFace, Tensor, Tensor]:
    """The face in the frame that LLW's grid is laid on, the view's cells (1, N * N, 2) there, and the turn (2, 2) from
    the frame to the photo."""
    points, side = seen.positions.flatten(2).mT, _WIDEST_CELLS * seen.pixels_per_cell
    tilted = abs(float(seen.similarity.rotation)) > _TILTED
    if min(face.size) <= side and not tilted:
        return face, points, face.mesh.new_ones(2).diag()
    side, centre = min(side, min(face.size)), face.mesh.mean(0)
    turn = seen.similarity.linear()[0] / seen.similarity.scale if tilted else face.mesh.new_ones(2).diag()

    def placed(places: Tensor) -> Tensor:
        return (places - centre) @ turn + side / 2

    return PhotoFace(placed(face.mesh), (round(side), round(side))), placed(points), turn
