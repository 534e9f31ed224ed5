"""The face locator: finds the faces of a photo and places landmarks on each.

    photo -> finder (256 px) -> rough boxes -> stage 1 (128 px) -> align -> stage 2 (128 px), twice -> mesh

Three small networks (networks.py) trained from scratch (training/train_locator.py). Stage 2 is stage 1's twin on
crops that stage 1 has aligned. A ridge regression takes the 130 points to MediaPipe's 478 and smooths them on the way.

Wrong answers are known by their instability: stage 2 also looks at slightly moved and at mirrored crops, and where the
answers disagree there is no face, or none that can be read. That is far more reliable than the finder's score.

A *frame* is a Similarity from the square [-1, 1]^2 to photo pixels: every crop, box and tile is one. Shapes:
B batch, K = 130 landmarks. Points are x, y pixels; the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry.crop import crop, widened
from ..geometry.similarity import Similarity, fit_similarity
from ..settings_file import parsed, settings_of
from ..side_by_side import side_by_side
from ..weights_file import filled, halved, read_network, write_tensors
from ..windows import block_mean
from ..wording import brief
from .landmarks import FACE_POINTS, MIRROR_130, NUM_MESH, eye_distance
from .networks import NUM_POINTS, Finder, LandmarkNet, finder_boxes

_VIEWS_AT_ONCE = 3  # that the finder is shown: as fast as more, and others can be shown beside them


def face_box(points: Tensor, mean_face: Tensor) -> Similarity:
    """Upright square around each face, as a frame: the mean face's, carried over by the best similarity.

    points: (..., K, 2) pixels.  mean_face: (K, 2).
    """
    low, high = mean_face.amin(dim=0), mean_face.amax(dim=0)
    square = Similarity((high - low).amax() / 2, low.new_zeros(()), (low + high) / 2)
    return fit_similarity(mean_face, points).after(square)


@dataclass(frozen=True, kw_only=True)
class LocatorConfig:
    finder_px: int = 256
    crop_px: int = 128
    stage_1_side: float = 1.4  # crop side, in face boxes
    stage_2_side: float = 1.2
    min_score: float = 0.3  # of the finder; low, because the disagreement test follows
    max_disagreement: float = 6.0  # per cent of the eye distance; thresholds were read off training photos
    max_correction: float = 13.0  # per cent, by which stage 2 may move stage 1's points
    max_candidates: int = 24  # read at most so many; each costs about 30 ms
    min_face_px: float = 20.0  # longest side in the photo; smaller ones cannot be read

    def __post_init__(self):
        if not (64 <= self.finder_px <= 1024 and 16 <= self.crop_px <= 512):
            raise ValueError(f"finder_px={self.finder_px}, crop_px={self.crop_px}: use up to 1024 and 512")
        if not (0.1 < self.stage_1_side < 10 and 0.1 < self.stage_2_side < 10 and 1 <= self.max_candidates <= 1000):
            raise ValueError(
                f"sides {self.stage_1_side} and {self.stage_2_side}, max_candidates={self.max_candidates}: sides of "
                "1.4 and 1.2 and 24 candidates are usual"
            )
        if self.finder_px % 64 or self.crop_px % 16:
            raise ValueError(
                f"finder_px={self.finder_px}, crop_px={self.crop_px}: use multiples of 64 and 16, 256 and 128 are usual"
            )


@dataclass(frozen=True)
class Candidate:
    """What the finder sees: its score in [0, 1], and the face's upright box as a frame."""

    score: float
    box: Similarity


@dataclass(frozen=True)
class Face:
    """One face.  landmarks: (130, 2) and mesh: (478, 2), photo pixels.  box: x0, y0, x1, y1 of the landmarks."""

    landmarks: Tensor
    mesh: Tensor
    score: float  # the finder's, in [0, 1]
    disagreement: float  # of several looks, per cent of the eye distance; 1-3 is usual
    box: tuple[float, float, float, float]
    # (3, 130, 2) pixels, by which other looks differ: what a landmark may err by.
    strays: Tensor | None = field(default=None, kw_only=True)

    @property
    def size_px(self) -> float:
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])


@dataclass(frozen=True)
class Looked:
    """landmarks: (130, 2).  disagreement and strays: see Face."""

    landmarks: Tensor
    disagreement: float
    strays: Tensor


class Locator(nn.Module):
    """Finder, two landmark networks, mean face and ridge matrix: everything in one safetensors file."""

    def __init__(self, config: LocatorConfig):
        super().__init__()
        self.config = config
        self.finder = Finder()
        self.stage_1 = LandmarkNet(config.crop_px)
        self.stage_2 = LandmarkNet(config.crop_px)
        self.register_buffer("mean_mesh", torch.zeros(NUM_MESH, 2))
        self.register_buffer("ridge", torch.zeros(2 * NUM_POINTS, 2 * NUM_MESH))

    @property
    def mean_face(self) -> Tensor:
        """(130, 2) symmetric mean face: eye centres at (-0.5, 0) and (0.5, 0), y down."""
        return self.mean_mesh[list(FACE_POINTS)]

    @staticmethod
    def from_file(path: str | Path) -> Locator:
        """Half precision on disk, float32 in memory; strict: a file that is not exactly a locator is refused."""
        weights, metadata = read_network(path, "locator", "face locator", whole=("mean_mesh",))
        name = Path(path).name
        try:
            config = settings_of(LocatorConfig, parsed(metadata.get("config", ""), "its configuration"))
        except ValueError as error:
            raise ValueError(f"{name}: {brief(error, 300)} Copy or download it again, for this release.") from error
        return filled(lambda: Locator(config), weights, path)

    def save(self, path: str | Path, **notes: str) -> None:
        """Write all weights; the mean mesh, which is geometry for others, stays in float32."""
        weights = halved(self.state_dict(), whole=("mean_mesh",))
        metadata = {"format": "mirrorppr", "part": "locator", "config": json.dumps(asdict(self.config))}
        write_tensors(path, weights, {**metadata, **notes})

    @torch.no_grad()
    def find(self, image: Tensor, *, turn: float = 0.0) -> list[Face]:
        """All faces of one photo, largest first.  image: (1, 3, H, W) in [0, 1], any size.

        turn: radians by which it is looked at, for faces that do not stand upright.
        """
        if image.ndim != 4 or image.shape[0] != 1 or image.shape[1] != 3:
            raise ValueError(f"find() got {tuple(image.shape)}: pass one RGB picture at a time, (1, 3, H, W)")
        if not image.sum().isfinite():  # a single pass; 24 megapixels are checked in 20 ms
            raise ValueError("the picture holds NaN or infinite pixels: repair it before looking for faces")
        image = image.float()
        candidates = self.candidates(image, turn=turn)
        readings = self.read(image, [candidate.box for candidate in candidates])
        faces = [self._checked(*pair) for pair in zip(candidates, readings, strict=True)]
        return distinct_faces([face for face in faces if face is not None])

    def face_at(self, image: Tensor, candidate: Candidate) -> Face | None:
        """The face, or None where several looks disagree."""
        return self._checked(candidate, self.read(image, [candidate.box])[0])

    def _checked(self, candidate: Candidate, looked: Looked) -> Face | None:
        if looked.disagreement > self.config.max_disagreement:
            return None
        return self._face(looked, candidate.score)

    def box_of(self, face: Face) -> Similarity:
        """The upright box that `read` begins with."""
        return face_box(face.landmarks, self.mean_face)

    def candidates(self, image: Tensor, *, turn: float = 0.0) -> list[Candidate]:
        """Where the finder sees faces, best first.

        It looks at the whole photo and at overlapping tiles of half its size, for the small faces; then once more
        at everything it saw, upright and at one size. What it does not see again was no face.
        """
        config = self.config
        step = max(1, max(image.shape[-2:]) // (4 * config.finder_px))
        overview = block_mean(image, step)
        to_photo = Similarity(image.new_tensor(step), image.new_zeros(()), image.new_tensor([(step - 1) / 2] * 2))

        views = [replace(view, rotation=view.rotation + turn) for view in _views(overview, config.finder_px)]
        first = [found for seen in self.seen(overview, views) for found in seen]
        again = self.seen_again(overview, distinct_candidates(first)[: config.max_candidates])
        found = [Candidate(candidate.score, to_photo.after(candidate.box)) for candidate in distinct_candidates(again)]
        return [candidate for candidate in found if 2 * candidate.box.scale >= config.min_face_px]

    def seen_again(self, image: Tensor, candidates: list[Candidate]) -> list[Candidate]:
        """Those that the finder also sees upright, in the middle and at one size."""
        closer = [widened(found.box, 2.6) for found in candidates]
        again = []
        for view, seen in zip(closer, self.seen(image, closer), strict=True):
            central = [c for c in seen if (c.box.translation - view.translation).norm() < 0.35 * view.scale]
            again += sorted(central, key=lambda found: -found.score)[:1]
        return again

    def seen(self, image: Tensor, views: list[Similarity]) -> list[list[Candidate]]:
        """Local maxima of the finder's score, view by view, as boxes in the image."""
        some = [views[i : i + _VIEWS_AT_ONCE] for i in range(0, len(views), _VIEWS_AT_ONCE)]
        return sum(side_by_side(*(partial(self._seen_at_once, image, one) for one in some)), [])

    @torch.no_grad()
    def _seen_at_once(self, image: Tensor, views: list[Similarity]) -> list[list[Candidate]]:
        size = self.config.finder_px
        score, box = finder_boxes(self.finder(torch.cat([crop(image, view, size) for view in views])))
        peak = (score == F.max_pool2d(score, 3, 1, 1)) & (score > self.config.min_score)
        seen: list[list[Candidate]] = [[] for _ in views]
        for b, y, x in peak.nonzero().tolist():
            place = (box.translation[b, y, x] + 0.5) * 2 / size - 1
            in_view = Similarity(box.scale[b, y, x] * 2 / size, box.rotation[b, y, x], place)
            seen[b].append(Candidate(float(score[b, y, x]), views[b].after(in_view)))
        return seen

    def read(self, image: Tensor, boxes: list[Similarity]) -> list[Looked]:
        """The face in each rough box, read several times over.

        The disagreement is infinite where stage 2 contradicts stage 1 so much that looking further is useless. The
        first two looks are at all boxes together: a small network takes two pictures in little more than the time of
        one.
        """
        if not boxes:
            return []
        rough = self._placed(self.stage_1, image, [widened(box, self.config.stage_1_side) for box in boxes])
        frames = [widened(face_box(points, self.mean_face), self.config.stage_2_side) for points in rough]
        return [
            # No face: most false candidates end here, at a third of the cost.
            Looked(points, math.inf, points.new_zeros(0, NUM_POINTS, 2))
            if 100 * (points - first).norm(dim=-1).mean() / eye_distance(points) > self.config.max_correction
            else self._looked_at_again(image, points)
            for first, points in zip(rough, self._placed(self.stage_2, image, frames), strict=True)
        ]

    def _placed(self, stage: LandmarkNet, image: Tensor, frames: list[Similarity]) -> list[Tensor]:
        """What a stage answers to these crops, each (130, 2) in the image."""
        answers = stage(torch.cat([crop(image, frame, self.config.crop_px) for frame in frames]))
        return [frame.apply(answer) for frame, answer in zip(frames, answers, strict=True)]

    def _looked_at_again(self, image: Tensor, points: Tensor) -> Looked:
        """What four looks of stage 2 see, and how far they stray."""
        config, box = self.config, face_box(points, self.mean_face)
        frame = widened(box, config.stage_2_side)
        nudge = image.new_tensor([0.06, 0.04]) * box.scale  # 3 % and 2 % of the box
        turn = math.radians(3)
        larger = Similarity(frame.scale * 1.05, frame.rotation + turn, frame.translation + nudge)
        smaller = Similarity(frame.scale / 1.05, frame.rotation - turn, frame.translation - nudge)
        seen, *moved = (crop(image, view, config.crop_px) for view in (frame, larger, smaller))
        answers = torch.cat(
            side_by_side(lambda: self.stage_2(torch.cat([seen, seen.flip(-1)])), lambda: self.stage_2(torch.cat(moved)))
        )
        mirrored = answers[1, list(MIRROR_130)] * answers.new_tensor([-1.0, 1.0])
        looks = [frame.apply(mirrored), larger.apply(answers[2]), smaller.apply(answers[3])]
        straight = frame.apply(answers[0])
        strays = torch.stack(looks) - straight
        strayed = strays.norm(dim=-1).mean(dim=-1).max()
        return Looked((straight + looks[0]) / 2, float(100 * strayed / eye_distance(straight)), strays)

    def mesh(self, landmarks: Tensor) -> Tensor:
        """MediaPipe's mesh from the landmarks.  landmarks: (..., 130, 2).  Returns (..., 478, 2)."""
        align = fit_similarity(self.mean_face, landmarks)
        offsets = align.inverse(landmarks) - self.mean_face
        return align.apply(self.mean_mesh + (offsets.flatten(-2) @ self.ridge).unflatten(-1, (NUM_MESH, 2)))

    def _face(self, looked: Looked, score: float) -> Face:
        mesh = self.mesh(looked.landmarks)
        landmarks = mesh[list(FACE_POINTS)]
        box = (*landmarks.amin(dim=0).tolist(), *landmarks.amax(dim=0).tolist())
        return Face(landmarks, mesh, score, looked.disagreement, box, strays=looked.strays)


def _views(image: Tensor, finder_px: int) -> list[Similarity]:
    """The whole picture, and tiles of half its longer side that overlap by half."""
    height, width = image.shape[-2:]
    side = max(height, width)

    def square(x: float, y: float, size: float) -> Similarity:
        return Similarity(image.new_tensor(size / 2), image.new_zeros(()), image.new_tensor([x, y]) - 0.5)

    views = [square(width / 2, height / 2, side)]
    if side >= 1.5 * finder_px:
        size = side / 2
        for y in _centres(height, size):
            views += [square(x, y, size) for x in _centres(width, size)]
    return views


def _centres(length: int, size: float) -> list[float]:
    if length <= size:
        return [length / 2]
    count = math.ceil((length - size) / (size / 2)) + 1
    return [size / 2 + (length - size) * k / (count - 1) for k in range(count)]


def distinct_candidates(candidates: list[Candidate]) -> list[Candidate]:
    """Best first, without those that sit on a better one of about their size or larger."""
    kept: list[Candidate] = []
    for found in sorted(candidates, key=lambda candidate: -candidate.score):
        near = [
            (found.box.translation - other.box.translation).norm() < 0.5 * min(found.box.scale, other.box.scale)
            for other in kept
        ]
        if not any(near):
            kept.append(found)
    return kept


def distinct_faces(faces: list[Face]) -> list[Face]:
    """Largest first; of several readings of one face the steadiest."""
    distinct: list[Face] = []
    for face in sorted(faces, key=lambda face: face.disagreement):
        if all(_overlap(face.box, other.box) < 0.3 for other in distinct):
            distinct.append(face)
    return sorted(distinct, key=lambda face: -face.size_px)


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0.0) * max(height, 0.0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)
