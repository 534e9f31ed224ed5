"""Which named operations an exemplar shows, and how strongly: least squares on the bank, with learned priors.

    measured motion ~ sum_m a_m * exemplar atom_m  + what is left
    query's motion  = sum_m a_m * query atom_m     + what is left, carried over

Many atoms look alike (a wider mouth, a larger mouth), and measured motion is noisy, so plain least squares would mix
them. A small network looks at how well each atom matches, alone and beside others, and gives every atom a prior
precision (how unlikely it is) and a weight (how much of its part is taken as this operation rather than carried over).
Weights start at zero: a fresh network takes nothing from the bank.

Ridge regression with one precision for each coefficient is the posterior mean under a Gaussian prior (Tipping 2001,
relevance vector machine; there the precisions are fitted, here they are learned). Greedy choice: orthogonal matching
pursuit (Pati et al. 1993).
Shapes: B batch, M atoms, N cells a side, D = 2 * (N / 2)^2 numbers of a halved motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..operations.atoms import Atom
from ..operations.llw_table import OPERATIONS as LLW

_INVISIBLE = 0.05  # cells; an atom whose motion is nowhere longer does not show on this face
_LEAST_PRECISION = 0.02  # of unit atoms: keeps look-alikes apart from noise
_OUT = 1e4  # precision that keeps an atom out
_FIRST_GUESS_PRECISION = 0.1
_FIRST_LOG_PRECISION = -2.0
_GREEDY_STEPS = 3


@dataclass(frozen=True)
class BankMatch:
    """A bank against a motion, all that the fit needs.

    gram: (B, M, M) of unit atoms.  match: (B, M) their products with the motion.  size: (B, M) of the atoms, 0 where
    one does not show.  length: (B, 1) of the motion.
    """

    gram: Tensor
    match: Tensor
    size: Tensor
    length: Tensor

    @classmethod
    def of(cls, motion: Tensor, atoms: Tensor) -> BankMatch:
        """motion: (B, 2, N, N).  atoms: (B, M, 2, N, N)."""
        with _full_precision(motion):
            return cls._of(motion.float(), atoms.float())

    @classmethod
    def _of(cls, motion: Tensor, atoms: Tensor) -> BankMatch:
        rows = F.avg_pool2d(atoms.flatten(1, 2), 2).unflatten(1, atoms.shape[1:3]).flatten(2)  # (B, M, D)
        y = F.avg_pool2d(motion, 2).flatten(1)  # (B, D)
        shows = rows.abs().amax(2) > _INVISIBLE
        size = rows.norm(dim=2) * shows
        unit = rows * torch.where(shows, 1 / size.clamp(min=1e-6), 0.0)[..., None]
        return cls(unit @ unit.mT, (unit @ y[..., None])[..., 0], size, y.norm(dim=1, keepdim=True))

    def solve(self, precision: Tensor) -> Tensor:
        """Coefficients (B, M) of the unit atoms under prior precisions (B or 1, M)."""
        return torch.linalg.solve(self.gram + torch.diag_embed(precision), self.match[..., None])[..., 0]

    def greedy(self, one_way: Tensor) -> Tensor:
        """Coefficients (B, M) of the few atoms that explain most, found one by one (matching pursuit).

        one_way: (M,) 1 for atoms that only exist in their own direction.
        """
        chosen, found = torch.zeros_like(self.match), torch.zeros_like(self.match)
        for _ in range(_GREEDY_STEPS):
            unexplained = self.match - (self.gram @ found[..., None])[..., 0]
            worth = torch.where(one_way > 0, unexplained, unexplained.abs()) - _OUT * chosen
            chosen = chosen.scatter(1, worth.argmax(1, keepdim=True), 1.0)
            found = self.solve(_LEAST_PRECISION + _OUT * (1 - chosen)) * chosen
        return found

    def left(self, coefficients: Tensor) -> Tensor:
        """Share of the motion (B, 1) that these coefficients leave unexplained."""
        fitted = (self.gram @ coefficients[..., None])[..., 0]
        explained = (coefficients * (2 * self.match - fitted)).sum(1, keepdim=True)
        return (1 - explained / self.length.clamp(min=1e-6).square()).clamp(min=0).sqrt()

    def cues(self, one_way: Tensor) -> Tensor:
        """(B, 3 M + 2): cosines, what all atoms together say, what the few best say, and what both leave."""
        together = self.solve(torch.full_like(self.match, _FIRST_GUESS_PRECISION))
        few = self.greedy(one_way)
        found = torch.cat([self.match, together, few], dim=1) / self.length.clamp(min=1e-6)
        return torch.cat([found, self.left(together), self.left(few)], dim=1)


def one_way_of(atoms: tuple[Atom, ...]) -> Tensor:
    """(M,) 1 for atoms that only exist in their own direction: the opposite one has an atom of its own."""
    return torch.tensor([float(atom.operation in LLW) for atom in atoms])


class BankFit(nn.Module):
    """The learned part: what to believe of every atom, from the cues and the operation's tokens."""

    def __init__(self, atoms: tuple[Atom, ...], text_width: int, hidden: int):
        super().__init__()
        self.register_buffer("one_way", one_way_of(atoms), persistent=False)
        self.read = nn.Sequential(
            nn.Linear(3 * len(atoms) + 2 + text_width, hidden),
            nn.GELU(approximate="tanh"),
            nn.Linear(hidden, hidden),
            nn.GELU(approximate="tanh"),
        )
        self.answer = nn.Linear(hidden, 2 * len(atoms) + 1)
        nn.init.zeros_(self.answer.weight)
        nn.init.zeros_(self.answer.bias)
        nn.init.constant_(self.answer.bias[: len(atoms)], _FIRST_LOG_PRECISION)

    def forward(self, match: BankMatch, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """tokens: (B, Q, text_width).  Returns how much of every atom is taken (B, M), and how much of what they
        leave is to be copied (B, 1): it may be a part of the retouch, or only what was measured badly."""
        with torch.no_grad(), _full_precision(match.match):
            cues = match.cues(self.one_way)  # (B, 3 M + 2)
        answer = self.answer(self.read(torch.cat([cues, tokens.mean(1)], dim=1)))  # (B, 2 M + 1)
        precision, weight, keep = answer.split([len(self.one_way), len(self.one_way), 1], dim=1)
        with _full_precision(match.match):
            found = match.solve(_LEAST_PRECISION + precision.float().clamp(-6, 6).exp())  # (B, M)
        return weight * found * torch.where(match.size > 0, 1 / match.size.clamp(min=1e-6), 0.0), 1 + keep


def _full_precision(tensor: Tensor) -> torch.autocast:
    """Solving in 16 bits is either refused or wrong, whatever the training around it does."""
    return torch.autocast(tensor.device.type, enabled=False)


def mixed(amounts: Tensor, atoms: Tensor) -> Tensor:
    """amounts: (B, M), atoms: (B, M, 2, N, N).  Returns (B, 2, N, N)."""
    return torch.einsum("bm,bmcij->bcij", amounts, atoms)
