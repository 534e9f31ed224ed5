"""Whether joints can be those of the person whose face this is: by how people are built, and by what is seen there.

    misfit         head, trunk and limbs in proportions and places that nobody has: none of the joints is believed
    without_limbs  one limb longer than anybody's: that limb alone is not believed
    contradicted   given joints that lie elsewhere than our own network surely sees them

Every limit stands far beyond what was measured on 197 real pictures and 135 renders of people to train on, seated, from
the side and foreshortened ones among them; the furthest of these is written beside it. u: unit.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .frames import LIMBS, SIDES, Body
from .pose import Pose
from .pose_network import JOINTS, MIRROR_JOINTS
from .unit import measures, unit_of
from .words import named

# Eye distances.
_NECK = (0.6, 6.5)  # from the eyes to the middle of the shoulders: 0.9 to 5.2
_UNIT = (1.6, 9.5)  # u: 2.0 to 7.3
_HIPS_ED, _TRUNK_ED = 5.5, 15.0  # between the hips, from the shoulders to them: at most 4.0 and 11.4
_WIDE = 3.0  # between the shoulders, from which their line has a direction
# u.
_SHORT = 0.4  # from the shoulders to the hips, from which that way has a direction
_BESIDE = 1.0  # from the eyes to the middle of the shoulders, along the shoulders: at most 0.54
_HIPS = 1.1  # between the hips: at most 0.7
# Cosines.
_BELOW = 0.3  # between the way from the eyes to the shoulders and the face's way down: at least 0.5
_UPRIGHT = 0.8  # between the shoulder line and the face's way down: at most 0.57
_FOLDED = 0.2  # between the ways from the eyes to the shoulders and on to the hips: at least 0.73
# Longest, in eye distances and in u: 5.9 and 0.96, 6.2 and 1.1, 8.6 and 1.5, 11.3 and 1.7.
_LONGEST = {"upper_arm": (7.2, 1.2), "forearm": (7.5, 1.3), "thigh": (10.5, 1.8), "shin": (12.5, 2.0)}
_LIMBS = 2  # that are too long: then the fault is not in one joint
_ADULT = 5.5  # u in eye distances, for the words
# Teachers' joints on 61 real pictures of other people than those to train on: one of 194 joints that our network was so
# sure of lay further off than _FAR; in no picture they lay further than 0.42 off in the mean.
_SURE, _FAR = 0.9, 0.5  # probability; u
_SEEN, _APART = 0.5, 0.45  # probability from which a joint counts in the mean; u
_LEAST_EVIDENCE = 0.8  # in the mean, a joint that is surely seen counts 1 and one as likely wrong as right 0
_LEAST_U = 4.0  # eye distances: of a foreshortened body u says too little
_BODY = JOINTS.index("shoulder_r")  # the first joint below the head


def misfit(body: Body) -> str | None:
    """Why these joints cannot be this face's person; None if they can."""
    told = measures(body)
    unit = unit_of(told)
    if unit is None:
        return None if body.middle("shoulder") is None else "they lie in one point"
    why = _of_shoulders(body, unit) or _of_hips(body, unit)
    if why is not None:
        return why
    long, times = _too_long(body, unit), unit / body.eye_distance
    only_wide = int((told > 0).sum()) == 1 and bool(told[1] > 0)  # shoulders from the side lie close together
    if times > _UNIT[1] or (times < _UNIT[0] and not only_wide):
        return f"the body would be {times / _ADULT:.1f} times as large as the face says"
    return f"the {named(long)} would be longer than anybody's" if len(long) >= _LIMBS else None


def without_joints(body: Body, names: Sequence[str]) -> Body:
    """The body with these joints not told."""
    told = body.told.clone()
    told[[JOINTS.index(name) for name in names]] = 0.0
    return replace(body, told=told)


def without_limbs(body: Body) -> Body:
    """The body without the far joint of a limb that is longer than anybody's."""
    unit = unit_of(measures(body))
    long = () if unit is None else _too_long(body, unit)
    return without_joints(body, [f"{LIMBS[limb[:-2]][1]}{limb[-2:]}" for limb in long])


@dataclass(frozen=True)
class Contradicted:
    """joints: names of given ones that our own network surely sees elsewhere.  apart: how far given and seen joints lie
    from each other in the mean, in u.  evidence: how many joints tell that, each by how surely it is seen."""

    joints: tuple[str, ...]
    apart: float
    evidence: float

    @property
    def another_body(self) -> bool:
        return self.evidence >= _LEAST_EVIDENCE and self.apart > _APART


def contradicted(given: Body, own: Pose) -> Contradicted:
    """A body whose sides are swapped as a whole is the same body.  own: what our network sees of the face's person."""
    unit = _least(unit_of(measures(replace(given, points=own.points, told=own.told))), given)
    below = torch.arange(len(JOINTS)) >= _BODY
    readings = []
    for order in (tuple(range(len(JOINTS))), MIRROR_JOINTS):
        off = (given.points[list(order)] - own.points).norm(dim=1) / unit
        there = below & (given.told[list(order)] > 0)
        weight = (2 * own.told - 1).clamp_min(0) * (there & (own.told >= _SEEN))
        apart = float((off.clamp_max(1.0) * weight).sum() / weight.sum().clamp_min(1e-6))
        elsewhere = (there & (own.told >= _SURE) & (off > _FAR)).nonzero()[:, 0].tolist()
        readings.append(Contradicted(tuple(JOINTS[order[i]] for i in elsewhere), apart, float(weight.sum())))
    return min(readings, key=lambda one: one.apart)


def _of_shoulders(body: Body, unit: float) -> str | None:
    """Why these cannot be the shoulders under this face."""
    middle = body.middle("shoulder")
    if middle is None:
        return None
    down, neck = body.chin - body.eyes, middle - body.eyes
    down = down / down.norm().clamp_min(1e-3)
    across = body.points[JOINTS.index("shoulder_l")] - body.points[JOINTS.index("shoulder_r")]
    wide = float(across.norm())
    across = across / max(wide, 1e-3)
    away = float(neck.norm()) / body.eye_distance
    if not _NECK[0] <= away <= _NECK[1]:
        return f"the shoulders lie {away:.1f} eye distances from the eyes"
    if float(neck @ down) < _BELOW * float(neck.norm()):
        return "the shoulders do not lie below the face"
    if abs(float(across @ down)) * min(1.0, wide / (_WIDE * body.eye_distance)) > _UPRIGHT:
        return "the shoulders lie one above the other"
    if abs(float(neck @ across)) > _BESIDE * unit:
        return "the head does not lie above the shoulders"
    return None


def _of_hips(body: Body, unit: float) -> str | None:
    """Why these cannot be the hips of this body."""
    hips, shoulders = body.middle("hip"), body.middle("shoulder")
    if hips is None:
        return None
    wide = float((body.points[JOINTS.index("hip_r")] - body.points[JOINTS.index("hip_l")]).norm())
    if wide > min(_HIPS * _least(unit, body), _HIPS_ED * body.eye_distance):
        return f"the hips lie {wide / body.eye_distance:.1f} eye distances apart"
    if shoulders is None:
        return None
    trunk, neck = hips - shoulders, shoulders - body.eyes
    if float(trunk.norm()) > _TRUNK_ED * body.eye_distance:
        return f"the hips lie {float(trunk.norm()) / body.eye_distance:.1f} eye distances from the shoulders"
    cosine = float(trunk @ neck) / max(1e-3, float(trunk.norm() * neck.norm()))
    if cosine < _FOLDED and float(trunk.norm()) > _SHORT * unit:
        return "the hips do not lie below the shoulders"
    return None


def _too_long(body: Body, unit: float) -> tuple[str, ...]:
    """Limbs that are longer than anybody's."""
    found, unit = [], _least(unit, body)
    for name, (in_ed, in_u) in _LONGEST.items():
        for side in SIDES:
            start, end = (body.joint(f"{joint}_{side}") for joint in LIMBS[name][:2])
            if start is not None and end is not None:
                if float((start - end).norm()) > min(in_ed * body.eye_distance, in_u * unit):
                    found.append(f"{name}_{side}")
    return tuple(found)


def _least(unit: float | None, body: Body) -> float:
    return max(unit or 0.0, _LEAST_U * body.eye_distance)
