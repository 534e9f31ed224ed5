"""The Retouching Operation Extractor: one before/after pair of a portrait becomes an Operation.

    before ─ locate the face ─ canonical view ─┬─ frozen MAE ──┐
    after  ────────────────────────────────────┴─ frozen MAE ──┼─ R-Former ─► tokens
    before -> after: dense motion, seen in the view ───────────┘            ► motion, shape
                     and beside it (bodies/) ───────────────────────────────► body

The paper (section 3) has the two picture branches; the measured motion is ours. Before and after are one photo and
its retouched copy, so how far each pixel moved can be measured to a fraction of a pixel instead of being guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..bodies.head import Head
from ..bodies.sources import PoseChoice
from ..bodies.transfer import Copy
from ..exemplar import Exemplar, Overview
from ..faces.choice import choose, describe
from ..faces.locator import Face
from ..faces.view import FaceView
from ..geometry.field import Field, joined
from ..motion.clean import part_affine
from ..motion.explained import explained_motion
from ..motion.pairing import Laid, laid_together, refuse_strangers
from ..networks.config import ModelConfig
from ..networks.rformer import RFormer
from ..one_thread import one_thread
from ..operations.atoms import atoms_of
from ..operations.bank import PhotoFace, bank_motions
from ..side_by_side import side_by_side
from .bank_fit import one_way_of
from .close_up import CloseUp, close_up
from .codec import FieldCodec, motion_scale
from .confidence import Explained, Names, confidence_in, cues_of, misplaced
from .findings import Found, check_aligned, moved_beside, much_is_new, notes_on
from .not_transferred import not_transferred
from .operation import Evidence, Operation
from .several import check_number, refined, repeats, together
from .sight import Sight
from .taken_back import TAKEN_BACK, shows_taken_back

_THUMBNAIL_PX = 128
_LEAST_CELLS = 1e-3  # longest motion that counts: 0.02 px on a face of 1024 px; less is rounding


@dataclass(frozen=True, kw_only=True)
class Extracted:
    """An operation, and what was seen on the exemplar it came from.

    faces: all that before shows, largest first.  face: the one that was read.  field: how before moved, as the
    operation knows it, in photo pixels at full resolution.
    """

    operation: Operation
    faces: tuple[Face, ...]
    face: Face
    field: Field


@dataclass(frozen=True, kw_only=True)
class ExtractedTogether:
    """One operation from several pairs.  each: what was seen on each, in order; None where one repeats another or
    could not be read."""

    operation: Operation
    each: tuple[Extracted | None, ...]


@dataclass(frozen=True)
class OperationExtractor:
    """Extracts operations. All parts come from one matched set (files.py)."""

    config: ModelConfig
    set_id: str
    sight: Sight
    rformer: RFormer

    @one_thread()
    @torch.no_grad()
    def extract(self, exemplar: Exemplar, *, face: str = "only", pose: PoseChoice | None = None) -> Extracted:
        """What was done between before and after.

        face: whose face, where the exemplar shows several (faces.choose); with "only" the one that changed is meant.
        pose: where the joints of before come from (bodies/sources.py).
        A pair handed over backwards, retouched photo first, is read both ways (taken_back.py).
        Raises ValueError on pictures that cannot be a pair. A pair without change gives an identity operation.
        """
        found, taken_back = self._as_handed_over(exemplar, face, pose or PoseChoice())
        if not taken_back:
            return found
        other = Exemplar(exemplar.after, exemplar.before)
        try:
            undone = self._as_handed_over(other, face, PoseChoice() if pose is None else replace(pose, given=()))[0]
        except ValueError:  # for example a face that is found before alone; then there is one way to read the pair
            return found
        undoes = replace(undone.operation, exemplars=(), thumbnails=None)
        notes = (TAKEN_BACK, *undoes.notes)
        read = replace(found.operation, undoes=undoes, notes=notes, confidence=undoes.confidence)
        return replace(found, operation=read)

    def _as_handed_over(self, exemplar: Exemplar, face: str, pose: PoseChoice) -> tuple[Extracted, bool]:
        """What the pair shows, and whether that is an operation taken back."""
        before = exemplar.before
        laid, faces = side_by_side(
            lambda: laid_together(before, exemplar.after), lambda: self.sight.people(before, pose)
        )
        laid = replace(laid, notes=laid.notes + refuse_strangers(laid, [found.box for found in faces]))
        person = _person(faces, laid.overview, face)
        operation, view, beside = self._read(before, laid, person, pose)
        height, width = before.shape[-2:]
        field = self.sight.view.motion_to_photo(operation.motion, view, height=height, width=width)
        taken_back = shows_taken_back(
            before, laid.after, operation, field, person, self.sight.view, atoms_of(self.config.dit.operations)
        )
        if beside is not None:
            field = joined([field, beside], field)
        operation = replace(operation, largest_px=field.max_px, exemplars=(exemplar,))
        return Extracted(operation=operation, faces=tuple(faces), face=person, field=field), taken_back

    def extract_together(
        self, exemplars: Sequence[Exemplar], *, face: str = "only", poses: Sequence[PoseChoice] | None = None
    ) -> ExtractedTogether:
        """What was done in one to eight pairs of one look, as one operation (several.py).

        poses: where the joints of each before come from.

        A pair that cannot be read is left out, and a note says which and why. Raises ValueError that names the pairs
        where none can be read, or where no two show the same.
        """
        check_number(len(exemplars))
        again, each = repeats(exemplars), []
        unread: dict[int, str] = {}
        for place, exemplar in enumerate(exemplars):
            each.append(None)
            if place in again:
                continue
            try:
                each[place] = self.extract(exemplar, face=face, pose=None if poses is None else poses[place])
            except ValueError as error:
                if len(exemplars) == 1:
                    raise
                unread[place] = str(error)
        if all(one is None for one in each):
            raise ValueError(_none_read(unread, len(exemplars)))
        left_out = unread | {later: f"it is pair {earlier + 1} once more" for later, earlier in again.items()}
        operations = [None if one is None else one.operation for one in each]
        made = together(operations, one_way=self._one_way, left_out=left_out)
        return ExtractedTogether(operation=made, each=tuple(each))

    def refine(
        self, operation: Operation, correction: Exemplar, *, face: str = "only", pose: PoseChoice | None = None
    ) -> Extracted:
        """The operation made better by one result that was corrected by hand, and what was seen on that.

        correction: the query, and its corrected result.  pose: where the joints of the query come from.
        Raises ValueError where they show another retouch.
        """
        if not isinstance(operation, Operation):
            raise ValueError(
                "only an operation that was extracted from pairs can be refined, not one made of others or of sliders: "
                "refine its parts, then combine them again"
            )
        if operation.set_id != self.set_id:
            raise ValueError(
                f"the operation was extracted by set {operation.set_id} but this extractor is of set {self.set_id}: "
                "extract it again with this set"
            )
        try:
            seen = self.extract(correction, face=face, pose=pose)
        except ValueError as error:
            raise ValueError(f"the correction cannot be read: {error}") from error
        return replace(seen, operation=refined(operation, seen.operation, one_way=self._one_way))

    @property
    def _one_way(self) -> Tensor:
        return one_way_of(atoms_of(self.config.dit.operations))

    def _read(
        self, before: Tensor, laid: Laid, person: Face, pose: PoseChoice
    ) -> tuple[Operation, FaceView, Field | None]:
        """The operation on one person, that face's view of before, and what moved beside it. Of somebody whose face
        was not found the body alone is read."""
        after, overview, canonical = laid.after, laid.overview, self.sight.view
        view, photo_face = canonical.fit(person.landmarks), PhotoFace(person.mesh, (before.shape[-2], before.shape[-1]))
        overall, atoms = side_by_side(
            lambda: explained_motion(source=overview.before, target=overview.after, first=laid.motion),
            lambda: bank_motions(atoms_of(self.config.dit.operations), photo_face, view, canonical),
        )
        check_aligned(overall, laid, person.box)
        slip = part_affine(overall.motion.global_affine, left=0, top=0, factor=1 / overview.factor)
        mostly_old = not much_is_new(overall, laid)
        moved = Copy(moved_beside(overall, laid, person.landmarks), overview.factor)
        close, beside, lost = side_by_side(
            lambda: (
                None if isinstance(person, Head) else close_up(before, after, view, canonical, slip, person.landmarks)
            ),
            lambda: self.sight.bodies.read(before, after, moved, person, pose, may_be_closer=mostly_old),
            lambda: not_transferred(before, after, overview, overall, person.box),
        )
        motion = torch.zeros_like(view.shape) if close is None else close.motion * beside.face_share
        motion = motion * (motion.norm(dim=1).amax() > _LEAST_CELLS)
        found = Found(overall=overall, close=close, beside=beside, moved=bool((motion != 0).any()))
        seen, small = (
            self._straightened(before, after, view, close, size) for size in (self.config.mae.image_size, _THUMBNAIL_PX)
        )
        operation = Operation(
            tokens=self._tokens(*seen, motion, view.shape),
            motion=motion,
            shape=view.shape,
            atoms=atoms,
            set_id=self.set_id,
            notes=laid.notes + notes_on(found, laid, person.landmarks) + lost,
            body=beside.body,
            thumbnails=_thumbnails(small),
        )
        return self._judged(operation, close, view, person), view, beside.field

    def _judged(self, operation: Operation, close: CloseUp | None, view: FaceView, person: Face) -> Operation:
        """With what speaks against the reading of the face, where it moved."""
        if close is None or not (operation.motion != 0).any():
            return operation
        longest = float(operation.motion.norm(dim=1).amax()) * view.pixels_per_cell
        evidence = Evidence(
            misplaced=misplaced(operation.motion, person, view, self.sight.view),
            noise=min(1.0, close.told_from_px / longest),
            hidden=close.hidden,
            softened=abs(close.explained.softer_px),
        )
        judged = replace(operation, evidence=evidence)
        names = Names.of(atoms_of(self.config.dit.operations))
        sure = confidence_in(cues_of(judged, names, Explained.of(judged, names)))
        return replace(judged, confidence=sure.value, notes=judged.notes + sure.note)

    def _straightened(
        self, before: Tensor, after: Tensor, view: FaceView, close: CloseUp | None, size: int
    ) -> list[Tensor]:
        if close is None:
            return [self.sight.straightened(photo, view, size=size) for photo in (before, after)]
        return [self.sight.view.see(photo, close.view, size=size) for photo in (close.source, close.target)]

    def _tokens(self, before: Tensor, after: Tensor, motion: Tensor, shape: Tensor) -> Tensor:
        scaled, mae = FieldCodec().encode(motion, motion_scale(motion)), self.sight.mae
        return self.rformer(mae(before), mae(after), torch.cat([scaled, shape], dim=1))


def _none_read(why: dict[int, str], count: int) -> str:
    """Why none of the pairs could be read; a reason that several share is said once."""
    places: dict[str, list[int]] = {}
    for place, text in why.items():
        places.setdefault(text, []).append(place + 1)
    return "; ".join(f"pair {' and '.join(map(str, numbers))} of {count}: {text}" for text, numbers in places.items())


def _person(faces: list[Face], overview: Overview, face: str) -> Face:
    """The face that is meant."""
    if face == "all":
        raise ValueError('face="all": an operation is read from one face. Use "largest" or a number from the left.')
    if face != "only" or len(faces) < 2:
        return choose(faces, face)[0]
    change = (overview.after - overview.before).abs().mean(dim=1)[0]
    amounts = [_inside_box(change, f.box, overview.factor) for f in faces]
    ranked = sorted(zip(amounts, faces, strict=True), key=lambda pair: -pair[0])
    if ranked[1][0] > 0.3 * ranked[0][0]:
        raise ValueError(
            f"the exemplar shows {len(faces)} faces and more than one of them changed, or none: "
            f"{describe(faces)}. Crop the pair to the person who is meant, or set face to a number."
        )
    return ranked[0][1]


def _thumbnails(faces: list[Tensor]) -> Tensor:
    """Straightened faces (1, 3, S, S) each -> (2, 3, S, S) uint8."""
    return (torch.cat(faces).clamp(0, 1) * 255).round().to(torch.uint8)


def _inside_box(change: Tensor, box: tuple[float, ...], factor: int) -> float:
    x0, y0, x1, y1 = (int(v / factor) for v in box)
    part = change[max(0, y0) : y1 + 1, max(0, x0) : x1 + 1]
    return float(part.mean()) if part.numel() else 0.0
