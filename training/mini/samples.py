"""Training samples in the canonical view: the same operation on two faces, with the noise the product will meet.

    operation (named ones and / or a random part operation)  ->  motion on exemplar A, motion on query B
    A's motion is then blurred, gated and perturbed as a measured one is; both faces are seen by an erring locator.

Named operations are the method's eight of LLW and the professional ones of the face; part operations
(part_operations.py), and named ones whose atoms are hidden, teach the network what to do with retouches that are not in
its bank. Simulation gives true cross-identity pairs; a share of the samples uses one identity for both (the paper's
self-augmentation).
Shapes: B batch, N cells a side, K landmarks, O named operations, M atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.faces.landmarks import MIRROR_130
from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.geometry.displacement import length
from mirrorppr_core.operations.atoms import KNOWN_OPERATIONS, atoms_of, mirrored_order
from mirrorppr_core.operations.llw import OPERATIONS

from .config import NAMED, UNNAMED, SampleConfig
from .face_set import PROFESSIONAL_ROWS, FaceSet
from .part_operations import draw_part_operations
from .view_batches import flip_field, flip_pixels, flip_points, fold_limit, rand, shifted, warp_view

_WEAKEST_CELLS = 0.25  # part operations are at least so strong; 2 pixels at an eye distance of 128


@dataclass
class Batch:
    """One training batch, all in cells.

    copied: exemplar's measured motion.  target: the query's true motion.  shapes, landmarks (B, K, 2), bank atoms
    (B, M, 2, N, N) float16 and clean pixels of both faces.
    operation: (B, 3) index into NAMED + 1 of up to three steps, 0 = none, UNNAMED = part operation.
    strength: (B, 3, 2), -1 to 1, of the person's right and left side.
    """

    copied: Tensor
    target: Tensor
    exemplar_shape: Tensor
    query_shape: Tensor
    exemplar_points: Tensor
    query_points: Tensor
    exemplar_atoms: Tensor
    query_atoms: Tensor
    exemplar_pixels: Tensor
    exemplar_after: Tensor
    query_pixels: Tensor
    operation: Tensor
    strength: Tensor


@dataclass(frozen=True)
class _Faces:
    """Rows of the set, some of them mirrored.  rows, flip: (B,).  shape: (B, 2, N, N) and points: (B, K, 2) cells."""

    rows: Tensor
    flip: Tensor
    shape: Tensor
    points: Tensor

    @staticmethod
    def of(faces: FaceSet, rows: Tensor, flip: Tensor) -> _Faces:
        points = flip_points(faces.points[rows], flip, faces.shapes.shape[-1])
        return _Faces(rows, flip, flip_field(faces.shapes[rows], flip), points)

    def pixels(self, faces: FaceSet) -> Tensor:
        """(B, 3, S, S) in [0, 1]."""
        return flip_pixels(faces.pixels[self.rows], self.flip)


@dataclass(frozen=True)
class _Edit:
    """One edit on two faces: motions (B, 2, N, N), operation and strength as in Batch.

    hidden: (B, M) atoms that the exemplar's bank must not show.
    """

    on_exemplar: Tensor
    on_query: Tensor
    operation: Tensor
    strength: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class _Look:
    """What a locator makes of a face: landmarks off by error (B, K, 2), so shapes by noise (B, 2, N, N); the bank."""

    error: Tensor
    noise: Tensor
    atoms: Tensor


class Sampler:
    """Draws batches from a FaceSet. Every batch is a function of (seed, step) alone."""

    def __init__(
        self,
        faces: FaceSet,
        view: CanonicalView,
        config: SampleConfig,
        *,
        seed: int,
        operations: tuple[str, ...] = KNOWN_OPERATIONS,
    ):
        """operations: of the bank that the network knows."""
        self.faces, self.config, self.seed = faces, config, seed
        self.spline, self.window = view.matrix, view.window  # landmark errors to shape errors; fade at the border
        self.template = view.template
        everything, self.atoms = atoms_of(KNOWN_OPERATIONS), atoms_of(operations)
        self.columns = torch.tensor([everything.index(atom) for atom in self.atoms])
        self.mirrored = torch.tensor(mirrored_order(self.atoms))
        # Which atoms (M) an operation number (0, named ones, UNNAMED) is made of.
        self.made_of = torch.zeros(len(NAMED) + 2, len(self.atoms), dtype=torch.bool)
        for column, atom in enumerate(self.atoms):
            self.made_of[NAMED.index(atom.operation) + 1, column] = True
        self.paired = torch.tensor([len(PROFESSIONAL_ROWS.get(name, ())) == 2 for name in NAMED])

    def batch(self, step: int, size: int, *, pixels: bool = True) -> Batch:
        """pixels: False leaves the pictures out (zero), for stages that only see geometry: several times faster."""
        g = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        exemplar, query = self._draw_faces(g, size)
        edit = self._draw_edit(g, exemplar, query)
        seen_exemplar, seen_query = self._draw_looks(g, exemplar, query)
        seen_exemplar.atoms[edit.hidden] = 0
        copied = self._measured(g, shifted(edit.on_exemplar, seen_exemplar.noise))
        before = after = asked = torch.zeros(size, 3, 1, 1)
        if pixels:
            clean = exemplar.pixels(self.faces)
            before, after = (warp_view(p, seen_exemplar.noise) for p in (clean, warp_view(clean, edit.on_exemplar)))
            asked = _recolour(g, warp_view(query.pixels(self.faces), seen_query.noise))
        return Batch(
            copied=copied,
            target=shifted(edit.on_query, seen_query.noise),
            exemplar_shape=exemplar.shape + seen_exemplar.noise,
            query_shape=query.shape + seen_query.noise,
            exemplar_points=exemplar.points + seen_exemplar.error,
            query_points=query.points + seen_query.error,
            exemplar_atoms=seen_exemplar.atoms,
            query_atoms=seen_query.atoms,
            exemplar_pixels=before,
            exemplar_after=after,
            query_pixels=asked,
            operation=edit.operation,
            strength=edit.strength,
        )

    def _draw_faces(self, g: torch.Generator, size: int) -> tuple[_Faces, _Faces]:
        """Whose face shows the operation and whose gets it; a share of the samples use one face for both."""
        a = torch.multinomial(self.faces.weight, size, replacement=True, generator=g)
        b = torch.multinomial(self.faces.weight, size, replacement=True, generator=g)
        b = torch.where(rand(g, size) < self.config.same_identity, a, b)
        flip = rand(g, 2, size) < 0.5
        return _Faces.of(self.faces, a, flip[0]), _Faces.of(self.faces, b, flip[1])

    def _draw_edit(self, g: torch.Generator, exemplar: _Faces, query: _Faces) -> _Edit:
        """Named operations, and a part operation where there is none or by chance; what they move on both faces."""
        both, size = (exemplar, query), len(exemplar.rows)
        operation, strength = self._draw_named(g, size)
        motion = [self._named_motion(face.rows, face.flip, operation, strength) for face in both]
        # Some LLW operations fold some faces at full strength; no sample shows that. One factor for both faces.
        safe = torch.minimum(fold_limit(motion[0], signed=True), fold_limit(motion[1], signed=True))
        motion, strength = [m * safe.view(-1, 1, 1, 1) for m in motion], strength * safe[:, None, None]
        # A sample needs an operation: those without a named one get a part operation.
        part = (rand(g, size) < self.config.part_share) | (operation == 0).all(1)
        cells, eyes = self.faces.shapes.shape[-1], self.config.eye_distance_cells
        recipe = draw_part_operations(
            g, size, self.template, view_size=cells, eye_distance=eyes, any_part=self.config.any_part
        )
        hidden = self.made_of[operation].any(1) & (rand(g, size, 1) < self.config.hidden)
        moved = [recipe.motion(face.shape, face.points, eyes) * self.window for face in both]
        # One strength for both faces: low enough that neither folds, high enough to be seen and measured.
        limit = torch.minimum(fold_limit(moved[0]), fold_limit(moved[1]))
        strongest = torch.maximum(*(length(m).flatten(1).amax(1) for m in moved))
        limit = limit * (_WEAKEST_CELLS / strongest.clamp(min=1e-3)).clamp(min=1) * part.float()
        on_exemplar, on_query = (m + limit.view(-1, 1, 1, 1) * p for m, p in zip(motion, moved, strict=True))
        operation[part, 2], strength[part, 2] = UNNAMED, 1.0
        return _Edit(on_exemplar, on_query, operation, strength, hidden)

    def _draw_looks(self, g: torch.Generator, exemplar: _Faces, query: _Faces) -> list[_Look]:
        """One of the looks at each face that its tables hold."""
        look = torch.randint(self.faces.errors.shape[1], (2, len(exemplar.rows)), generator=g)
        looks = []
        for face, number in zip((exemplar, query), look, strict=True):
            error = self._errors(face.rows, number, face.flip)
            atoms = self._atoms(face.rows, number, face.flip)
            looks.append(_Look(error=error, noise=self._shape_error(error), atoms=atoms))
        return looks

    def _draw_named(self, g: torch.Generator, size: int) -> tuple[Tensor, Tensor]:
        """Up to two named operations: columns (B, 3) of operation and (B, 3, 2) of strength; the third stays empty."""
        count = torch.multinomial(torch.tensor(self.config.count_odds), size, replacement=True, generator=g)
        drawn = torch.multinomial(self.config.odds.expand(size, -1), 2, generator=g)
        sign = torch.where(rand(g, size, 2) < 0.5, -1.0, 1.0)
        amount = (sign * (0.3 + 0.7 * rand(g, size, 2)))[..., None].repeat(1, 1, 2)
        one_sided = (rand(g, size, 2) < self.config.one_sided) & self.paired[drawn]
        quiet = torch.randint(2, (size, 2), generator=g)
        amount.scatter_(2, quiet[..., None], torch.where(one_sided, 0.0, amount[..., 0])[..., None])
        used = torch.arange(2)[None] < count[:, None]
        operation, strength = torch.zeros(size, 3, dtype=torch.long), torch.zeros(size, 3, 2)
        operation[:, :2] = (drawn + 1) * used
        strength[:, :2] = amount * used[..., None]
        return operation, strength

    def _named_motion(self, rows: Tensor, flip: Tensor, operation: Tensor, strength: Tensor) -> Tensor:
        """Sum of the tabulated operations, (B, 2, N, N)."""
        total, place = torch.zeros(len(rows), *self.faces.shapes.shape[1:]), self.faces.place[rows]
        for n, column in operation[:, :2].nonzero().tolist():
            name, sides = NAMED[int(operation[n, column]) - 1], strength[n, column].tolist()
            if name in PROFESSIONAL_ROWS:
                # On a mirrored face the person's right is the portrait's left.
                for row, s in zip(PROFESSIONAL_ROWS[name], reversed(sides) if flip[n] else sides, strict=False):
                    total[n] += s * self.faces.professional[place[n], row].float()
            else:  # between 0, 50 and 100 an LLW motion is a parabola through the table
                table, s = self.faces.llw[place[n], list(OPERATIONS).index(name)], sides[0]
                half, full = (2, 3) if s > 0 else (1, 0)
                x = abs(s)
                total[n] += (4 * x * (1 - x)) * table[half].float() + x * (2 * x - 1) * table[full].float()
        return flip_field(total, flip)

    def _errors(self, rows: Tensor, look: Tensor, flip: Tensor) -> Tensor:
        """What a look at each face gets wrong, (B, K, 2) cells."""
        error = self.faces.errors[self.faces.place[rows], look]
        mirrored = error[:, list(MIRROR_130)] * torch.tensor([-1.0, 1.0])
        return torch.where(flip.view(-1, 1, 1), mirrored, error)

    def _atoms(self, rows: Tensor, look: Tensor, flip: Tensor) -> Tensor:
        """The bank that a look at each face gives, (B, M, 2, N, N) float16."""
        atoms = self.faces.atoms[self.faces.place[rows], look][:, self.columns]
        turned = atoms[flip][:, self.mirrored].flip(-1)
        turned[:, :, 0].neg_()
        atoms[flip] = turned
        return atoms

    def _shape_error(self, error: Tensor) -> Tensor:
        n = self.faces.shapes.shape[-1]
        return torch.einsum("nk,bkd->bdn", self.spline, error).reshape(len(error), 2, n, n)

    def _measured(self, g: torch.Generator, motion: Tensor) -> Tensor:
        """What dense motion estimation would have returned: a little smoother, gated, with slow errors."""
        strongest = length(motion).flatten(1).amax(1).view(-1, 1, 1, 1)
        blurred = F.avg_pool2d(F.pad(motion, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
        amount = 0.5 * rand(g, len(motion), 1, 1, 1)
        motion = motion * (1 - amount) + blurred * amount
        slow = F.interpolate(torch.randn(len(motion), 2, 9, 9, generator=g), size=motion.shape[-2:], mode="bicubic")
        motion = motion + slow * 0.04 * strongest * rand(g, len(motion), 1, 1, 1) * (motion != 0)
        floor = 0.04 * strongest * rand(g, len(motion), 1, 1, 1)
        moved = length(motion)
        # geometry's smoothstep, multiplied in this order: runs repeat earlier ones to the bit.
        gate = ((moved - floor) / (1.5 * floor + 1e-6)).clamp(0, 1)
        return motion * gate * gate * (3 - 2 * gate)


def _recolour(g: torch.Generator, pixels: Tensor) -> Tensor:
    """The query's light and colour have nothing to do with the exemplar's."""
    b = len(pixels)
    grey = pixels.mean(1, keepdim=True)
    mix = torch.where(rand(g, b, 1, 1, 1) < 0.15, torch.zeros(1), 0.6 + 0.8 * rand(g, b, 1, 1, 1))
    gain = (0.7 + 0.6 * rand(g, b, 1, 1, 1)) * (0.9 + 0.2 * rand(g, b, 3, 1, 1))
    return ((grey + (pixels - grey) * mix) * gain).clamp(0, 1)
