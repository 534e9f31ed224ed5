"""The pose network: where a person's joints are in a square of a photo, and which of them can be told.

    192 px square of the photo -> one heat map per joint at 4 px -> mean position

Three channels are the colours. The fourth says where the photo is, so that nothing is read into its border. The fifth
is a soft spot on the face that was found: it tells which of several people is meant and how large a person is; where
no face is known it is empty. Heat maps answer with their mean position, so the error itself is the loss (integral
regression, arXiv:1711.08229). Convolutions are dense 3 x 3: on a CPU they train twice as fast as depthwise ones.

Whether a joint can be told is read where its heat map looks, and from the square as a whole.

Nothing in it depends on the square's size: the first part of training looks at 128 px, which is faster.

Shapes: B batch, J = 17 joints, S = 192 pixels (a multiple of 32), n = S / 4 cells a side. Right and
left are the person's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..faces.networks import Conv, Residual

# The points of COCO-17, in our order.
JOINTS = (
    "nose", "eye_r", "eye_l", "ear_r", "ear_l", "shoulder_r", "shoulder_l", "elbow_r", "elbow_l", "wrist_r", "wrist_l",
    "hip_r", "hip_l", "knee_r", "knee_l", "ankle_r", "ankle_l",
)  # fmt: skip
MEDIAPIPE_POSE = (0, 5, 2, 8, 7, 12, 11, 14, 13, 16, 15, 24, 23, 26, 25, 28, 27)  # the same among MediaPipe Pose's 33
MIRROR_JOINTS = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
CROP_PX = 192
STRIDE = 4  # pixels a cell
FACE_SPREAD = 0.5  # of the soft spot on the face, in face sizes
_WIDTHS = (40, 112, 208, 256)  # channels at 4, 8, 16 and 32 px
_HEAD = 64
_PRIOR = 16  # nodes a side


@dataclass(frozen=True)
class PoseAnswers:
    """places: (B, J, 2) in the square's frame, [-1, 1] from edge to edge.  heat: (B, J, n * n), log-probability of
    each cell.  seen: (B, J) logits.  spread: (B, J), log of the expected error in tenths of half the square."""

    places: Tensor
    heat: Tensor
    seen: Tensor
    spread: Tensor


class PoseNet(nn.Module):
    """(B, 5, S, S): RGB in [0, 1], the photo's mask, the face's soft spot -> PoseAnswers."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c, d = _WIDTHS
        self.to_4 = nn.Sequential(Conv(5, a, 7, 4), Residual(a, num_convs=1))
        self.to_8 = nn.Sequential(Conv(a, b, stride=2), Residual(b))
        self.to_16 = nn.Sequential(Conv(b, c, stride=2), Residual(c), Residual(c))
        self.to_32 = nn.Sequential(Conv(c, d, stride=2), Residual(d), Residual(d))
        self.from_32, self.from_16, self.from_8 = nn.Conv2d(d, c, 1), nn.Conv2d(c, b, 1), nn.Conv2d(b, a, 1)
        self.neck_16, self.neck_8, self.neck_4 = Conv(c, c), Conv(b, b), Conv(a, _HEAD)
        self.maps = nn.Conv2d(_HEAD, len(JOINTS), 1)
        self.whole = nn.Linear(d + c, 64)
        # For each joint by itself: what its heat map looks at, the whole, how sharp the map is -> seen, spread.
        self.first = nn.Parameter(torch.randn(len(JOINTS), b + 64 + 2, 32) * (b + 66) ** -0.5)
        self.last = nn.Parameter(torch.randn(len(JOINTS), 33, 2) * 33**-0.5)
        self.prior = nn.Parameter(torch.zeros(len(JOINTS), _PRIOR, _PRIOR))  # where each joint usually is
        # From what the network says of a joint to the probability that it can be trusted: measured after training.
        self.register_buffer("trust", torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(JOINTS), 1))

    @torch.no_grad()
    def start_at(self, places: Tensor) -> None:
        """Begin training with every joint expected near its mean place.  places: (J, 2) in the frame."""
        self.prior.copy_(-3 * (cells(_PRIOR, self.prior) - places[:, None, None]).square().sum(dim=-1))

    def forward(self, pixels: Tensor) -> PoseAnswers:
        at_4 = self.to_4(pixels * 2 - 1)  # (B, a, S / 4, S / 4)
        at_8 = self.to_8(at_4)  # (B, b, S / 8, S / 8)
        at_16 = self.to_16(at_8)  # (B, c, S / 16, S / 16)
        at_32 = self.to_32(at_16)  # (B, d, S / 32, S / 32)
        at_16 = self.neck_16(at_16 + _doubled(self.from_32(at_32)))
        at_8 = self.neck_8(at_8 + _doubled(self.from_16(at_16)))
        at_4 = self.neck_4(at_4 + _doubled(self.from_8(at_8)))  # (B, 64, n, n)
        n = at_4.shape[-1]
        prior = F.interpolate(self.prior[None], (n, n), mode="bilinear", align_corners=False)  # (1, J, n, n)
        logits = self.maps(at_4).float() + prior  # (B, J, n, n)
        heat = logits.flatten(2).log_softmax(dim=-1)  # (B, J, n * n)
        places = heat.exp() @ cells(n, heat).flatten(0, 1)  # (B, J, 2)
        whole = self.whole(torch.cat([at_32.mean(dim=(2, 3)), at_16.amax(dim=(2, 3))], dim=1)).float().relu()  # (B, 64)
        seen, spread = self._certainty(heat.detach().exp(), places.detach(), at_8, whole)  # (B, J) each
        return PoseAnswers(places=places, heat=heat, seen=seen, spread=spread.clamp(-4, 3))

    def _certainty(self, heat: Tensor, places: Tensor, at_8: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        batch, num, n = *heat.shape[:2], 2 * at_8.shape[-1]
        coarse = F.avg_pool2d(heat.unflatten(2, (n, n)), 2).flatten(2) * 4  # (B, J, n * n / 4)
        looked_at = coarse @ at_8.float().flatten(2).transpose(1, 2)  # (B, J, channels)
        width = ((cells(n, heat).flatten(0, 1) - places[:, :, None]).square().sum(-1) * heat).sum(-1).add(1e-6).log()
        sharp = torch.stack([width / 4 + 1, coarse.amax(-1).add(1e-6).log() / 4 + 0.5], dim=-1)
        features = torch.cat([looked_at, whole[:, None].expand(batch, num, -1), sharp], dim=-1)
        hidden = torch.einsum("bjf,jfh->bjh", features, self.first.float()).relu()
        hidden = torch.cat([hidden, hidden.new_ones(batch, num, 1)], dim=-1)
        seen, spread = torch.einsum("bjh,jho->bjo", hidden, self.last.float()).unbind(-1)
        return seen, spread


def cells(n: int, like: Tensor) -> Tensor:
    """(n, n, 2) places of a heat map's cells in the frame."""
    u = (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5) * 2 / n - 1
    return torch.stack(torch.meshgrid(u, u, indexing="xy"), dim=-1)


def _doubled(x: Tensor) -> Tensor:
    """Bilinear, twice as many cells a side: as two products, whose gradients are the same on every run of a GPU."""
    down, across = (_doubling(n, x.device) for n in x.shape[-2:])
    return down @ x @ across.T


@lru_cache
def _doubling(n: int, device: torch.device) -> Tensor:
    """(2 n, n): the rows of F.interpolate(scale_factor=2, mode="linear")."""
    with torch.inference_mode(False):
        rows = F.interpolate(torch.eye(n)[None], scale_factor=2.0, mode="linear", align_corners=False)
    return rows[0].T.contiguous().to(device)
