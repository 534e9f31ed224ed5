"""What a user should know about an exemplar: what changed that is no motion, what was doubted, what was left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..bodies.transfer import BodyReading
from ..exemplar import Overview
from ..faces.outline import face_in_copy
from ..geometry.displacement import length
from ..motion.explained import Explained
from ..motion.pairing import Laid, mostly_moved
from ..motion.smears import without_smears
from ..windows import window_mean
from .close_up import CloseUp

_VISIBLE = 6 / 255  # a change of colour that counts
_MISALIGNED_PX = 1.3  # median motion around the face in the overview; aligned pairs stay below 0.3, however edited
_TEXTURE, _MIN_AROUND = 0.02, 0.01  # slope that shows motion; share of the picture, with less nothing tells the place
_MUCH = 0.2  # of the picture, new: there is too little left around the face to read a body from
_PAINTED_BESIDE = (
    "something beside the face was painted or removed (a strap, a text, another background?): it is no motion and is "
    "left out"
)
FACELESS = "no face was found in {photo}: only what was done to the body {part}"
_UNTOLD_BESIDE = "part of the change beside the face is not explained by moving pixels: it is left out"


@dataclass(frozen=True, kw_only=True)
class Found:
    """overall: in the overview.  close: at the face; None where none was found.  beside: the body's part.  moved:
    something moved on the face."""

    overall: Explained
    close: CloseUp | None
    beside: BodyReading
    moved: bool


def check_aligned(overall: Explained, laid: Laid, box: tuple[float, ...]) -> None:
    """Raise if what lies around the face moved as a whole and could not be laid back: that is no retouch.

    box: the face's, in photo pixels. Asked where there is texture and no paint: elsewhere motion is only led across.
    """
    overview, size = laid.overview, length(overall.motion.raw)  # (1, 1, h, w)
    slopes = torch.gradient(overview.before.mean(1, keepdim=True), dim=(-1, -2))
    textured = torch.hypot(*slopes) > _TEXTURE
    around = textured & ~overall.painted & ~_inside(overall.painted, box, overview.factor, margin=0.1)
    if float(around.float().mean()) < _MIN_AROUND or much_is_new(overall, laid):
        return
    shift = float(size[around].median())
    if shift > _MISALIGNED_PX and mostly_moved(size[around]):
        raise ValueError(
            f"exemplar after is out of place against before by about {shift * overview.factor:.0f} pixels, by more "
            "than a shift, zoom or turn of a few per cent can explain: align the two layers exactly and export them "
            "again, so that only the retouch differs"
        )


def moved_beside(overall: Explained, laid: Laid, landmarks: Tensor) -> Tensor:
    """The motion of the whole photo, (1, 2, h, w), for the body's part; none where so much is new that the rest of it
    is only led across, and none that imitates paint.  landmarks: (130, 2) of the face, in photo pixels."""
    doubted = overall.painted | overall.unsure
    face = face_in_copy(landmarks, doubted, factor=laid.overview.factor)
    return without_smears(overall.motion.displacement, doubted, face) * (not much_is_new(overall, laid))


def much_is_new(overall: Explained, laid: Laid) -> bool:
    """Whether too little of the old picture is left to read a motion beside the face."""
    share = float((overall.painted | overall.unsure).float().mean())
    return share > _MUCH or not laid.one_photo


def notes_on(found: Found, laid: Laid, landmarks: Tensor) -> tuple[str, ...]:
    """landmarks: (130, 2) of the face, in photo pixels."""
    notes, beside, overview = [], found.beside, laid.overview
    # Averaged over 5 pixels, so that the noise of a JPEG does not count as a change.
    change = window_mean(F.pad(overview.after - overview.before, (2, 2, 2, 2)), 5).abs().amax() > _VISIBLE
    if not found.moved and not change and not beside.moved:
        notes.append(_nothing_moved(overview, None if found.close is None else found.close.told_from_px))
    elif not found.moved and beside.body is None:
        notes.append(
            "before and after differ, but nothing on the face moved: only changes of shape are transferred, "
            "not of colour or skin. This operation leaves every photo as it is."
        )
    notes += beside.notes
    if found.close is None:
        return (FACELESS.format(photo="the exemplar", part="is read"), *notes, *_paint_notes(found))
    painted, unsure = found.overall.painted, found.overall.unsure
    on_face = torch.zeros_like(painted)
    if painted.any() or unsure.any():
        on_face = face_in_copy(landmarks, painted, factor=overview.factor)
    if found.close.repainted or (painted & on_face).any():
        notes.append(
            "part of the face was repainted (glasses, teeth, closed eyes, text?), which no motion explains: what "
            "happened there is not read. Look at the picture of what was found before you use this operation"
        )
    beside_it = _paint_notes(found, on_face)
    notes += beside_it
    if not beside_it and (unsure & ~on_face).any():
        notes.append(_UNTOLD_BESIDE)
    if much_is_new(found.overall, laid):
        notes.append("so much of the picture is new that motion is read on the face alone, not on the body")
    if (unsure & on_face).any() or found.close.untold:
        notes.append("part of the change on the face is not explained by moving pixels: it is read only around that")
    softer = found.close.softer_px
    if softer:
        what = "softer" if softer > 0 else "sharper"
        notes.append(f"after is {what} than before (by about {abs(softer):.1f} px): fine motion may be read too small")
    if found.close.explained.clipped or found.overall.clipped:
        notes.append("after is graded until it clips to white or black: where it does, no motion can be read")
    return tuple(notes)


def _paint_notes(found: Found, on_face: Tensor | bool = False) -> tuple[str, ...]:
    """on_face: (1, 1, h, w) bool."""
    return (_PAINTED_BESIDE,) if bool((found.overall.painted & ~torch.as_tensor(on_face)).any()) else ()


def _nothing_moved(overview: Overview, told_from_px: float | None) -> str:
    if told_from_px is None or torch.equal(overview.before, overview.after):
        return "no change found between before and after: this operation leaves every photo as it is"
    return (
        f"no change found between before and after above their noise: motion shorter than about {told_from_px:.1f} px "
        "cannot be told from it in these pictures. This operation leaves every photo as it is"
    )


def _inside(like: Tensor, box: tuple[float, ...], factor: int, *, margin: float) -> Tensor:
    """1 in the face's box, widened by that share of it.  (1, 1, h, w) bool."""
    x0, y0, x1, y1 = (v / factor for v in box)
    rim = margin * max(x1 - x0, y1 - y0)
    mask = torch.zeros_like(like)
    mask[..., max(0, int(y0 - rim)) : max(0, int(y1 + rim) + 1), max(0, int(x0 - rim)) : max(0, int(x1 + rim) + 1)] = (
        True
    )
    return mask
