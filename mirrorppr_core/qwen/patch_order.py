"""In which order the R-Former gets the MAE's patches, and which order its weights were trained with.

The released program runs a stock MAE that permutes its patches by fresh, unseeded noise even when it hides none, and
the R-Former adds its positions after that: no two of its runs agree. Whether training shuffled as well is not
documented, but the weights tell. Positions that always met the same place of the picture learn to resemble their
neighbours'; positions that met a random patch each time cannot. So:

    excess = mean cosine of neighbouring rows - mean cosine of rows paired at random

We default to raster ("canonical") order, which is repeatable; `PatchOrder(seed=...)` gives the released behaviour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# Sure of an order when the excess is this large and this many standard errors; sure of none below the lower pair.
_CLEAR_EXCESS, _CLEAR_ERRORS = 0.02, 6.0
_NO_EXCESS_ERRORS = 3.0


@dataclass(frozen=True, kw_only=True)
class PatchOrder:
    """seed None: raster order. Otherwise a random permutation for before and another one for after."""

    seed: int | None = None

    def permutations(self, num_before: int, num_after: int) -> tuple[Tensor | None, Tensor | None]:
        """Index tensors for the two pictures' patches, or None for raster order."""
        if self.seed is None:
            return None, None
        generator = torch.Generator().manual_seed(self.seed)
        before, after = (torch.rand(n, generator=generator).argsort() for n in (num_before, num_after))
        return before, after

    def __str__(self) -> str:
        return "canonical" if self.seed is None else f"random({self.seed})"


CANONICAL = PatchOrder()


@dataclass(frozen=True, kw_only=True)
class PatchOrderVerdict:
    """verdict: "ordered", "shuffled" or "undecided".  excess: see above.  errors: the excess in standard errors."""

    verdict: str
    neighbours: float
    at_random: float
    excess: float
    errors: float

    def __str__(self) -> str:
        meaning = {
            "ordered": "trained on ordered patches: keep patch order canonical",
            "shuffled": "trained on shuffled patches: canonical order works as well as any other and is repeatable",
            "undecided": "no clear answer: keep patch order canonical and compare with random on your own pictures",
        }[self.verdict]
        return (
            f"patch-order test: neighbouring positions resemble each other {self.neighbours:+.3f}, random ones "
            f"{self.at_random:+.3f} ({self.errors:.1f} standard errors apart); {meaning}"
        )


def judge_patch_order(embeddings: dict[str, Tensor], *, num_queries: int, side_patches: int) -> PatchOrderVerdict:
    """Decide from an R-Former's position tables alone (seconds).

    embeddings: tensors by name without the `embeddings.` prefix; Face needs position_embeddings (1, T, D), Pro its
    four pos_emb_* tables (1, side_patches, D / 2).
    """
    if "position_embeddings" in embeddings:
        rows = embeddings["position_embeddings"][0].float()
        patches = side_patches**2
        first = num_queries + 1
        starts = (first, first + patches + 2)  # SEP and the second class token lie between
        grids = [rows[s : s + patches].view(side_patches, side_patches, -1) for s in starts]
        neighbours = [c for g in grids for c in (_cosine(g[:, :-1], g[:, 1:]), _cosine(g[:-1], g[1:]))]
        tables = [grid.flatten(0, 1) for grid in grids]
    else:
        tables = [embeddings[f"pos_emb_{axis}_{part}"][0].float() for axis in "xy" for part in ("cond", "target")]
        neighbours = [_cosine(table[:-1], table[1:]) for table in tables]
    near, far = torch.cat(neighbours), torch.cat([_random_pairs(table) for table in tables])
    excess = float(near.mean() - far.mean())
    error = math.sqrt(float(near.var()) / near.numel() + float(far.var()) / far.numel())
    errors = excess / max(error, 1e-12)
    verdict = "undecided"
    if excess >= _CLEAR_EXCESS and errors >= _CLEAR_ERRORS:
        verdict = "ordered"
    elif errors < _NO_EXCESS_ERRORS:
        verdict = "shuffled"
    return PatchOrderVerdict(
        verdict=verdict, neighbours=float(near.mean()), at_random=float(far.mean()), excess=excess, errors=errors
    )


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return F.cosine_similarity(a, b, dim=-1).flatten()


def _random_pairs(table: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(table), generator=generator)
    return _cosine(table[order], table[order.roll(1)])
