"""The professional operations: what each is called, what + and - mean, which parts move, how far it reaches.

The names are the parameters of the professional subset of MirrorPPR (arXiv:2606.29308). Nothing else about them is
public: the meaning of the signs, the parts and the amounts are ours. Words in a name rule its plus: `slim`, `thin`
and `shrink` make smaller, `longer` makes longer; `trans` is the size of the part as a whole.

An operation is a handful of pushes. A push is a window, an ellipse or a capsule around landmarks, in which pixels are
shifted or stretched about the middle. Every length of a push is a multiple of its ruler, the distance of two
landmarks, so one table fits every face at every size. Paired operations are written for the person's own RIGHT side
(on the left of a picture); the left side uses the partners of the landmarks.

Face landmarks are MediaPipe FaceMesh's 478, body landmarks MediaPipe Pose's 33.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

GROUPS = ("face shape", "eyes and brows", "nose", "mouth", "body")

# (right, left) of every face landmark used below; those not listed lie on the midline.
FACE_PAIRS = (
    (33, 263), (133, 362), (159, 386), (145, 374), (70, 300), (105, 334), (107, 336), (46, 276), (52, 282), (55, 285),
    (129, 358), (98, 327), (61, 291), (193, 417), (122, 351),
    (234, 454), (132, 361), (58, 288), (172, 397), (136, 365), (150, 379), (149, 378), (148, 377), (176, 400),
    (54, 284), (21, 251), (162, 389), (127, 356),
)  # fmt: skip
BODY_PAIRS = ((12, 11), (14, 13), (16, 15), (24, 23), (26, 25), (28, 27), (8, 7), (10, 9))


@dataclass(frozen=True, kw_only=True)
class Push:
    """One window and the motion in it at +100. Lengths in rulers; a landmark named twice counts twice in a mean."""

    at: tuple[int, ...]  # the middle, or one end of a capsule: the mean of these landmarks
    to: tuple[int, ...] = ()  # the other end; then "down" is along the capsule and "outward" across it
    ruler: tuple[int, int]
    reach: tuple[float, float]  # half axes of the window, outward and down
    shift: tuple[float, float] = (0.0, 0.0)  # outward (in the middle: towards the person's left) and down
    stretch: tuple[float, float] = (0.0, 0.0)  # share by which distances from the middle grow, outward and down

    def __post_init__(self) -> None:
        if min(self.reach) <= 0:
            raise ValueError(f"reach={self.reach}: use lengths above 0")
        if self.to and self.shift != (0.0, 0.0):
            raise ValueError("a capsule has no outward side: stretch it, or use a window without `to` to shift")

    @property
    def landmarks(self) -> tuple[int, ...]:
        return (*self.at, *self.to, *self.ruler)

    def mirrored(self, pairs: tuple[tuple[int, int], ...]) -> Push:
        """The same push on the other side of the person."""
        partner = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
        at, to, ruler = (tuple(partner.get(i, i) for i in indices) for indices in (self.at, self.to, self.ruler))
        return replace(self, at=at, to=to, ruler=ruler)


@dataclass(frozen=True, kw_only=True)
class ProfessionalOperation:
    """One named operation. `plus` and `minus` say what each sign does, `parts` what moves."""

    name: str
    group: str
    plus: str
    minus: str
    parts: str
    pushes: tuple[Push, ...]  # of the right side if paired, else all
    paired: bool = True  # the left side is the mirror image, and each side can move alone
    outside: float | None = None  # face widths beyond the face's oval over which the motion fades; None: not needed

    @property
    def on_body(self) -> bool:
        return self.group == "body"

    def with_reach(self, factor: float) -> ProfessionalOperation:
        """The same with windows `factor` times as wide, as another tool may have it."""
        if factor <= 0:
            raise ValueError(f"reach={factor}: windows must have a width, use more than 0")
        wide = (replace(push, reach=(factor * push.reach[0], factor * push.reach[1])) for push in self.pushes)
        return replace(self, pushes=tuple(wide))

    def sides(self) -> dict[str, tuple[Push, ...]]:
        """The pushes of each side; of "both" alone when the sides cannot be told apart."""
        if not self.paired:
            return {"both": self.pushes}
        pairs = BODY_PAIRS if self.on_body else FACE_PAIRS
        return {"right": self.pushes, "left": tuple(push.mirrored(pairs) for push in self.pushes)}


def _eye(**motion) -> tuple[Push, ...]:
    return (Push(at=(33, 133, 159, 145), ruler=(33, 133), reach=(1.05, 0.85), **motion),)


def _brow(reach: tuple[float, float], **motion) -> tuple[Push, ...]:
    return (Push(at=(70, 105, 107, 46, 52, 55), ruler=(33, 133), reach=reach, **motion),)


_FACE = (234, 454)  # face width
_NOSE = (129, 358)  # width of the wings
_MOUTH = (61, 291)
_SHOULDERS = (11, 12)

_ALL = (
    ProfessionalOperation(
        name="face_trans", group="face shape", plus="larger face", minus="smaller face",
        parts="everything inside the face's oval, about the middle of the face", paired=False, outside=0.3,
        pushes=(Push(at=(1, 168), ruler=_FACE, reach=(1.3, 1.5), stretch=(0.08, 0.08)),),
    ),
    ProfessionalOperation(
        name="jaw_trans", group="face shape", plus="longer chin", minus="shorter chin",
        parts="chin, from below the lower lip", paired=False, outside=0.25,
        pushes=(Push(at=(152, 148, 377), ruler=_FACE, reach=(0.56, 0.32), shift=(0.0, 0.06)),),
    ),
    ProfessionalOperation(
        name="mandible_left+mandible_right", group="face shape", plus="wider lower jaw", minus="slimmer lower jaw",
        parts="contour from the ear lobe to beside the chin", outside=0.25,
        pushes=(
            Push(at=(58, 132), ruler=_FACE, reach=(0.30, 0.30), shift=(0.045, 0.0)),
            Push(at=(172, 136), ruler=_FACE, reach=(0.30, 0.30), shift=(0.05, 0.01)),
            Push(at=(150, 149), ruler=_FACE, reach=(0.24, 0.24), shift=(0.03, 0.012)),
        ),
    ),
    ProfessionalOperation(
        name="temple_left+temple_right", group="face shape", plus="fuller temples", minus="hollower temples",
        parts="contour from the side of the forehead to the cheek bone", outside=0.22,
        pushes=(
            Push(at=(54, 21), ruler=_FACE, reach=(0.20, 0.28), shift=(0.038, 0.0)),
            Push(at=(162, 127), ruler=_FACE, reach=(0.20, 0.28), shift=(0.038, 0.0)),
        ),
    ),
    ProfessionalOperation(
        name="eyebrow_distance_left+eyebrow_distance_right", group="eyes and brows",
        plus="brows further apart", minus="brows closer together", parts="brows, sideways",
        pushes=_brow((1.25, 0.62), shift=(0.13, 0.0)),
    ),
    ProfessionalOperation(
        name="eyebrow_height_left+eyebrow_height_right", group="eyes and brows",
        plus="higher brows", minus="lower brows", parts="brows, up and down",
        pushes=_brow((1.25, 0.62), shift=(0.0, -0.15)),
    ),
    ProfessionalOperation(
        name="eyebrow_size_left+eyebrow_size_right", group="eyes and brows",
        plus="thicker brows", minus="thinner brows", parts="brows, across their own line",
        pushes=(Push(at=(70, 46), to=(107, 55), ruler=(33, 133), reach=(0.45, 0.45), stretch=(0.42, 0.0)),),
    ),
    ProfessionalOperation(
        name="eye_distance_left+eye_distance_right", group="eyes and brows",
        plus="eyes further apart", minus="eyes closer together", parts="eyes with their lids, sideways",
        pushes=_eye(shift=(0.12, 0.0)),
    ),
    ProfessionalOperation(
        name="eye_height_left+eye_height_right", group="eyes and brows",
        plus="eyes opened wider", minus="eyes narrowed", parts="lids, away from and towards the eye's middle",
        pushes=_eye(stretch=(0.0, 0.28)),
    ),
    ProfessionalOperation(
        name="eye_width_left+eye_width_right", group="eyes and brows",
        plus="longer eyes", minus="shorter eyes", parts="eye corners, along the eye",
        pushes=_eye(stretch=(0.28, 0.0)),
    ),
    ProfessionalOperation(
        name="eye_trans_left+eye_trans_right", group="eyes and brows",
        plus="larger eyes", minus="smaller eyes", parts="eyes with their lids",
        pushes=_eye(stretch=(0.26, 0.26)),
    ),
    ProfessionalOperation(
        name="eye_up_down_left+eye_up_down_right", group="eyes and brows",
        plus="higher eyes", minus="lower eyes", parts="eyes with their lids, up and down",
        pushes=_eye(shift=(0.0, -0.11)),
    ),
    ProfessionalOperation(
        name="scale_nose", group="nose", plus="larger nose", minus="smaller nose",
        parts="nose from the bridge down", paired=False,
        pushes=(Push(at=(5, 1, 2), ruler=_NOSE, reach=(1.15, 1.15), stretch=(0.28, 0.24)),),
    ),
    ProfessionalOperation(
        name="shrink_nose", group="nose", plus="slimmer nose wings", minus="broader nose wings",
        parts="the two wings, sideways",
        pushes=(Push(at=(129, 98), ruler=_NOSE, reach=(0.50, 0.55), shift=(-0.12, 0.0)),),
    ),
    ProfessionalOperation(
        name="nasal_root", group="nose", plus="narrower root, which reads as higher", minus="wider root",
        parts="bridge between the eyes, sideways", paired=False,
        pushes=(Push(at=(168, 6, 193, 417, 122, 351), ruler=(133, 362), reach=(0.60, 0.85), stretch=(-0.42, 0.0)),),
    ),
    ProfessionalOperation(
        name="nasal_tip", group="nose", plus="larger tip", minus="smaller tip",
        parts="tip of the nose", paired=False,
        pushes=(Push(at=(1, 4), ruler=_NOSE, reach=(0.60, 0.62), stretch=(0.34, 0.30)),),
    ),
    ProfessionalOperation(
        name="nose_longer", group="nose", plus="longer nose", minus="shorter nose",
        parts="tip and wings, along the nose", paired=False,
        pushes=(Push(at=(1, 2), ruler=_NOSE, reach=(1.2, 0.85), shift=(0.0, 0.14)),),
    ),
    ProfessionalOperation(
        name="high_mouth", group="mouth", plus="mouth sits higher", minus="mouth sits lower",
        parts="both lips, up and down", paired=False,
        pushes=(Push(at=(61, 291, 0, 17), ruler=_MOUTH, reach=(1.0, 0.65), shift=(0.0, -0.10)),),
    ),
    ProfessionalOperation(
        name="mouth_high", group="mouth", plus="fuller lips", minus="thinner lips",
        parts="lips, away from and towards the line of the mouth", paired=False,
        pushes=(Push(at=(61, 291, 13, 14, 13, 14), ruler=_MOUTH, reach=(0.75, 0.62), stretch=(0.0, 0.36)),),
    ),
    ProfessionalOperation(
        name="mouth_smile", group="mouth", plus="corners lifted into a smile", minus="corners drawn down",
        parts="corners of the mouth with the cheek beside them",
        pushes=(Push(at=(61,), ruler=_MOUTH, reach=(0.55, 0.50), shift=(0.05, -0.10)),),
    ),
    ProfessionalOperation(
        name="mouth_breadth", group="mouth", plus="wider mouth", minus="narrower mouth",
        parts="lips, along the line of the mouth", paired=False,
        pushes=(Push(at=(61, 291, 13, 14), ruler=_MOUTH, reach=(1.05, 0.75), stretch=(0.26, 0.0)),),
    ),
    ProfessionalOperation(
        name="mouth_trans", group="mouth", plus="larger mouth", minus="smaller mouth",
        parts="both lips about their middle", paired=False,
        pushes=(Push(at=(61, 291, 13, 14), ruler=_MOUTH, reach=(1.05, 0.80), stretch=(0.26, 0.26)),),
    ),
    ProfessionalOperation(
        name="body_shape_right_shoulder", group="body", plus="right-angle shoulders", minus="sloping shoulders",
        parts="tip of the shoulder up, slope beside the neck down",
        pushes=(
            Push(at=(12,), ruler=_SHOULDERS, reach=(0.32, 0.36), shift=(0.0, -0.06)),
            Push(at=(12, 12, 12, 11, 10), ruler=_SHOULDERS, reach=(0.26, 0.26), shift=(0.0, 0.03)),
        ),
    ),
    ProfessionalOperation(
        name="body_shape_thin_shoulders", group="body", plus="narrower shoulders", minus="broader shoulders",
        parts="shoulder and upper arm, sideways",
        pushes=(Push(at=(12,), ruler=_SHOULDERS, reach=(0.45, 0.55), shift=(-0.085, 0.0)),),
    ),
    ProfessionalOperation(
        name="body_shape_slim_hand", group="body", plus="slimmer arms", minus="stronger arms",
        parts="upper arm and forearm, across their own line",
        pushes=(
            Push(at=(12,), to=(14,), ruler=_SHOULDERS, reach=(0.34, 0.22), stretch=(-0.36, 0.0)),
            Push(at=(14,), to=(16,), ruler=_SHOULDERS, reach=(0.28, 0.20), stretch=(-0.36, 0.0)),
        ),
    ),
    ProfessionalOperation(
        name="body_shape_slim_leg", group="body", plus="slimmer legs", minus="stronger legs",
        parts="thigh and lower leg, across their own line",
        pushes=(
            Push(at=(24,), to=(26,), ruler=_SHOULDERS, reach=(0.42, 0.30), stretch=(-0.30, 0.0)),
            Push(at=(26,), to=(28,), ruler=_SHOULDERS, reach=(0.34, 0.25), stretch=(-0.30, 0.0)),
        ),
    ),
    ProfessionalOperation(
        name="body_shape_slim_waist", group="body", plus="slimmer waist", minus="fuller waist",
        parts="flanks between ribs and hips, sideways",
        pushes=(Push(at=(12, 24, 24), ruler=_SHOULDERS, reach=(0.42, 0.55), shift=(-0.08, 0.0)),),
    ),
)  # fmt: skip

OPERATIONS: dict[str, ProfessionalOperation] = {operation.name: operation for operation in _ALL}


def operation_named(name: str) -> ProfessionalOperation:
    if name not in OPERATIONS:
        raise ValueError(f"there is no professional operation named {name!r}: use one of {', '.join(OPERATIONS)}")
    return OPERATIONS[name]
