"""The exemplar's face from close up: the pair around it, and the motion there in the canonical view.

Measured once at the resolution that the view can hold; where little or nothing moved, once more at the photo's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from ..faces.landmarks import OVAL
from ..faces.outline import face_in_copy, on_face
from ..faces.view import CanonicalView, FaceView
from ..geometry.crop import Box, pixel_box
from ..geometry.displacement import resize_displacement, warp
from ..images import as_float, reduce
from ..motion.clean import part_affine
from ..motion.estimate import MeasuredMotion
from ..motion.explained import Explained, explained_motion
from ..motion.faint import MAX_SIDE, faint_motion, is_faint, told_from_px
from ..motion.smears import without_smears
from ..side_by_side import side_by_side
from ..windows import enlarged, window_mean

# Motion is measured on a crop brought near this resolution. Finer is lost on the view; on coarser crops the estimator's
# grid skips over eyes and lips (on a 92 px face: relative error 0.65 as is, 0.11 on the crop enlarged 3 times).
_MEASURE_PX_PER_CELL = 8.0
_REPAINTED = 0.2  # mean difference over about a cell that a warp leaves; blur and sharpening stay below 0.16


@dataclass(frozen=True, kw_only=True)
class CloseUp:
    """source, target: (1, 3, h, w) float.  view: the face in them.  motion: (1, 2, N, N) cells.

    explained: what moved and what was painted, in pixels of source.  repainted: whether part of the face differs much
    after the motion.  told_from_px: shorter motion could not be told from noise.  softer_px: how much softer target is.
    Both in pixels of the photo.  hidden: share of the face that was painted, or that no motion explains.  untold:
    whether there is any of the latter on the face.
    """

    source: Tensor
    target: Tensor
    view: FaceView
    motion: Tensor
    explained: Explained
    repainted: bool
    told_from_px: float
    hidden: float
    untold: bool
    softer_px: float


def close_up(
    before: Tensor,
    after: Tensor,
    view: FaceView,
    canonical: CanonicalView,
    global_affine: Tensor,
    landmarks: Tensor,
) -> CloseUp:
    """before, after: (1, C, H, W), lying on each other.  view, landmarks (130, 2): of the face in before.

    global_affine: (1, 2, 3) in photo pixels, how the pictures as wholes differ. An edit of the whole face fills the
    close-up, where it could not be told from that.
    """
    box, factor = _view_box(view, before), _measure_factor(view.pixels_per_cell)
    source, target = _parts(before, after, box, factor)
    close = view.cropped(left=box[0], top=box[1], factor=factor)
    explained = explained_motion(
        source=source, target=target, global_affine=part_affine(global_affine, left=box[0], top=box[1], factor=factor)
    )
    doubted = explained.painted | explained.unsure
    face = face_in_copy(landmarks, doubted, factor=factor, left=box[0], top=box[1])
    displacement = without_smears(explained.motion.displacement, doubted, face)
    motion = canonical.motion_from_photo(displacement, close)
    told = told_from_px(explained.motion) * factor
    if is_faint(explained.motion) and not explained.clipped and (source != target).any():
        own = _at_own_resolution(before, after, box, view, explained.painted, global_affine)
        if own.explains_better_than(displacement):
            motion = canonical.motion_from_photo(own.motion.displacement, own.view)
        told = min(told, told_from_px(own.motion) * own.factor)
    return CloseUp(
        source=source,
        target=target,
        view=close,
        motion=motion,
        explained=explained,
        # A clipping grade differs everywhere.
        repainted=not explained.clipped and _repainted(warp(source, displacement), target, canonical, close),
        told_from_px=told,
        hidden=_share_of_face(explained.painted | explained.unsure, canonical, close),
        untold=_share_of_face(explained.unsure, canonical, close) > 0,
        softer_px=explained.softer_px * factor,
    )


@dataclass(frozen=True, kw_only=True)
class _SecondLook:
    """source, target: (1, 3, h, w).  trust: (1, 1, h, w), 0 where something is painted.  view: of it.

    factor: photo pixels per pixel of it.
    """

    source: Tensor
    target: Tensor
    trust: Tensor
    motion: MeasuredMotion
    view: FaceView
    factor: int

    def explains_better_than(self, first: Tensor) -> bool:
        """Whether it leaves less of the change unexplained than the first look's motion (1, 2, h', w'). Its stiff plate
        flattens what bends on small parts, lips made thinner for example, which the first look may have had right."""
        own = self.motion.displacement
        if not own.any():
            return False
        first = resize_displacement(first, *self.source.shape[-2:])
        moved = ((first != 0) | (own != 0)).any(dim=1, keepdim=True) * self.trust

        def left(displacement: Tensor) -> float:
            missed = (warp(self.source, displacement) - self.target).square().mean(dim=1, keepdim=True)
            return float((missed * moved).sum())

        return left(own) < left(first)


def _at_own_resolution(
    before: Tensor, after: Tensor, box: Box, view: FaceView, painted: Tensor, global_affine: Tensor
) -> _SecondLook:
    left, top, right, bottom = box
    factor = -(-max(right - left, bottom - top) // MAX_SIDE)
    source, target = _parts(before, after, box, factor)
    trust = 1 - F.interpolate(painted.float(), source.shape[-2:], mode="nearest")
    own_affine = part_affine(global_affine, left=left, top=top, factor=factor)
    return _SecondLook(
        source=source,
        target=target,
        trust=trust,
        motion=faint_motion(source=source, target=target, trust=trust, global_affine=own_affine),
        view=view.cropped(left=left, top=top, factor=factor),
        factor=factor,
    )


def _parts(before: Tensor, after: Tensor, box: Box, factor: float) -> list[Tensor]:
    left, top, right, bottom = box
    before, after = (image[..., top:bottom, left:right] for image in (before, after))
    return side_by_side(lambda: _at_factor(before, factor), lambda: _at_factor(after, factor))


def _repainted(moved: Tensor, after: Tensor, view: CanonicalView, close: FaceView) -> bool:
    """Whether part of the face changed in a way that no motion explains. moved, after: (1, 3, h, w)."""
    left_over = window_mean(F.pad((moved - after).abs().mean(dim=1, keepdim=True), (4, 4, 4, 4)), 9)
    seen = view.see(left_over, close, size=view.config.size)
    return bool(seen[_face_cells(view)].max() > _REPAINTED)


def _share_of_face(mask: Tensor, view: CanonicalView, close: FaceView) -> float:
    """mask: (1, 1, h, w) bool."""
    if not mask.any():
        return 0.0
    seen = view.see(mask.float(), close, size=view.config.size)
    return float(seen[_face_cells(view)].mean())


def _face_cells(view: CanonicalView) -> Tensor:
    """Which cells of the view show the face, (1, 1, N, N) bool: what lies beside a jaw is in its box, not on it."""
    return on_face(view.template[list(OVAL)], view.config.size, view.config.size, margin=0.0)


def _view_box(view: FaceView, image: Tensor) -> Box:
    """Pixels of the photo that the view can see, with a margin."""
    low, high = view.corners(4 * view.pixels_per_cell)
    return pixel_box(low, high.floor() + 1, image)


def _measure_factor(pixels_per_cell: float) -> float:
    """Photo pixels per measured pixel: a whole number, or one over a whole number where the face is small."""
    if pixels_per_cell >= 2 * _MEASURE_PX_PER_CELL:
        return float(pixels_per_cell // _MEASURE_PX_PER_CELL)
    return 1 / max(1, min(6, round(_MEASURE_PX_PER_CELL / pixels_per_cell)))


def _at_factor(image: Tensor, factor: float) -> Tensor:
    """Float RGB at one over the factor of its size."""
    if factor >= 1:
        return reduce(image, int(factor))
    return enlarged(as_float(image[:, :3]), round(1 / factor)).clamp(0, 1)
