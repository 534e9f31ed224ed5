"""Which faces of a photo an operation is meant for.

Finding is the locator's work; choosing is the user's. Where a photo shows several people and nobody said who is
meant, that is an error that lists them, never a guess.
"""

from __future__ import annotations

from torch import Tensor

from .locator import Face
from .search import SMALLEST_FACE_PX

_MEANT = 0.5  # of a mask: covering that much of it by one face means that face
FACE_CHOICES = ("only", "largest", "all")


def check_choice(choice: str) -> None:
    """Raise ValueError unless this is a way to say which face is meant."""
    if choice not in FACE_CHOICES and not (choice.isdigit() and int(choice) >= 1):
        raise ValueError(f"face={choice!r}: use {', '.join(FACE_CHOICES)} or a number counted from the left, from 1")


def choose(faces: list[Face], choice: str, *, region: Tensor | None = None) -> list[Face]:
    """The faces that are meant. choice: "only", "largest", "all" or a number, counted from the left, first is 1.

    region: (H, W) mask; only faces whose centre it covers are considered, or that on which most of it lies.
    """
    if not faces:
        raise ValueError(
            f"no face found. Use a portrait in which the face is at least about {SMALLEST_FACE_PX} pixels wide and not "
            "in full profile; if it is small, crop closer."
        )
    if region is not None:
        inside = [f for f in faces if _centre_inside(f, region)]
        inside = inside or _mostly_on(faces, region)
        if not inside:
            raise ValueError(
                f"the mask covers none of the {len(faces)} face(s) found, neither the centre of one nor mostly one: "
                f"{describe(faces)}. Repaint it."
            )
        faces = inside
    if choice == "all":
        return faces
    if choice == "largest":
        return faces[:1]
    if choice == "only":
        if len(faces) > 1:
            raise ValueError(
                f"{len(faces)} faces found and no choice made: {describe(faces)}. "
                'Set face to "largest", "all" or a number counted from the left, or mask the person who is meant.'
            )
        return faces
    if not choice.isdigit() or not 1 <= int(choice) <= len(faces):
        raise ValueError(
            f"face={choice!r}: use {', '.join(FACE_CHOICES)} or a number from 1 (leftmost) to {len(faces)}. "
            f"Found: {describe(faces)}"
        )
    return [sorted(faces, key=lambda f: f.box[0])[int(choice) - 1]]


def describe(faces: list[Face]) -> str:
    """The faces from left to right with their boxes, for messages."""
    ordered = sorted(faces, key=lambda f: f.box[0])
    return "; ".join(f"{n}: x {f.box[0]:.0f}-{f.box[2]:.0f}, y {f.box[1]:.0f}-{f.box[3]:.0f}"
                     for n, f in enumerate(ordered, start=1))  # fmt: skip


def _mostly_on(faces: list[Face], region: Tensor) -> list[Face]:
    """The face on whose box most of the mask lies, if there is one: a mask of one eye means its face."""
    painted = region > 0.5
    total = int(painted.sum())
    shares = []
    for face in faces:
        left, top, right, bottom = (max(0, int(v)) for v in face.box)
        shares.append(int(painted[top : bottom + 1, left : right + 1].sum()) / max(1, total))
    best = max(range(len(faces)), key=shares.__getitem__)
    return [faces[best]] if shares[best] > _MEANT else []


def _centre_inside(face: Face, region: Tensor) -> bool:
    x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
    height, width = region.shape[-2:]
    return bool(region[min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)] > 0.5)
