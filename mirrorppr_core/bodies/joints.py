"""A person's body points in a photo: the joints that can be told, found from the face. And the network's file.

    face -> square (network.py) -> network, also on the mirrored square -> mean of both, told or not

Weights: body.safetensors of a matched set, half precision on disk. A set without it has no body points; then body
retouches are carried by the face alone (transfer.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..geometry.crop import crop, frame_positions
from ..geometry.similarity import Similarity
from ..weights_file import filled, halved, read_network, write_tensors
from .network import CROP_PX, MIRROR_JOINTS, BodyNet, body_frame

# Probability at which a joint counts as told. A wrong arm moves the wrong place and is worse than none; without hips
# the waist follows the shoulders, so a doubtful hip loses little.
LEAST_SEEN = (0.5, 0.5, 0.7, 0.7, 0.7, 0.7, 0.5, 0.5)


@dataclass(frozen=True)
class BodyPoints:
    """joints: (J, 2) photo pixels in the order of body_net.JOINTS.  told: (J,) bool; where it is False the place means
    nothing."""

    joints: Tensor
    told: Tensor


@torch.no_grad()
def find_body(net: BodyNet, image: Tensor, face: Similarity) -> BodyPoints:
    """image: (1, 3, H, W) float in [0, 1].  face: mean face -> photo (eye distance 1 -> pixels)."""
    frame = body_frame(face)
    height, width = image.shape[-2:]
    positions = frame_positions(frame, CROP_PX)
    inside = ((positions > -0.5) & (positions < positions.new_tensor([width, height]) - 0.5)).all(-1)
    mask = inside[None, None].float()
    pixels = torch.lerp(torch.full((1, 3, 1, 1), 0.5), crop(image, frame, CROP_PX), mask)
    answer = told_joints(net, torch.cat([pixels, mask], dim=1))[0]
    return BodyPoints(joints=frame.apply(answer[:, :2]), told=answer[:, 2] >= answer.new_tensor(LEAST_SEEN))


@torch.no_grad()
def told_joints(net: BodyNet, pixels: Tensor) -> Tensor:
    """pixels: (B, 4, S, S).  Returns (B, J, 3): place x, y in the crop's frame and the probability that it can be told,
    the mean over the picture and its mirror image."""
    answers = net(torch.cat([pixels, pixels.flip(-1)]))
    own, other = torch.cat([answers.places, answers.seen[..., None].sigmoid()], dim=-1).chunk(2)
    other = other[:, list(MIRROR_JOINTS)] * other.new_tensor([-1.0, 1.0, 1.0])
    return (own + other) / 2


def save_body_net(net: BodyNet, path: str | Path) -> None:
    write_tensors(path, halved(net.state_dict()), {"format": "mirrorppr", "part": "body"})


def load_body_net(path: str | Path) -> BodyNet:
    """Strict: a file that is not exactly this network is refused (weights_file.py says how)."""
    weights, _ = read_network(path, "body", "body network")
    return filled(BodyNet(), weights, path)
