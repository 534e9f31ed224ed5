"""The body's part of a retouch, from pixels to a field: read on the exemplar, carried to the query, put into words.

    exemplar: joints (joints.py) + motion of the whole photo, shared out between face and body -> BodyMotion
    query:    joints + BodyMotion -> field (motion_map.py)

Without shoulders there is nothing to carry a body by; then that part is left out, with a note. So it is for every
photo in a set whose weights have no body network.

Shapes: N cells a side of the face view.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.locator import Face
from ..faces.view import CanonicalView, FaceView
from ..geometry.crop import Box, pixel_box
from ..geometry.displacement import length, pixel_grid, smoothstep
from ..geometry.field import Field
from ..geometry.similarity import Similarity, fit_similarity
from ..images import reduce
from ..motion.explained import explained_motion
from .bones import Skeleton
from .joints import find_body
from .motion_map import BodyMotion, Carried, carry, map_box, map_positions, motion_of_body, person_frame
from .network import BodyNet, body_frame

_FIND_PX = 16  # eye distance of the copy in which joints are looked for; the network sees half of that
_CLOSE_PX = 20  # eye distance of the copy in which motion is measured, at least where the photo has as much
_CLOSE_SIDE = 768  # longest side of that copy
_MOVED_PX = 0.5  # of the copy: motion that counts as an edit
_MOVED_AREA, _MOVED_SHARE = 1.0, 0.025  # in square eye distances and of the picture: less counts as none
_BORDERS_ON = 0.5  # of the body's largest motion: a face that moves less is left to the body's part as a whole
_FACE_FROM, _FACE_TO = 1.3, 1.75  # half sizes of the face; between them its share falls to nothing
_CHIN = 1.5  # eye distances below the eyes

_LEFT_OUT = "that part of the retouch is not transferred"
_NOT_CARRIED = f"the body or the background was moved too: {_LEFT_OUT}"
_NO_SHOULDERS = f"the body was moved too, but the shoulders cannot be told in {{photo}}: {_LEFT_OUT}"
_FAR_AWAY = f"something away from the person was moved too: {_LEFT_OUT}"
_NO_ARMS = "the exemplar's arms were moved, but where they are cannot be told in this photo: they are left as they are"
_CUT = "much of what was moved on the exemplar's body lies outside this photo: the rest is moved"
_SOFTENED = "so strong a motion would fold the body over itself: it was softened there"


@dataclass(frozen=True)
class BodyReading:
    """body: None where nothing can be carried.  face_share: (1, 1, N, N), how much of the motion is the face's.
    moved: something moved beside the face.  largest_px: of body, in the photo's pixels.  notes: for the user."""

    body: BodyMotion | None
    face_share: Tensor
    moved: bool
    largest_px: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Copy:
    """A reduced copy of part of a photo, or what was measured on one.

    planes: (1, C, h, w).  Pixel x of the photo is (x - left + 0.5) / factor - 0.5 of the copy, y likewise.
    """

    planes: Tensor
    factor: int
    left: int = 0
    top: int = 0

    def frame(self, frame: Similarity) -> Similarity:
        corner = frame.translation.new_tensor([self.left, self.top])
        return Similarity(
            frame.scale / self.factor, frame.rotation, (frame.translation - corner + 0.5) / self.factor - 0.5
        )

    def view(self, view: FaceView) -> FaceView:
        return view.cropped(left=self.left, top=self.top, factor=self.factor)


@dataclass(frozen=True)
class BodySight:
    """What of a matched set sees bodies. net: None in a set without it."""

    net: BodyNet | None
    view: CanonicalView
    mean_face: Tensor

    @torch.no_grad()
    def read(self, before: Tensor, after: Tensor, overall: Copy, face: Face) -> BodyReading:
        """What was moved beside the exemplar's face.  before, after: (1, C, H, W).  overall: of the whole photo."""
        frame = person_frame(fit_similarity(self.mean_face, face.landmarks))
        view, whole = self.view.fit(face.landmarks), torch.ones_like(self.view.window)
        if not _moved_beside(overall, frame, view):
            return BodyReading(None, whole, moved=False)
        skeleton = self.skeleton(before, face)
        if skeleton is None or not skeleton.has_shoulders:
            note = _NOT_CARRIED if skeleton is None else _NO_SHOULDERS.format(photo="the exemplar")
            return BodyReading(None, whole, moved=True, notes=(note,))
        measured = _closer(before, after, overall, frame)
        seen, placed = measured.view(view), measured.frame(frame)
        face_share = self._face_share(measured.planes, seen)
        others = self.view.weight_at(map_positions(placed), self.view.window * face_share, seen)
        body = motion_of_body(measured.planes, placed, skeleton, others)
        notes = (_FAR_AWAY,) if _moved_far_away(overall, frame) else ()
        largest_px = float(length(body.motion).amax() * frame.scale)
        return BodyReading(body, face_share, moved=True, largest_px=largest_px, notes=notes)

    @torch.no_grad()
    def carry(self, body: BodyMotion, query: Tensor, face: Face, strength: float) -> tuple[Field, tuple[str, ...]]:
        """The body's motion on a query (1, C, H, W), and notes."""
        size = query.shape[-2:]
        skeleton = self.skeleton(query, face)
        if skeleton is None or not skeleton.has_shoulders:
            return Field.zero(*size), (_NO_SHOULDERS.format(photo="this photo"),)
        carried = self._onto(body, skeleton, face, strength, size)
        return carried.field, (_NO_ARMS,) * carried.lost + (_CUT,) * carried.cut + (_SOFTENED,) * carried.softened

    def on_own_photo(self, body: BodyMotion, before: Tensor, face: Face) -> Field:
        """The body's motion on the exemplar (1, C, H, W) that it was read from; the joints are known from reading."""
        return self._onto(body, body.skeleton, face, 1.0, before.shape[-2:]).field

    def _onto(self, body: BodyMotion, skeleton: Skeleton, face: Face, strength: float, size: Sequence[int]) -> Carried:
        frame = person_frame(fit_similarity(self.mean_face, face.landmarks))
        return carry(body, skeleton, frame, strength=strength, size=(size[0], size[1]))

    def skeleton(self, photo: Tensor, face: Face) -> Skeleton | None:
        """The person's joints, or None without a network.  photo: (1, C, H, W)."""
        if self.net is None:
            return None
        placed = fit_similarity(self.mean_face, face.landmarks)
        frame, around = person_frame(placed), body_frame(placed)
        box = pixel_box(around.translation - around.scale, around.translation + around.scale, photo)
        factor = max(1, int(placed.scale) // _FIND_PX)
        copy = Copy(_part(photo, box, factor), factor, box[0], box[1])
        found = find_body(self.net, copy.planes, copy.frame(placed))
        return Skeleton(
            joints=copy.frame(frame).inverse(found.joints),
            told=found.told,
            chin=_CHIN * torch.stack([-torch.sin(placed.rotation), torch.cos(placed.rotation)]),
        )

    def _face_share(self, displacement: Tensor, seen: FaceView) -> Tensor:
        """All of the motion near the face, none further off; none at all where the face only borders on the edit."""
        low, high = self.view.template.amin(0), self.view.template.amax(0)
        cells = pixel_grid(*self.view.window.shape[-2:])
        away = (cells - ((low + high) / 2).view(2, 1, 1)) / ((high - low) / 2).view(2, 1, 1)
        radius = length(away)
        motion = length(self.view.motion_from_photo(displacement, seen)) * seen.pixels_per_cell
        if float(motion[radius < 1].amax()) < _BORDERS_ON * float(length(displacement).amax()):
            return torch.zeros_like(radius)
        return smoothstep((_FACE_TO - radius) / (_FACE_TO - _FACE_FROM))


def _moved_beside(overall: Copy, frame: Similarity, view: FaceView) -> bool:
    """Whether enough moved outside the face view to be an edit and not noise."""
    moved = length(overall.planes)[0, 0] > _MOVED_PX
    low, high = (corner / overall.factor for corner in view.corners())
    margin = 4 * view.pixels_per_cell / overall.factor
    left, top, right, bottom = pixel_box(low - margin, high + margin, moved)
    moved[top:bottom, left:right] = False
    area = float(moved.sum()) * (overall.factor / float(frame.scale)) ** 2
    return area > _MOVED_AREA or float(moved.float().mean()) > _MOVED_SHARE


def _moved_far_away(overall: Copy, frame: Similarity) -> bool:
    """Whether an edit lies outside the map of the body."""
    moved = length(overall.planes)[0, 0] > _MOVED_PX
    left, top, right, bottom = (int(v / overall.factor) for v in map_box(frame))
    moved[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = False
    return float(moved.float().mean()) > _MOVED_SHARE


def _closer(before: Tensor, after: Tensor, overall: Copy, frame: Similarity) -> Copy:
    """The motion around the person, measured again where the person is small in the copy and larger in the photo."""
    if overall.factor == 1 or float(frame.scale) / overall.factor >= _CLOSE_PX:
        return overall
    x0, y0, x1, y1 = map_box(frame)
    box = pixel_box((x0, y0), (x1, y1), before)
    longest = max(box[2] - box[0], box[3] - box[1])
    factor = max(1, int(frame.scale) // _CLOSE_PX, -(-longest // _CLOSE_SIDE))
    if factor >= overall.factor:
        return overall
    source, target = (_part(photo, box, factor) for photo in (before, after))
    return Copy(explained_motion(source=source, target=target).motion.displacement, factor, box[0], box[1])


def _part(photo: Tensor, box: Box, factor: int) -> Tensor:
    left, top, right, bottom = box
    return reduce(photo[..., top:bottom, left:right], factor)
