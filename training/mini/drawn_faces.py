"""Faces that nobody has, for rehearsals without portraits: smooth random pixels, shapes and operation tables.

They have every property the stages rely on (an operation means the same on all of them, and adapts to each), so losses
fall and a whole run can be rehearsed in seconds. Weights trained on them retouch nothing.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mirrorppr_core.faces.landmarks import FACE_POINTS, MIRROR_130
from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.geometry.displacement import pixel_grid
from mirrorppr_core.networks.config import ModelConfig
from mirrorppr_core.operations.llw import OPERATIONS

from ..locator.errors import landmark_errors
from .face_set import LOOKS, PROFESSIONAL_ROWS, TABLE_STRENGTHS, FaceSet

_MIRROR_X = torch.tensor([-1.0, 1.0])


def drawn_mean_face() -> Tensor:
    """Landmarks (130, 2) of a symmetric face: eyes one apart, the origin between them."""
    generator = torch.Generator().manual_seed(0)
    right = torch.rand(len(FACE_POINTS), 2, generator=generator) * torch.tensor([1.0, 2.4]) - torch.tensor([0.0, 0.8])
    own, twin = torch.arange(len(FACE_POINTS)), torch.tensor(MIRROR_130)
    points = torch.where((own < twin)[:, None], right * _MIRROR_X, right[twin])
    points[own == twin, 0] = 0.0
    return points


def drawn_faces(count: int, config: ModelConfig, *, seed: int = 0) -> tuple[FaceSet, CanonicalView]:
    """`count` faces of half as many people, and the view they are seen in."""
    generator, view = torch.Generator().manual_seed(seed), CanonicalView(config.view, drawn_mean_face())
    n = config.view.size
    landmarks = view.template + 0.3 * torch.randn(count, len(FACE_POINTS), 2, generator=generator)
    shapes, similarity = view.shapes(landmarks)
    pushes = torch.cat([_push(n, generator) for _ in OPERATIONS])
    amounts = torch.tensor(TABLE_STRENGTHS).view(1, 1, -1, 1, 1, 1) / 100
    own = (0.7 + 0.6 * torch.rand(count, 1, generator=generator)) * torch.linspace(0.6, 1.4, n)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    pixels = interpolate(coarse, (config.mae.image_size, config.mae.image_size), mode="bicubic").clamp(0, 1)
    faces = FaceSet(
        pixels=(pixels * 255).round().byte(),
        shapes=shapes,
        points=similarity.inverse(landmarks),
        llw=(own.view(-1, 1, 1, 1, 1, n) * amounts * pushes[None, :, None]).half(),
        professional=(own.view(-1, 1, 1, 1, n) * _sided_pushes(n, generator)).half(),
        weight=torch.ones(count),
        identity=[f"drawn person {i // 2}" for i in range(count)],
        place=torch.arange(count),
        atoms=torch.zeros(0),
        errors=torch.stack([landmark_errors(generator, LOOKS) for _ in range(count)]) * view.cells_per_eye_distance,
    )
    return replace(faces, atoms=_atoms(faces, generator)), view


def _atoms(faces: FaceSet, generator: torch.Generator) -> Tensor:
    """The bank: the tables at full strength, each look a little wrong about how far things move."""
    llw = faces.llw[:, :, [TABLE_STRENGTHS.index(100), TABLE_STRENGTHS.index(-100)]].flatten(1, 2)
    exact = torch.cat([llw, faces.professional], 1)[:, None]  # in the order of operations/atoms.py
    wrong = 1 + 0.05 * torch.randn(len(exact), LOOKS, exact.shape[2], 1, 1, 1, generator=generator)
    return (exact * wrong).half()


def _sided_pushes(n: int, generator: torch.Generator) -> Tensor:
    """(R, 2, n, n) cells: the rows of PROFESSIONAL_ROWS, mirror images where an operation has two."""
    pushes = []
    for rows in PROFESSIONAL_ROWS.values():
        push = _push(n, generator)
        pushes += [push, push.flip(-1) * _MIRROR_X.view(2, 1, 1)] if len(rows) == 2 else [push]
    return torch.cat(pushes)


def _push(n: int, generator: torch.Generator) -> Tensor:
    """A smooth symmetric motion of a part of the view, (1, 2, n, n) cells."""
    centre = n * (0.35 + 0.3 * torch.rand(2, generator=generator)).view(1, 2, 1, 1)
    weight = (1 - ((pixel_grid(n, n) - centre) / (0.2 * n)).square().sum(1, keepdim=True)).clamp(min=0) ** 2
    push = weight * torch.randn(1, 2, 1, 1, generator=generator)
    return push + push.flip(-1) * _MIRROR_X.view(2, 1, 1)
