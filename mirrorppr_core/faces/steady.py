"""One person's face through the frames of a sequence, without the locator's trembling.

The locator looks at every frame anew and errs a little differently each time, so a retouch that hangs on its landmarks
trembles. A head moves smoothly: around each frame the landmarks are fitted by a straight line in time, with weights
that fall like a Gaussian; a line follows steady motion without delay. Where a parabola says clearly otherwise, the head
is speeding up or turning back, and it is taken; where even that is further from the frame than noise explains, the
person moved at once, and the frame is believed as it is.

Local regression: Cleveland 1979. The noise is read off third differences, in which smooth motion cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .choice import choose
from .landmarks import eye_distance
from .locator import Face

_SPREAD = 2.5  # frames, of the weights
_REACH = 3  # times the spread, on either side
_BENT = 0.8, 1.6  # times the noise, between line and parabola: below, the line is believed; above, the parabola
_MOVED = 2.4, 4.0  # the same between the curve and the frame
_FOLLOWED = 0.6  # of the face's size: who is further away than that in the next frame is somebody else, or it is a cut
_LONGEST_GAP = 3  # frames without a face that their neighbours answer for
_LEAST_NOISE = 1e-3  # of the eye distance


@dataclass(frozen=True, kw_only=True)
class FrameFace:
    """face: None where nobody answers for the frame.  problem: why there is none, or that it was taken over."""

    face: Face | None
    problem: str = ""


class Follower:
    """Follows one person through frames that are shown to it in order.  choice: who is meant where nobody is followed
    yet (faces.choose)."""

    def __init__(self, choice: str):
        if choice == "all":
            raise ValueError("a sequence follows one person: choose only, largest or a number, and run it for each")
        self.choice = choice
        self.chosen: list[Face | None] = []
        self.problems: list[str] = []

    def see(self, faces: Sequence[Face]) -> Face | None:
        """The person's face in the next frame, as it was found."""
        last = next((face for face in reversed(self.chosen[-_LONGEST_GAP - 1 :]) if face is not None), None)
        problem, face = "", None if last is None else _nearest(faces, last)
        if face is None:
            try:
                face = choose(list(faces), self.choice)[0]
            except ValueError as error:
                problem = str(error)
        self.chosen.append(face)
        self.problems.append(problem)
        return face

    def steadied(self) -> list[FrameFace]:
        """All frames that were seen."""
        answer: list[FrameFace] = []
        for scene in self.scenes():
            answer += _steadied([self.chosen[i] for i in scene], [self.problems[i] for i in scene])
        return answer

    def scenes(self) -> list[list[int]]:
        """Runs of frames over which one face is followed; a new one begins where it jumps."""
        scenes: list[list[int]] = [[]]
        last = None
        for index, face in enumerate(self.chosen):
            if face is not None and last is not None and _away(face, last) >= _FOLLOWED:
                scenes.append([])
            scenes[-1].append(index)
            last = face or last
        return scenes


def weights_in_time(times: Tensor, at: float, spread: float) -> Tensor:
    """How much each frame (T,) counts at one time: a Gaussian, cut off where it is small."""
    away = times - at
    return torch.exp(-0.5 * (away / spread) ** 2) * (away.abs() <= _REACH * spread)


def _nearest(faces: Sequence[Face], last: Face) -> Face | None:
    near = [(_away(face, last), face) for face in faces]
    near = [pair for pair in near if pair[0] < _FOLLOWED]
    return min(near, key=lambda pair: pair[0])[1] if near else None


def _away(face: Face, other: Face) -> float:
    return float((face.landmarks.mean(0) - other.landmarks.mean(0)).norm()) / max(face.size_px, other.size_px)


def _steadied(faces: list[Face | None], problems: list[str]) -> list[FrameFace]:
    times = torch.tensor([i for i, face in enumerate(faces) if face is not None], dtype=torch.float32)
    if len(times) == 0:
        return [FrameFace(face=None, problem=problem) for problem in problems]
    seen = [face for face in faces if face is not None]
    landmarks, meshes = torch.stack([f.landmarks for f in seen]), torch.stack([f.mesh for f in seen])
    noise = _noise(landmarks)
    answer = []
    for index, (face, problem) in enumerate(zip(faces, problems, strict=True)):
        weights = weights_in_time(times, index, _SPREAD)
        near = (times - index).abs() <= _LONGEST_GAP
        answered = bool((near & (times < index)).any() and (near & (times > index)).any())
        if face is None and not answered:
            answer.append(FrameFace(face=None, problem=problem))
            continue
        both = torch.cat([landmarks, meshes], dim=1)
        points = _curve(both, times - index, weights, noise)
        template = face or seen[int((times - index).abs().argmin())]
        if face is not None:
            own = torch.cat([face.landmarks, face.mesh])
            points = torch.lerp(points, own, _beyond((points - own).norm(dim=-1).mean() / noise, _MOVED))
        points, mesh = points[: len(template.landmarks)], points[len(template.landmarks) :]
        box = (*points.amin(dim=0).tolist(), *points.amax(dim=0).tolist())
        said = "" if face is not None else f"no face found in this frame, its place is its neighbours' ({problem})"
        answer.append(FrameFace(face=replace(template, landmarks=points, mesh=mesh, box=box), problem=said))
    return answer


def _curve(points: Tensor, times: Tensor, weights: Tensor, noise: float) -> Tensor:
    """The weighted fit of points (T, K, 2) over times (T,), at time 0: (K, 2)."""
    line, parabola = _fit(points, times, weights, 1), _fit(points, times, weights, 2)
    return torch.lerp(line, parabola, _beyond((parabola - line).norm(dim=-1).mean() / noise, _BENT))


def _fit(points: Tensor, times: Tensor, weights: Tensor, degree: int) -> Tensor:
    """A polynomial at time 0, of a lower degree where there are too few frames for it."""
    degree = min(degree, max(0, int((weights > 1e-3).sum()) - 2))
    powers = times[:, None] ** torch.arange(degree + 1)  # (T, degree + 1)
    weighted = weights[:, None] * powers
    first = torch.linalg.solve(powers.T @ weighted, weighted.T)[0]  # what each frame adds at time 0
    return torch.einsum("t,tkd->kd", first, points)


def _beyond(value: Tensor, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(1.0, max(0.0, (float(value) - low) / (high - low)))


def _noise(landmarks: Tensor) -> float:
    """Mean length in pixels by which a landmark of one frame errs.  landmarks: (T, K, 2)."""
    least = _LEAST_NOISE * float(eye_distance(landmarks[0]))
    if len(landmarks) < 4:
        return least
    third = landmarks[3:] - 3 * landmarks[2:-1] + 3 * landmarks[1:-2] - landmarks[:-3]
    usual = third.norm(dim=-1).mean(dim=1).median()  # of frames: a jump counts little
    return max(least, float(usual) / 20**0.5)
