"""The canonical face view: one frame in which every face has its features in the same place.

    template --(smoothed thin-plate spline)--> photo        C(u) = similarity(u + shape(u))

A retouching operation looks almost the same on every face once it is seen in this frame, so little is left to
learn. The spline from the template's landmarks to the photo's is linear in the photo's landmarks: its dense map is
a constant matrix times the landmarks. It is smoothed (not interpolating): an exact spline folds on a few per cent
of faces. It reaches as far as the landmarks do; beside the face (outline.py) every cell keeps the shape of the nearest
place of the outline, fading to half of it. Motion is carried between photo and view by ONE similarity per face, never
by the local Jacobian, so that a motion of a tenth of the face stays a tenth of the face.

Thin-plate splines: Bookstein 1989; smoothing: Wahba 1990. Similarity fit: Umeyama 1991 (see landmarks.py).
Shapes: K landmarks, N cells a side. Cells and pixels: centre of the first one is 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry.crop import pixel_box
from ..geometry.displacement import pixel_grid, sample, smoothstep
from ..geometry.field import Field
from ..geometry.similarity import Similarity, fit_similarity
from ..stopping import stop_if_asked
from ..windows import block_mean
from .landmarks import OVAL
from .outline import onto


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """The canonical face view."""

    size: int = 64  # cells a side
    side: float = 4.0  # width of the view in eye distances; the face takes about two thirds
    smoothing: float = 0.1  # of the spline; 0 interpolates and folds on a few per cent of faces

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 512 or self.size % 16:
            raise ValueError(f"view size={self.size}: use a multiple of 16, 64 is usual (at most 512)")
        if not 2 <= self.side <= 100 or not 0 <= self.smoothing <= 1000:
            raise ValueError(
                f"view side={self.side}, smoothing={self.smoothing}: need side >= 2 and smoothing >= 0, to 100, 1000"
            )


_INVERSE_ITERATIONS = 24
_FADE = 0.5  # eye distances beside the face over which a face's own shape is lost ...
_KEPT_FAR = 0.5  # ... down to this share of it
_BORDER_CELLS = 4  # motion fades to zero over these cells: nothing may jump at the edge of the view


@dataclass(frozen=True)
class FaceView:
    """One face seen through the canonical view.

    positions: (1, 2, N, N) photo pixels (x, y) of every cell.  shape: (1, 2, N, N) cells, how this face differs from
    the template (zero on the mean face).  similarity: cells -> photo pixels; its scale is pixels per cell.
    """

    positions: Tensor
    shape: Tensor
    similarity: Similarity

    @property
    def pixels_per_cell(self) -> float:
        return float(self.similarity.scale)

    def corners(self, margin: float = 0.0) -> tuple[Tensor, Tensor]:
        """Lowest and highest photo position that the view sees, with a margin in pixels: x, y each."""
        return self.positions.amin(dim=(0, 2, 3)) - margin, self.positions.amax(dim=(0, 2, 3)) + margin

    def cropped(self, *, left: int, top: int, factor: float = 1.0) -> FaceView:
        """The view of the same face in a crop with this corner, reduced by a factor (below 1: enlarged)."""
        corner = self.positions.new_tensor([left, top])
        similarity = Similarity(
            self.similarity.scale / factor,
            self.similarity.rotation,
            (self.similarity.translation - corner + 0.5) / factor - 0.5,
        )
        positions = (self.positions - corner.view(1, 2, 1, 1) + 0.5) / factor - 0.5
        return FaceView(positions=positions, shape=self.shape, similarity=similarity)


class CanonicalView(nn.Module):
    """Template and spline matrices for one ViewConfig and one mean face.

    mean_face: (K, 2), eye centres one unit apart, origin between them, x right, y down (Locator.mean_face).
    """

    def __init__(self, config: ViewConfig, mean_face: Tensor):
        super().__init__()
        self.config = config
        cells_per_unit = config.size / config.side
        extent = torch.stack([mean_face.amin(0), mean_face.amax(0)]).double()
        centre = (config.size - 1) / 2
        template = (mean_face.double() - extent.mean(0)) * cells_per_unit + centre
        self.register_buffer("template", template.float(), persistent=False)
        self._cells_per_unit, self._exact_template = cells_per_unit, template
        matrix = self._rows_at(_cells(config.size).double())
        self.register_buffer("matrix", matrix.float(), persistent=False)  # (N * N, K)
        # Back from shape maps to landmarks: a least-squares inverse, exact for maps that the matrix made.
        self.register_buffer("readout", torch.linalg.pinv(matrix).float(), persistent=False)  # (K, N * N)
        self.register_buffer("window", _window(config.size), persistent=False)  # (1, 1, N, N)

    def _rows_at(self, cells: Tensor) -> Tensor:
        template = self._exact_template
        place, beside = onto(cells, template[list(OVAL)])
        kept = _KEPT_FAR + (1 - _KEPT_FAR) * torch.exp(-beside / (_FADE * self._cells_per_unit))
        return kept[:, None] * _spline_matrix(template, place, smoothing=self.config.smoothing)

    def rows_at(self, cells: Tensor) -> Tensor:
        """Rows like those of `matrix` for any places of the view.  cells: (P, 2).  Returns (P, K)."""
        return self._rows_at(cells.double()).float()

    @property
    def cells_per_eye_distance(self) -> float:
        return self.config.size / self.config.side

    def shapes(self, landmarks: Tensor) -> tuple[Tensor, Similarity]:
        """Shape maps of many faces at once. landmarks: (B, K, 2). Returns (B, 2, N, N) cells and the similarities."""
        n = self.config.size
        similarity = fit_similarity(self.template.expand_as(landmarks), landmarks)
        local = similarity.inverse(landmarks)  # the face in cells, rotation and scale removed
        dense = torch.einsum("nk,bkd->bnd", self.matrix, local - self.template)
        return dense.transpose(1, 2).reshape(-1, 2, n, n), similarity

    def landmarks(self, shape: Tensor) -> Tensor:
        """The landmarks (B, K, 2), in cells, of the faces with these shape maps (B, 2, N, N)."""
        return self.template + torch.einsum("kn,bdn->bkd", self.readout, shape.flatten(2))

    def fit(self, landmarks: Tensor) -> FaceView:
        """View of one face. landmarks: (K, 2) photo pixels."""
        shape, similarity = self.shapes(landmarks[None])
        n = self.config.size
        cells = pixel_grid(n, n) + shape
        positions = similarity.apply(cells.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(1, 2, n, n)
        return FaceView(positions=positions, shape=shape, similarity=similarity)

    def see(self, image: Tensor, view: FaceView, *, size: int) -> Tensor:
        """The straightened face. image: (1, C, H, W). Returns (1, C, size, size).

        The photo is first reduced so that one output pixel never skips over input pixels (no aliasing).
        """
        positions = F.interpolate(view.positions, size=(size, size), mode="bilinear", align_corners=False)
        step = view.pixels_per_cell * self.config.size / size
        image, positions = _reduce(image, positions, step)
        return sample(image, positions, mode="bilinear")

    def motion_from_photo(self, displacement: Tensor, view: FaceView) -> Tensor:
        """Photo displacement (1, 2, H, W) px -> canonical motion (1, 2, N, N) in cells."""
        displacement, positions = _reduce(displacement, view.positions, view.pixels_per_cell)
        motion = sample(displacement, positions, mode="bilinear")
        return _turn(motion, torch.linalg.inv(view.similarity.linear())) * self.window

    def motion_to_photo(self, motion: Tensor, view: FaceView, *, height: int, width: int) -> Field:
        """Canonical motion (1, 2, N, N) cells -> displacement of the photo, pixels, at native resolution.

        Exact zeros stay exact zeros, so the pixels there are copied.
        """
        moving = (motion != 0).any(1)[0]
        if not moving.any():
            return Field.zero(height, width)
        # Bicubic enlarging reaches two cells; outside the box the motion is zero by construction.
        reach = F.max_pool2d(moving[None, None].float(), 5, stride=1, padding=2)[0, 0] > 0
        corners = view.positions[0][:, reach]
        margin = 3 * view.pixels_per_cell
        left = max(0, int(corners[0].min() - margin))
        top = max(0, int(corners[1].min() - margin))
        right = min(width, int(corners[0].max() + margin) + 2)
        bottom = min(height, int(corners[1].max() + margin) + 2)
        if right <= left or bottom <= top:
            return Field.zero(height, width)
        stride = max(1.0, view.pixels_per_cell / 2)
        rows = max(2, round((bottom - top) / stride))
        columns = max(2, round((right - left) / stride))
        y = (torch.arange(rows, dtype=torch.float32) + 0.5) * (bottom - top) / rows - 0.5 + top
        x = (torch.arange(columns, dtype=torch.float32) + 0.5) * (right - left) / columns - 0.5 + left
        points = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)])[None].to(motion)
        cells = self._invert(points, view)
        local = _turn(_sample_zero(motion, cells), view.similarity.linear())
        stop_if_asked()
        dense = F.interpolate(local, size=(bottom - top, right - left), mode="bicubic", align_corners=False)
        return Field(displacement=dense, left=left, top=top, height=height, width=width)

    def weight_at(self, points: Tensor, weights: Tensor, view: FaceView) -> Tensor:
        """Weights of the cells (1, 1, N, N) at photo positions (1, 2, h, w), 0 outside the view: (1, 1, h, w)."""
        n = weights.shape[-1]
        grid = (self._invert(points, view).permute(0, 2, 3, 1) + 0.5) * 2 / n - 1
        return F.grid_sample(weights, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def _invert(self, points: Tensor, view: FaceView) -> Tensor:
        """Cells u with C(u) = point, by damped fixed-point iteration. points: (1, 2, h, w) photo pixels."""
        h, w = points.shape[-2:]
        flat = points.flatten(2).transpose(1, 2)
        straight = view.similarity.inverse(flat).transpose(1, 2).reshape(1, 2, h, w)
        cells = straight
        for _ in range(_INVERSE_ITERATIONS):
            cells = cells + 0.8 * (straight - cells - sample(view.shape, cells, mode="bilinear"))
        return cells


def _cells(n: int) -> Tensor:
    """(N * N, 2) cell coordinates x, y, row by row."""
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], dim=1).float()


def _turn(vectors: Tensor, linear: Tensor) -> Tensor:
    """Each vector of a (B, 2, h, w) map times its face's matrix (B, 2, 2)."""
    return torch.einsum("bij,bjhw->bihw", linear, vectors)


def _window(n: int) -> Tensor:
    """1 inside, a smooth fall to 0 over the border cells."""
    ramp = smoothstep(torch.minimum(torch.arange(n), torch.arange(n).flip(0)) / _BORDER_CELLS)
    return (ramp[:, None] * ramp[None, :])[None, None]


def _spline_matrix(template: Tensor, points: Tensor, *, smoothing: float) -> Tensor:
    """Matrix M with M @ values = smoothed thin-plate spline through (template, values), at the points.

    template: (K, 2), points: (P, 2).  Returns (P, K).
    """
    k = template.shape[0]
    scale = template.std()
    template, points = template / scale, points / scale
    system = torch.zeros(k + 3, k + 3, dtype=template.dtype)
    system[:k, :k] = _kernel(template, template) + smoothing * torch.eye(k, dtype=template.dtype)
    system[:k, k:] = _affine(template)
    system[k:, :k] = _affine(template).T
    weights = torch.linalg.inv(system)[:, :k]
    return torch.cat([_kernel(points, template), _affine(points)], dim=1) @ weights


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    squared = (a[:, None] - b[None]).square().sum(-1)
    return squared * squared.clamp(min=1e-12).log()


def _affine(points: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(points[:, :1]), points], dim=1)


def _reduce(image: Tensor, positions: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Shrink the image around the positions by a whole factor, so that sampling every `step` pixels does not alias."""
    factor = int(step)
    if factor < 2:
        return image, positions
    low, high = positions.amin(dim=(0, 2, 3)).floor() - factor, positions.amax(dim=(0, 2, 3)).ceil() + factor
    left, top, right, bottom = pixel_box(low, high, image)
    crop = image[..., top:bottom, left:right]
    pad = (0, -crop.shape[-1] % factor, 0, -crop.shape[-2] % factor)
    crop = block_mean(F.pad(crop, pad, mode="replicate"), factor)
    origin = torch.tensor([left, top], dtype=positions.dtype).view(1, 2, 1, 1)
    return crop, (positions - origin + 0.5) / factor - 0.5


def _sample_zero(motion: Tensor, cells: Tensor) -> Tensor:
    """Bicubic lookup of the motion; zero outside the view."""
    n = motion.shape[-1]
    grid = (cells.permute(0, 2, 3, 1) + 0.5) * 2 / n - 1
    return F.grid_sample(motion, grid, mode="bicubic", padding_mode="zeros", align_corners=False)
