"""The body's part of a retouch, from pixels to a field: read on the exemplar, carried to the query, put into words.

    exemplar: joints (sources.py) + motion of the whole photo, shared out between face and body -> BodyMotion
    query:    joints + BodyMotion -> field (motion.py)

Without joints there is little to carry a body by; what then cannot be told is left out, with a note. So it is for
every photo in a set whose weights have no body network, unless joints are given.

Shapes: N cells a side of the face view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces.landmarks import OVAL
from ..faces.locator import Face
from ..faces.outline import convex_hull, face_in_copy, onto
from ..faces.view import CanonicalView, FaceView
from ..geometry.crop import pixel_box
from ..geometry.displacement import length, pixel_grid, sample, smoothstep
from ..geometry.field import Field
from ..geometry.similarity import Similarity, fit_similarity
from ..images import reduce
from ..motion.explained import explained_motion
from ..motion.smears import without_smears
from ..windows import mean_around
from .frames import facing, frames_of
from .head import Head
from .motion import CELLS_PER_UNIT, BodyMotion, Still, body_motion, carry, region_of
from .named import KnownOperations
from .pose_network import PoseNet
from .shares import face_share, only_reaches_in
from .sources import AUTO, PoseChoice, Told, told_body
from .unit import measures, unit_of
from .words import notes_on

_CLOSE_PX = 80  # u in the copy in which motion is measured, at least where the photo has as much
_CLOSE_SIDE = 768  # longest side of that copy
_LOST_PX = 40  # u in a copy, by its face: of somebody smaller, motion of a few pixels is not seen there
_CHANGED = 6 / 255  # a change of colour that may be motion, mean over 3 x 3 pixels of the copy
_MOVED_PX = 0.5  # of the copy: motion that counts as an edit
_MOVED_AREA, _MOVED_SHARE = 1.0, 0.025  # in square eye distances and of the picture: less counts as none
_RIM_FROM, _RIM_TO = 0.12, 0.02  # face sizes beside the outline of one that must not move: between them it lies still
_STILL_FROM, _STILL_TO = 1.3, 1.05  # half sizes of a head whose face was not seen: the same, up to its corners
_FACE_STILL = 0.05  # of the body's largest motion: a face that moves less did not move
_FROM_EYES = 5.0  # u in eye distances where the body tells no size
_TOLD, _LEAST_TOLD = 0.4, 0.2  # of the body's motion: less is worth a note, or not worth carrying

_LEFT_OUT = "that part of the retouch is not transferred"
_NOT_CARRIED = f"the body or the background was moved too: {_LEFT_OUT}"
_NO_JOINTS = f"the body was moved too, but the shoulders cannot be told in {{photo}}: {_LEFT_OUT}"
_FAR_AWAY = f"something away from the person was moved too: {_LEFT_OUT}"
_PARTLY = "much of what was moved beside the face does not follow the body: only part of it is transferred"


@dataclass(frozen=True)
class BodyReading:
    """body: None where nothing can be carried.  face_share: (1, 1, N, N), how much of the motion is the face's.
    moved: something moved beside the face.  largest_px: of body, in the photo's pixels.  notes: for the user.
    field: how body moves the exemplar itself."""

    body: BodyMotion | None
    face_share: Tensor
    moved: bool
    largest_px: float = 0.0
    notes: tuple[str, ...] = ()
    field: Field | None = None


@dataclass(frozen=True)
class Copy:
    """A reduced copy of part of a photo, or what was measured on one.

    planes: (1, C, h, w).  Pixel x of the photo is (x - left + 0.5) / factor - 0.5 of the copy, y likewise.
    """

    planes: Tensor
    factor: int
    left: int = 0
    top: int = 0

    def place(self, points: Tensor) -> Tensor:
        """Photo pixels (..., 2) -> pixels of the copy."""
        return (points - points.new_tensor([self.left, self.top]) + 0.5) / self.factor - 0.5

    def view(self, view: FaceView) -> FaceView:
        return view.cropped(left=self.left, top=self.top, factor=self.factor)


@dataclass(frozen=True)
class BodySight:
    """What of a matched set sees bodies. net: None in a set without it."""

    net: PoseNet | None
    view: CanonicalView
    mean_face: Tensor
    known: KnownOperations | None = None  # operations of the body that have a name

    @torch.no_grad()
    def read(
        self,
        before: Tensor,
        after: Tensor,
        overall: Copy,
        face: Face,
        pose: PoseChoice = AUTO,
        *,
        may_be_closer: bool = True,
    ) -> BodyReading:
        """What was moved beside the exemplar's face.

        before, after: (1, C, H, W).  overall: motion of the whole photo.  pose: whose joints of before.
        may_be_closer: without, motion that overall does not show is not looked for where the person is small.
        Raises ValueError for a given pose that cannot be this person's.
        """
        view, whole = self.view.fit(face.landmarks), torch.ones_like(self.view.window)
        seen = None if isinstance(face, Head) else view
        placed = fit_similarity(self.mean_face, face.landmarks)
        clear = _moved_beside(overall, placed, self._apart(overall, seen))
        lost = may_be_closer and _FROM_EYES * float(placed.scale) < _LOST_PX * overall.factor
        if not clear and not (lost and _changed_beside(before, after, overall.factor, seen)):
            return BodyReading(None, whole, moved=False)
        told_of = self.told(before, face, pose, "the exemplar")
        body = replace(told_of.body, told=(told_of.body.told > 0).float())  # what is measured is measured in full
        if told_of.source is None and self.net is None:
            return BodyReading(None, whole, moved=True, notes=(_NOT_CARRIED,))
        unit = unit_of(measures(facing(body))) or _FROM_EYES * body.eye_distance
        low, high = region_of(frames_of(facing(body), unit), unit)
        measured = _closer(before, after, overall, (low, high), unit, None if clear else face)
        if not clear and not _moved_beside(measured, placed, self._apart(measured, seen)):
            return BodyReading(None, whole, moved=False)
        share = torch.zeros_like(whole)
        if seen is not None:
            share = face_share(self._near_face(measured, view), self.view)
        places, motion = self._motion_in(low, high, unit, before, measured, view, share)
        found, told = body_motion(
            motion,
            places,
            body,
            unit / CELLS_PER_UNIT,
            still_face=self._still(measured, face),
            known=self.known,
        )
        if not found.moves or told < _LEAST_TOLD:
            note = _NO_JOINTS.format(photo="the exemplar") if body.middle("shoulder") is None else _NOT_CARRIED
            return BodyReading(None, whole, moved=True, notes=(note,))
        notes = told_of.notes + (_FAR_AWAY,) * _moved_far_away(overall, low, high) + (_PARTLY,) * (told < _TOLD)
        found = replace(found, joints=told_of.source or "")
        still, (height, width) = self._still_at(face) if found.still_face else None, before.shape[-2:]
        own = carry(found, body, 1.0, (height, width), still, self.known, on_exemplar=True).field
        return BodyReading(found, share, moved=True, largest_px=found.largest * unit, notes=notes, field=own)

    @torch.no_grad()
    def carry(
        self, motion: BodyMotion, query: Tensor, face: Face, strength: float, pose: PoseChoice = AUTO
    ) -> tuple[Field, tuple[str, ...]]:
        """The body's motion on a query (1, C, H, W), and notes.  pose: whose joints."""
        height, width = query.shape[-2:]
        told = self.told(query, face, pose, "the query")
        body, source = told.body, told.source
        still = self._still_at(face) if motion.still_face else None
        carried = carry(motion, body, strength, (height, width), still, self.known)
        if not carried.field.displacement.numel() and body.middle("shoulder") is None:
            return carried.field, (*told.notes, _NO_JOINTS.format(photo="this photo"))
        return carried.field, (*told.notes, *notes_on(motion, carried, source))

    def told(self, photo: Tensor, face: Face, choice: PoseChoice, name: str) -> Told:
        """The face's person.  name: of the photo.  Raises ValueError where given joints do not fit."""
        return told_body(choice, self.net, photo, face, self.mean_face, name)

    def _motion_in(
        self, low: Tensor, high: Tensor, unit: float, photo: Tensor, measured: Copy, view: FaceView, share: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Places of a grid over part of the photo and the body's motion there, (N, 2) photo pixels each."""
        step = unit / CELLS_PER_UNIT
        left, top, right, bottom = pixel_box(low, high, photo)
        rows, columns = max(2, round((bottom - top) / step)), max(2, round((right - left) / step))
        y = (torch.arange(rows) + 0.5) * (bottom - top) / rows - 0.5 + top
        x = (torch.arange(columns) + 0.5) * (right - left) / columns - 0.5 + left
        points = torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]  # (1, 2, rows, columns)
        pool = max(1, int(step / measured.factor))
        planes = F.avg_pool2d(measured.planes, pool, ceil_mode=True) if pool > 1 else measured.planes
        at = measured.place(points.movedim(1, -1)).movedim(-1, 1)
        motion = sample(planes, (at - (pool - 1) / 2) / pool, mode="bilinear") * measured.factor
        others = self.view.weight_at(points, self.view.window * share, view)
        return points[0].flatten(1).T.contiguous(), (motion * (1 - others))[0].flatten(1).T.contiguous()

    def _apart(self, measured: Copy, seen: FaceView | None) -> FaceView | None:
        """The view in which motion is the face's; None where there is none, or where the face has no share in it."""
        if seen is None or only_reaches_in(self._near_face(measured, seen), self.view):
            return None
        return seen

    def _near_face(self, measured: Copy, view: FaceView) -> Tensor:
        """The length of a motion in the view of a face: (1, 1, N, N)."""
        return length(self.view.motion_from_photo(measured.planes, measured.view(view)))

    def _away(self, face: Face, points: Tensor) -> Tensor:
        """The same for places (..., 2) of a photo, but nearly a box: (...)."""
        low, high = self.mean_face.amin(0), self.mean_face.amax(0)
        local = fit_similarity(self.mean_face, face.landmarks).inverse(points.reshape(-1, 2)).view(points.shape)
        return ((local - (low + high) / 2) / ((high - low) / 2)).norm(p=4, dim=-1)

    def _still(self, measured: Copy, face: Face) -> bool:
        """Whether what moved beside the face left the face itself alone. Of a face that nobody saw nothing is read."""
        if isinstance(face, Head):
            return True
        height, width = measured.planes.shape[-2:]
        corner = torch.tensor([measured.left, measured.top])
        points = (pixel_grid(height, width)[0].movedim(0, -1) + 0.5) * measured.factor - 0.5 + corner
        inside = self._away(face, points) < 1
        motion = length(measured.planes)[0, 0]
        if not bool(inside.any()):
            return True
        share = face_share(self._near_face(measured, self.view.fit(face.landmarks)), self.view)
        return bool(share.any()) or float(motion[inside].quantile(0.98)) < _FACE_STILL * float(motion.amax())

    def _still_at(self, face: Face) -> Still:
        if isinstance(face, Head):
            return lambda points: smoothstep((_STILL_FROM - self._away(face, points)) / (_STILL_FROM - _STILL_TO))[
                None, None
            ]
        outline = convex_hull(face.landmarks[list(OVAL)])

        def still(points: Tensor) -> Tensor:
            beside = onto(points.flatten(0, 1), outline)[1].view(points.shape[:2]) / face.size_px
            return smoothstep((_RIM_FROM - beside) / (_RIM_FROM - _RIM_TO))[None, None]

        return still


def _moved_beside(measured: Copy, placed: Similarity, view: FaceView | None) -> bool:
    """Whether enough moved outside the face view to be an edit and not noise.  view: None where no face was found."""
    moved = _beside((length(measured.planes) > _MOVED_PX)[0, 0], measured, view)
    area = float(moved.sum()) * (measured.factor / float(placed.scale)) ** 2
    return area > _MOVED_AREA or float(moved.float().mean()) > _MOVED_SHARE


def _changed_beside(before: Tensor, after: Tensor, factor: int, view: FaceView | None) -> bool:
    """The same for a change of colour that may be motion, whatever its cause.  factor: of the copies compared."""
    change = mean_around(reduce(after, factor) - reduce(before, factor), 1).abs().amax(1)[0]
    return bool(_beside(change > _CHANGED, Copy(change, factor), view).any())


def _beside(mask: Tensor, of: Copy, view: FaceView | None) -> Tensor:
    """A mask (h, w) of the places of a copy, without those in the face view."""
    if view is None:
        return mask
    margin = 4 * view.pixels_per_cell
    low, high = (of.place(corner) for corner in view.corners(margin))
    left, top, right, bottom = pixel_box(low, high, mask)
    mask = mask.clone()
    mask[top:bottom, left:right] = False
    return mask


def _moved_far_away(overall: Copy, low: Tensor, high: Tensor) -> bool:
    """Whether an edit lies outside the person's box."""
    moved = length(overall.planes)[0, 0] > _MOVED_PX
    (left, top), (right, bottom) = ((v / overall.factor).int().clamp_min(0).tolist() for v in (low, high))
    moved[top:bottom, left:right] = False
    return float(moved.float().mean()) > _MOVED_SHARE


def _closer(
    before: Tensor,
    after: Tensor,
    overall: Copy,
    corners: tuple[Tensor, Tensor],
    unit: float,
    face: Face | None,
) -> Copy:
    """The motion around the person, measured again where the person is small in the copy and larger in the photo.

    face: the person's, where the copy shows no motion: then what the closer look finds may be paint (motion/smears.py).
    """
    if overall.factor == 1 or unit / overall.factor >= _CLOSE_PX:
        return overall
    left, top, right, bottom = pixel_box(*corners, before)
    longest = max(right - left, bottom - top)
    factor = max(1, int(unit) // _CLOSE_PX, -(-longest // _CLOSE_SIDE))
    if factor >= overall.factor:
        return overall
    source, target = (reduce(photo[..., top:bottom, left:right], factor) for photo in (before, after))
    explained = explained_motion(source=source, target=target)
    motion, doubted = explained.motion.displacement, explained.painted | explained.unsure
    if face is not None:
        seen = face_in_copy(face.landmarks, doubted, factor=factor, left=left, top=top)
        motion = without_smears(motion, doubted, seen)
    return Copy(motion, factor, left, top)
