"""What of an edited picture no warp of the original explains: teeth that appear, eyes that close, a new earring.

Colours first: an editor's grade, exposure and slow drift are taken over by no warp either, but they are not what is
missing. They are fitted robustly (a quadratic curve of the three channels, then a smooth drift) and taken out. Then
a pixel is explained if the warped original shows its colour there or right beside, which forgives the blur of a VAE
and an error of the motion. What is left above the noise is the residual.

Pictures are (1, 3, h, w) in [0, 1], both of one size: half the one at which the motion was measured, where noise is
low and a pixel of the motion's error is half a pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import pixel_grid, sample
from ..images import LUMA
from ..windows import highest_around, mean_around, window_mean
from .estimate import blur

_REACH_PX = 1  # colours this near explain a pixel
_LIKENESS_SIDE, _LIKENESS_WINDOW = 256, 13  # pixels
_PLAIN = 1e-6  # variance
_ROUNDS = 4  # of the robust colour fit
_CELL = 4  # the colours are fitted on a grid, one node for so many pixels
_DRIFT_SHARE = 1 / 24  # of the longer side: what changes more slowly than this is light, not content
_NOISE_FLOOR, _NOISE_GAIN = 0.02, 2.5  # residual that counts as none, at least and per deviation of the noise
_PASTE_FROM = 0.03  # smoothed residual worth pasting
_SPECK_PX, _MARGIN_PX, _FEATHER_PX = 1, 3, 2  # half widths: what is dropped, added around the rest, and faded


@dataclass(frozen=True, kw_only=True)
class ColourMatch:
    """Takes the edited picture to the original's colours: one curve for all pixels, then a slow drift."""

    curve: Tensor  # (10, 3): each new channel from _terms of the old ones
    drift: Tensor  # (1, 3, h', w'), one node per _CELL pixels

    def apply(self, colours: Tensor, positions: Tensor) -> Tensor:
        """colours: (1, 3, h, w) of the edited picture.  positions: (1, 2, h, w), where on the measured picture."""
        nodes = (positions - (_CELL - 1) / 2) / _CELL
        return _curved(colours, self.curve) + sample(self.drift, nodes, mode="bilinear")


def match_colours(edited: Tensor, warped: Tensor) -> ColourMatch:
    """Robust: what is new in the edited picture does not pull the colours of the rest."""
    x, y = F.avg_pool2d(edited, _CELL), F.avg_pool2d(warped, _CELL)  # (1, 3, h', w')
    terms, wanted = _terms(x).flatten(2)[0].T, (y - x).flatten(2)[0].T  # (N, 10), (N, 3)
    weight = torch.ones_like(x[:, :1])
    for _ in range(_ROUNDS):
        weighted = terms * weight.view(-1, 1) / weight.sum()
        # The ridge prefers the colours as they are: a plain picture fixes no curve.
        normal = weighted.T @ terms + 1e-4 * torch.eye(terms.shape[1]).to(terms)
        curve = torch.linalg.solve(normal, weighted.T @ wanted)
        rest = y - _curved(x, curve)
        drift = _spread(rest, weight)
        weight = _trust(rest - drift)
    return ColourMatch(curve=curve, drift=drift)


def _terms(colours: Tensor) -> Tensor:
    """Constant, colours, squares and products: enough for exposure, gamma, and a warmer or paler grade.

    (1, 3, h, w) -> (1, 10, h, w).
    """
    red, green, blue = colours.split(1, dim=1)
    products = [red * red, green * green, blue * blue, red * green, green * blue, blue * red]
    return torch.cat([torch.ones_like(red), colours, *products], dim=1)


def _curved(colours: Tensor, curve: Tensor) -> Tensor:
    return colours + torch.einsum("bthw,tc->bchw", _terms(colours), curve)


def unexplained(edited: Tensor, warped: Tensor, colours: ColourMatch) -> Tensor:
    """How far the edited picture's colours are from what the warped original has there.

    Returns (1, 1, h, w) in [0, 1], of the worst channel; 0 almost everywhere.
    """
    return beyond_reach(colours.apply(edited, pixel_grid(*edited.shape[-2:], device=edited.device)), warped)


def beyond_reach(picture: Tensor, other: Tensor, reach_px: int = _REACH_PX) -> Tensor:
    """How far a picture's colours are from those that another of the same colours has within that many pixels.

    Both (1, 3, h, w).  Returns (1, 1, h, w) in [0, 1], of the worst channel; 0 where it is no more than noise.
    """
    matched = blur(picture)
    highest, lowest = highest_around(other, reach_px), -highest_around(-other, reach_px)
    beyond = torch.maximum((matched - highest).clamp_min(0), (lowest - matched).clamp_min(0))
    noise = 1.4826 * (matched - blur(other))[..., ::4, ::4].abs().median()
    return (blur(beyond).amax(dim=1, keepdim=True) - _NOISE_FLOOR - _NOISE_GAIN * noise).clamp(0, 1)


def paste_mask(residual: Tensor) -> Tensor:
    """Where to take the edited picture's own pixels: specks dropped, gaps closed, feathered.  (1, 1, h, w)."""
    core = (blur(residual) > _PASTE_FROM).float()
    kept = _grown(1 - _grown(1 - core, _SPECK_PX), _SPECK_PX)
    mask = _grown(kept, _MARGIN_PX)
    for _ in range(2):
        mask = mean_around(mask, _FEATHER_PX // 2)
    return mask


def likeness(edited: Tensor, warped: Tensor) -> float:
    """Local correlation where there is texture: near 1 for one photo under any degradation, lower for two photos."""
    factor = max(1, max(edited.shape[-2:]) // _LIKENESS_SIDE)
    weights = edited.new_tensor(LUMA).view(1, 3, 1, 1)
    x, y = (F.avg_pool2d((picture * weights).sum(dim=1, keepdim=True), factor) for picture in (edited, warped))

    def local_mean(plane: Tensor) -> Tensor:
        return window_mean(plane, _LIKENESS_WINDOW)

    mean_x, mean_y = local_mean(x), local_mean(y)
    variance_x, variance_y = local_mean(x * x) - mean_x**2, local_mean(y * y) - mean_y**2
    contrast = (variance_x.clamp_min(0) * variance_y.clamp_min(0)).sqrt()
    if not (contrast > _PLAIN).any():
        return 1.0  # a plain picture is like any other
    correlation = (local_mean(x * y) - mean_x * mean_y) / (contrast + _PLAIN)
    weight = contrast.sqrt()
    return float((correlation * weight).sum() / weight.sum())


def _grown(mask: Tensor, by_px: int) -> Tensor:
    return highest_around(mask, by_px)


def _spread(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted local mean: two box filters, so that it follows slow changes only."""
    radius = max(1, round(_DRIFT_SHARE * max(values.shape[-2:])))

    def box(planes: Tensor) -> Tensor:
        for _ in range(2):
            planes = mean_around(planes, radius)
        return planes

    return box(values * weight) / box(weight).clamp_min(1e-3)


def _trust(rest: Tensor) -> Tensor:
    """1 where the colours agree, towards 0 where something is new.  (1, 3, h', w') -> (1, 1, h', w')."""
    misfit = rest.abs().amax(dim=1, keepdim=True)
    scale = 2 * misfit.median() + 0.01
    return 1 / (1 + (misfit / scale) ** 4)
