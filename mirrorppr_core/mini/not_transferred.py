"""What else a retoucher did: colours, black and white, smoothed skin. None of it is transferred, so all of it is named.

Only shape is read from an exemplar. Beside an edit of shape other changes would go by in silence, and the artist would
look for them in the result. So the before picture is given the measured motion and compared with after: its colours
over patches so large that texture does not count, and the fine detail of skin where nothing moved. Paint has notes of
its own (findings.py), and so have softness of the whole picture and grades that clip. A JPEG so coarse that it hides
motion is named too.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..exemplar import Overview
from ..geometry.displacement import length, warp
from ..images import LUMA, reduce
from ..motion.blocks import is_coarse_jpeg
from ..motion.explained import Explained
from ..motion.sharpness import gauss

Box = tuple[float, float, float, float]  # left, top, right, bottom
_PATCH = 8  # pixels of the overview
_COLOURED, _GREY = 0.018, 0.006  # mean distance of the channels from grey: a picture in colour, one without
_CHANGED = 0.02  # difference of a patch's colour that counts; a JPEG's is a quarter of it
_MUCH, _ON_FACE = 0.25, 0.2  # share of the patches that changed: of the picture, of the face's box
_FACE_PX, _RIM = 300, 0.1  # width to which a face is reduced; share of it that is left out on every side
_DETAIL_PX, _CELL = 1.2, 5  # of that: what is finer counts as detail; over how much it is averaged
_SMOOTHER, _SELECTIVE = (
    0.75,
    0.15,
)  # share of the skin's detail that is left; how much better the eyes and lips keep theirs
_STILL_PX = 0.1
_LEAST_DETAIL = 0.3 / 255  # less is no texture that could be smoothed
_MIN_CELLS = 40


def not_transferred(before: Tensor, after: Tensor, overview: Overview, overall: Explained, box: Box) -> tuple[str, ...]:
    """A note for each kind.

    before, after: (1, C, H, W), lying on each other.  overview, overall: the pair reduced, and the motion in it.
    box: the face's, in photo pixels.
    """
    notes = (_colours(overview, overall, box), _skin(before, after, overview, overall, box), _blocks(before, after))
    return tuple(note for note in notes if note)


def _colours(overview: Overview, overall: Explained, box: Box) -> str:
    moved, after, softer = warp(overview.before, overall.motion.displacement), overview.after, overall.softer_px
    if softer:  # a blur takes colours across edges, which is no grade
        moved, after = (gauss(moved, softer), after) if softer > 0 else (moved, gauss(after, -softer))
    known = F.max_pool2d((overall.painted | overall.unsure).float(), _PATCH)[0, 0] == 0
    old, new = (F.avg_pool2d(picture, _PATCH) for picture in (moved, after))
    if not known.any():
        return ""
    if _chroma(old)[known].mean() > _COLOURED and _chroma(new)[known].mean() < _GREY:
        return "after is black and white: only changes of shape are transferred, photos keep their colours"
    change = (new - old).abs().amax(1)[0]  # (h, w)
    changed = (change > _CHANGED) & known
    if float(changed[known].float().mean()) > _MUCH:
        by = 100 * float(change[changed].median())
        return f"after has other colours or brightness (by about {by:.0f} %): a grade is not transferred"
    x0, y0, x1, y1 = (int(v / overview.factor / _PATCH) for v in box)
    part = (slice(max(0, y0), y1 + 1), slice(max(0, x0), x1 + 1))
    if known[part].any() and float(changed[part][known[part]].float().mean()) > _ON_FACE:
        return (
            "colour or brightness of the face was changed (light, make-up, skin tone): only changes of shape are "
            "transferred"
        )
    return ""


def _blocks(before: Tensor, after: Tensor) -> str:
    coarse = [name for name, photo in (("before", before), ("after", after)) if is_coarse_jpeg(photo)]
    if not coarse:
        return ""
    were = f"{' and '.join(coarse)} {'was' if len(coarse) == 1 else 'were'}"
    return f"{were} compressed heavily as JPEG, which hides small motion: export the pair at a higher quality"


def _chroma(picture: Tensor) -> Tensor:
    """How far a picture (1, 3, h, w) is from grey, (h, w)."""
    return (picture - picture.mean(1, keepdim=True)).abs().amax(1)[0]


def _skin(before: Tensor, after: Tensor, overview: Overview, overall: Explained, box: Box) -> str:
    """Fine detail of the face where nothing moved: gone from the skin, and still there in eyes, brows and lips?"""
    left, top, right, bottom = _within(box, before)
    factor = max(1, round((right - left) / _FACE_PX))
    old, new = (_detail(reduce(photo[..., top:bottom, left:right], factor)) for photo in (before, after))
    touched = (length(overall.motion.displacement) > _STILL_PX) | overall.painted | overall.unsure
    touched = F.max_pool2d(touched.float(), 2 * _CELL + 1, stride=1, padding=_CELL)
    y0, y1, x0, x1 = (int(v / overview.factor) for v in (top, bottom, left, right))
    touched = F.interpolate(touched[..., y0 : y1 + 1, x0 : x1 + 1], old.shape, mode="nearest")[0, 0] > 0
    usable = ~touched & (old > _LEAST_DETAIL)
    if int(usable.sum()) < _MIN_CELLS:
        return ""
    energy, left_over = old[usable], (new / old.clamp_min(_LEAST_DETAIL))[usable]
    skin, features = energy <= energy.quantile(0.6), energy >= energy.quantile(0.9)
    kept, sharp = float(left_over[skin].median()), float(left_over[features].median())
    if kept < _SMOOTHER and sharp - kept > _SELECTIVE:
        return (
            f"skin is smoother in after (it has {100 * kept:.0f} % of its fine detail, by smoothing or a coarse JPEG): "
            "texture is not transferred, photos keep their own"
        )
    return ""


def _within(box: Box, photo: Tensor) -> tuple[int, int, int, int]:
    """The middle of the face's box, without hair and background: left, top, right, bottom."""
    x0, y0, x1, y1 = box
    rim = _RIM * (x1 - x0)
    left, top = max(0, int(x0 + rim)), max(0, int(y0 + rim))
    return left, top, min(photo.shape[-1], int(x1 - rim) + 1), min(photo.shape[-2], int(y1 - rim) + 1)


def _detail(picture: Tensor) -> Tensor:
    """Mean size of what is finer than a pixel or two, in cells.  (1, 3, h, w) -> (rows, columns)."""
    grey = (picture * picture.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    return F.avg_pool2d((grey - gauss(grey, _DETAIL_PX)).abs(), _CELL)[0, 0]
