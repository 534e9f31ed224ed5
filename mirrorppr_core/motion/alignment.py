"""How far an edited picture as a whole has slipped from its original: shift, zoom and stretch.

Diffusion editors return a picture that is shifted or zoomed by a few pixels, often by a per cent. That is not an
edit, and it is too much for `clean.py`, which takes out what is left below two pixels. So it is measured
first, coarsely, on a small copy, and the edited picture is laid back onto the original before anything else.

An alignment is an affine motion like every motion here, (1, 2, 3): edited(p) shows original(p + A @ (x, y, 1)).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import pixel_grid, sample
from ..images import LUMA
from .clean import resize_affine, robust_fit
from .estimate import MotionConfig, estimate_motion

_COARSE_SIDE = 256  # pixels of the copy
_COARSE = MotionConfig(max_side=_COARSE_SIDE, iterations=(4, 4, 4, 3, 3, 2))
_STEP = 4  # its motion is read at every fourth pixel
_CLOSING_IN_PX = (12.0, 8.0, 5.0, 3.0, 2.0, 1.4, 1.0, 0.7, 0.5, 0.35, 0.25, 0.25)  # scale of the inliers
_AGREEING_PX = 0.4
_MIN_AGREEING = 0.4  # share of all texture that must move as one ...
_MIN_FOLLOWING = 0.6  # ... and of what should move farthest, that does not stay
_NOTABLE_SHARE, _MAX_SHARE = 0.0012, 0.06  # of the longer side; less is left to clean.py, more is another crop


@torch.no_grad()
def find_alignment(original: Tensor, edited: Tensor) -> Tensor | None:
    """By how much the edited picture as a whole has slipped, or None if it lies in place.

    Both (1, 3, H, W).  Returns (1, 2, 3) in their pixels. An edit moves parts of a picture; a slip is what most of
    its texture agrees on, out to the corners.
    """
    size = original.shape[-2:]
    scale = min(1.0, _COARSE_SIDE / max(size))
    small = round(size[0] * scale), round(size[1] * scale)
    source, target = (
        F.interpolate(picture, small, mode="bilinear", align_corners=False, antialias=True)
        for picture in (original, edited)
    )
    motion = estimate_motion(source=source, target=target, config=_COARSE).raw
    every = (..., slice(None, None, _STEP), slice(None, None, _STEP))
    positions = pixel_grid(*small, device=motion.device)[every]  # (1, 2, h, w)
    u = motion[every].flatten(2)[0].T.double()  # (N, 2)
    basis = torch.cat([positions.flatten(2)[0].T / max(small), torch.ones_like(u[:, :1])], dim=1).double()
    texture = _texture(source)[every].flatten().double()
    fit = robust_fit(basis, u, texture, torch.zeros_like(basis[:3, :2]), _CLOSING_IN_PX, num_translation=2)

    slip = basis @ fit
    away, rest = slip.norm(dim=1), (u - slip).norm(dim=1)
    agreeing = (texture * (rest < _AGREEING_PX)).sum() / texture.sum()
    # A head made smaller on a plain wall agrees with itself, but the shoulders stay: whatever a slip takes far, goes.
    far = texture * (away > away.max() / 2)
    following = (far * (rest < u.norm(dim=1))).sum() / far.sum()
    notable = _NOTABLE_SHARE < float(away.max()) / max(small) < _MAX_SHARE
    if not notable or agreeing < _MIN_AGREEING or following < _MIN_FOLLOWING:
        return None
    affine = torch.cat([fit[:2].T / max(small), fit[2:].T], dim=1)[None].to(motion.dtype)  # (1, 2, 3)
    return resize_affine(affine, small, tuple(size))


def lay_back(edited: Tensor, alignment: Tensor, *, on: Tensor) -> tuple[Tensor, Tensor]:
    """The edited picture where the original is, and where it has something to show.

    edited, on: (1, 3, H, W); `on` is the original, which fills what the edited picture lost at its border.
    Returns (1, 3, H, W) and (1, 1, H, W) bool.
    """
    positions = edited_positions(alignment, pixel_grid(*edited.shape[-2:], device=edited.device))
    x, y = positions.split(1, dim=1)
    inside = (x >= 0) & (x <= edited.shape[-1] - 1) & (y >= 0) & (y <= edited.shape[-2] - 1)
    return torch.where(inside, sample(edited, positions).clamp(0, 1), on), inside


def edited_positions(alignment: Tensor, positions: Tensor) -> Tensor:
    """Where the edited picture shows these places of the original.  (1, 2, h, w) -> (1, 2, h, w)."""
    slope, shift = alignment[0, :, :2].double(), alignment[0, :, 2].double()
    inverse = torch.linalg.inv(torch.eye(2).to(slope) + slope)
    flat = positions.flatten(2)[0].double() - shift[:, None]  # (2, N)
    return (inverse @ flat).view_as(positions).to(positions.dtype)


def _texture(picture: Tensor) -> Tensor:
    """0 where motion cannot be seen in both directions, towards 1 where it can.  (1, 3, H, W) -> (1, 1, H, W)."""
    luma = torch.einsum("bchw,c->bhw", picture, picture.new_tensor(LUMA))[:, None]
    gradients = torch.gradient(luma, dim=(-1, -2))
    weaker = torch.stack([F.avg_pool2d(g**2, 9, stride=1, padding=4) for g in gradients]).amin(dim=0)
    return weaker / (weaker + weaker.mean() + 1e-9)
