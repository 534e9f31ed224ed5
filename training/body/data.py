"""Portraits as the body network sees them: small copies with joints, and the crops that training draws from them.

Labels are MediaPipe Pose's: `pose` of landmarks.npz for the body portraits, and an optional second file (data.poses:
arrays files and pose) for face portraits, which show shoulders and little else. A joint counts as told where
MediaPipe's visibility is 0.5 or more; it may lie outside the picture, as shoulders of close portraits do. Poses with a
shoulder above the mouth are MediaPipe's mistakes on hidden bodies, and left out.

Bodies are few, so every drawing is different: mirrored, turned, resized, moved, bent (necks get longer, shoulders
broader or sloping), cut off at the waist or at a side, covered in places, and in other colours. A joint that a cut
takes far away is no longer told.

Shapes: B batch, J joints (body_net.py). Places are in the crop's frame, [-1, 1] from edge to edge.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mirrorppr_core.bodies.network import CROP_PX, HALF_SIDE, MEDIAPIPE_POSE, MIRROR_JOINTS, body_frame
from mirrorppr_core.faces.landmarks import FACE_POINTS
from mirrorppr_core.geometry.crop import frame_positions
from mirrorppr_core.geometry.similarity import Similarity, fit_similarity
from mirrorppr_core.operations.professional import LEAST_VISIBILITY

from ..data.landmarks import load_landmarks, load_poses
from ..data.picture_files import read_picture

SHARE_WHOLE = 0.35  # of the drawn crops that show half or full bodies, where there are others too
_PX_PER_UNIT = 11.0  # of the small copies; the network sees 8
_BEND = 0.35 / HALF_SIDE  # of the crop's frame: standard deviation at each of the nodes ...
_BEND_NODES = 6  # ... on a grid of so many a side
_BEYOND = 1.2  # eye distances outside the picture at which a joint can still be told


@dataclass(frozen=True)
class BodyPhoto:
    """pixels: (3, h, w) uint8.  joints: (J, 2) and eyes: (2,), pixels of the copy.  unit: its eye distance.
    told: (J,) bool.  identity: whose.  whole: a half or full body rather than a face."""

    pixels: Tensor
    joints: Tensor
    eyes: Tensor
    unit: float
    told: Tensor
    identity: str
    whole: bool


def load_body_photos(root: Path, poses: Path | None, mean_face: Tensor, *, split: str = "train") -> list[BodyPhoto]:
    """Every portrait of a split with a face and a pose.

    root: folder of portraits.csv, landmarks.npz and the pictures.  poses: .npz with the poses of face portraits.
    """
    meshes = load_landmarks(str(root / "landmarks.npz"))
    known = load_poses(root / "landmarks.npz")
    if poses is not None:
        if not poses.is_file():
            raise ValueError(
                f"{poses} does not exist: give the .npz with arrays files and pose, or leave data.poses empty"
            )
        known |= _face_poses(poses)
    with open(root / "portraits.csv", newline="") as table:
        rows = [r for r in csv.DictReader(table) if r["split"] == split and r["file"] in meshes and r["file"] in known]
    rows = [row for row in rows if is_plausible(known[row["file"]], meshes[row["file"]])]
    if not rows:
        raise ValueError(f"{root}: no portraits of split {split!r} with a face and a pose")
    return [_small_copy(root, row, meshes[row["file"]], known[row["file"]], mean_face) for row in rows]


def check_bodies(root: Path) -> None:
    """Raises ValueError for a folder whose landmarks.npz knows no bodies, before anything else is trained."""
    with np.load(root / "landmarks.npz") as stored:
        missing = [name for name in ("body_files", "pose") if name not in stored]
    if missing:
        raise ValueError(
            f"{root / 'landmarks.npz'} has no {' and '.join(missing)}, which the stage `body` learns from: use a "
            "folder with body portraits and their poses, or mini-face"
        )


def is_plausible(pose: Tensor, mesh: Tensor) -> bool:
    """Both shoulders below the mouth.  pose: (33, 4).  mesh: (478, 2)."""
    return bool((pose[[11, 12], 1] > mesh[[13, 14], 1].mean()).all())


def _face_poses(path: Path) -> dict[str, Tensor]:
    with np.load(path) as stored:
        files, poses = stored["files"], torch.from_numpy(stored["pose"]).float()
    poses[..., :2] -= 0.5  # MediaPipe measures from the picture's edge
    return {str(name): pose for name, pose in zip(files, poses, strict=True) if pose.isfinite().all()}


def _small_copy(root: Path, row: dict[str, str], mesh: Tensor, pose: Tensor, mean_face: Tensor) -> BodyPhoto:
    image = read_picture(root / row["file"])
    face = fit_similarity(mean_face, mesh[list(FACE_POINTS)])
    height, width = image.shape[-2:]
    factor = min(1.0, _PX_PER_UNIT / float(face.scale))
    size = (round(height * factor), round(width * factor))
    small = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)
    scale = torch.tensor([size[1] / width, size[0] / height])
    joints = pose[list(MEDIAPIPE_POSE)]
    return BodyPhoto(
        pixels=(small[0].clamp(0, 1) * 255).round().byte(),
        joints=(joints[:, :2] + 0.5) * scale - 0.5,
        eyes=(face.translation + 0.5) * scale - 0.5,
        unit=float(face.scale) * factor,
        told=joints[:, 3] >= LEAST_VISIBILITY,
        identity=row["identity"],
        whole=row["file"].startswith("body/"),
    )


@dataclass(frozen=True)
class BodyBatch:
    """pixels: (B, 4, S, S).  places: (B, J, 2).  told: (B, J) 0 or 1; where it is 0 the place means nothing."""

    pixels: Tensor
    places: Tensor
    told: Tensor


def sampled_batch(photos: Sequence[BodyPhoto], seeds: Sequence[int]) -> BodyBatch:
    """One augmented crop for each seed, a function of it alone. SHARE_WHOLE of them come from half and full bodies."""
    whole = [photo for photo in photos if photo.whole]
    faces = [photo for photo in photos if not photo.whole]
    rows = []
    for seed in seeds:
        generator = Generator().manual_seed(seed)
        group = whole if not faces or (whole and _uniform(generator, 0, 1) < SHARE_WHOLE) else faces
        photo = group[int(torch.randint(len(group), (1,), generator=generator))]
        pixels, places, told = augmented_crop(photo, generator)
        rows.append((_recoloured(pixels[None], generator)[0], places, told))
    return _stacked(rows)


def plain_batch(photos: Sequence[BodyPhoto]) -> BodyBatch:
    """The crops of these photos as they are at use."""
    return _stacked([plain_crop(photo) for photo in photos])


def _stacked(rows: Sequence[tuple[Tensor, Tensor, Tensor]]) -> BodyBatch:
    pixels, places, told = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return BodyBatch(pixels=pixels, places=places, told=told)


def plain_crop(photo: BodyPhoto) -> tuple[Tensor, Tensor, Tensor]:
    """The crop as it is at use: (4, S, S), (J, 2), (J,)."""
    return _crop(photo, scale=1.0, turn=0.0, shift=(0.0, 0.0), mirrored=False, cut=None, bend=None)


def augmented_crop(photo: BodyPhoto, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Like `plain_crop`, but turned, resized, moved, bent, cut and mirrored at random; colours stay."""

    def draw(low: float, high: float) -> float:
        return _uniform(generator, low, high)

    height, width = photo.pixels.shape[-2:]
    cut = [0.0, 0.0, float(width), float(height)]
    chance = draw(0, 1)
    if chance < 0.35:  # cut below the face
        low = float(photo.eyes[1]) + 2.5 * photo.unit
        cut[3] = draw(low, max(low, height))
    if chance < 0.15 or chance > 0.9:
        side = 0 if draw(0, 1) < 0.5 else 2
        near = float(photo.eyes[0]) + (-2.5 if side == 0 else 2.5) * photo.unit
        cut[side] = draw(min(0, near), near) if side == 0 else draw(near, max(near, width))
    return _crop(
        photo,
        scale=math.exp(draw(-0.22, 0.22)),
        turn=math.radians(draw(-1, 1) * draw(0, 28)),
        shift=(draw(-0.6, 0.6), draw(-0.6, 0.6)),
        mirrored=draw(0, 1) < 0.5,
        cut=(cut[0], cut[1], cut[2], cut[3]),
        bend=_BEND * torch.randn(1, 2, _BEND_NODES, _BEND_NODES, generator=generator),
    )


def _crop(
    photo: BodyPhoto,
    *,
    scale: float,
    turn: float,
    shift: tuple[float, float],
    mirrored: bool,
    cut: tuple[float, float, float, float] | None,
    bend: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """shift in eye distances.  cut: left, top, right, bottom of what is left of the picture, in its pixels.

    bend: (1, 2, n, n), how far places of the frame are moved before they are looked up.
    """
    height, width = photo.pixels.shape[-2:]
    left, top, right, bottom = cut or (0.0, 0.0, float(width), float(height))
    frame = _frame(photo, photo.unit * scale, turn, shift)
    upright = Similarity(torch.ones(()), torch.zeros(()), torch.zeros(2))
    seen = frame_positions(upright, CROP_PX).flatten(0, 1)  # (S * S, 2) of the frame
    positions = frame.apply(_bent(seen, bend))
    inside = ((positions > positions.new_tensor([left, top]) - 0.5)
              & (positions < positions.new_tensor([right, bottom]) - 0.5)).all(1)  # fmt: skip
    grid = ((2 * positions + 1) / positions.new_tensor([width, height]) - 1).view(1, CROP_PX, CROP_PX, 2)
    pixels = F.grid_sample(photo.pixels[None].float() / 255, grid, padding_mode="border", align_corners=False)[0]
    mask = inside.view(1, CROP_PX, CROP_PX).float()
    pixels = torch.cat([pixels * mask + 0.5 * (1 - mask), mask])
    away = torch.stack([left - photo.joints[:, 0], photo.joints[:, 0] - right,
                        top - photo.joints[:, 1], photo.joints[:, 1] - bottom]).amax(0)  # fmt: skip
    wanted = frame.inverse(photo.joints)
    places = wanted
    for _ in range(6):  # where the bend shows each joint
        places = wanted - (_bent(places, bend) - places)
    told = photo.told & (away < _BEYOND * photo.unit) & (places.abs() < 0.98).all(1)
    if mirrored:
        pixels = pixels.flip(-1)
        places = places[list(MIRROR_JOINTS)] * places.new_tensor([-1.0, 1.0])
        told = told[list(MIRROR_JOINTS)]
    return pixels, places, told.float()


def _bent(places: Tensor, bend: Tensor | None) -> Tensor:
    """places: (N, 2) of the frame."""
    if bend is None:
        return places
    smooth = F.grid_sample(bend, places[None, :, None], mode="bicubic", padding_mode="border", align_corners=False)
    return places + smooth[0, :, :, 0].T


def _frame(photo: BodyPhoto, unit: float, turn: float, shift: tuple[float, float]) -> Similarity:
    """body_net.body_frame around one photo's face, moved, and turned about the eyes."""
    zero = torch.zeros(())
    upright = body_frame(Similarity(torch.tensor(unit), zero, zero.expand(2)))
    turned = Similarity(torch.ones(()), torch.tensor(turn), photo.eyes + torch.tensor(shift) * unit)
    return turned.after(upright)


def _recoloured(pixels: Tensor, generator: Generator) -> Tensor:
    """Brightness, contrast, tint, grey, noise and covered places. The mask and the border stay as they are."""
    batch = len(pixels)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    colour, mask = pixels[:, :3], pixels[:, 3:]
    colour = colour ** torch.exp(draw(-0.4, 0.4, 1, 1, 1)) * draw(0.8, 1.2, 3, 1, 1)
    colour = (colour - 0.5) * draw(0.6, 1.3, 1, 1, 1) + 0.5 + draw(-0.12, 0.12, 1, 1, 1)
    grey = (torch.rand(batch, 1, 1, 1, generator=generator) < 0.15).float()
    colour = torch.lerp(colour, colour.mean(1, keepdim=True).expand_as(colour), grey)
    colour = colour + 0.03 * draw(0, 1, 1, 1, 1) * torch.randn(colour.shape, generator=generator)
    for b in range(batch):
        if float(torch.rand((), generator=generator)) < 0.3:
            h, w = torch.randint(6, 40, (2,), generator=generator).tolist()
            y, x = (int(torch.randint(CROP_PX - s, (1,), generator=generator)) for s in (h, w))
            colour[b, :, y : y + h, x : x + w] = torch.rand(3, 1, 1, generator=generator)
    return torch.cat([torch.lerp(torch.full_like(colour, 0.5), colour.clamp(0, 1), mask), mask], dim=1)


def _uniform(generator: Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
