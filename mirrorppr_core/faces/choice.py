"""Which faces of a photo an operation is meant for.

Finding is the locator's work; choosing is the user's. Where a photo shows several people and nobody said who is
meant, that is an error that lists them, never a guess.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..images import as_float, reduce
from .locator import Face, Locator

_LOCATE_SIDE = 2048  # larger photos are searched on a reduced copy
_SHARP_FACE_PX = 160  # a face at least this large in the copy loses nothing by the reduction
_SMALL, _STEADY = 0.4, 3.5  # of the largest face's size; per cent (locator.Face.disagreement)
FACE_CHOICES = ("only", "largest", "all")


def locate(locator: Locator, image: Tensor) -> list[Face]:
    """All faces of a photo (1, C, H, W) of any size, largest first, in photo pixels."""
    factor = -(-max(image.shape[-2:]) // _LOCATE_SIDE)
    faces = locator.find(reduce(image, factor))
    # The rare false face (a wheel, a buckle) is small and unsteady; a bystander's real face is steady.
    faces = [f for f in faces if f.size_px > _SMALL * faces[0].size_px or f.disagreement < _STEADY]
    if factor == 1:
        return faces
    return [_sharpened(locator, image, _moved(face, scale=factor, shift=(factor - 1) / 2)) for face in faces]


def check_choice(choice: str) -> None:
    """Raise ValueError unless this is a way to say which face is meant."""
    if choice not in FACE_CHOICES and not (choice.isdigit() and int(choice) >= 1):
        raise ValueError(f"face={choice!r}: use {', '.join(FACE_CHOICES)} or a number counted from the left, from 1")


def choose(faces: list[Face], choice: str, *, region: Tensor | None = None) -> list[Face]:
    """The faces that are meant. choice: "only", "largest", "all" or a number, counted from the left, first is 1.

    region: (H, W) mask; faces whose centre lies outside it are not considered.
    """
    if not faces:
        raise ValueError(
            "no face found. Use an upright portrait in which the face is at least about 60 pixels wide and not in full "
            "profile; if it is small, crop closer."
        )
    if region is not None:
        inside = [f for f in faces if _centre_inside(f, region)]
        if not inside:
            raise ValueError(f"the mask covers none of the {len(faces)} face(s) found: {describe(faces)}. Repaint it.")
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


def _moved(face: Face, *, scale: float, shift: float | Tensor) -> Face:
    landmarks, mesh = face.landmarks * scale + shift, face.mesh * scale + shift
    box = (*landmarks.amin(dim=0).tolist(), *landmarks.amax(dim=0).tolist())
    return replace(face, landmarks=landmarks, mesh=mesh, box=box)


def _sharpened(locator: Locator, image: Tensor, face: Face) -> Face:
    """The face read again from native pixels, where the reduced copy was too coarse for it."""
    factor = -(-max(image.shape[-2:]) // _LOCATE_SIDE)
    if face.size_px / factor >= _SHARP_FACE_PX:
        return face
    height, width = image.shape[-2:]
    x0, y0, x1, y1 = face.box
    margin = 0.8 * face.size_px
    left, right = max(0, int(x0 - margin)), min(width, int(x1 + margin))
    top, bottom = max(0, int(y0 - margin)), min(height, int(y1 + margin))
    again = locator.find(as_float(image[:, :3, top:bottom, left:right]))
    corner = torch.tensor([left, top], dtype=torch.float32)
    near = [_moved(f, scale=1.0, shift=corner) for f in again]
    near = [f for f in near if abs(f.box[0] - x0) + abs(f.box[1] - y0) < 0.5 * face.size_px]
    return near[0] if near else face


def _centre_inside(face: Face, region: Tensor) -> bool:
    x, y = (face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2
    height, width = region.shape[-2:]
    return bool(region[min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)] > 0.5)
