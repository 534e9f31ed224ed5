"""How good the face locator is, on portraits it never saw.

Error is NME: mean distance to the labels in per cent of the eye distance. A photo is *lost* when no face is found
within a quarter of the true face's size. Repeatability asks the same photo again turned, reduced or mirrored, and
takes the distance of the two answers: it needs no labels, and it is what stability of a retouch depends on.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mirrorppr_core.faces.landmarks import (
    BROWS,
    EYE_L,
    EYE_R,
    FACE_POINTS,
    LIPS,
    NOSE,
    OVAL,
    SKIN,
    eye_distance,
    face_size,
    mirror_landmarks,
)
from mirrorppr_core.faces.locator import Face, Locator
from mirrorppr_core.geometry.crop import crop
from mirrorppr_core.geometry.similarity import Similarity

from ..data.labelled import LabelledPortrait, labelled_portraits
from .finder_data import empty_canvas, load_photos

PARTS = {"eyes": EYE_R + EYE_L, "brows": BROWS, "nose": NOSE, "lips": LIPS, "contour": OVAL, "skin": SKIN}
NUM_EMPTY = 200


def evaluate(locator: Locator, root: Path) -> str:
    """The table, as text."""
    everyone = labelled_portraits(root, split="eval", bodies=True)
    portraits = [portrait for portrait in everyone if not portrait.is_body]
    bodies = [portrait for portrait in everyone if portrait.is_body]
    lines = ["| photos | n | " + " | ".join(["NME", *PARTS, "mesh", "median", "p95", "> 8 %", "lost", "extra"]) + " |"]
    lines.append("|---" * 15 + "|")
    for name, people, share in (
        ("portraits, 512 px", portraits, None),
        ("face 45-80 % of 1024 px", portraits[::2], (0.45, 0.80)),
        ("face 20-45 % of 1024 px", portraits[::2], (0.20, 0.45)),
        ("face 8-20 % of 1024 px", portraits[::2], (0.08, 0.20)),
        ("half and full bodies, 512 px", bodies, None),
    ):
        lines.append(_row(locator, name, people, share))
    lines += ["", _repeatability(locator, portraits[::2]), _false_alarms(locator, portraits)]
    lines += [_speed(locator, portraits[:40])]
    return "\n".join(lines)


def _row(locator: Locator, name: str, people: list[LabelledPortrait], share: tuple[float, float] | None) -> str:
    generator = Generator().manual_seed(0)
    errors, meshes, lost, extra = [], [], 0, 0
    for person in people:
        image, mesh = person.picture(), person.mesh
        if share is not None:
            image, mesh = _placed(image, mesh, share, generator)
        points = mesh[list(FACE_POINTS)]
        faces = locator.find(image)
        face = _matching(faces, points)
        extra += len(faces) - (face is not None)
        if face is None:
            lost += 1
            continue
        errors.append(100 * (face.landmarks - points).norm(dim=-1) / eye_distance(points))
        meshes.append(100 * (face.mesh - mesh).norm(dim=-1).mean() / eye_distance(points))
    error = torch.stack(errors)  # (found, 130)
    whole = error.mean(dim=1)
    parts = [f"{error[:, list(part)].mean():.2f}" for part in PARTS.values()]
    numbers = [f"{whole.mean():.2f}", *parts, f"{torch.stack(meshes).mean():.2f}", f"{whole.median():.2f}"]
    numbers += [f"{whole.quantile(0.95):.2f}", f"{(whole > 8).float().mean():.3f}", str(lost), str(extra)]
    return f"| {name} | {len(people)} | " + " | ".join(numbers) + " |"


def _matching(faces: list[Face], points: Tensor) -> Face | None:
    """The face that lies on the labelled one, or None."""
    for face in faces:
        if (face.landmarks.mean(dim=0) - points.mean(dim=0)).norm() < face_size(points) / 4:
            return face
    return None


def _placed(
    image: Tensor, mesh: Tensor, share: tuple[float, float], generator: Generator, side: int = 1024
) -> tuple[Tensor, Tensor]:
    """The portrait on a blurred blow-up of itself, its face taking a random share of the frame."""
    size = face_size(mesh) / max(image.shape[-2:])
    wanted = share[0] + (share[1] - share[0]) * torch.rand((), generator=generator)
    scaled = min(side, max(16, int(side * wanted / size)))
    canvas = F.interpolate(F.interpolate(image, size=(5, 5), mode="area"), size=(side, side), mode="bilinear")
    left, top = (int((side - scaled) * torch.rand((), generator=generator)) for _ in range(2))
    portrait = F.interpolate(image, size=(scaled, scaled), mode="bilinear", antialias=True)
    canvas[:, :, top : top + scaled, left : left + scaled] = portrait
    ratio = scaled / image.shape[-1]
    return canvas, (mesh + 0.5) * ratio - 0.5 + torch.tensor([left, top])


def _repeatability(locator: Locator, people: list[LabelledPortrait]) -> str:
    changes = {"mirrored": [], "turned by 10 degrees": [], "reduced to 0.7": []}
    for person in people:
        image = person.picture()
        first = _matching(locator.find(image), person.points)
        if first is None:
            continue
        height, width = image.shape[-2:]
        centre = torch.tensor([(width - 1) / 2, (height - 1) / 2])
        for name, degrees, size in (("turned by 10 degrees", 10.0, width), ("reduced to 0.7", 0.0, int(0.7 * width))):
            frame = Similarity(torch.tensor(width / 2), torch.tensor(degrees).deg2rad(), centre)
            in_view = (frame.inverse(first.landmarks) + 1) * size / 2 - 0.5
            _compare(changes[name], locator.find(crop(image, frame, size)), in_view)
        _compare(changes["mirrored"], locator.find(image.flip(-1)), mirror_landmarks(first.landmarks, width))
    told = [f"{name} {torch.tensor(values).median():.2f} %" for name, values in changes.items()]
    return "Repeatability (median distance of two answers): " + ", ".join(told) + "."


def _compare(values: list[float], faces: list[Face], expected: Tensor) -> None:
    face = _matching(faces, expected)
    if face is not None:
        values.append(float(100 * (face.landmarks - expected).norm(dim=-1).mean() / eye_distance(expected)))


def _false_alarms(locator: Locator, people: list[LabelledPortrait]) -> str:
    generator = Generator().manual_seed(1)
    photos = load_photos(people, locator.mean_face)
    candidates, alarms = 0, 0
    for _ in range(NUM_EMPTY):
        canvas = empty_canvas(photos, generator)[None]
        candidates += bool(locator.candidates(canvas))
        alarms += bool(locator.find(canvas))
    return (
        f"Faceless canvases ({NUM_EMPTY}, with shuffled faces and patches of photos): the finder reports something on "
        f"{candidates / NUM_EMPTY:.1%}, after the disagreement test {alarms / NUM_EMPTY:.1%}."
    )


def _speed(locator: Locator, people: list[LabelledPortrait]) -> str:
    told = []
    for name, side, count in (("512 px", 512, len(people)), ("1024 px", 1024, 10), ("6000 x 4000 px", 6000, 2)):
        seconds = []
        for person in people[:count]:
            image = person.picture()
            if side != 512:
                height = 4000 if side == 6000 else side
                image = F.interpolate(image, size=(height, side), mode="bilinear")
            started = time.perf_counter()
            locator.find(image)
            seconds.append(time.perf_counter() - started)
        told.append(f"{name} {1000 * sorted(seconds)[len(seconds) // 2]:.0f} ms")
    return f"Time per photo ({torch.get_num_threads()} thread): " + ", ".join(told) + "."
