"""How well joints are found in whole pictures, joint by joint, and whether `told` means what it says.

    PCK        share of the joints found within a tenth of the torso, counted where the label can be believed: seen, and
               at least four of the teacher's five looks agree; for renders, seen
    shoulders  median distance as a share of the shoulder width
    told       of the joints told with probability p, the share found within a fifth of the torso, seen or not

Pictures are shown to the finder as in use, whole and with the faces that the locator finds; the person meant is the
one whose label it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mirrorppr_core.bodies.pose import Pose
from mirrorppr_core.bodies.pose_network import JOINTS
from mirrorppr_core.faces.locator import Face

from .data import PosePhoto
from .trust import NEAR, reliability

PCK = 0.1  # of the torso
REAL = ("photo", "painting", "body")
_PARTS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
Finder = Callable[[Tensor, Face | None], Pose | None]


@dataclass(frozen=True)
class PoseScore:
    """One picture.  error: (J,) distance in torsos, infinite where no body was found.  told: (J,), 0 there.

    asked: (J,) whether the joint counts for PCK.  judged: (J,) whether the label tells if `told` is right.
    known: (J,) whether the label knows its place.  shoulders: (2,) error as share of the shoulder width, NaN where that
    is not asked.
    """

    file: str
    group: str
    has_face: bool
    error: np.ndarray
    told: np.ndarray
    asked: np.ndarray
    judged: np.ndarray
    known: np.ndarray
    shoulders: np.ndarray


def score(photo: PosePhoto, finder: Finder, faces: Sequence[Face]) -> PoseScore:
    """faces: of the picture; the one at the label's nose is the person's."""
    face = whose_face(photo, faces)
    pose = finder(photo.pixels[None].float() / 255, face)
    height, width = photo.pixels.shape[-2:]
    outside = ((photo.joints < -0.5) | (photo.joints > np.array([width, height]) - 0.5)).any(1)
    error = np.full(len(JOINTS), np.inf)
    told = np.zeros(len(JOINTS))
    if pose is not None:
        error = np.linalg.norm(pose.points.numpy() - photo.joints, axis=1) / photo.torso
        told = pose.told.numpy().astype(float)
    there = (photo.told == 1) & ~outside
    asked = there & ~photo.unsure & (photo.weight == 1)
    right, left = JOINTS.index("shoulder_r"), JOINTS.index("shoulder_l")
    width_of = np.linalg.norm(photo.joints[right] - photo.joints[left]) / photo.torso
    both = asked[right] and asked[left]
    return PoseScore(
        file=photo.file,
        group=photo.group,
        has_face=face is not None,
        error=error,
        told=told,
        asked=asked,
        judged=(~photo.unsure & (~there | (photo.weight == 1))) | outside,  # as trust.can_judge
        known=photo.weight > 0,
        shoulders=error[[right, left]] / width_of if both else np.full(2, np.nan),
    )


def whose_face(photo: PosePhoto, faces: Sequence[Face]) -> Face | None:
    """The face whose box holds the label's nose, eyes' middle included; None if it was not found."""
    nose = photo.joints[0]
    near = [face for face in faces if _distance(face, nose) < 0.6 * face.size_px]
    return min(near, key=lambda face: _distance(face, nose), default=None)


def _distance(face: Face, point: np.ndarray) -> float:
    return float(np.hypot((face.box[0] + face.box[2]) / 2 - point[0], (face.box[1] + face.box[3]) / 2 - point[1]))


def report(scores: Sequence[PoseScore]) -> list[str]:
    """Markdown: PCK by kind of picture and joint, shoulders, and how far `told` can be believed."""
    real = [s for s in scores if s.group in REAL]
    rows = {
        "all real (photo, painting, body)": real,
        "real, the face found": [s for s in real if s.has_face],
        "all that are no renders": [s for s in scores if s.group != "render"],
        **{group: [s for s in scores if s.group == group] for group in ("render", "figure", *REAL)},
    }
    lines = [
        f"| pictures | n | with a face | {' | '.join(_PARTS)} | median shoulder error |",
        "|" + " --- |" * (len(_PARTS) + 4),
    ]
    for name, chosen in rows.items():
        if chosen:
            cells = [_share(chosen, part) for part in _PARTS]
            off = np.concatenate([s.shoulders for s in chosen])
            median = f"{np.nanmedian(off):.1%}" if np.isfinite(off).any() else "-"
            faces = sum(s.has_face for s in chosen)
            lines.append(f"| {name} | {len(chosen)} | {faces} | {' | '.join(cells)} | {median} |")
    lines += ["", "told, joints below the face | of the told, right", "--- | ---"]
    for name in list(rows)[:4]:
        if rows[name]:
            lines.append(f"{name} | {_told(rows[name])}")
    return lines


def pck(scores: Sequence[PoseScore], part: str) -> tuple[float, int]:
    """Share of this part's joints, right and left, within PCK of the torso, and how many count."""
    chosen = [JOINTS.index(f"{part}_{side}") for side in "rl"]
    near = np.concatenate([s.error[chosen][s.asked[chosen]] for s in scores]) < PCK
    return (float(near.mean()) if len(near) else float("nan")), len(near)


def _share(scores: Sequence[PoseScore], part: str) -> str:
    share, count = pck(scores, part)
    return f"{share:.2f} ({count})" if count else "-"


def _told(chosen: Sequence[PoseScore]) -> str:
    body = slice(5, None)
    told = np.concatenate([s.told[body][s.judged[body]] for s in chosen])
    right = np.concatenate([((s.error < NEAR) & s.known)[body][s.judged[body]] for s in chosen])
    off = [f"{mean:.2f}: {share:.2f} ({count})" for mean, share, count in reliability(told, right)]
    return f"{', '.join(off)}; Brier {np.mean((told - right) ** 2):.3f}"


def median_seconds(finder: Finder, image: Tensor, face: Face | None, *, times: int = 7) -> float:
    """Of finding one pose, after a first try that counts for nothing."""
    import time

    finder(image, face)
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        finder(image, face)
        taken.append(time.perf_counter() - start)
    return float(torch.tensor(taken).median())
