"""The field editor: applies an Operation to portraits by predicting a motion field and warping the original pixels.

    query ─ locate ─ canonical view ─ MAE ─┐
    operation ─ connector ─► text stream ──┼─ field DiT + LoRA, flow matching ─► motion in the view
    operation's motion, both face shapes ──┘
    what has no name: the exemplar's motion, carried over (carry.py)
    motion ─► Field in photo pixels ─ × strength ─┬► warp of the photo at its native resolution
    operation's body motion (bodies/) ───────────┘

person.py does this for one operation and one face; an operation made of others is put together from such fields
(arithmetic.py).

Nothing is repainted: a pixel of the result is a pixel of the photo, moved; pixels that do not move keep their bits.
Design: the paper's system with a field codec in place of the VAE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..bodies.head import Head
from ..bodies.sources import AUTO, PoseChoice
from ..faces.choice import check_choice, choose
from ..faces.locator import Face
from ..faces.search import search_notes
from ..geometry.displacement import jacobian_determinant
from ..geometry.field import Field, apply_field, joined, settled
from ..images import check_not_plain, check_photo
from ..networks.config import ModelConfig
from ..networks.connector import Connector
from ..one_thread import one_thread
from ..operations.atoms import atoms_of
from ..stopping import stop_if_asked
from .arithmetic import MOST, AnyOperation, field_of, leaves, moves_body, moves_face
from .carry import CarryNet
from .confidence import Cues, confidence_in
from .field_dit import FieldDiT
from .findings import FACELESS
from .operation import Operation
from .person import Frame, Person, Walk
from .sight import Sight

MAX_STRENGTH = MOST
_STRIP_ROWS = 512  # of a field looked at together


@dataclass(frozen=True, kw_only=True)
class RetouchConfig:
    """How an operation is applied."""

    strength: float = 1.0  # 0 nothing, 1 as in the exemplar, 2 twice as far, negative: the opposite
    num_steps: int = 2  # of the flow; more cost more and are not more accurate
    seed: int = 0
    face: str = "only"  # see faces.choose
    refine: bool = True  # False copies the exemplar's motion without the network: a control, not for production

    def __post_init__(self) -> None:
        if not -MAX_STRENGTH <= self.strength <= MAX_STRENGTH:
            raise ValueError(
                f"strength={self.strength}: must lie between {-MAX_STRENGTH:g} and {MAX_STRENGTH:g}; "
                "1 repeats the exemplar's retouch, 0.5 is half of it, -1 its opposite"
            )
        if not 1 <= self.num_steps <= 50:
            raise ValueError(f"num_steps={self.num_steps}: use 1 to 50, 2 is usual")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed={self.seed}: use a whole number from 0 to 2^64 - 1")
        check_choice(self.face)


@dataclass(frozen=True)
class Retouched:
    """image: like the query.  field: its motion, at full resolution.  faces: those retouched.  notes: for the user.
    cues: what tells how sure each face is, for each extracted operation in turn; empty for sliders and bodies.
    num_found: faces in the photo, retouched or not; somebody whose face was not found counts as none."""

    image: Tensor
    field: Field
    faces: tuple[Face, ...]
    notes: tuple[str, ...]
    num_found: int
    cues: tuple[tuple[Cues, ...], ...] = ()

    @property
    def confidence(self) -> float | None:
        """Chance that the retouch of the face is a good one (confidence.py), of several faces the least; None where
        that cannot be told."""
        return min((confidence_in(cues).value for face in self.cues for cues in face), default=None)


@dataclass(frozen=True)
class FieldEditor:
    """DiT with LoRA merged, and what it needs to see a query. All parts come from one matched set."""

    config: ModelConfig
    set_id: str
    sight: Sight
    field_dit: FieldDiT
    carry: CarryNet | None = None  # a set may come without

    @one_thread()
    @torch.no_grad()
    def retouch(
        self,
        query: Tensor,
        operation: AnyOperation,
        connector: Connector,
        config: RetouchConfig | None = None,
        *,
        region: Tensor | None = None,
        pose: PoseChoice | None = None,
        frame: Frame | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Retouched:
        """Apply the operation to one photo (1, 3 or 4, H, W). The shapes of `Retouched.image` and query are equal.

        region: (H, W) mask that says which person is meant.  on_step: see flow.integrate.
        pose: where the query's joints come from (bodies/sources.py).
        frame: where the face is known already (sequence.py); then none is looked for.
        Raises ValueError when nobody is found, or several people and none chosen; a body may do without its face, but
        not an operation that moves the face alone.
        """
        config = config or RetouchConfig()
        check_photo(query, "query")
        check_not_plain(query, "query")
        self._check(operation)
        height, width = query.shape[-2:]
        _check_region(region, height, width)
        pose = pose or AUTO
        found = [frame.face] if frame is not None else self.sight.people(query, pose)
        faceless = bool(found) and isinstance(found[0], Head)
        meant = found if not faceless or moves_body(operation) else []
        faces = choose(meant, "largest" if frame is not None else config.face, region=region)
        walk = Walk(config.num_steps, config.seed, config.refine, on_step, frame)
        people = [self._person(query, face, connector, walk, pose) for face in faces]
        remarks: list[str] = []
        strong = people if config.strength != 0 else []
        fields = [
            field_of(operation, p.face, p.apply, strength=config.strength, remarks=remarks, look=p.before)
            for p in strong
        ]
        field = settled(joined(fields, Field.zero(height, width)))
        remarks += [note for person in people for note in person.notes]
        if faceless and moves_face(operation):
            remarks.insert(0, FACELESS.format(photo="this photo", part="is repeated"))
        return Retouched(
            image=apply_field(query, field),
            field=field,
            faces=tuple(faces),
            notes=operation.notes
            + tuple(dict.fromkeys(remarks))
            + _fold_notes(field)
            + _doubts(people, " ".join(operation.notes))
            + search_notes(height, width),
            num_found=0 if faceless else len(found),
            cues=tuple(tuple(person.cues) for person in people),
        )

    def _check(self, operation: AnyOperation) -> None:
        """Raise ValueError unless this set made all of its extracted operations."""
        n, num_atoms = self.config.view.size, len(atoms_of(self.config.dit.operations))
        extracted = [one for one in leaves(operation) if isinstance(one, Operation)]
        for one in extracted + [one.undoes for one in extracted if one.undoes is not None]:
            if one.set_id != self.set_id:
                raise ValueError(
                    f"the operation was extracted by set {one.set_id} but this model is set {self.set_id}: "
                    "extractor, connector and DiT must come from one set. Extract the operation again with this set."
                )
            pairs = one.motion.new_zeros(1, 4, n, n) if one.seen is None else one.seen
            if one.motion.shape[-1] != n or one.atoms.shape[1] != num_atoms or pairs.shape[1:] != (4, n, n):
                raise ValueError("the operation names this set but does not fit it: its file is damaged, extract again")

    def _person(self, query: Tensor, face: Face, connector: Connector, walk: Walk, pose: PoseChoice) -> Person:
        return Person(
            query=query,
            face=face,
            config=self.config,
            sight=self.sight,
            field_dit=self.field_dit,
            connector=connector,
            carry=self.carry,
            walk=walk,
            pose=pose,
        )


def _doubts(people: list[Person], told: str) -> tuple[str, ...]:
    """Of each face that is unsure the largest reason.  told: what was said of the exemplar already."""
    notes = []
    for person in people:
        least = min((confidence_in(cues) for cues in person.cues), key=lambda one: one.value, default=None)
        if least is not None and least.reason not in told:
            x = round((person.face.box[0] + person.face.box[2]) / 2)
            notes += [f"face at x {x}, {note}" if len(people) > 1 else note for note in least.note]
    return tuple(notes)


def _check_region(region: Tensor | None, height: int, width: int) -> None:
    if region is not None and region.shape != (height, width):
        (rh, rw), fix = region.shape[-2:], "paint or resize the mask at the query's size"
        raise ValueError(f"the mask is {rw}x{rh} but the query is {width}x{height}: {fix}")


def _fold_notes(field: Field) -> tuple[str, ...]:
    folded = _folded_pixels(field.displacement)
    if not folded:
        return ()
    return (f"the motion folds over itself at {folded} pixels, which shows as a smear: lower the strength",)


def _folded_pixels(displacement: Tensor) -> int:
    """In strips, because a body in a large photo may move millions of pixels."""
    height, width = displacement.shape[-2:]
    if min(height, width) < 2:
        return 0
    folded = 0
    for top in range(0, height, _STRIP_ROWS):
        stop_if_asked()
        low, high = max(0, top - 1), min(height, top + _STRIP_ROWS + 1)
        areas = jacobian_determinant(displacement[..., low:high, :])[..., top - low :, :][..., :_STRIP_ROWS, :]
        folded += int((areas <= 0).sum())
    return folded
