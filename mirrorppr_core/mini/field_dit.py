"""Mini's field network: the dual-stream DiT between a convolutional stem and head, predicting a motion field.

    copied motion -> bank fit -> made of the query's own atoms + what is left, to be carried over
    cells: noisy field | left | made | query shape | exemplar shape  --stem-->  8 x 8 tokens + query features
           --DiT (text stream: operation; modulation: adaptation a)-->  head  -->  gain g, shift w, rest r
    a = geometry of both faces x operation  -->  gain, shift and rest as a whole

    x_0(u) = made(u) + exp(g(u)) * left(u + w(u)) + r(u)

What the exemplar shows of operations that have a name is not copied but made anew for the query (bank_fit.py), which
errs by a third of what the copy does (training/LOG.md, third Mini). What no atom explains is copied
through the canonical view, which is already right for many operations, and adapted: what changes from face to face is
mostly how far things move and a little where. A fresh network takes nothing from the bank and adapts nothing, so an
untrained Mini is the training-free copy. Fields are in units of the operation's own scale (codec.py), which makes a
weak and a strong operation look alike.

Shapes: B batch, N cells a side, G image tokens a side, Q operation tokens, K landmarks, M atoms.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..faces.landmarks import FACE_POINTS
from ..geometry.displacement import pixel_grid, sample
from ..networks.config import ModelConfig
from ..networks.dit import DualStreamDiT
from ..operations.atoms import atoms_of
from .bank_fit import BankFit, BankMatch, mixed

_INPUT_CHANNELS = 10  # noisy 2, left 2, made 2, query shape 2, exemplar shape 2
_OUTPUT_CHANNELS = 6  # gain 2, shift 2, rest 2
_MOTION_GRID = 16  # the adaptation sees motions as a whole at this resolution
_LANDMARK_STRIDE = 2  # every second landmark takes part in the distances
_MAX_LOG_GAIN = 3.0


@dataclass(frozen=True)
class FieldCondition:
    """What the network sees besides the noisy field.

    copied: (B, 2, N, N) scaled motion.  query_shape, exemplar_shape: (B, 2, N, N) cells.
    query_points, exemplar_points: (B, K, 2) landmarks in cells (CanonicalView.landmarks).
    query_atoms, exemplar_atoms: (B, M, 2, N, N) cells, the bank of both faces (operations/bank.py).
    features: (B, G * G, D_mae) of the query; None where the DiT is left out.
    """

    copied: Tensor
    query_shape: Tensor
    exemplar_shape: Tensor
    query_points: Tensor
    exemplar_points: Tensor
    query_atoms: Tensor
    exemplar_atoms: Tensor
    features: Tensor | None = None


@dataclass(frozen=True)
class Known:
    """What a condition and its tokens say at every step.  made, left: (B, 2, N, N).  adaptation: (B, hidden)."""

    made: Tensor
    left: Tensor
    adaptation: Tensor


class FieldDiT(nn.Module):
    """Predicts the clean field x_0 (B, 2, N, N), scaled."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        dit, channels = config.dit, config.dit.stem_channels
        self.grid = dit.grid
        self.patch = config.view.size // (2 * dit.grid)  # half cells a token spans
        self.stem = nn.Conv2d(_INPUT_CHANNELS, channels, 4, stride=2, padding=1)
        self.to_tokens = nn.Conv2d(channels, dit.width, self.patch, stride=self.patch)
        self.feature_norm = nn.LayerNorm(config.mae.width)
        self.feature_in = nn.Linear(config.mae.width, dit.width)
        self.dit = DualStreamDiT(dit, in_channels=dit.width, out_channels=channels * self.patch**2)
        hidden = dit.adaptation_width
        self.distance_code = nn.Linear(_num_distances(), dit.geometry_codes)
        self.geometry_in = nn.Linear(3 * dit.geometry_codes, hidden)
        self.operation_in = nn.Sequential(
            nn.Linear(4 * _MOTION_GRID**2 + dit.text_width, hidden),
            nn.GELU(approximate="tanh"),
            nn.Linear(hidden, hidden),
        )
        self.mix = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, hidden))
        self.geometry_out = nn.Linear(hidden, dit.width)
        self.direct = nn.Linear(hidden, _OUTPUT_CHANNELS * dit.grid**2)
        self.bank_fit = BankFit(atoms_of(dit.operations), dit.text_width, dit.bank_width)
        self.head = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.GELU(approximate="tanh"),
            nn.Conv2d(channels, _OUTPUT_CHANNELS, 3, padding=1),
        )
        for layer in (self.head[2], self.direct):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, *, noisy: Tensor, condition: FieldCondition, tokens: Tensor, t: Tensor, known: Known | None = None
    ) -> Tensor:
        """noisy: (B, 2, N, N), tokens: (B, Q, text_width), t: (B,). Returns x_0 (B, 2, N, N).

        known: what `know` says of the condition and the tokens, where several steps ask for it.
        """
        known = known or self.know(condition, tokens)
        made, left, adaptation = known.made, known.left, known.adaptation
        cells = torch.cat([noisy, left, made, condition.query_shape, condition.exemplar_shape], dim=1)  # (B, 10, N, N)
        stem = F.gelu(self.stem(cells), approximate="tanh")  # (B, C, N / 2, N / 2)
        image = self.to_tokens(stem).flatten(2).transpose(1, 2)  # (B, G * G, D)
        image = image + self.feature_in(self.feature_norm(condition.features))
        extra = self.geometry_out(adaptation)  # (B, D)
        out = self.dit(image=image, text=tokens, t=t, height=self.grid, width=self.grid, extra=extra)
        out = out.transpose(1, 2).unflatten(2, (self.grid, self.grid))  # (B, C p p, G, G)
        fine = F.pixel_shuffle(out, self.patch)  # (B, C, N / 2, N / 2)
        local = self.head(torch.cat([stem, fine], dim=1))  # (B, 6, N / 2, N / 2)
        return self._answer(made, left, adaptation, local)  # (B, 2, N, N)

    def know(self, condition: FieldCondition, tokens: Tensor) -> Known:
        """What does not depend on the step."""
        made, left = self.split(condition, tokens)
        return Known(made, left, self.adaptation(condition, tokens, made, left))

    def adaptation_modules(self) -> dict[str, nn.Module]:
        """The parts that `without_dit` uses, by their names here."""
        names = ("distance_code", "geometry_in", "operation_in", "mix", "direct", "bank_fit")
        return {name: getattr(self, name) for name in names}

    def without_dit(self, condition: FieldCondition, tokens: Tensor) -> Tensor:
        """The answer (B, 2, N, N) of the adaptation alone: for its pre-training, many times cheaper."""
        half = condition.copied.shape[-1] // 2
        nothing = condition.copied.new_zeros(len(condition.copied), _OUTPUT_CHANNELS, half, half)
        known = self.know(condition, tokens)
        return self._answer(known.made, known.left, known.adaptation, nothing)

    def split(self, condition: FieldCondition, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The part of the motion that is made from the query's atoms, and the part that is left to copy."""
        amounts, keep = self.bank_fit(BankMatch.of(condition.copied, condition.exemplar_atoms), tokens)
        left = condition.copied - mixed(amounts, condition.exemplar_atoms)
        return mixed(amounts, condition.query_atoms), keep[..., None, None] * left

    def _answer(self, made: Tensor, left: Tensor, adaptation: Tensor, local: Tensor) -> Tensor:
        """local: (B, 6, N / 2, N / 2) what the DiT adds to the adaptation's gain, shift and rest."""
        direct = self.direct(adaptation).unflatten(1, (_OUTPUT_CHANNELS, self.grid, self.grid))  # (B, 6, G, G)
        answer = local + F.interpolate(direct, size=local.shape[-2:], mode="bilinear", align_corners=False)
        answer = F.interpolate(answer, scale_factor=2, mode="bilinear", align_corners=False)  # (B, 6, N, N)
        gain, shift, rest = answer.chunk(3, dim=1)  # (B, 2, N, N) each
        moved = sample(left, pixel_grid(*shift.shape[-2:], device=shift.device) + shift, mode="bilinear")
        return made + (_MAX_LOG_GAIN * torch.tanh(gain)).exp() * moved + rest

    def adaptation(self, condition: FieldCondition, tokens: Tensor, made: Tensor, left: Tensor) -> Tensor:
        """What this operation makes of the difference between the two faces: a product, because the same longer
        upper lip means a larger gain for moving the mouth and nothing for the eyes. Returns (B, hidden)."""
        query, exemplar = self.code(condition.query_points), self.code(condition.exemplar_points)  # (B, codes) each
        faces = self.geometry_in(torch.cat([query, exemplar, query - exemplar], dim=1))  # (B, hidden)
        motion = F.adaptive_avg_pool2d(torch.cat([made, left], dim=1), _MOTION_GRID).flatten(1)  # (B, 4 * 16 * 16)
        operation = self.operation_in(torch.cat([motion, tokens.mean(1)], dim=1))  # (B, hidden)
        product = faces * torch.tanh(operation)
        return product + self.mix(product)

    def code(self, points: Tensor) -> Tensor:
        """A face's proportions in a few numbers. (B, K, 2) cells -> (B, geometry_codes)."""
        return self.distance_code(log_distances(points))

    @torch.no_grad()
    def start_from_faces(self, points: Tensor) -> None:
        """Set the code to whitened principal components of many faces.  points: (F, K, 2) cells.

        How far a mouth may move depends on lengths that are small differences within the face; raw, they would drown
        in its width and height.
        """
        distances = log_distances(points)
        mean = distances.mean(0)
        axes, deviation = _principal(distances - mean, self.distance_code.out_features)
        whiten = axes / deviation[:, None]
        self.distance_code.weight.copy_(whiten)
        self.distance_code.bias.copy_(-whiten @ mean)


def log_distances(points: Tensor) -> Tensor:
    """(B, K, 2) cells -> (B, P) logarithms of the distances of all pairs of every second landmark.

    Ratios of lengths are differences here. One cell is added: the shortest distances are mostly noise.
    """
    chosen = points[:, ::_LANDMARK_STRIDE]
    first, second = torch.triu_indices(chosen.shape[1], chosen.shape[1], 1, device=points.device)
    return torch.log1p((chosen[:, first] - chosen[:, second]).square().sum(-1).sqrt())


def _principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Unit directions (count, D) of the greatest mean square of rows (R, D), and its root along each."""
    squares, left = torch.linalg.eigh(rows @ rows.T)  # R x R: much cheaper than the singular values of the rows
    squares, left = squares[-count:].flip(0).clamp(min=1e-12), left[:, -count:].flip(1)
    return (left.T @ rows) / squares.sqrt()[:, None], (squares / len(rows)).sqrt()


def _num_distances() -> int:
    count = len(range(0, len(FACE_POINTS), _LANDMARK_STRIDE))
    return count * (count - 1) // 2
