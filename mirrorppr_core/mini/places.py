"""The places of the canonical view at which motions are looked at as a whole: where faces differ, and around them.

    all landmarks of the template  +  places as far from each other as can be, in cheeks, hair and neck

Few numbers that say nearly all of a smooth motion, and at the same places on every face.
Shapes: T places, K landmarks, N cells a side.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces.view import CanonicalView
from ..geometry.displacement import pixel_grid

NUM_PLACES = 208
_BORDER_CELLS = 3  # no places so near the border of the view, where motion fades
_REACH, _FALL = 3, 1.5  # a place is felt about as far as the fourth nearest: no overshoot, as a spline has


@dataclass(frozen=True)
class Places:
    """cells: (T, 2) x, y in the view.  rows: (T, K), shape at the places from landmarks, as in CanonicalView.matrix.
    area: (T,) share of the view that is nearest to each.  spread: (N * N, T), from the places to all cells."""

    cells: Tensor
    rows: Tensor
    area: Tensor
    spread: Tensor

    @classmethod
    def of(cls, view: CanonicalView) -> Places:
        n = view.config.size
        every = pixel_grid(n, n).flatten(2)[0].T  # (N * N, 2)
        inside = (every - (n - 1) / 2).abs().amax(1) < n / 2 - _BORDER_CELLS
        cells = _with_farthest(view.template, every[inside], NUM_PLACES)
        nearest = torch.cdist(every, cells).argmin(1)[view.window.flatten() > 0.5]
        area = torch.bincount(nearest, minlength=len(cells)).float()
        return cls(
            cells=cells,
            rows=view.rows_at(cells),
            area=area / area.sum(),
            spread=_felt(torch.cdist(every, cells)),
        )

    def on_faces(self, landmarks: Tensor, template: Tensor) -> Tensor:
        """Where the places lie on faces with these landmarks (B, K, 2), both in cells: (B, T, 2)."""
        return self.cells + torch.einsum("tk,bkd->btd", self.rows, landmarks - template)

    def seen(self, maps: Tensor) -> Tensor:
        """The values of maps (B, C, N, N) at the places, (B, T, C)."""
        n = maps.shape[-1]
        grid = ((self.cells + 0.5) * 2 / n - 1).expand(len(maps), 1, -1, -1)
        return F.grid_sample(maps, grid, mode="bilinear", align_corners=False)[:, :, 0].mT

    def spread_out(self, values: Tensor) -> Tensor:
        """Values at the places (B, T, C) as smooth maps (B, C, N, N)."""
        n = round(len(self.spread) ** 0.5)
        return torch.einsum("nt,btc->bcn", self.spread, values).unflatten(2, (n, n))

    def strongest(self, motion: Tensor) -> Tensor:
        """Mean length of the strongest twentieth, by area.  motion: (..., T, 2) -> (...)."""
        lengths, order = motion.norm(dim=-1).sort(-1, descending=True)
        area = self.area[order]
        counts = area * (area.cumsum(-1) - area < 0.05)
        return (lengths * counts).sum(-1) / counts.sum(-1).clamp(min=1e-9)


def _felt(away: Tensor) -> Tensor:
    """Weights of the places at points so far from them: (P, T) cells -> (P, T), rows of one."""
    reach = away.sort(1).values[:, _REACH : _REACH + 1].clamp(min=1.0)
    weight = torch.exp(-_FALL * (away / reach).square())
    return weight / weight.sum(1, keepdim=True)


def _with_farthest(points: Tensor, candidates: Tensor, count: int) -> Tensor:
    """Points (T, 2): the given ones, then again and again the candidate that is farthest from all."""
    away = torch.cdist(candidates, points).amin(1)
    chosen = [points]
    for _ in range(count - len(points)):
        next_one = candidates[away.argmax()][None]
        chosen.append(next_one)
        away = torch.minimum(away, torch.cdist(candidates, next_one)[:, 0])
    return torch.cat(chosen)
