"""What one operation does to one person of one photo: the leaves of an expression, as fields.

    extracted   the field DiT on the straightened face, the body's part beside it
    sliders     the named motions on the face's own landmarks and the body's joints, no network

Steps of an expression move the face, so a leaf is asked about other landmarks than those that were found. The encoder's
features stay those of the photo: it sees the face straightened, and there a moved face looks as it did before. What is
to be undone was made for another photo, the one before, and there the person is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from ..bodies.head import Head
from ..bodies.pose_network import MEDIAPIPE_POSE
from ..bodies.sources import PoseChoice
from ..faces.locator import Face
from ..faces.search import face_again
from ..faces.view import FaceView
from ..geometry.arithmetic import inverse, origins
from ..geometry.field import Field, apply_field, joined
from ..geometry.unfold import unfold
from ..networks.config import ModelConfig
from ..networks.connector import Connector
from ..networks.flow import draw_noise, integrate
from ..operations.atoms import Atom, atoms_of
from ..operations.bank import PhotoFace, bank_motions
from ..operations.on_body import as_pose, body_field
from ..operations.sliders import Sliders
from ..side_by_side import side_by_side
from .arithmetic import Apply, Leaf
from .carry import CarryNet, carried
from .codec import FieldCodec, motion_scale
from .confidence import Cues, Explained, Names, apart, cues_of, misplaced
from .field_dit import FieldCondition, FieldDiT
from .operation import Operation
from .sight import Sight
from .trust import trust

SOFTENED = "so strong a motion would fold the face over itself: it was softened there"


@dataclass(kw_only=True)
class Frame:
    """What is known of a photo that is one of a sequence (sequence.py).

    answers: gets each answer of the network.  given: answers that are taken, in turn, in place of its own.
    """

    face: Face
    answers: list[Tensor] = field(default_factory=list)
    given: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Walk:
    """How the flow of the field DiT is walked.  refine: without, the exemplar's motion is copied."""

    num_steps: int
    seed: int
    refine: bool
    on_step: Callable[[int, Tensor], None] | None
    frame: Frame | None = None


@dataclass
class Person:
    """One face of a query, and the parts of a set that act on it.  notes: gathered while it is retouched.
    cues: of how sure each extracted part is (confidence.py)."""

    query: Tensor  # (1, C, H, W)
    face: Face
    config: ModelConfig
    sight: Sight
    field_dit: FieldDiT
    connector: Connector
    carry: CarryNet | None  # adapts what has no name to a face
    walk: Walk
    pose: PoseChoice  # where the joints come from
    notes: list[str] = field(default_factory=list)
    cues: list[Cues] = field(default_factory=list)

    def apply(self, leaf: Leaf, strength: float, face: Face) -> Field:
        """The motion of a leaf on this person, whose face is now as given."""
        if strength == 0:
            return self._nothing
        if isinstance(leaf, Sliders):
            return self._from_sliders(leaf, strength, face)
        parts = []
        if leaf.body is not None:
            carried, notes = self.sight.bodies.carry(leaf.body, self.query, face, strength, self.pose)
            parts.append(carried)
            self.notes += notes
        if (leaf.motion != 0).any() and not isinstance(self.face, Head):
            parts.append(self._of_face(leaf, strength, face))
        return joined(parts, self._nothing)

    def before(self, made: Field, near: Face) -> tuple[Face, Apply] | None:
        """This person on the photo that a motion turned into this one, and what leaves do there. None where the face
        cannot be read, or is known from elsewhere: nobody has seen it, or other frames tell it better.

        near: about where it is.
        """
        if isinstance(self.face, Head) or self.walk.frame is not None:
            return None
        photo = apply_field(self.query, inverse(made).field)
        face = face_again(self.sight.locator, photo, near)
        if face is None:
            return None
        given = tuple(replace(one, points=origins(one.points, made)) for one in self.pose.given)
        person = replace(self, query=photo, face=face, pose=replace(self.pose, given=given))
        return face, person.apply

    def _of_face(self, operation: Operation, strength: float, face: Face) -> Field:
        canonical = self.sight.view
        view = canonical.fit(face.landmarks)
        frame = self.walk.frame
        if frame is not None and frame.given:
            motion, atoms = frame.given.pop(0), None
        else:
            motion, atoms = self._answer(operation, face, view)
        if frame is not None:
            frame.answers.append(motion)
        _, moved = side_by_side(
            lambda: self._judge(operation, motion, atoms, face, view),
            lambda: self._on_photo(motion * canonical.window * strength, view),
        )
        return moved

    def _judge(self, operation: Operation, motion: Tensor, atoms: Tensor | None, face: Face, view: FaceView) -> None:
        """How sure this part of the retouch is.  atoms: the named operations on this face, where they were asked."""
        names = Names.of(atoms_of(self.config.dit.operations))
        explained = Explained.of(operation, names)
        placed = misplaced(motion, face, view, self.sight.view)
        other = None if atoms is None else apart(motion, explained.on(atoms, operation))
        self.cues.append(cues_of(operation, names, explained, query_place=placed, apart=other))

    def _answer(self, operation: Operation, face: Face, view: FaceView) -> tuple[Tensor, Tensor | None]:
        """The motion in the canonical view, (1, 2, N, N) cells, and what the named operations do to this face, where
        the network was asked."""
        canonical, codec, scale = self.sight.view, FieldCodec(), motion_scale(operation.motion)
        latent, atoms = codec.encode(operation.motion, scale), None
        copied = latent
        if self.walk.refine:
            believed = trust(operation, self.field_dit.bank_fit.one_way)
            atoms, features, laid = side_by_side(
                lambda: self._motions(atoms_of(self.config.dit.operations), face, view),
                lambda: self._features,
                lambda: carried(self.carry, operation, view.shape, canonical, named=believed),
            )
            condition = FieldCondition(
                copied=copied,
                query_shape=view.shape,
                exemplar_shape=operation.shape,
                query_points=canonical.landmarks(view.shape),
                exemplar_points=canonical.landmarks(operation.shape),
                query_atoms=atoms,
                exemplar_atoms=operation.atoms,
                features=features,
            )
            tokens = self.connector(operation.tokens)
            known = self.field_dit.know(condition, tokens)
            answer = integrate(
                lambda x_t, t: self.field_dit(
                    noisy=x_t, condition=condition, tokens=tokens, t=torch.full((1,), t, dtype=x_t.dtype), known=known
                ),
                draw_noise(tuple(copied.shape), self.walk.seed),
                num_steps=self.walk.num_steps,
                on_step=self.walk.on_step,
            )
            latent = codec.encode(laid, scale).lerp(answer, believed)
        return codec.decode(latent, scale, shown=copied), atoms

    def _from_sliders(self, sliders: Sliders, strength: float, face: Face) -> Field:
        on_face = tuple(
            Atom(one.operation, one.percent, one.side) for one in sliders.amounts if not one.on_body and one.percent
        )
        parts = []
        if on_face and not isinstance(self.face, Head):
            view = self.sight.view.fit(face.landmarks)
            motion = self._motions(on_face, face, view).sum(dim=1) * strength
            parts.append(self._on_photo(motion, view))
        on_body = [one for one in sliders.amounts if one.on_body and one.percent]
        if on_body:
            parts.append(body_field(on_body, self._pose, face.mesh, self._size, strength=strength))
        return joined(parts, self._nothing)

    def _motions(self, atoms: tuple[Atom, ...], face: Face, view: FaceView) -> Tensor:
        """What each does to the face: (1, M, 2, N, N) cells."""
        return bank_motions(atoms, PhotoFace(face.mesh, self._size), view, self.sight.view)

    def _on_photo(self, wanted: Tensor, view: FaceView) -> Field:
        """Motion in the view (1, 2, N, N) as a field, softened where it would fold."""
        motion = unfold(wanted, view.shape)
        if not torch.equal(motion, wanted):
            self.notes.append(SOFTENED)
        return self.sight.view.motion_to_photo(motion, view, height=self._size[0], width=self._size[1])

    @cached_property
    def _features(self) -> Tensor:
        return self.sight.features(self.query, self.sight.view.fit(self.face.landmarks))

    @cached_property
    def _pose(self) -> Tensor | None:
        """The joints among MediaPipe's, or None where the shoulders cannot be told."""
        told = self.sight.bodies.told(self.query, self.face, self.pose, "the query")
        self.notes += told.notes
        body = told.body
        return None if body.middle("shoulder") is None else as_pose(body.points, body.told, MEDIAPIPE_POSE)

    @property
    def _nothing(self) -> Field:
        return Field.zero(*self._size)

    @property
    def _size(self) -> tuple[int, int]:
        return self.query.shape[-2], self.query.shape[-1]
