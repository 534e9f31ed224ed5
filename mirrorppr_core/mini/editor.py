"""The field editor: applies an Operation to portraits by predicting a motion field and warping the original pixels.

    query ─ locate ─ canonical view ─ MAE ─┐
    operation ─ connector ─► text stream ──┼─ field DiT + LoRA, flow matching ─► motion in the view
    operation's motion, both face shapes ──┘
    motion ─► Field in photo pixels ─ × strength ─┬► warp of the photo at its native resolution
    operation's body motion (body.py) ────────────┘

Nothing is repainted: a pixel of the result is a pixel of the photo, moved; pixels that do not move keep their bits.
Design: the paper's system with a field codec in place of the VAE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..faces.choice import check_choice, choose
from ..faces.locator import Face
from ..geometry.displacement import jacobian_determinant
from ..geometry.field import Field, apply_field, joined
from ..geometry.unfold import unfold
from ..images import check_photo
from ..networks.config import ModelConfig
from ..networks.connector import Connector
from ..networks.flow import draw_noise, integrate
from ..operations.atoms import atoms_of
from ..operations.bank import PhotoFace, bank_motions
from .codec import FieldCodec, motion_scale
from .field_dit import FieldCondition, FieldDiT
from .operation import Operation
from .sight import Sight

MAX_STRENGTH = 2.0
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
    """image: like the query.  field: its motion, at full resolution.  faces: those retouched.  notes: for the user."""

    image: Tensor
    field: Field
    faces: tuple[Face, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class FieldEditor:
    """DiT with LoRA merged, and what it needs to see a query. All parts come from one matched set."""

    config: ModelConfig
    set_hash: str
    sight: Sight
    field_dit: FieldDiT

    @torch.no_grad()
    def retouch(
        self,
        query: Tensor,
        operation: Operation,
        connector: Connector,
        config: RetouchConfig | None = None,
        *,
        region: Tensor | None = None,
        on_step: Callable[[int, Tensor], None] | None = None,
    ) -> Retouched:
        """Apply the operation to one photo (1, 3 or 4, H, W). The shapes of `Retouched.image` and query are equal.

        region: (H, W) mask that says which person is meant.  on_step: see flow.integrate.
        Raises ValueError when no face is found, or several and none chosen.
        """
        config = config or RetouchConfig()
        check_photo(query, "query")
        if operation.set_hash != self.set_hash:
            raise ValueError(
                f"the operation was extracted by set {operation.set_hash} but this model is set {self.set_hash}: "
                "extractor, connector and DiT must come from one set. Extract the operation again with this set."
            )
        height, width = query.shape[-2:]
        if region is not None and region.shape != query.shape[-2:]:
            (rh, rw), fix = region.shape[-2:], "paint or resize the mask at the query's size"
            raise ValueError(f"the mask is {rw}x{rh} but the query is {width}x{height}: {fix}")
        faces = choose(self.sight.faces(query), config.face, region=region)
        field, softened, notes = Field.zero(height, width), False, ()
        if config.strength != 0:
            results, notes = self._bodies(query, faces, operation, config.strength)
            if (operation.motion != 0).any():
                faces_moved = [self._field(query, f, operation, connector, config, on_step) for f in faces]
                results += [one for one, _ in faces_moved]
                softened = any(soft for _, soft in faces_moved)
            field = joined(results, field)
        return Retouched(
            image=apply_field(query, field),
            field=field,
            faces=tuple(faces),
            notes=operation.notes + notes + _fold_notes(field, softened=softened),
        )

    def _bodies(
        self, query: Tensor, faces: list[Face], operation: Operation, strength: float
    ) -> tuple[list[Field], tuple[str, ...]]:
        """The motion beside each face, and what to know about it."""
        if operation.body is None:
            return [], ()
        bodies = self.sight.bodies
        carried = [bodies.carry(operation.body, query, face, strength) for face in faces]
        notes = dict.fromkeys(note for _, own in carried for note in own)
        return [field for field, _ in carried], tuple(notes)

    def _field(
        self,
        query: Tensor,
        face: Face,
        operation: Operation,
        connector: Connector,
        config: RetouchConfig,
        on_step: Callable[[int, Tensor], None] | None,
    ) -> tuple[Field, bool]:
        """The motion of one face, and whether it had to be softened so as not to fold."""
        canonical = self.sight.view
        view = canonical.fit(face.landmarks)
        codec, scale = FieldCodec(), motion_scale(operation.motion)
        latent = codec.encode(operation.motion, scale)
        if config.refine:
            photo_face = PhotoFace(face.mesh, (query.shape[-2], query.shape[-1]))
            condition = FieldCondition(
                copied=latent,
                query_shape=view.shape,
                exemplar_shape=operation.shape,
                query_points=canonical.landmarks(view.shape),
                exemplar_points=canonical.landmarks(operation.shape),
                query_atoms=bank_motions(atoms_of(self.config.dit.operations), photo_face, view, canonical),
                exemplar_atoms=operation.atoms,
                features=self.sight.features(query, view),
            )
            tokens = connector(operation.tokens)
            latent = integrate(
                lambda x_t, t: self.field_dit(
                    noisy=x_t, condition=condition, tokens=tokens, t=torch.full((1,), t, dtype=x_t.dtype)
                ),
                draw_noise(tuple(latent.shape), config.seed),
                num_steps=config.num_steps,
                on_step=on_step,
            )
        wanted = codec.decode(latent, scale) * canonical.window * config.strength
        motion = unfold(wanted, view.shape)
        field = canonical.motion_to_photo(motion, view, height=query.shape[-2], width=query.shape[-1])
        return field, not torch.equal(motion, wanted)


def _fold_notes(field: Field, *, softened: bool) -> tuple[str, ...]:
    notes = []
    if softened:
        notes.append("so strong a motion would fold the face over itself: it was softened there")
    folded = _folded_pixels(field.displacement)
    if folded:
        notes.append(f"the motion folds over itself at {folded} pixels, which shows as a smear: lower the strength")
    return tuple(notes)


def _folded_pixels(displacement: Tensor) -> int:
    """In strips, because a body in a large photo may move millions of pixels."""
    height, width = displacement.shape[-2:]
    if min(height, width) < 2:
        return 0
    folded = 0
    for top in range(0, height, _STRIP_ROWS):
        low, high = max(0, top - 1), min(height, top + _STRIP_ROWS + 1)
        areas = jacobian_determinant(displacement[..., low:high, :])[..., top - low :, :][..., :_STRIP_ROWS, :]
        folded += int((areas <= 0).sum())
    return folded
