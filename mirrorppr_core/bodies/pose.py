"""A person's joints in a photo, wherever they come from; and our own way of finding them.

    whole look:  the photo around the face, as far as a body reaches -> network -> a first guess
    close looks: three squares around what was found, upright along the trunk -> network -> mean, by how sure it is
    told:        how sure the network is, and how well a square and its mirror image agree (measured: `trust`)

Every square is looked at together with its mirror image.

A face says whose joints are meant and how large that person is. Without one the person who fills the photo is meant.
Weights: body.safetensors of a matched set, kernels in eight bits on disk.

Points are x, y pixels; the centre of the first pixel is (0, 0). Right and left are the person's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..eight_bits import from_eight_bits, in_eight_bits
from ..faces.locator import Face
from ..geometry.crop import crop, frame_positions, widened
from ..geometry.similarity import Similarity
from ..weights_file import filled, halved, read_network, write_tensors
from ..wording import file_name
from .pose_network import CROP_PX, FACE_SPREAD, JOINTS, MIRROR_JOINTS, PoseNet, cells

SOURCES = ("mini", "mediapipe", "given")
TIGHT = 1.3  # side of a close square, in longest sides of the box of joints and face
_WHOLE = 1.05  # side of the whole look, in longest sides of what can be the person's
_REACH = 10.5  # face sizes from the face to the end of the body, at most
_SIDES = (0.85, 1.0, 1.2)  # of the close squares, relative to TIGHT: three looks err less than one
_FAR_LOOK = 0.4  # of the whole look's side: closer squares than that are drawn anew from a second look ...
_WIDER = 1.8  # ... of so many of theirs
_IN_BOX = 0.3  # probability from which a joint belongs to the box of the next look
_LEAST_BOX = 1.6  # of the longest side of the face: a box is never smaller
_LEAST_TURN, _LEAST_TRUNK = (
    math.radians(35),
    0.25,
)  # a trunk turned less is left as it is; of the box: a shorter one too
_PEAK = 3  # cells on each side of the highest one that place a joint: another peak does not pull
_LEAST_SHARE = 1e-3  # a joint that neither look can tell gets their mean
_BODY = slice(5, len(JOINTS))  # the joints below the face
_LEAST_SEEN = 0.5  # of any shoulder, hip, elbow ... below it there is no body


@dataclass(frozen=True)
class Pose:
    """points: (J, 2) photo pixels in the order of JOINTS.  told: (J,) probability that the joint is there and its place
    can be trusted; where it is low the place means nothing.  source: one of SOURCES."""

    points: Tensor
    told: Tensor
    source: str

    def __post_init__(self) -> None:
        if self.points.shape != (len(JOINTS), 2) or self.told.shape != (len(JOINTS),):
            raise ValueError(
                f"points {tuple(self.points.shape)} and told {tuple(self.told.shape)}: a pose has {len(JOINTS)} points "
                f"x, y and as many probabilities, in the order {', '.join(JOINTS)}"
            )
        if self.source not in SOURCES:
            raise ValueError(f"source={self.source!r}: use one of {', '.join(SOURCES)}")


@dataclass(frozen=True)
class Seen:
    """points: (J, 2) pixels.  told: (J,), whatever it is."""

    points: Tensor
    told: Tensor


def find_pose(network: PoseNet, image: Tensor, face: Face | None) -> Pose | None:
    """The joints of the face's person, or of the one who fills the photo; None where no body is seen.

    image: (1, 3, H, W) float in [0, 1], any size.
    """
    return told_pose(seen_joints(network, image, face))


def told_pose(seen: Seen) -> Pose | None:
    """What was seen, where it is a body."""
    if float(seen.told[_BODY].amax()) < _LEAST_SEEN:
        return None
    return Pose(points=seen.points, told=seen.told, source="mini")


@torch.no_grad()
def seen_joints(network: PoseNet, image: Tensor, face: Face | None) -> Seen:
    """All joints and how far each can be trusted, of somebody or nobody."""
    spot = None if face is None else _face_spot(face)
    whole = _whole_frame(image, spot)
    points, told = _look(network, image, whole, spot)
    close = _close_frame(points, told, image, spot)
    if float(close.scale) < _FAR_LOOK * float(whole.scale):  # a first guess from afar is a poor one: another from near
        near, near_told = _look(network, image, widened(close, _WIDER), spot)
        if float(near_told[_BODY].sum()) > float(told[_BODY].sum()):
            close = _close_frame(near, near_told, image, spot)
    looks = [_look(network, image, widened(close, side), spot) for side in _SIDES]
    told = torch.stack([told for _, told in looks])  # (L, J)
    share = (told + _LEAST_SHARE) / (told + _LEAST_SHARE).sum(0)
    points = (share[..., None] * torch.stack([points for points, _ in looks])).sum(0)
    return Seen(points, told.mean(0))


def _look(network: PoseNet, image: Tensor, frame: Similarity, spot: Tensor | None) -> tuple[Tensor, Tensor]:
    """One square and its mirror image: (J, 2) photo pixels and (J,) probabilities."""
    height, width = image.shape[-2:]
    positions = frame_positions(frame, CROP_PX)
    inside = ((positions > -0.5) & (positions < positions.new_tensor([width, height]) - 0.5)).all(-1)
    mask = inside[None, None].float()
    colour = torch.lerp(torch.full_like(mask, 0.5).expand(1, 3, -1, -1), crop(image[:, :3], frame, CROP_PX), mask)
    pixels = torch.cat([colour, mask, spot_on(spot, positions)[None, None]], dim=1)
    places, told = told_joints(network, pixels)
    return frame.apply(places[0]), told[0]


@torch.no_grad()
def told_joints(network: PoseNet, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """pixels: (B, 5, S, S).  Returns places (B, J, 2) in the square's frame, the mean over the square and its mirror
    image, and how far each can be trusted, (B, J) in [0, 1]."""
    places, features = signs_of(network, pixels)
    return places, (features * network.trust).sum(-1).sigmoid()


@torch.no_grad()
def signs_of(network: PoseNet, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Places (B, J, 2) and what tells whether they can be trusted, (B, J, 4): how sure the network is that the joint
    can be seen, the error it expects, how far the mirrored square disagrees, and one."""
    answers = network(torch.cat([pixels, pixels.flip(-1)]))
    order = list(MIRROR_JOINTS)
    heat = answers.heat.exp().unflatten(-1, (math.isqrt(answers.heat.shape[-1]), -1))  # (2 B, J, n, n)
    own, other = heat.chunk(2)
    other = other[:, order].flip(-1)
    # Where right and left are mistaken for each other the mean of the maps has two peaks, not one between them.
    places = peak_places((own + other).flatten(2))
    apart = (peak_places(own.flatten(2)) - peak_places(other.flatten(2))).norm(dim=-1).add(0.01).log()
    seen, spread = (
        (value[: len(pixels)] + value[len(pixels) :, order]) / 2 for value in (answers.seen, answers.spread)
    )
    return places, torch.stack([seen, spread, apart, torch.ones_like(seen)], dim=-1)


def peak_places(heat: Tensor) -> Tensor:
    """The mean position of each heat map's highest part, (B, J, 2).  heat: (B, J, n * n) shares, of any sum."""
    n = math.isqrt(heat.shape[-1])
    grid = cells(n, heat).flatten(0, 1)
    top = grid[heat.argmax(-1)]  # (B, J, 2)
    near = (grid - top[:, :, None]).abs().amax(-1) <= (_PEAK + 0.5) * 2 / n
    share = heat * near
    return (share / share.sum(-1, keepdim=True)) @ grid


def spot_on(spot: Tensor | None, positions: Tensor) -> Tensor:
    """The soft spot that shows the network a face.  spot: (3,) centre, size.  positions: (..., 2); all in pixels."""
    if spot is None:
        return positions.new_zeros(positions.shape[:-1])
    away = (positions - spot[:2]).square().sum(-1)
    return torch.exp(-away / (2 * (FACE_SPREAD * spot[2]) ** 2))


def _face_spot(face: Face) -> Tensor:
    x0, y0, x1, y1 = face.box
    return torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, face.size_px])


def _whole_frame(image: Tensor, spot: Tensor | None) -> Similarity:
    """All of the photo that the face's body can reach, as a square."""
    height, width = image.shape[-2:]
    low, high = torch.tensor([-0.5, -0.5]), torch.tensor([width - 0.5, height - 0.5])
    if spot is not None:
        low = torch.maximum(low, spot[:2] - _REACH * spot[2])
        high = torch.minimum(high, spot[:2] + _REACH * spot[2])
    return _square((low + high) / 2, _WHOLE * (high - low).amax() / 2)


def _close_frame(points: Tensor, told: Tensor, image: Tensor, spot: Tensor | None) -> Similarity:
    """The square around the joints found, along the trunk where that lies far from upright."""
    height, width = image.shape[-2:]
    low, high = torch.tensor([-0.5, -0.5]), torch.tensor([width - 0.5, height - 0.5])
    shown = points[(told >= _IN_BOX) & (points > low).all(-1) & (points < high).all(-1)]
    if spot is not None:
        shown = torch.cat([shown, spot[:2] + spot[2] / 2 * torch.tensor([[-1.0, -1.0], [1.0, 1.0]])])
    if len(shown) < 2:
        return _whole_frame(image, spot)
    first, last = shown.amin(0).maximum(low), shown.amax(0).minimum(high)
    side = torch.maximum((last - first).amax(), torch.as_tensor(0.0 if spot is None else _LEAST_BOX * float(spot[2])))
    return _square((first + last) / 2, TIGHT * side / 2, _turn(points, told, side))


def _turn(points: Tensor, told: Tensor, side: Tensor) -> float:
    """Angle of the trunk from upright, in radians; 0 where it is small or cannot be told."""
    shoulders, hips = ([JOINTS.index(f"{part}_{side}") for side in "rl"] for part in ("shoulder", "hip"))
    if float(told[shoulders + hips].amin()) < _LEAST_SEEN:
        return 0.0
    x, y = (points[hips].mean(0) - points[shoulders].mean(0)).tolist()
    angle = math.atan2(-x, y)
    return angle if abs(angle) > _LEAST_TURN and math.hypot(x, y) > _LEAST_TRUNK * float(side) else 0.0


def _square(centre: Tensor, half: Tensor, turn: float = 0.0) -> Similarity:
    return Similarity(torch.as_tensor(half, dtype=torch.float32), torch.tensor(turn), centre)


def save_pose_net(network: PoseNet, path: str | Path) -> None:
    stored = halved(in_eight_bits(network.state_dict()))
    write_tensors(path, stored, {"format": "mirrorppr", "part": "body", "network": "pose"})


def load_pose_net(path: str | Path) -> PoseNet:
    """Strict: a file that is not exactly this network is refused (weights_file.py says how)."""
    weights, _ = read_network(path, "body", "body network")
    try:
        weights = from_eight_bits(weights)
    except ValueError as error:
        raise ValueError(f"{file_name(Path(path).name)} does not fit: {error}. Copy it again.") from error
    return filled(PoseNet, weights, path)
