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
import torch.nn.functional as F
from torch import Tensor

from ..bodies.transfer import BodyReading, Copy
from ..exemplar import Exemplar, Overview, check_pair
from ..faces.choice import choose, describe
from ..faces.locator import Face
from ..faces.view import CanonicalView, FaceView
from ..geometry.crop import Box, pixel_box
from ..geometry.displacement import length, warp
from ..geometry.field import Field, joined
from ..images import as_float, reduce
from ..motion.estimate import MeasuredMotion, estimate_motion
from ..networks.config import ModelConfig
from ..networks.rformer import RFormer
from ..operations.atoms import atoms_of
from ..operations.bank import PhotoFace, bank_motions
from .codec import FieldCodec, motion_scale
from .operation import Operation
from .several import check_number, refined, repeats, together
from .sight import Sight

# Motion is measured on a crop brought near this resolution. Finer is lost on the view; on coarser crops the estimator's
# grid skips over eyes and lips (on a 92 px face: relative error 0.65 as is, 0.11 on the crop enlarged 3 times).
_MEASURE_PX_PER_CELL = 8.0
_THUMBNAIL_PX = 128
_LEAST_CELLS = 1e-3  # longest motion that counts: 0.02 px on a face of 1024 px; less is rounding
_VISIBLE = 6 / 255  # a change of colour that counts
_MISALIGNED_PX = 1.3  # median motion around the face in the overview; aligned pairs stay below 0.3, however edited
_REPAINTED = 0.2  # mean difference over about a cell that a warp leaves; blur and sharpening stay below 0.16


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
    """One operation from several pairs.  each: what was seen on each, in order; None where one repeats another."""

    operation: Operation
    each: tuple[Extracted | None, ...]


@dataclass(frozen=True)
class OperationExtractor:
    """Extracts operations. All parts come from one matched set (files.py)."""

    config: ModelConfig
    set_id: str
    sight: Sight
    rformer: RFormer

    @torch.no_grad()
    def extract(self, exemplar: Exemplar, *, face: str = "only") -> Extracted:
        """What was done between before and after.

        face: whose face, where the exemplar shows several (faces.choose); with "only" the one that changed is meant.
        Raises ValueError on pictures that cannot be a pair. A pair without change gives an identity operation.
        """
        before = exemplar.before
        overview = check_pair(before, exemplar.after)
        faces = self.sight.faces(before)
        person = _person(faces, overview, face)
        operation, view = self._read(exemplar, overview, person)
        height, width = before.shape[-2:]
        field = self.sight.view.motion_to_photo(operation.motion, view, height=height, width=width)
        if operation.body is not None:
            field = joined([field, self.sight.bodies.on_own_photo(operation.body, before, person)], field)
        operation = replace(operation, largest_px=field.max_px, exemplars=(exemplar,))
        return Extracted(operation=operation, faces=tuple(faces), face=person, field=field)

    def extract_together(self, exemplars: Sequence[Exemplar], *, face: str = "only") -> ExtractedTogether:
        """What was done in one to eight pairs of one look, as one operation (several.py).

        Raises ValueError that names the pair: one that is no pair, or pairs of which no two show the same.
        """
        check_number(len(exemplars))
        again, each = repeats(exemplars), []
        for place, exemplar in enumerate(exemplars):
            try:
                each.append(None if place in again else self.extract(exemplar, face=face))
            except ValueError as error:
                if len(exemplars) == 1:
                    raise
                raise ValueError(f"pair {place + 1} of {len(exemplars)}: {error}") from error
        operations = [each[again.get(place, place)].operation for place in range(len(exemplars))]
        left_out = {later: f"it is pair {earlier + 1} once more" for later, earlier in again.items()}
        return ExtractedTogether(operation=together(operations, left_out=left_out), each=tuple(each))

    def refine(self, operation: Operation, correction: Exemplar, *, face: str = "only") -> Extracted:
        """The operation made better by one result that was corrected by hand, and what was seen on that.

        correction: the query, and its corrected result.  Raises ValueError where they show another retouch.
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
        seen = self.extract(correction, face=face)
        return replace(seen, operation=refined(operation, seen.operation))

    def _read(self, exemplar: Exemplar, overview: Overview, person: Face) -> tuple[Operation, FaceView]:
        """The operation on one person, and that face's view of before."""
        before, after, canonical = exemplar.before, exemplar.after, self.sight.view
        overall = estimate_motion(source=overview.before, target=overview.after)
        _check_aligned(overall, person, overview.factor)
        view = canonical.fit(person.landmarks)
        box, factor = _view_box(view, before), _measure_factor(view.pixels_per_cell)
        left, top, right, bottom = box
        source, target = (_at_factor(image[..., top:bottom, left:right], factor) for image in (before, after))
        close = view.cropped(left=left, top=top, factor=factor)
        displacement = estimate_motion(source=source, target=target).displacement
        beside = self.sight.bodies.read(before, after, Copy(overall.displacement, overview.factor), person)
        motion = canonical.motion_from_photo(displacement, close) * beside.face_share
        motion = motion * (motion.norm(dim=1).amax() > _LEAST_CELLS)
        repainted = _repainted(warp(source, displacement), target, canonical, close)
        photo_face = PhotoFace(person.mesh, (before.shape[-2], before.shape[-1]))
        size = self.config.mae.image_size
        seen = [canonical.see(image, close, size=size) for image in (source, target)]
        operation = Operation(
            tokens=self._tokens(*seen, motion, view.shape),
            motion=motion,
            shape=view.shape,
            atoms=bank_motions(atoms_of(self.config.dit.operations), photo_face, view, canonical),
            set_id=self.set_id,
            notes=_notes(overview, beside, moved=bool((motion != 0).any()), repainted=repainted),
            body=beside.body,
            thumbnails=_thumbnails([canonical.see(image, close, size=_THUMBNAIL_PX) for image in (source, target)]),
        )
        return operation, view

    def _tokens(self, before: Tensor, after: Tensor, motion: Tensor, shape: Tensor) -> Tensor:
        scaled, mae = FieldCodec().encode(motion, motion_scale(motion)), self.sight.mae
        return self.rformer(mae(before), mae(after), torch.cat([scaled, shape], dim=1))


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


def _check_aligned(overall: MeasuredMotion, person: Face, factor: int) -> None:
    """Raise if what lies around the face moved as a whole: the pair is out of register, that is no retouch."""
    size = length(overall.raw)[0, 0]  # (h, w)
    x0, y0, x1, y1 = (v / factor for v in person.box)
    margin = 0.1 * max(x1 - x0, y1 - y0)
    around = torch.ones_like(size, dtype=torch.bool)
    around[max(0, int(y0 - margin)) : int(y1 + margin) + 1, max(0, int(x0 - margin)) : int(x1 + margin) + 1] = False
    if not around.any():
        return
    shift = float(size[around].median())
    if shift > _MISALIGNED_PX:
        raise ValueError(
            f"exemplar after is shifted, scaled or turned against before by about {shift * factor:.0f} pixels: align "
            "the two layers exactly and export them again, so that only the retouch differs"
        )


def _repainted(moved: Tensor, after: Tensor, view: CanonicalView, close: FaceView) -> bool:
    """Whether part of the face changed in a way that no motion explains. moved, after: (1, 3, h, w)."""
    left_over = F.avg_pool2d((moved - after).abs().mean(dim=1, keepdim=True), 9, stride=1, padding=4)
    seen = view.see(left_over, close, size=view.config.size)[0, 0]
    (x0, y0), (x1, y1) = view.template.amin(0).int().tolist(), view.template.amax(0).int().tolist()
    return bool(seen[y0 : y1 + 1, x0 : x1 + 1].max() > _REPAINTED)


def _notes(overview: Overview, beside: BodyReading, *, moved: bool, repainted: bool) -> tuple[str, ...]:
    notes = []
    # Averaged over 5 pixels, so that the noise of a JPEG does not count as a change.
    change = F.avg_pool2d(overview.after - overview.before, 5, stride=1, padding=2).abs().amax() > _VISIBLE
    if not moved and not change and not beside.moved:
        notes.append("no change found between before and after: this operation leaves every photo as it is")
    elif not moved and beside.body is None:
        notes.append(
            "before and after differ, but nothing on the face moved: only changes of shape are transferred, "
            "not of colour or skin. This operation leaves every photo as it is."
        )
    notes += beside.notes
    if repainted:
        notes.append(
            "part of the face was repainted (glasses, teeth, closed eyes?), which no motion explains: look at the "
            "picture of what was found before you use this operation"
        )
    return tuple(notes)


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
    enlarged = F.interpolate(as_float(image[:, :3]), scale_factor=1 / factor, mode="bicubic", align_corners=False)
    return enlarged.clamp(0, 1)


def _inside_box(change: Tensor, box: tuple[float, ...], factor: int) -> float:
    x0, y0, x1, y1 = (int(v / factor) for v in box)
    part = change[max(0, y0) : y1 + 1, max(0, x0) : x1 + 1]
    return float(part.mean()) if part.numel() else 0.0
