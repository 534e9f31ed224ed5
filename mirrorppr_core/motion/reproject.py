"""Reprojection: what an editor did to the shape, done to the photographer's own pixels.

    edited(p) ~ original(p + d(p))      measured, cleaned, then applied to the original at native resolution

An editor that repaints (a diffusion model, an app) returns a smaller, softer picture with other colours. Its motion
against the original is measured at the edited picture's resolution, where it is known to a fraction of a pixel, and
scaled up to the photo. Texture, grain, colours and resolution stay; pixels that did not move keep their bits. What no
warp can show (teeth, closed eyes) is reported as a residual, and pasted only if asked for.

In order: alignment.py (the picture as a whole), estimate.py (the edit), residual.py (what is new), bridging.py (motion
across it), unfold.py, geometry/field.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import changed_mask, length, pixel_grid, sample, warp
from ..geometry.field import Field, apply_field
from ..geometry.unfold import unfold
from ..images import as_float, check_photo
from ..one_thread import one_thread
from ..stopping import stop_if_asked
from ..windows import block_mean
from .alignment import edited_positions, find_alignment, lay_back
from .bridging import bridge
from .clean import affine_motion
from .estimate import MotionConfig, blur, estimate_motion
from .residual import ColourMatch, likeness, match_colours, paste_mask, unexplained

MAX_ASPECT_ERROR = 0.025  # editors round sizes to multiples of 16 or 32
# One photo is above 0.95 after any edit or grade. Two photos come up to 0.83, one with a new background to 0.89.
MIN_LIKENESS, SURE_LIKENESS = 0.5, 0.92
MAX_MOVED = 0.5  # share of the picture
_BLURS = 3  # hide the creases of the estimator's grid when the field is scaled up
_STILL_PX = 0.01  # motion that the blur spreads below this is none
_FOLD_CELL = 4  # pixels
_NOTABLE_RESIDUAL = 0.001  # share of the picture
_STRIP_ROWS = 512  # rows of a large photo turned into floats at a time


@dataclass(frozen=True, kw_only=True)
class ReprojectConfig:
    paste_residual: bool = False  # take the edited picture's pixels where no warp explains them
    # Noise slows the solver down: more steps than a clean pair needs, most of them where they are cheap.
    motion: MotionConfig = MotionConfig(max_side=2048, iterations=(10, 10, 10, 8, 6, 3))


@dataclass(frozen=True, kw_only=True)
class Reprojected:
    image: Tensor  # (1, C, H, W) the original's size and dtype
    field: Field  # how its pixels moved
    mask: Tensor  # (1, 1, H, W) float: 1 where pixels moved, 0 to 1 where some were pasted; 0: the original's bits
    residual: Tensor  # (1, 1, H, W) float in [0, 1]: difference in colour that no warp explains, mostly 0
    notes: tuple[str, ...]  # what to know about the result, in plain words


@one_thread()
@torch.no_grad()
def reproject(original: Tensor, edited: Tensor, config: ReprojectConfig | None = None) -> Reprojected:
    """Give the original the shape of its edited version.

    original: (1, 3 or 4, H, W), float in [0, 1] or uint8.  edited: the same photo after any editor, of any size with
    that aspect ratio; its alpha is not used. A shift or zoom of the whole edited picture does not count as an edit,
    nor do its colours.
    """
    config = config or ReprojectConfig()
    check_photo(original, "original")
    check_photo(edited, "edited")
    _check_aspect(original, edited)
    size = _measuring_size(original, edited, config.motion.max_side)
    source, target = _reduced(original, *size), _reduced(edited, *size)

    alignment = find_alignment(source, target)
    inside = torch.ones_like(source[:, :1], dtype=torch.bool)
    if alignment is not None:
        target, inside = lay_back(target, alignment, on=source)
    displacement = _edit_of(source, target, inside, config.motion)
    stop_if_asked()
    half_target, seen = _halved(target), _halved(inside.float())
    stop_if_asked()
    warped = _halved(warp(source, displacement))
    stop_if_asked()
    _check_same_photo(likeness(half_target, warped), displacement)
    stop_if_asked()
    colours = match_colours(half_target, warped)
    residual = unexplained(half_target, warped, colours) * seen
    stop_if_asked()
    doubted = _enlarged(paste_mask(residual), source) * displacement.ne(0).any()
    if doubted.any():  # there the motion only imitates what is new
        displacement = bridge(displacement, doubted)
        stop_if_asked()
        warped = _halved(warp(source, displacement))
        residual = unexplained(half_target, warped, colours) * seen

    kept = Field.from_dense(_without_folds(displacement))
    stop_if_asked()
    field = kept.resized(*original.shape[-2:])
    image, mask = apply_field(original, field), _moved_mask(field)
    stop_if_asked()
    notes = _notes(alignment, size, displacement, residual, config)
    if config.paste_residual and residual.any():
        pasting = _enlarged(paste_mask(residual), original)
        stop_if_asked()
        image = _pasted(image, edited, pasting, colours, alignment, size)
        stop_if_asked()
        mask = torch.maximum(mask, pasting)
    return Reprojected(image=image, field=field, mask=mask, residual=_enlarged(residual, original), notes=notes)


def _check_aspect(original: Tensor, edited: Tensor) -> None:
    (height, width), (own_height, own_width) = original.shape[-2:], edited.shape[-2:]
    if abs(own_width * height / (own_height * width) - 1) > MAX_ASPECT_ERROR:
        raise ValueError(
            f"original is {width}x{height} but edited is {own_width}x{own_height}, of another aspect ratio: use the "
            "edited version of the whole photo, at any size, without cropping or padding"
        )


def _check_same_photo(alike: float, displacement: Tensor) -> None:
    """Two portraits of two people can be warped into each other, but not without moving most of the picture."""
    moved = float(changed_mask(displacement).mean())
    if alike < MIN_LIKENESS or (alike < SURE_LIKENESS and moved > MAX_MOVED):
        raise ValueError(
            f"edited does not show the same photo as original (likeness {alike:.2f} of 1, {100 * moved:.0f} % of the "
            "picture would have to move): connect the edited version of this very photo, uncropped, not mirrored "
            "or rotated, with its own background"
        )


def _measuring_size(original: Tensor, edited: Tensor, max_side: int) -> tuple[int, int]:
    """Height and width: the original's shape at the smallest of the original's, the edited one's and the given size."""
    height, width = original.shape[-2:]
    scale = min(max(height, width), max(edited.shape[-2:]), max_side) / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _reduced(image: Tensor, height: int, width: int) -> Tensor:
    """Float RGB at that size, averaged where it shrinks, without ever holding a large photo in floats."""
    rgb = image[:, :3]
    if rgb.shape[-2:] == (height, width):
        return as_float(rgb)

    def resize(part: Tensor, size: tuple[int, int]) -> Tensor:
        stop_if_asked()
        return F.interpolate(part, size, mode="bilinear", align_corners=False, antialias=True)

    narrow = [resize(as_float(strip), (strip.shape[2], width)) for strip in rgb.split(_STRIP_ROWS, dim=2)]
    return resize(torch.cat(narrow, dim=2), (height, width))


def _edit_of(source: Tensor, target: Tensor, inside: Tensor, config: MotionConfig) -> Tensor:
    """The edit as a smooth displacement, exactly zero where nothing moved.  (1, 2, h, w)."""
    displacement = estimate_motion(source=source, target=target, config=config).displacement * inside
    for _ in range(_BLURS):
        stop_if_asked()
        displacement = blur(displacement)
    return displacement * (length(displacement) > _STILL_PX)


def _without_folds(displacement: Tensor) -> Tensor:
    """(1, 2, h, w)."""
    cells = displacement[..., ::_FOLD_CELL, ::_FOLD_CELL] / _FOLD_CELL
    repair = (unfold(cells, torch.zeros_like(cells)) - cells) * _FOLD_CELL
    if not repair.any():
        return displacement
    moving = changed_mask(displacement)
    return displacement + moving * F.interpolate(repair, displacement.shape[-2:], mode="bilinear")


def _moved_mask(field: Field) -> Tensor:
    """1 where pixels moved.  (1, 1, H, W)."""
    mask = field.displacement.new_zeros(1, 1, field.height, field.width)
    left, top, right, bottom = field.box
    mask[..., top:bottom, left:right] = changed_mask(field.displacement)
    return mask


def _halved(picture: Tensor) -> Tensor:
    return block_mean(picture, 2)


def _enlarged(plane: Tensor, picture: Tensor) -> Tensor:
    """(1, 1, h, w) -> (1, 1, H, W)."""
    return F.interpolate(plane, picture.shape[-2:], mode="bilinear", align_corners=False)


def _pasted(
    image: Tensor, edited: Tensor, mask: Tensor, colours: ColourMatch, alignment: Tensor | None, size: tuple[int, int]
) -> Tensor:
    """The edited picture's own pixels, in the original's colours, where the mask (1, 1, H, W) says so."""
    height, width = image.shape[-2:]
    edited = _reduced(edited, min(height, edited.shape[-2]), min(width, edited.shape[-1]))
    rows, columns = mask[0, 0].amax(dim=1).nonzero(), mask[0, 0].amax(dim=0).nonzero()
    if len(rows) == 0:
        return image
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    grid = pixel_grid(bottom - top, right - left, device=image.device)
    positions = _rescaled(grid + grid.new_tensor([left, top]).view(2, 1, 1), (height, width), size)
    shown_at = positions if alignment is None else edited_positions(alignment, positions)
    stop_if_asked()
    pixels = sample(edited, _rescaled(shown_at, size, tuple(edited.shape[-2:])))
    stop_if_asked()
    pixels = colours.apply(pixels, (positions - 0.5) / 2).clamp(0, 1)  # known at half the measuring size

    result = image.clone()
    box = result[:, :3, top:bottom, left:right]
    share = mask[..., top:bottom, left:right]
    mixed = torch.lerp(as_float(box), pixels, share)
    if image.dtype == torch.uint8:
        mixed = (mixed * 255).round().to(torch.uint8)
    box.copy_(torch.where(share > 0, mixed.to(image.dtype), box))
    return result


def _rescaled(positions: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """The same places on the same picture at another (height, width).  (1, 2, h, w) -> (1, 2, h, w)."""
    scale = positions.new_tensor([new_size[1] / size[1], new_size[0] / size[0]]).view(2, 1, 1)
    return (positions + 0.5) * scale - 0.5


def _notes(
    alignment: Tensor | None, size: tuple[int, int], displacement: Tensor, residual: Tensor, config: ReprojectConfig
) -> tuple[str, ...]:
    notes = []
    if alignment is not None:
        slip = float(length(affine_motion(alignment, pixel_grid(*size, device=alignment.device))).amax())
        notes.append(
            f"the whole edited picture was shifted or zoomed by up to {slip:.1f} px at {size[1]}x{size[0]}: taken out"
        )
    if not displacement.any():
        notes.append("nothing moved")
    share = float((residual > 0).float().mean())
    if share > _NOTABLE_RESIDUAL:
        what = "pasted" if config.paste_residual else "left as in the original, see the residual"
        notes.append(f"{100 * share:.1f} % of the picture is not explained by moving pixels: {what}")
    return tuple(notes)
