"""The body network: where shoulders, elbows, wrists and hips are, seen from the face.

    photo -> square of 16 eye distances placed by the face, 128 px -> one heat map per joint -> mean position

The face says where to look and how large a person is, so nothing has to be searched: one upright square reaches from
above the head to below the hips. Legs are not looked for: the portraits at hand show too few to learn them from. As in
the face locator a heat map answers with its mean position, so the error in eye distances is the loss.
Each joint also gets the probability that it can be told at all and, for training alone, how far the answer may be off.
The fourth input channel says where the photo is; beyond its border there is no guess of pixels. Joints just outside it
are still placed.

Shapes: B batch, J = 8 joints, S = 128 pixels. Right and left are the person's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..faces.networks import Conv, Residual
from ..geometry.similarity import Similarity

JOINTS = ("shoulder_r", "shoulder_l", "elbow_r", "elbow_l", "wrist_r", "wrist_l", "hip_r", "hip_l")
MEDIAPIPE_POSE = (12, 11, 14, 13, 16, 15, 24, 23)  # the same joints among MediaPipe Pose's 33
MIRROR_JOINTS = (1, 0, 3, 2, 5, 4, 7, 6)
CROP_PX = 128
HALF_SIDE = 8.0  # of the square, in eye distances of the mean face
BELOW_EYES = 5.0  # of its centre


@dataclass(frozen=True)
class JointAnswers:
    """places: (B, J, 2) in the crop's frame, [-1, 1] from edge to edge.  heat: (B, J, n * n), log-probability of each
    cell.  seen: (B, J) logits.  spread: (B, J), log of the expected error in eye distances."""

    places: Tensor
    heat: Tensor
    seen: Tensor
    spread: Tensor


class BodyNet(nn.Module):
    """(B, 4, S, S): RGB in [0, 1] and the photo's mask -> JointAnswers. About 0.77 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.to_4 = nn.Sequential(Conv(4, 32, 7, 4), Residual(32, num_convs=1))
        self.to_8 = nn.Sequential(Conv(32, 64, stride=2), Residual(64))
        self.to_16 = nn.Sequential(Conv(64, 96, stride=2), Residual(96))
        self.to_32 = nn.Sequential(Conv(96, 128, stride=2), Residual(128, num_convs=1))
        self.from_32, self.from_16 = nn.Conv2d(128, 96, 1), nn.Conv2d(96, 64, 1)
        self.neck_16, self.neck_8 = Conv(96, 96), Conv(64, 64)
        self.from_8 = nn.Conv2d(64, 32, 1)
        self.neck_4 = Conv(32, 48)
        self.maps = nn.Conv2d(48, len(JOINTS), 1)
        self.certainty = nn.Sequential(nn.Linear(128 + 96, 96), nn.ReLU(), nn.Linear(96, 2 * len(JOINTS)))
        n = CROP_PX // 4
        self.prior = nn.Parameter(torch.zeros(len(JOINTS), n, n))  # where each joint usually is
        cells = (torch.arange(n) + 0.5) * 2 / n - 1
        self.register_buffer("cells", torch.stack(torch.meshgrid(cells, cells, indexing="xy"), -1), persistent=False)

    @torch.no_grad()
    def start_at(self, places: Tensor) -> None:
        """Begin training with every joint expected near its mean place.  places: (J, 2) in the frame."""
        self.prior.copy_(-8 * (self.cells - places[:, None, None]).square().sum(dim=-1))

    def forward(self, pixels: Tensor) -> JointAnswers:
        at_4 = self.to_4(pixels * 2 - 1)  # (B, 32, S / 4, S / 4)
        at_8 = self.to_8(at_4)  # (B, 64, S / 8, S / 8)
        at_16 = self.to_16(at_8)  # (B, 96, S / 16, S / 16)
        at_32 = self.to_32(at_16)  # (B, 128, S / 32, S / 32)
        at_16 = self.neck_16(at_16 + _doubled(self.from_32(at_32)))
        at_8 = self.neck_8(at_8 + _doubled(self.from_16(at_16)))
        at_4 = self.neck_4(at_4 + _doubled(self.from_8(at_8)))  # (B, 48, n, n), n = S / 4
        heat = (self.maps(at_4) + self.prior).flatten(2).log_softmax(dim=-1)  # (B, J, n * n)
        pooled = torch.cat([at_32.mean(dim=(2, 3)), at_16.amax(dim=(2, 3))], dim=1)  # (B, 128 + 96)
        seen, spread = self.certainty(pooled).chunk(2, dim=1)  # (B, J) each
        places = heat.exp() @ self.cells.flatten(0, 1)  # (B, J, 2)
        return JointAnswers(places=places, heat=heat, seen=seen, spread=spread.clamp(-4, 2))


def body_frame(face: Similarity) -> Similarity:
    """Square in which the body is looked for: [-1, 1]^2 -> photo pixels.

    face: mean face -> photo. Only its place and size count: bodies stand upright more often than heads do.
    """
    below = torch.stack([torch.zeros_like(face.scale), face.scale * BELOW_EYES], dim=-1)
    return Similarity(face.scale * HALF_SIDE, torch.zeros_like(face.scale), face.translation + below)


def _doubled(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
