"""What a user is told of a body's motion: which parts it moves, by whose joints, and what of it a photo lacks."""

from __future__ import annotations

from collections.abc import Sequence

from .motion import BodyMotion, Carried

_BY = {"mini": "our own network", "mediapipe": "MediaPipe", "given": "the pose given"}
_WORDS = {"trunk": "trunk with the waist", "head": "head with the hair", "deltoid": "shoulder"}
_MISSED = "what the exemplar did to {parts} cannot be told in this photo: it is left as it is there"
_CUT = "what the exemplar did to {parts} lies mostly outside this photo: what is inside is moved"
_SOFTENED = "so strong a motion would fold the body over itself: it was softened there"
_FROM_SIDE = (
    "this photo shows the person from the side and the exemplar from the front: what moved sideways there is repeated "
    "beside the same parts, so look at the result"
)
_FROM_FRONT = (
    "the exemplar shows the person from the side and this photo from the front: what moved on one side there may be "
    "another side here, so look at the result"
)


def named(names: Sequence[str]) -> str:
    """Joints or parts: ("elbow_r", "elbow_l", "shin_l") -> "both elbows and left shin"."""
    sides: dict[str, str] = {}
    for name in names:
        stem, side = (name[:-2], name[-1]) if name.endswith(("_r", "_l")) else (name, "")
        word = _WORDS.get(stem, stem.replace("_", " "))
        sides[word] = sides.get(word, "") + side
    words = [_sided(word, own) for word, own in sides.items()]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def in_words(motion: BodyMotion) -> str:
    """Which parts it moves, and whose joints tell that."""
    by = f", by the joints of {_BY[motion.joints]}" if motion.joints else ""
    return f"beside the face: {named(motion.parts())}{by}"


def notes_on(motion: BodyMotion, carried: Carried, source: str | None) -> tuple[str, ...]:
    """What was done to a photo, and what was not.  source: of its joints."""
    notes = []
    moved = [part for part in motion.parts() if part not in carried.missed]
    if moved and source:
        notes.append(f"beside the face: {named(moved)} moved, by the joints of {_BY[source]}")
    if carried.missed:
        notes.append(_MISSED.format(parts=named(carried.missed)))
    if carried.beyond:
        notes.append(_CUT.format(parts=named(carried.beyond)))
    if carried.turned:
        notes.append(_FROM_SIDE if carried.turned == "away" else _FROM_FRONT)
    return (*notes, *(_SOFTENED,) * carried.softened)


def _sided(word: str, sides: str) -> str:
    if set(sides) == {"r", "l"}:
        return f"both {word}s"
    return f"{'right' if 'r' in sides else 'left'} {word}" if sides else word
