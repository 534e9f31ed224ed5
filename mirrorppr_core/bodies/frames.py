"""The parts of a body and their own frames: so far beside a bone, so far along it.

    s = away from the bone, outward, in units u        t = along it, 0 at its start and 1 at its end
    before the start and beyond the end t goes on in units of u times PAST: there lengths are not the bone's

A motion written in (s, t) of a part means the same on every body: it turns with the limb and grows with the person.
Parts are added up, each in its own frame; they are never looked up by the nearest bone, because the inner sides of two
close legs move against each other. Outward turns with the limb: of an arm held up it is the side that faces outward
when the arm hangs. A person seen from behind has the sides swapped first (`facing`), so that motion is not mirrored.

Shapes: J joints of pose.JOINTS, N places. Pixels, x then y.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .pose_network import JOINTS, MIRROR_JOINTS

LEAST_TOLD = 0.3  # below it a joint is not used
# Of a motion whose weakest joint is told with p, 1 - 0.5 sqrt(1 - p) is worth making: the error of joints grows as
# sqrt(1 - p), and a part in the wrong place is worse than one left alone. Calibrated: training/LOG.md, "bodies, again".
_LOST_TO_DOUBT = 0.5
LEAST_SURETY = 1 - _LOST_TO_DOUBT * 0.5**0.5  # of a joint that is as likely wrong as right
_SHORT, _LONG_ENOUGH = 0.25, 0.40  # u: a limb drawn shorter says nothing about its direction; it fades in between
_TOO_LONG = 2.0  # times `past`, which is about how long it is: such a limb is a mistake and would be torn off
_HEAD_UNIT = 5.0  # eye distances; a little less than u of most people, because too small is the cheaper error
_CROWN = 1.6  # eye distances above the eyes
_EYES_TO_CHIN = 1.9  # eye distances

# name: start, end, what a unit of t is beyond the ends (u), the group that limits to parts name
LIMBS = {
    "upper_arm": ("shoulder", "elbow", 1.0, "arms"),
    "forearm": ("elbow", "wrist", 0.8, "arms"),
    "thigh": ("hip", "knee", 1.2, "legs"),
    "shin": ("knee", "ankle", 1.1, "legs"),
}
SIDES = ("r", "l")
_PAST_TRUNK, _PAST_NECK, _PAST_HEAD = 1.35, 0.6, 0.7
_TORSO, _UPPER_ARM = 1 / 0.75, 0.56 / 0.75  # u, of most people (unit.py): where they cannot be told
_SIDEWAYS = 0.3  # u between the shoulders
GROUPS = ("shoulders", "arms", "trunk", "legs", "neck", "head")


@dataclass(frozen=True)
class Body:
    """points: (J, 2) photo pixels.  told: (J,) in [0, 1], the probability of each being where it is said.
    eyes, chin: (2,) of the face.  eye_distance: pixels."""

    points: Tensor
    told: Tensor
    eyes: Tensor
    chin: Tensor
    eye_distance: float

    def joint(self, name: str) -> Tensor | None:
        """(2,), or None where it cannot be told."""
        index = JOINTS.index(name)
        return self.points[index] if float(self.told[index]) >= LEAST_TOLD else None

    def surety(self, *names: str) -> float:
        """The share of a motion that hangs on these joints which is worth making."""
        told = min(float(self.told[JOINTS.index(name)]) for name in names)
        return 1 - _LOST_TO_DOUBT * max(0.0, 1 - told) ** 0.5

    def middle(self, name: str) -> Tensor | None:
        """Between the two joints of a name, or None unless both can be told."""
        right, left = self.joint(f"{name}_r"), self.joint(f"{name}_l")
        return None if right is None or left is None else (right + left) / 2


def facing(body: Body) -> Body:
    """The body with its sides as the viewer of a person from the front has them."""
    right, left, shoulders = body.joint("shoulder_r"), body.joint("shoulder_l"), body.middle("shoulder")
    if right is None or left is None or shoulders is None:
        return body
    hips = body.middle("hip")
    down = hips - shoulders if hips is not None else shoulders - body.eyes
    across = left - right
    if float(across[0] * down[1] - across[1] * down[0]) >= 0:
        return body
    order = list(MIRROR_JOINTS)
    return replace(body, points=body.points[order], told=body.told[order])


@dataclass(frozen=True)
class Frame:
    """One part.  origin, along, outward: (2,).  length: pixels from t = 0 to 1.  past: pixels of one t beyond the ends.
    unit: pixels of s and of motion.  presence: 1, or less where the part hardly shows."""

    origin: Tensor
    along: Tensor
    outward: Tensor
    length: float
    past: float
    unit: float
    presence: float = 1.0

    def local(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """places: (N, 2).  Returns s and t, (N,) each."""
        away = places - self.origin
        s, y = away @ self.outward / self.unit, away @ self.along
        before, beyond = y.clamp_max(0) / self.past, (y - self.length).clamp_min(0) / self.past
        return s, y.clamp(0, self.length) / self.length + before + beyond

    def off(self, places: Tensor, t0: Tensor) -> Tensor:
        """How far along the part places (N, 2) lie from t0 (P, 1), in u: (P, N)."""
        return ((places - self.origin) @ self.along - t0 * self.length) / self.unit

    def ends(self) -> Tensor:
        """Where t is 0 and 1: (2, 2)."""
        return torch.stack([self.origin, self.origin + self.length * self.along])


def frames_of(body: Body, unit: float) -> dict[str, Frame]:
    """Every part that can be told, by name: "forearm_l", "trunk", "neck", "head", "shoulder_r".  unit: u in pixels.

    With the shoulders alone the trunk is taken to be upright, and "deltoid_r" is the upper arm or where it would hang.
    """
    frames, limbs = {}, {}
    for side in SIDES:
        for name, (start, end, past, _) in LIMBS.items():
            frame = _limb(body.joint(f"{start}_{side}"), body.joint(f"{end}_{side}"), side, past, unit)
            if frame is not None:
                limbs[f"{name}_{side}"] = frame
                frames[f"{name}_{side}"] = _as_sure(frame, body, f"{start}_{side}", f"{end}_{side}")
    shoulders, hips = body.middle("shoulder"), body.middle("hip")
    if shoulders is not None:
        below, both = _below(body, shoulders, unit) if hips is None else hips, ("shoulder_r", "shoulder_l")
        frames |= _named("trunk", _bone(shoulders, below, "l", _PAST_TRUNK, unit), body, *both)
        frames |= _named("neck", _bone(shoulders, body.chin, "r", _PAST_NECK, unit), body, *both)
        for side in SIDES:
            own, joint = _shoulder(body, shoulders, below, side, unit), f"shoulder_{side}"
            hanging = limbs.get(f"upper_arm_{side}") or _hanging(body, below - shoulders, side, unit)
            frames[joint], frames[f"deltoid_{side}"] = (_as_sure(frame, body, joint) for frame in (own, hanging))
    up = body.eyes - body.chin
    size = body.eye_distance
    crown = body.eyes + up / up.norm().clamp_min(1e-3) * _CROWN * size
    return frames | _named("head", _bone(body.chin, crown, "r", _PAST_HEAD, _HEAD_UNIT * size), body)


def group_of(part: str) -> str:
    """Of GROUPS: what a limit to parts calls the frame of this name."""
    name = part.removesuffix("_r").removesuffix("_l")
    return LIMBS[name][3] if name in LIMBS else {"shoulder": "shoulders", "deltoid": "shoulders"}.get(name, name)


def _named(name: str, frame: Frame | None, body: Body, *joints: str) -> dict[str, Frame]:
    return {} if frame is None else {name: _as_sure(frame, body, *joints) if joints else frame}


def _as_sure(frame: Frame, body: Body, *joints: str) -> Frame:
    return replace(frame, presence=min(frame.presence, body.surety(*joints)))


def _limb(start: Tensor | None, end: Tensor | None, side: str, past: float, unit: float) -> Frame | None:
    if start is None or end is None:
        return None
    frame = _bone(start, end, side, past, unit)
    if frame is None or frame.length > _TOO_LONG * past * unit:
        return None
    t = min(1.0, (frame.length / unit - _SHORT) / (_LONG_ENOUGH - _SHORT))
    return None if t <= 0 else replace(frame, presence=t * t * (3 - 2 * t))


def _bone(start: Tensor, end: Tensor, side: str, past: float, unit: float) -> Frame | None:
    """Outward is to the left of the picture for a right limb that hangs down."""
    length = float((end - start).norm())
    if length < 1.0:
        return None
    along = (end - start) / length
    sign = 1.0 if side == "r" else -1.0
    outward = sign * torch.stack([-along[1], along[0]])
    return Frame(start, along, outward, length, past * unit, unit)


def _below(body: Body, shoulders: Tensor, unit: float) -> Tensor:
    """Where the hips would be of a person who stands straight."""
    right, left = body.points[JOINTS.index("shoulder_r")], body.points[JOINTS.index("shoulder_l")]
    across = (left - right) / (left - right).norm().clamp_min(1e-3)
    down = torch.stack([-across[1], across[0]])
    if float((left - right).norm()) < _SIDEWAYS * unit:  # from the side the shoulder line says nothing
        down = (shoulders - body.eyes) / (shoulders - body.eyes).norm().clamp_min(1e-3)
    return shoulders + _TORSO * unit * down


def _hanging(body: Body, down: Tensor, side: str, unit: float) -> Frame:
    """The upper arm where it cannot be told, as it hangs: shoulders move with its upper end alone."""
    start = body.points[JOINTS.index(f"shoulder_{side}")]
    frame = _bone(start, start + _UPPER_ARM * unit * down / down.norm().clamp_min(1e-3), side, 1.0, unit)
    assert frame is not None
    return frame


def _shoulder(body: Body, middle: Tensor, below: Tensor, side: str, unit: float) -> Frame:
    """Origin at the joint, outward along the shoulder line, along towards the hips; both in u."""
    joint = body.points[JOINTS.index(f"shoulder_{side}")]
    outward = (joint - middle) / (joint - middle).norm().clamp_min(1e-3)
    down = torch.stack([-outward[1], outward[0]])
    down = down * torch.sign(down @ (below - middle)).clamp(-1, 1)
    return Frame(joint, down, outward, unit, unit, unit)
