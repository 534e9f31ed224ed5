"""Training samples in the canonical view: the same operation on two faces, with the noise the product will meet.

    operation (named ones and / or a random part operation)  ->  motion on exemplar A, motion on query B
    A's motion is then blurred, gated and perturbed as a measured one is; both faces get landmark noise.

Named operations are the method's eight of LLW and the professional ones of the face. *Part operations* are ours: a
random affine move of a random part (brow, lid, jaw, chin ...), expressed in units of that part, with a random soft
reach. They teach the network what retouching operations have in common, so that it does not only know the named
ones. Simulation gives true cross-identity pairs; a share of the samples uses one identity for both (the paper's
self-augmentation).
Shapes: B batch, N cells a side, K landmarks, O named operations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.fields import length
from mirrorppr_core.landmarks import (
    BROW_R,
    BROWS,
    EYE_L,
    EYE_R,
    FACE_POINTS,
    LIPS,
    MIRROR_130,
    NOSE,
    OVAL,
)
from mirrorppr_core.views import CanonicalView
from mirrorppr_core.warping import OPERATIONS

from .portraits import PROFESSIONAL_FACE, PROFESSIONAL_ROWS, FaceSet

# A sample says which operations it holds by their place in this list plus one; 0 is none, UNNAMED a part operation.
NAMED = (*OPERATIONS, *PROFESSIONAL_FACE)
UNNAMED = len(NAMED) + 1


def _rows(*mesh_indices: int) -> tuple[int, ...]:
    return tuple(FACE_POINTS.index(i) for i in mesh_indices)


# Parts that a part operation may move. One-sided ones are used alone or together with their mirror image.
PARTS: dict[str, tuple[int, ...]] = {
    "eye": EYE_R, "eyes": EYE_R + EYE_L, "brow": BROW_R, "brows": BROWS, "eye_and_brow": EYE_R + BROW_R,
    "upper_lid": _rows(173, 157, 158, 159, 160, 161), "eye_corner": _rows(33, 7, 246, 161, 163),
    "inner_eye_corner": _rows(133, 173, 155, 154, 157),
    "nose": NOSE, "nose_tip": _rows(5, 4, 1, 2), "nose_bridge": _rows(168, 6, 197, 195),
    "nose_wings": _rows(98, 327, 129, 358, 64, 294), "nose_wing": _rows(98, 129, 64),
    "mouth": LIPS, "upper_lip": _rows(185, 40, 39, 37, 0, 267, 269, 270, 409, 82, 13, 312),
    "lower_lip": _rows(146, 91, 181, 84, 17, 314, 405, 321, 375, 87, 14, 317),
    "mouth_corner": _rows(61, 78, 95, 191, 146, 185), "mouth_and_nose": LIPS + NOSE,
    "chin": _rows(152, 176, 400), "jaw": _rows(172, 150, 176), "mandible": _rows(132, 172),
    "cheek": _rows(50, 205, 101),
    "cheekbone": _rows(234, 132, 50), "temple": _rows(162, 54, 234),
    "forehead": _rows(10, 151, 9, 67, 297), "face": OVAL,
    "lower_face": _rows(152, 176, 150, 172, 132, 400, 379, 397, 361),
}  # fmt: skip
_SIDED = ("eye", "brow", "eye_and_brow", "upper_lid", "eye_corner", "inner_eye_corner", "nose_wing", "mouth_corner",
          "jaw", "mandible", "cheek", "cheekbone", "temple")  # fmt: skip
_WEAKEST_CELLS = 0.25  # part operations are at least so strong; 2 pixels at an eye distance of 128


@dataclass
class Batch:
    """One training batch, all in cells.

    copied: exemplar's measured motion.  target: the query's true motion.  shapes, landmarks (B, K, 2) and clean
    pixels of both faces.
    operation: (B, 3) index into NAMED + 1 of up to three steps, 0 = none, UNNAMED = part operation.
    strength: (B, 3, 2), -1 to 1, of the person's right and left side.
    """

    copied: Tensor
    target: Tensor
    exemplar_shape: Tensor
    query_shape: Tensor
    exemplar_points: Tensor
    query_points: Tensor
    exemplar_pixels: Tensor
    exemplar_after: Tensor
    query_pixels: Tensor
    operation: Tensor
    strength: Tensor


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How samples are drawn."""

    landmark_noise: float = 0.018  # of the eye distance, mean error of each of both faces
    eye_distance_cells: float = 16.0
    same_identity: float = 0.15  # share of self-augmented samples
    professional_share: float = 0.4  # of the named operations; the rest are LLW's
    one_sided: float = 0.4  # share of paired professional operations that move one side only
    part_share: float = 0.2  # share of samples that get a part operation on top; those without a named one always do
    leave_out: tuple[str, ...] = ()  # named operations that are never drawn: for leave-one-out studies

    def __post_init__(self) -> None:
        unknown = [name for name in self.leave_out if name not in NAMED]
        if unknown:
            raise ValueError(f"leave_out={unknown}: no such operation; names are {', '.join(NAMED)}")

    @property
    def odds(self) -> Tensor:
        """(O,) chances of the named operations."""
        llw, professional = len(OPERATIONS), len(PROFESSIONAL_FACE)
        odds = torch.cat(
            [
                torch.full((llw,), (1 - self.professional_share) / llw),
                torch.full((professional,), self.professional_share / professional),
            ]
        )
        return odds * torch.tensor([name not in self.leave_out for name in NAMED])


class Sampler:
    """Draws batches from a FaceSet. Every batch is a function of (seed, step) alone."""

    def __init__(self, faces: FaceSet, view: CanonicalView, config: SampleConfig, *, seed: int):
        self.faces, self.config, self.seed = faces, config, seed
        self.spline, self.window = view.matrix, view.window  # landmark noise to shape noise; fade at the border
        self.parts = torch.zeros(len(PARTS), len(FACE_POINTS), dtype=torch.bool)
        for row, points in enumerate(PARTS.values()):
            self.parts[row, list(points)] = True
        self.sided = torch.tensor([name in _SIDED for name in PARTS])
        self.paired = torch.tensor([len(PROFESSIONAL_ROWS.get(name, ())) == 2 for name in NAMED])

    def batch(self, step: int, size: int, *, pixels: bool = True) -> Batch:
        """pixels: False leaves the pictures out (zero), for stages that only see geometry: several times faster."""
        g = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        a = torch.multinomial(self.faces.weight, size, replacement=True, generator=g)
        b = torch.multinomial(self.faces.weight, size, replacement=True, generator=g)
        b = torch.where(_rand(g, size) < self.config.same_identity, a, b)
        flip = _rand(g, 2, size) < 0.5
        operation, strength = self._draw_named(g, size)
        motion = [self._named_motion(i, f, operation, strength) for i, f in ((a, flip[0]), (b, flip[1]))]
        # Some LLW operations fold some faces at full strength; no sample shows that. One factor for both faces.
        safe = torch.minimum(_fold_limit(motion[0], signed=True), _fold_limit(motion[1], signed=True))
        motion, strength = [m * safe.view(-1, 1, 1, 1) for m in motion], strength * safe[:, None, None]
        part = _rand(g, size) < self.config.part_share
        # A sample needs an operation: those without a named one get a part operation.
        part = part | (operation == 0).all(1)
        recipe = self._draw_part(g, size)
        shapes = [_flip_field(self.faces.shapes[i], f) for i, f in ((a, flip[0]), (b, flip[1]))]
        points = [_flip_points(self.faces.points[i], f, shapes[0].shape[-1]) for i, f in ((a, flip[0]), (b, flip[1]))]
        moved = [self._part_motion(recipe, s, p) for s, p in zip(shapes, points, strict=True)]
        # One strength for both faces: low enough that neither folds, high enough to be seen and measured.
        limit = torch.minimum(_fold_limit(moved[0]), _fold_limit(moved[1]))
        strongest = torch.maximum(*(length(m).flatten(1).amax(1) for m in moved))
        limit = limit * (_WEAKEST_CELLS / strongest.clamp(min=1e-3)).clamp(min=1) * part.float()
        exemplar, query = (m + limit.view(-1, 1, 1, 1) * p for m, p in zip(motion, moved, strict=True))
        operation[part, 2], strength[part, 2] = UNNAMED, 1.0

        point_noise = [self._landmark_noise(g, size) for _ in range(2)]
        noise = [self._shape_noise(p) for p in point_noise]
        copied, target = self._measured(g, _shift(exemplar, noise[0])), _shift(query, noise[1])
        before = after = seen = torch.zeros(size, 3, 1, 1)
        if pixels:
            clean = [_flip_pixels(self.faces.pixels[i], f) for i, f in ((a, flip[0]), (b, flip[1]))]
            before, after = (warp_view(p, noise[0]) for p in (clean[0], warp_view(clean[0], exemplar)))
            seen = _recolour(g, warp_view(clean[1], noise[1]))
        return Batch(
            copied=copied,
            target=target,
            exemplar_shape=shapes[0] + noise[0],
            query_shape=shapes[1] + noise[1],
            exemplar_points=points[0] + point_noise[0],
            query_points=points[1] + point_noise[1],
            exemplar_pixels=before,
            exemplar_after=after,
            query_pixels=seen,
            operation=operation,
            strength=strength,
        )

    def _draw_named(self, g: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Up to two named operations: columns (B, 3) of operation and (B, 3, 2) of strength; the third stays empty."""
        count = torch.multinomial(torch.tensor([0.2, 0.5, 0.3]), size, replacement=True, generator=g)
        drawn = torch.multinomial(self.config.odds.expand(size, -1), 2, generator=g)
        sign = torch.where(_rand(g, size, 2) < 0.5, -1.0, 1.0)
        amount = (sign * (0.3 + 0.7 * _rand(g, size, 2)))[..., None].repeat(1, 1, 2)
        one_sided = (_rand(g, size, 2) < self.config.one_sided) & self.paired[drawn]
        quiet = torch.randint(2, (size, 2), generator=g)
        amount.scatter_(2, quiet[..., None], torch.where(one_sided, 0.0, amount[..., 0])[..., None])
        used = torch.arange(2)[None] < count[:, None]
        operation, strength = torch.zeros(size, 3, dtype=torch.long), torch.zeros(size, 3, 2)
        operation[:, :2] = (drawn + 1) * used
        strength[:, :2] = amount * used[..., None]
        return operation, strength

    def _named_motion(self, rows: Tensor, flip: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
        """Sum of the tabulated operations, (B, 2, N, N)."""
        total = torch.zeros(len(rows), *self.faces.shapes.shape[1:])
        for n, column in operation[:, :2].nonzero().tolist():
            name, sides = NAMED[int(operation[n, column]) - 1], strength[n, column].tolist()
            if name in PROFESSIONAL_ROWS:
                # On a mirrored face the person's right is the portrait's left.
                for row, s in zip(PROFESSIONAL_ROWS[name], reversed(sides) if flip[n] else sides, strict=False):
                    total[n] += s * self.faces.professional[rows[n], row].float()
            else:  # between 0, 50 and 100 an LLW motion is a parabola through the table
                table, s = self.faces.llw[rows[n], list(OPERATIONS).index(name)], sides[0]
                half, full = (2, 3) if s > 0 else (1, 0)
                x = abs(s)
                total[n] += (4 * x * (1 - x)) * table[half].float() + x * (2 * x - 1) * table[full].float()
        return _flip_field(total, flip)

    def _draw_part(self, g: torch.Generator, size: int) -> dict[str, Tensor]:
        part = torch.randint(len(PARTS), (size,), generator=g)
        linear = (_rand(g, size, 2, 2) - 0.5) * torch.tensor([[0.5, 0.16], [0.16, 0.5]])
        kind = torch.randint(4, (size,), generator=g)  # scale, shift, both, uniform scale
        uniform = linear[:, 0, 0, None, None] * torch.eye(2)
        linear = torch.where((kind == 3)[:, None, None], uniform, linear)
        linear = linear * (kind != 1)[:, None, None]
        shift = (_rand(g, size, 2) - 0.5) * 0.7 * ((kind == 1) | (kind == 2))[:, None]
        return {
            "part": part,
            "linear": linear,
            "shift": shift,  # in units of the part's size
            "reach": 1.15 + 1.2 * _rand(g, size),  # of the part's half extent
            "both": (_rand(g, size) < 0.75) & self.sided[part],
            "power": 1 + 2 * _rand(g, size),
        }

    def _part_motion(self, recipe: dict[str, Tensor], shape: Tensor, points: Tensor) -> Tensor:
        """The recipe on one face: -weight * (linear (p - centre) + shift * size), mirrored too where asked."""
        n = shape.shape[-1]
        straight = shape + _grid(n)  # where each cell lies on the face, similarity removed
        motion = self._one_side(recipe, straight, points)
        mirrored = _flip_points(points, torch.ones(len(points), dtype=torch.bool), n)
        flipped = straight.flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
        flipped = flipped + torch.tensor([n - 1.0, 0.0]).view(2, 1, 1)
        other = self._one_side(recipe, flipped, mirrored).flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
        return (motion + other * recipe["both"].view(-1, 1, 1, 1)) * self.window

    def _one_side(self, recipe: dict[str, Tensor], straight: Tensor, points: Tensor) -> Tensor:
        inside = self.parts[recipe["part"]][..., None]  # (B, K, 1)
        centre = (points * inside).sum(1) / inside.sum(1)
        high = points.masked_fill(~inside, -1e9).amax(1)
        low = points.masked_fill(~inside, 1e9).amin(1)
        half = ((high - low) / 2).clamp(min=0.12 * self.config.eye_distance_cells)
        size = half.mean(1, keepdim=True)
        offset = straight - centre[..., None, None]
        radius = (offset / (half * recipe["reach"][:, None])[..., None, None]).square().sum(1, keepdim=True)
        weight = (1 - radius).clamp(min=0) ** recipe["power"].view(-1, 1, 1, 1)
        move = torch.einsum("bij,bjhw->bihw", recipe["linear"], offset) + (recipe["shift"] * size)[..., None, None]
        return -weight * move

    def _landmark_noise(self, g: torch.Generator, size: int) -> Tensor:
        """Error (B, K, 2) of a locator, in cells: errors of neighbouring points go together."""
        k = len(FACE_POINTS)
        noise = torch.randn(size, k, 2, generator=g)
        parts = torch.randn(size, len(PARTS), 2, generator=g)
        membership = self.parts.float() / self.parts.float().sum(0).clamp(min=1)
        noise = 0.6 * noise + torch.einsum("pk,bpd->bkd", membership, parts)
        level = self.config.landmark_noise * self.config.eye_distance_cells * (0.3 + 1.2 * _rand(g, size, 1, 1))
        return noise / noise.norm(dim=-1).mean(1)[:, None, None] * level

    def _shape_noise(self, noise: Tensor) -> Tensor:
        n = self.faces.shapes.shape[-1]
        return torch.einsum("nk,bkd->bdn", self.spline, noise).reshape(len(noise), 2, n, n)

    def _measured(self, g: torch.Generator, motion: Tensor) -> Tensor:
        """What dense motion estimation would have returned: a little smoother, gated, with slow errors."""
        strongest = length(motion).flatten(1).amax(1).view(-1, 1, 1, 1)
        blurred = F.avg_pool2d(F.pad(motion, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        amount = 0.5 * _rand(g, len(motion), 1, 1, 1)
        motion = motion * (1 - amount) + blurred * amount
        slow = F.interpolate(torch.randn(len(motion), 2, 9, 9, generator=g), size=motion.shape[-2:], mode="bicubic")
        motion = motion + slow * 0.04 * strongest * _rand(g, len(motion), 1, 1, 1) * (motion != 0)
        floor = 0.04 * strongest * _rand(g, len(motion), 1, 1, 1)
        moved = length(motion)
        gate = ((moved - floor) / (1.5 * floor + 1e-6)).clamp(0, 1)
        return motion * gate * gate * (3 - 2 * gate)


def warp_view(image: Tensor, motion: Tensor) -> Tensor:
    """Move view pixels by a motion in cells. image: (B, 3, S, S), motion: (B, 2, N, N)."""
    n, size = motion.shape[-1], image.shape[-1]
    dense = F.interpolate(motion, size=(size, size), mode="bilinear", align_corners=False)
    axis = (torch.arange(size) + 0.5) * 2 / size - 1
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1) + dense.permute(0, 2, 3, 1) * 2 / n
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def _shift(motion: Tensor, by: Tensor) -> Tensor:
    """motion(u + by(u)), zero outside."""
    n = motion.shape[-1]
    grid = ((_grid(n) + by).permute(0, 2, 3, 1) + 0.5) * 2 / n - 1
    return F.grid_sample(motion, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _fold_limit(motion: Tensor, *, signed: bool = False) -> Tensor:
    """Largest factor up to 1 that keeps every slope below 0.7 cells per cell. (B,)

    signed: only the slopes that shrink the face along an axis count, up to 0.9; at 1 it folds.
    """
    if signed:
        slopes = -motion[:, 0].diff(dim=-1), -motion[:, 1].diff(dim=-2)
    else:
        slopes = motion.diff(dim=-1).abs(), motion.diff(dim=-2).abs()
    steepest = torch.maximum(*(s.flatten(1).amax(1) for s in slopes))
    return ((0.9 if signed else 0.7) / steepest.clamp(min=1e-6)).clamp(max=1)


def _recolour(g: torch.Generator, pixels: Tensor) -> Tensor:
    """The query's light and colour have nothing to do with the exemplar's."""
    b = len(pixels)
    grey = pixels.mean(1, keepdim=True)
    mix = torch.where(_rand(g, b, 1, 1, 1) < 0.15, torch.zeros(1), 0.6 + 0.8 * _rand(g, b, 1, 1, 1))
    gain = (0.7 + 0.6 * _rand(g, b, 1, 1, 1)) * (0.9 + 0.2 * _rand(g, b, 3, 1, 1))
    return ((grey + (pixels - grey) * mix) * gain).clamp(0, 1)


def _rand(g: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(shape, generator=g)


def _grid(n: int) -> Tensor:
    axis = torch.arange(n, dtype=torch.float32)
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"))[None]


def _flip_field(field: Tensor, flip: Tensor) -> Tensor:
    mirrored = field.flip(-1) * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
    return torch.where(flip.view(-1, 1, 1, 1), mirrored, field)


def _flip_points(points: Tensor, flip: Tensor, n: int) -> Tensor:
    mirrored = points[:, list(MIRROR_130)]
    mirrored = torch.stack([n - 1 - mirrored[..., 0], mirrored[..., 1]], dim=-1)
    return torch.where(flip.view(-1, 1, 1), mirrored, points)


def _flip_pixels(pixels: Tensor, flip: Tensor) -> Tensor:
    pixels = pixels.float() / 255
    return torch.where(flip.view(-1, 1, 1, 1), pixels.flip(-1), pixels)
