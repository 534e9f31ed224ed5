"""How a motion without a name is laid on another face: feature by feature, or as a whole; several pairs are mixed.

    feature by feature   every point of the motion goes where that point of the face is (the canonical view)
    as a whole           the motion goes where its middle is, and keeps its form: how the faces differ is blurred
                         over more than half an eye distance first

A contour that was stretched belongs to the first, the round dab of a brush to the second. One exemplar does not tell
which it was; the mean of both errs less than either (training/LOG.md). Several exemplars tell: what was seen on each
is laid on the others both ways (`told_by_pairs`). What they show is mixed as the query's face is a mixture of theirs
(mixture.py).

Shapes: I pairs, N cells a side. Motions and shapes are in cells; see faces/view.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces.view import CanonicalView
from ..geometry.displacement import pixel_grid
from .mixture import DOUBT, mirror_doubt, mirror_share, mirrored, shares
from .operation import Operation

UNTOLD = 0.5  # laid so far as a whole where nothing tells; named operations follow features
_BLUR = 9 / 64  # of the view's side, of the differences between two faces: more than half an eye distance
_STEP = 2  # cells: differences are smooth, so they are followed on every second cell
_ITERATIONS, _DAMPING = 20, 0.7
_SHARPNESS = 4  # how decidedly the way that errs less is taken
_NEIGHBOURS = 2  # each pair is laid on so many before and after it: all others of up to five


def followed(operation: Operation, query_shape: Tensor, view: CanonicalView, *, named: float = 0.0) -> Tensor:
    """The operation's motion on the query's face, (1, 2, N, N).  query_shape: (1, 2, N, N).

    named: how far it is believed to have a name after all (trust.py); that much is the plain mean of the pairs, feature
    by feature.
    """
    motions, shapes = of_pairs(operation)
    if named >= 1:
        return operation.motion
    if len(motions) == 1:
        made = _with_mirror_image(motions, shapes, query_shape, view, UNTOLD)
    else:
        share = UNTOLD if operation.whole is None else operation.whole
        made = _laid(motions, shapes, query_shape, share)
        faces, query = view.landmarks(shapes), view.landmarks(query_shape)[0]
        doubts = motions.new_full((len(motions),), DOUBT)
        mixed = shares(faces, query, doubts, eye_distance=view.cells_per_eye_distance)
        made = torch.einsum("i,idhw->dhw", mixed, made)[None]
    return made.lerp(operation.motion, named)


def _with_mirror_image(motion: Tensor, shape: Tensor, query_shape: Tensor, view: CanonicalView, share: float) -> Tensor:
    """One pair's motion (1, 2, N, N), as its face's mirror image shows it besides where both sides moved alike."""
    made, doubt = _laid(motion, shape, query_shape, share), mirror_doubt(motion)
    if doubt is None:
        return made
    face, mirror, query = (view.landmarks(one)[0] for one in (shape, mirrored(shape), query_shape))
    part = mirror_share(face, mirror, query, doubt, eye_distance=view.cells_per_eye_distance)
    return made if part == 0 else made.lerp(_laid(mirrored(motion), mirrored(shape), query_shape, share), part)


def _laid(motions: Tensor, shapes: Tensor, query_shape: Tensor, share: float) -> Tensor:
    """Each motion (I, 2, N, N) on the query's face, so far as a whole."""
    return motions.lerp(as_a_whole(motions, shapes, query_shape), share)


def of_pairs(operation: Operation) -> tuple[Tensor, Tensor]:
    """Motion and shape of each pair that the operation was read from, (I, 2, N, N) each."""
    if operation.seen is None:
        return operation.motion, operation.shape
    motions, shapes = operation.seen.split(2, dim=1)
    return motions, shapes


def as_a_whole(motions: Tensor, shapes: Tensor, query_shape: Tensor) -> Tensor:
    """Each motion (I, 2, N, N), of a face with that shape, as a whole on the query's face: (I, 2, N, N)."""
    grid = _grid(whole_cells(shapes, query_shape), motions.shape[-1])
    return F.grid_sample(motions, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def whole_cells(shapes: Tensor, query_shapes: Tensor) -> Tensor:
    """The cells of each exemplar's view at which its motion is read, for all cells of the query's: (I, 2, N, N).

    shapes: (I, 2, N, N).  query_shapes: (1 or I, 2, N, N).
    """
    n = shapes.shape[-1]
    small = (pixel_grid(n // _STEP, n // _STEP) + 0.5) * _STEP - 0.5  # every second cell of the view
    asked = _cells_at(small, query_shapes)
    apart = _blurred(asked + _at(shapes, asked) - small, _BLUR * n / _STEP)  # from the query's face to each exemplar's
    places = small + _at(query_shapes, small)  # of the query's cells
    cells = _cells_at(places + _at(apart, places, side=n), shapes)
    change = F.interpolate(cells - small, size=(n, n), mode="bicubic", align_corners=False)
    return pixel_grid(n, n) + change


def told_by_pairs(operations: Sequence[Operation]) -> float:
    """How far the look of these pairs goes as a whole, from 0 to 1: each pair's motion is laid on the next one's face.

    operations: two or more, one for each pair.
    """
    copied = whole = 0.0
    count = len(operations)
    for first in range(count):
        for second in range(count):
            if first != second and min((first - second) % count, (second - first) % count) <= _NEIGHBOURS:
                a, b = operations[first], operations[second]
                copied += _error(a.motion, b.motion)
                whole += _error(as_a_whole(a.motion, a.shape, b.shape), b.motion)
    copied, whole = copied**_SHARPNESS, whole**_SHARPNESS
    return copied / (copied + whole) if copied + whole > 0 else UNTOLD


def _error(made: Tensor, true: Tensor) -> float:
    return float((made - true).norm(dim=1).mean())


def _cells_at(places: Tensor, shapes: Tensor) -> Tensor:
    """The cells that these places of a face belong to: u + shape(u) = place.  places: (1 or I, 2, h, w)."""
    cells = places.expand(max(len(places), len(shapes)), -1, -1, -1).clone()
    for _ in range(_ITERATIONS):
        cells = cells - _DAMPING * (cells + _at(shapes, cells) - places)
    return cells


def _at(maps: Tensor, cells: Tensor, *, side: int | None = None) -> Tensor:
    """Values of smooth maps at cells (1 or I, 2, h, w); beyond the border as there.  side: of the view, in cells."""
    count = max(len(maps), len(cells))
    grid = _grid(cells, side or maps.shape[-1]).expand(count, -1, -1, -1)
    maps = maps.expand(count, -1, -1, -1)
    return F.grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _grid(cells: Tensor, side: int) -> Tensor:
    return (cells.permute(0, 2, 3, 1) + 0.5) * (2 / side) - 1


def _blurred(maps: Tensor, deviation: float) -> Tensor:
    """Gaussian blur of maps (I, 2, h, w); the border goes on for ever."""
    reach = int(3 * deviation)
    x = torch.arange(-reach, reach + 1, dtype=maps.dtype)
    kernel = torch.exp(-x.square() / (2 * deviation**2))
    kernel = kernel / kernel.sum()
    flat = F.pad(maps, (reach, reach, reach, reach), mode="replicate").flatten(0, 1)[:, None]
    return F.conv2d(F.conv2d(flat, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))[:, 0].view_as(maps)
