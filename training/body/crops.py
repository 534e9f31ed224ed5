"""The squares of photos that the pose network is trained on: every drawing of a person is different.

Three kinds, as in use: tight around what is seen of the person, the whole photo, and parts of the body alone. Before,
the photo may be cut off at a joint, as half-body photos are. Squares are turned, mirrored (right and left change
places), bent (proportions differ), and other pictures are laid over or beside the person; then the colours change.

    covered by something      the joint is no longer told, and its place counts half
    cut off or out of sight   not told; a place just beyond the border still counts

Everything follows from a seed. Places are in the square's frame, [-1, 1] from edge to edge; S pixels a side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.bodies.pose_network import FACE_SPREAD, MIRROR_JOINTS

from .data import PosePhoto
from .surroundings import in_anothers_light, other_background

TIGHT = 1.3  # side of the tight square, in longest sides of the box of joints and face
BEND_NODES, BEND = 6, 0.035  # nodes a side; standard deviation at each, of half the square
JUST_OUTSIDE, FAR_OUTSIDE = 0.06, 0.2  # of the box of the person: still told; still a place
FACE_JOINTS = 5  # the first so many joints are the face's
CUTS = ((0.25, 1, 1), (0.07, 0, 0), (0.07, 0, 1), (0.03, 1, 0))  # how often the picture ends at a joint: axis, corner


@dataclass(frozen=True)
class PoseBatch:
    """pixels: (B, 5, S, S).  places: (B, J, 2).  weight, told, sure: (B, J); told is asked only where sure is 1.
    torso: (B,) the person's torso in the frame."""

    pixels: Tensor
    places: Tensor
    weight: Tensor
    told: Tensor
    sure: Tensor
    torso: Tensor


@dataclass(frozen=True)
class Square:
    """Where a square lies in a photo: centre (2,) and half side in pixels, turned by `turn` radians."""

    centre: np.ndarray
    half: float
    turn: float = 0.0
    mirrored: bool = False

    def matrix(self) -> np.ndarray:
        """(2, 2): frame -> pixels, without the centre."""
        c, s = math.cos(self.turn) * self.half, math.sin(self.turn) * self.half
        return np.array([[-c if self.mirrored else c, -s], [-s if self.mirrored else s, c]], dtype=np.float32)


def sampled_batch(
    photos: Sequence[PosePhoto],
    others: Sequence[PosePhoto],
    seeds: Sequence[int],
    size: int,
    hard: float,
    moved: float = 0.0,
) -> PoseBatch:
    """One augmented square of `size` pixels for each photo and seed. others: pictures to lay over, beside and behind.

    hard: how often squares are bent, covered, far from upright or of parts alone; 1 is much harder than use.
    moved: how often people stand before another background or in another picture's light.
    """
    pairs = zip(photos, seeds, strict=True)
    return _stacked([augmented(photo, others, seed, size, hard, moved) for photo, seed in pairs])


def plain_batch(photos: Sequence[PosePhoto], size: int) -> PoseBatch:
    """The tight squares of these photos, as they are."""
    return _stacked([plain(photo, size) for photo in photos])


def near_use(photos: Sequence[PosePhoto], seeds: Sequence[int], size: int) -> PoseBatch:
    """Squares as a first look gives them: a little off, some photos cut; colours and shapes as they are."""
    rows = []
    for photo, seed in zip(photos, seeds, strict=True):
        rng = np.random.default_rng(seed)
        extent = _cut(photo, rng)
        tight = tight_square(photo, extent)
        moved = tight.centre + rng.normal(0, 0.04, 2) * 2 * tight.half
        square = Square(moved.astype(np.float32), tight.half * math.exp(rng.normal(0, 0.08)))
        rows.append(_shown(photo, square, extent, _drawn_face(photo, extent, rng), size))
    return _stacked(rows)


def plain(photo: PosePhoto, size: int) -> tuple[Tensor, ...]:
    extent = _extent(photo)
    return _shown(photo, tight_square(photo, extent), extent, photo.face, size)


def _shown(photo: PosePhoto, square: Square, extent: np.ndarray, face: np.ndarray, size: int) -> tuple[Tensor, ...]:
    """A square as the network sees it in use: grey beyond the photo."""
    pixels, *labels = _cropped(photo, square, extent, None, face, size)
    pixels[:3] = torch.lerp(torch.full_like(pixels[:3], 0.5), pixels[:3], pixels[3])
    return pixels, *labels


def augmented(
    photo: PosePhoto, others: Sequence[PosePhoto], seed: int, size: int, hard: float, moved: float = 0.0
) -> tuple[Tensor, ...]:
    rng = np.random.default_rng(seed)
    extent = _cut(photo, rng)
    square = _drawn_square(photo, extent, hard, rng)
    bend = rng.normal(0, BEND, (1, 2, BEND_NODES, BEND_NODES)).astype(np.float32) if rng.random() < 0.6 * hard else None
    face = _drawn_face(photo, extent, rng)
    pixels, places, weight, told, sure, torso = _cropped(photo, square, extent, bend, face, size)
    colour = pixels[:3]
    if moved:  # nothing is drawn otherwise: the same seeds give the same squares as ever
        if rng.random() < moved:
            colour.copy_(other_background(colour, places, weight > 0, float(torso), others, rng))
        if rng.random() < moved:
            colour.copy_(in_anothers_light(colour, others[int(rng.integers(len(others)))], rng))
    if rng.random() < 0.12 * hard:
        _lay_beside(colour, places, weight, others, rng)
    covered = torch.zeros(size, size, dtype=torch.bool)
    if rng.random() < 0.35 * hard:
        for _ in range(1 + int(rng.random() < 0.4)):
            _lay_over(colour, covered, others, rng)
    x, y = ((places + 1) * (size / 2)).long().clamp(0, size - 1).unbind(1)
    hidden = covered[y, x].float()
    told, weight = told * (1 - hidden), weight * (1 - 0.5 * hidden)
    pixels[:3] = torch.lerp(torch.full_like(colour, 0.5), recoloured(colour, rng, hard), pixels[3])
    return pixels, places, weight, told, sure, torso


def tight_square(photo: PosePhoto, extent: np.ndarray) -> Square:
    low, high = shown_box(photo, extent)
    return Square((low + high) / 2, TIGHT * float((high - low).max()) / 2)


def shown_box(photo: PosePhoto, extent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the box around the joints and the face that are inside the (cut) photo."""
    points = photo.joints[(photo.weight > 0) & _inside(photo.joints, extent)]
    if np.isfinite(photo.face).all():
        points = np.concatenate([points, photo.face[:2] + photo.face[2] / 2 * np.array([[-1, -1], [1, 1]])])
    if len(points) < 2:
        points = extent
    low, high = np.maximum(points.min(0), extent[0]), np.minimum(points.max(0), extent[1])
    least = 0.1 * (extent[1] - extent[0]).max()
    middle, size = (low + high) / 2, np.maximum(high - low, least)
    return middle - size / 2, middle + size / 2


def _extent(photo: PosePhoto) -> np.ndarray:
    """(2, 2): corners of the photo's pixels."""
    height, width = photo.pixels.shape[-2:]
    return np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]], dtype=np.float32)


def _inside(points: np.ndarray, extent: np.ndarray) -> np.ndarray:
    return ((points > extent[0]) & (points < extent[1])).all(-1)


def _cut(photo: PosePhoto, rng: np.random.Generator) -> np.ndarray:
    """The photo's corners after it may have been cut off at a joint below the face."""
    extent = _extent(photo)
    low, high = shown_box(photo, extent)
    body = np.flatnonzero((photo.weight > 0) & _inside(photo.joints, extent))
    body = body[body >= FACE_JOINTS]
    if not len(body):
        return extent
    for chance, axis, corner in CUTS:
        if rng.random() >= chance:
            continue
        new = extent.copy()
        new[corner, axis] = photo.joints[rng.choice(body), axis] + rng.normal(0, 0.06) * (high - low).max()
        new[corner, axis] = np.clip(new[corner, axis], extent[0, axis], extent[1, axis])
        left = _inside(photo.joints, new) & (photo.weight > 0)
        if left.sum() >= 4 and (new[1] - new[0]).min() > 0.25 * (high - low).max():
            extent = new
    return extent


def _drawn_square(photo: PosePhoto, extent: np.ndarray, hard: float, rng: np.random.Generator) -> Square:
    low, high = shown_box(photo, extent)
    box = float((high - low).max())
    kind = rng.random()
    if kind < 0.73 - 0.28 * hard:
        centre, side, jitter = (low + high) / 2, TIGHT * box, 0.13
    elif kind < 1 - 0.28 * hard:
        side = min(1.05 * float((extent[1] - extent[0]).max()), 3.5 * box)
        centre, jitter = (extent[0] + extent[1]) / 2, 0.1
        room = max(0.0, side / 2 - 0.5 * box)  # the person stays inside
        centre = np.clip(centre, (low + high) / 2 - room, (low + high) / 2 + room)
    else:
        points = np.flatnonzero((photo.weight > 0) & _inside(photo.joints, extent))
        at = photo.joints[rng.choice(points)] if len(points) else (low + high) / 2
        side, jitter = box * float(rng.uniform(0.45, 0.95)), 0.05
        if np.isfinite(photo.face).all():
            side = max(side, 2.2 * float(photo.face[2]))
        centre = np.clip(at, low + 0.3 * side, np.maximum(high - 0.3 * side, low + 0.3 * side))
    side *= math.exp(rng.normal(0, jitter))
    centre = centre + rng.normal(0, 0.05, 2) * side
    chance = rng.random()
    widest = 35 if chance < 0.23 * hard else 110
    degrees = rng.normal(0, 10) if chance >= 0.35 * hard else rng.uniform(-widest, widest)
    return Square(centre.astype(np.float32), side / 2, math.radians(degrees), bool(rng.random() < 0.5))


def _drawn_face(photo: PosePhoto, extent: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The face about where it is, or not known."""
    x, y, size = photo.face
    if rng.random() < 0.22 or not np.isfinite(size) or not _inside(np.array([x, y]), extent):
        return np.full(3, np.nan, dtype=np.float32)
    move = rng.normal(0, 0.08, 2) * size
    return np.array([x + move[0], y + move[1], size * math.exp(rng.normal(0, 0.12))], dtype=np.float32)


def _cropped(
    photo: PosePhoto,
    square: Square,
    extent: np.ndarray,
    bend: np.ndarray | None,
    face: np.ndarray,
    size: int,
) -> tuple[Tensor, ...]:
    """pixels, places, weight, told, sure, torso of one square; see PoseBatch. Beyond the border colours remain."""
    matrix = torch.from_numpy(square.matrix())
    centre = torch.from_numpy(square.centre.astype(np.float32))
    u = (torch.arange(size) + 0.5) * 2 / size - 1
    seen_x, seen_y = u[None], u[:, None]
    nodes = torch.from_numpy(bend) if bend is not None else None
    if nodes is not None:
        moved = _bicubic(size) @ nodes[0] @ _bicubic(size).T  # (2, S, S)
        seen_x, seen_y = seen_x + moved[0], seen_y + moved[1]
    x = (matrix[0, 0] * seen_x + matrix[0, 1] * seen_y).add_(centre[0])  # (S, S) pixels of the photo
    y = (matrix[1, 0] * seen_x + matrix[1, 1] * seen_y).add_(centre[1])
    corners = torch.from_numpy(extent)
    inside = (x > corners[0, 0]) & (x < corners[1, 0]) & (y > corners[0, 1]) & (y < corners[1, 1])
    pixels = torch.empty(5, size, size)
    pixels[:3] = _looked_up(photo, x, y, step=int(2 * square.half / size))
    pixels[3] = inside
    pixels[4] = face_spot(face, x, y)
    joints = torch.from_numpy(photo.joints)
    inverse = torch.linalg.inv(matrix)
    wanted = (joints - centre) @ inverse.T
    places = wanted
    for _ in range(5 if nodes is not None else 0):  # where the bend shows each joint
        places = wanted - (_bent(places, nodes) - places)
    low, high = shown_box(photo, extent)
    beyond = torch.maximum(corners[0] - joints, joints - corners[1]).amax(1) / float((high - low).max())
    near = (places.abs() < 0.98).all(1)
    told = torch.from_numpy(photo.told) * (near & (beyond < JUST_OUTSIDE))
    sure = (~torch.from_numpy(photo.unsure) | ~near | (beyond >= JUST_OUTSIDE)).float()
    weight = torch.from_numpy(photo.weight) * (near & (beyond < FAR_OUTSIDE))
    if square.mirrored:
        order = list(MIRROR_JOINTS)
        places, weight, told, sure = places[order], weight[order], told[order], sure[order]
    return pixels, places, weight, told, sure, torch.tensor(photo.torso / square.half)


def _looked_up(photo: PosePhoto, x: Tensor, y: Tensor, *, step: int) -> Tensor:
    """(3, S, S) colours at places of the photo, from a reduced copy where the square is `step` times as coarse."""
    source, reduced = (photo.half, 2) if step > 1 else (photo.pixels, 1)
    height, width = source.shape[-2:]
    x, y = (x + 0.5) / reduced - 0.5, (y + 0.5) / reduced - 0.5
    left, right = _range(x, width)
    top, bottom = _range(y, height)
    part = source[:, top:bottom, left:right].float().div_(255)
    grid = torch.stack([((x - left) * 2 + 1) / (right - left) - 1, ((y - top) * 2 + 1) / (bottom - top) - 1], dim=-1)
    return F.grid_sample(part[None], grid[None], padding_mode="border", align_corners=False)[0]


def _range(values: Tensor, size: int) -> tuple[int, int]:
    """The pixels of 0 ... size - 1 that bilinear look-ups at these places need."""
    low, high = int(values.amin().floor()), int(values.amax().ceil())
    first = min(max(low, 0), size - 1)
    return first, max(first + 1, min(size, high + 1))


@lru_cache
def _bicubic(size: int) -> Tensor:
    """(size, nodes): the rows of `F.interpolate(mode="bicubic")`, which is separable."""
    rows = F.interpolate(torch.eye(BEND_NODES)[None, :, :, None], (size, 1), mode="bicubic", align_corners=False)
    return rows[0, :, :, 0].T.contiguous()


def _bent(places: Tensor, nodes: Tensor) -> Tensor:
    """places: (N, 2) of the frame, moved as the pixels there are."""
    moved = F.grid_sample(nodes, places[None, :, None], mode="bicubic", padding_mode="border", align_corners=False)
    return places + moved[0, :, :, 0].T


def face_spot(face: np.ndarray, x: Tensor, y: Tensor) -> Tensor:
    """The soft spot on a face (x, y, size), or nothing, at places x, y of the photo."""
    if not np.isfinite(face).all():
        return torch.zeros_like(x)
    away = (x - float(face[0])).square_().add_((y - float(face[1])).square_())
    return away.mul_(-1 / (2 * (FACE_SPREAD * float(face[2])) ** 2)).exp_()


def _patch(others: Sequence[PosePhoto], height: int, width: int, rng: np.random.Generator, *, whole: bool) -> Tensor:
    """(3, height, width) of another picture, or one colour, or coarse noise."""
    kind = 0.0 if whole else rng.random()
    if kind < 0.55:
        pixels = others[int(rng.integers(len(others)))].pixels
        h, w = pixels.shape[-2:]
        if not whole:
            part_h, part_w = max(8, int(h * rng.uniform(0.2, 0.8))), max(8, int(w * rng.uniform(0.2, 0.8)))
            top, left = int(rng.integers(h - part_h + 1)), int(rng.integers(w - part_w + 1))
            pixels = pixels[:, top : top + part_h, left : left + part_w]
        else:  # a person seen whole, cut to the shape of the gap
            part_w = min(w, max(8, int(h * width / height)))
            left = int(rng.integers(w - part_w + 1))
            pixels = pixels[:, :, left : left + part_w]
        return F.interpolate(pixels[None].float() / 255, (height, width), mode="bilinear", align_corners=False)[0]
    if kind < 0.85:
        return torch.from_numpy(rng.random((3, 1, 1), dtype=np.float32)).expand(3, height, width)
    noise = torch.from_numpy(rng.random((1, 3, 5, 5), dtype=np.float32))
    return F.interpolate(noise, (height, width), mode="bilinear", align_corners=False)[0]


def _lay_over(colour: Tensor, covered: Tensor, others: Sequence[PosePhoto], rng: np.random.Generator) -> None:
    size = colour.shape[-1]
    height, width = (int(size * rng.uniform(0.07, 0.32)) for _ in range(2))
    top, left = int(rng.integers(size - height)), int(rng.integers(size - width))
    area = (slice(top, top + height), slice(left, left + width))
    shape = torch.ones(height, width)
    if rng.random() < 0.6:
        y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)[None]
        shape = (x * x + y * y < 1).float()
    colour[(slice(None), *area)] = torch.lerp(
        colour[(slice(None), *area)], _patch(others, height, width, rng, whole=False), shape
    )
    covered[area] |= shape > 0.5


def _lay_beside(
    colour: Tensor, places: Tensor, weight: Tensor, others: Sequence[PosePhoto], rng: np.random.Generator
) -> None:
    """Somebody else in the gap between the person and one side of the square."""
    size = colour.shape[-1]
    known = places[weight > 0, 0]
    if not len(known):
        return
    edges = ((known.min() - 0.12 + 1) * size / 2, (known.max() + 0.12 + 1) * size / 2)
    left, right = (0, int(edges[0])) if rng.random() < 0.5 else (int(edges[1]), size)
    if right - left < size // 7:
        return
    height = int(size * rng.uniform(0.6, 1))
    colour[:, size - height :, left:right] = _patch(others, height, right - left, rng, whole=True)


def recoloured(colour: Tensor, rng: np.random.Generator, hard: float) -> Tensor:
    """Tint, brightness, contrast, grey, other colours, sharpness and noise.  (3, S, S) -> the same."""
    size = colour.shape[-1]
    matrix = np.eye(3, dtype=np.float32) * rng.uniform(0.82, 1.2, (3, 1)).astype(np.float32)
    chance = rng.random()
    if chance < 0.18:
        grey = np.full((3, 3), 1 / 3, dtype=np.float32)
        matrix = matrix @ grey
    elif chance < 0.18 + 0.12 * hard:
        matrix = matrix[rng.permutation(3)]
    elif chance < 0.65:
        amount = rng.uniform(0.4, 1.5)
        matrix = matrix @ (amount * np.eye(3, dtype=np.float32) + (1 - amount) / 3).astype(np.float32)
    gain = float(rng.uniform(0.6, 1.3))
    offset = float(rng.uniform(-0.12, 0.12)) + 0.5 - 0.5 * gain
    out = (torch.from_numpy(matrix.astype(np.float32)) * gain @ colour.flatten(1) + offset).view_as(colour)
    if rng.random() < 0.5:
        out = out.clamp(0.001, 1) ** math.exp(rng.uniform(-0.4, 0.4))
    if rng.random() < 0.25:
        small = max(size // 4, int(size * rng.uniform(0.3, 0.8)))
        out = F.interpolate(out[None], (small, small), mode="bilinear", antialias=True)
        out = F.interpolate(out, (size, size), mode="bilinear", align_corners=False)[0]
    if rng.random() < 0.4:
        noise = torch.from_numpy(rng.standard_normal(out.shape, dtype=np.float32))
        out = out + float(rng.uniform(0, 0.06)) * noise
    if rng.random() < 0.2:  # one side lit
        u = torch.linspace(-1, 1, size)
        ramp = u[None] * float(rng.uniform(-0.35, 0.35)) + u[:, None] * float(rng.uniform(-0.35, 0.35))
        out = out * (1 + ramp)
    return out.clamp(0, 1)


def _stacked(rows: Sequence[tuple[Tensor, ...]]) -> PoseBatch:
    return PoseBatch(*(torch.stack([row[i].float() for row in rows]) for i in range(6)))
