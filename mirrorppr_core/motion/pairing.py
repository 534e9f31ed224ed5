"""Laying the after picture on the before picture, whatever size, crop or place it was exported with.

Retouchers export at another size, crop a few per cent, nudge or turn a layer. That is no retouch and no reason to
refuse the pair: the after picture is brought to the size of before, its motion as a whole is measured (alignment.py)
and taken out, and what it lacks at its border is left as in before. Each of these is told. What cannot be a pair is
refused for what it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from ..exemplar import SAME_PHOTO, Overview, overview_of, same_photo
from ..geometry.displacement import length, pixel_grid, sample
from ..images import as_float, check_not_plain, check_photo, reduce
from ..stopping import stop_if_asked
from .alignment import edited_positions, find_alignment
from .clean import affine_motion, resize_affine
from .estimate import MeasuredMotion, estimate_motion
from .likeness import ONE_PHOTO, explained_share
from .panels import holds_two
from .tone import toned_alike

_SAME_ASPECT = 0.01
_MAX_ASPECT = 1.2  # times; beyond it is no crop by a few per cent
_OUT_OF_PLACE_PX = 0.5  # median motion in the overview; that of aligned pairs stays below 0.3, however edited
_STILL_PX, _MUCH_STILL = 0.3, 0.12  # in the overview; where so much of a picture stays, it is in place, however edited
_ROUNDS = 3  # of finding what is left and laying back from the first picture again
_MIRRORED = 0.6  # likeness to the mirrored picture
_STRIP_ROWS = 512
_PANEL_SIDE = 512  # pixels in which a screenshot of both is looked for
_TWO_PICTURES = (
    "exemplar {name} shows two pictures side by side, it seems before and after: cut them apart and use one as before "
    "and the other as after"
)


@dataclass(frozen=True, kw_only=True)
class Laid:
    """after: (1, C, H, W) of the size of before.  motion: of the overview.  notes: what was taken out."""

    after: Tensor
    overview: Overview
    motion: MeasuredMotion
    notes: tuple[str, ...]

    @cached_property
    def one_photo(self) -> bool:
        """Whether both show one photo as a whole: most detail lies where it lay, or where the motion brought it."""
        if self.overview.likeness >= SAME_PHOTO:
            return True
        return explained_share(self.overview, self.motion.raw) >= ONE_PHOTO


@torch.no_grad()
def laid_together(before: Tensor, after: Tensor) -> Laid:
    """before, after: (1, 3 or 4, H, W).  Raises ValueError on pictures that cannot be one photo and its copy."""
    check_photo(before, "exemplar before")
    check_photo(after, "exemplar after")
    _check_contents(before, after)
    placed, notes = _brought_to_size(before, after)
    overview = overview_of(before, placed)
    if holds_two(overview.before) and holds_two(overview.after):
        raise ValueError(_TWO_PICTURES.format(name="before"))
    motion = _motion_of(overview)
    if not _out_of_place(motion.raw):
        return Laid(after=placed, overview=overview, motion=motion, notes=notes)

    total, given = None, placed
    for _ in range(_ROUNDS):
        found = find_alignment(toned_alike(overview.before, overview.after)[0], overview.after)
        if found is None:
            break
        small, size = overview.before.shape[-2:], before.shape[-2:]
        found = resize_affine(found, (small[0], small[1]), (size[0], size[1]))
        total = found if total is None else _one_after_other(total, found)
        placed = _laid_back(given, total, on=before)
        overview = overview_of(before, placed)
    if total is not None:
        far = float(length(affine_motion(total, _corners(before))).amax())
        motion = _motion_of(overview)
        notes = (*notes, f"after as a whole was shifted, zoomed or turned by up to {far:.1f} px: taken out")
    return Laid(after=placed, overview=overview, motion=motion, notes=notes)


def refuse_strangers(laid: Laid, boxes: list[tuple[float, ...]]) -> tuple[str, ...]:
    """Raise unless both show one photo, as a whole or at least around one of the faces; a note for the latter.

    boxes: left, top, right, bottom of each face of before, in its pixels.
    """
    before, after = laid.overview.before, laid.overview.after
    alike = laid.overview.likeness
    if laid.one_photo:
        return ()
    around = [same_photo(*(_part(picture, box, laid.overview.factor) for picture in (before, after))) for box in boxes]
    if around and max(around) >= SAME_PHOTO:
        return ("most of the picture around the person is new (another background?): it is left out",)
    if same_photo(before, after.flip(-1)) >= _MIRRORED:
        raise ValueError(
            "exemplar after is mirrored against before (left is right): flip it back and try again, so that only the "
            "retouch differs"
        )
    raise ValueError(
        f"exemplar before and after do not look like the same photo (detail correlation {alike:.2f}, a retouched copy "
        "has 0.7 or more). Use one photo and its retouched copy, not two photos of a person."
    )


def _check_contents(before: Tensor, after: Tensor) -> None:
    """Plain pictures, and screenshots that hold both."""
    for name, photo in (("before", before), ("after", after)):
        check_not_plain(photo, f"exemplar {name}")
    (height, width), (own_height, own_width) = before.shape[-2:], after.shape[-2:]
    aspect = own_width * height / (own_height * width)
    if aspect == 1:
        return
    small = [reduce(photo, -(-max(photo.shape[-2:]) // _PANEL_SIDE)) for photo in (before, after)]
    for name, photo, other in (("after", small[1], small[0]), ("before", small[0], small[1])):
        if holds_two(photo, other):
            raise ValueError(_TWO_PICTURES.format(name=name))
    if not 1 / _MAX_ASPECT < aspect < _MAX_ASPECT:
        raise ValueError(
            f"exemplar before is {width}x{height} but after is {own_width}x{own_height}, of another shape: both must "
            "be the same photo; crops of a few per cent and other sizes are taken out. Export the retouched photo "
            "whole."
        )


def _brought_to_size(before: Tensor, after: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """after at the size of before: the same photo at another size, or a crop of it."""
    (height, width), (own_height, own_width) = before.shape[-2:], after.shape[-2:]
    if (height, width) == (own_height, own_width):
        return after, ()
    note = f"after is {own_width}x{own_height}, before {width}x{height}: "
    by_width, by_height = width / own_width, height / own_height
    if abs(by_width / by_height - 1) < _SAME_ASPECT:
        resized = _resized(after, (height, width))
        return resized, (note + "brought to the same size",)
    # A crop keeps its pixels or was exported at the width or the height of before: whichever looks alike is it.
    candidates = [_centred(_scaled(after, scale), on=before) for scale in (1.0, by_width, by_height)]
    alike = [_alike_when_laid(before, candidate) for candidate in candidates]
    return candidates[alike.index(max(alike))], (note + "taken for a crop of it",)


def _alike_when_laid(before: Tensor, after: Tensor) -> float:
    overview = overview_of(before, after)
    found = find_alignment(toned_alike(overview.before, overview.after)[0], overview.after)
    laid = overview.after if found is None else _laid_back(overview.after, found, on=overview.before)
    return same_photo(overview.before, laid)


def _scaled(photo: Tensor, scale: float) -> Tensor:
    return photo if scale == 1 else _resized(photo, tuple(max(1, round(side * scale)) for side in photo.shape[-2:]))


def _resized(photo: Tensor, size: tuple[int, ...]) -> Tensor:
    """Float RGB."""
    return F.interpolate(as_float(photo[:, :3]), size, mode="bicubic", antialias=True).clamp(0, 1)


def _centred(photo: Tensor, *, on: Tensor) -> Tensor:
    """The photo in the middle of a picture that it lies on."""
    result = as_float(on[:, :3]).clone()
    (height, width), (own_height, own_width) = on.shape[-2:], photo.shape[-2:]
    top, left = (height - own_height) // 2, (width - own_width) // 2
    rows, columns = slice(max(0, top), min(height, top + own_height)), slice(max(0, left), min(width, left + own_width))
    part = as_float(photo[:, :3, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left])
    result[..., rows, columns] = part
    return result


def _motion_of(overview: Overview) -> MeasuredMotion:
    return estimate_motion(source=toned_alike(overview.before, overview.after)[0], target=overview.after)


def mostly_moved(size: Tensor) -> bool:
    """Whether next to nothing stays, as after a slip and hardly after an edit.  size: of motion, px of the overview."""
    return float((size < _STILL_PX).float().mean()) < _MUCH_STILL


def _out_of_place(raw: Tensor) -> bool:
    """Whether most of the picture moved, and hardly anything stayed."""
    size = length(raw)[..., ::4, ::4]
    return float(size.median()) > _OUT_OF_PLACE_PX and mostly_moved(size)


def _laid_back(after: Tensor, alignment: Tensor, *, on: Tensor) -> Tensor:
    """after where before is, and before where after has nothing to show; strip by strip.  Float RGB."""
    height, width = on.shape[-2:]
    own_height, own_width = after.shape[-2:]
    picture, result = as_float(after[:, :3]), as_float(on[:, :3]).clone()
    for top in range(0, height, _STRIP_ROWS):
        stop_if_asked()
        rows = min(_STRIP_ROWS, height - top)
        grid = pixel_grid(rows, width, device=on.device) + torch.tensor([0.0, top], device=on.device).view(2, 1, 1)
        positions = edited_positions(alignment, grid)
        x, y = positions.split(1, dim=1)
        inside = (x >= 0) & (x <= own_width - 1) & (y >= 0) & (y <= own_height - 1)
        strip = result[..., top : top + rows, :]
        strip.copy_(torch.where(inside, sample(picture, positions).clamp(0, 1), strip))
    return result


def _one_after_other(first: Tensor, second: Tensor) -> Tensor:
    """The alignment of a picture that was laid back by the first and then found to be off by the second.

    edited(p) = laid(e) with p + A1 p = e, laid(e) = original(e + A2 e): so edited(p) = original((1 + A2)(1 + A1) p).
    """
    return _affine(_matrix(second) @ _matrix(first))


def _matrix(affine: Tensor) -> Tensor:
    """(1, 2, 3) motion -> (3, 3) map."""
    rows = affine[0].double() + torch.eye(2, 3).to(affine).double()
    return torch.cat([rows, rows.new_tensor([[0, 0, 1]])])


def _affine(matrix: Tensor) -> Tensor:
    return (matrix[:2] - torch.eye(2, 3).to(matrix))[None].float()


def _corners(photo: Tensor) -> Tensor:
    height, width = photo.shape[-2:]
    x = torch.tensor([[0.0, width - 1], [0.0, width - 1]])
    y = torch.tensor([[0.0, 0.0], [height - 1, height - 1]])
    return torch.stack([x, y])[None]


def _part(picture: Tensor, box: tuple[float, ...], factor: int) -> Tensor:
    height, width = picture.shape[-2:]
    left, top, right, bottom = (int(v / factor) for v in box)
    left, top = max(0, min(left, width - 17)), max(0, min(top, height - 17))
    return picture[..., top : max(bottom, top + 17), left : max(right, left + 17)]
