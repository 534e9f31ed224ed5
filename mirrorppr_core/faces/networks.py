"""The two networks of the face locator, small enough to train on one CPU core.

The finder is a centre-point detector (CenterNet, arXiv:1904.07850) that also tells the roll. The landmark network
predicts one heat map per point and answers with its mean position (integral regression, arXiv:1711.08229), so the
error in pixels is the loss and no heat-map target is needed. Convolutions are dense 3 x 3: on a CPU they train twice
as fast as depthwise ones of the same width.

Shapes: B batch, K = 130 landmarks, n cells a side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..geometry.similarity import Similarity
from .landmarks import FACE_POINTS

NUM_POINTS = len(FACE_POINTS)
_FINDER_STRIDE = 16  # pixels of the finder's view per cell
_FINDER_SIZE = 70.0  # pixels; log sizes are told relative to it
_CELL_REACH = 1.12  # cells stand a little outside the crop, so that points just beyond its edge can be reached


class Conv(nn.Sequential):
    """Convolution, batch norm, ReLU."""

    def __init__(self, num_in: int, num_out: int, kernel: int = 3, stride: int = 1):
        super().__init__(
            nn.Conv2d(num_in, num_out, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(num_out, momentum=0.03),
            nn.ReLU(inplace=True),
        )


class Residual(nn.Module):
    """relu(x + branch(x)); the branch starts small (last gain 0.2), so depth does not slow the start."""

    def __init__(self, width: int, num_convs: int = 2):
        super().__init__()
        convs = [Conv(width, width) for _ in range(num_convs)]
        del convs[-1][2]  # the last ReLU comes after the sum
        nn.init.constant_(convs[-1][1].weight, 0.2)
        self.branch = nn.Sequential(*convs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.branch(x))  # (B, width, H, W)


class Finder(nn.Module):
    """(B, 3, S, S) in [0, 1] -> (B, 6, S/16, S/16): score, dx, dy, log size, cos and sin of roll."""

    def __init__(self):
        super().__init__()
        self.to_16 = nn.Sequential(Conv(3, 16, 5, 4), Conv(16, 40, stride=2), Conv(40, 72, stride=2), Residual(72))
        self.to_8 = nn.Sequential(Conv(72, 104, stride=2), Residual(104))
        self.to_4 = nn.Sequential(Conv(104, 104, stride=2), Conv(104, 104))
        self.lateral = nn.Conv2d(104, 72, 1)
        self.head = nn.Sequential(Conv(72, 72), nn.Conv2d(72, 6, 1))
        with torch.no_grad():  # no face, upright
            self.head[1].weight *= 0.1
            self.head[1].bias.copy_(torch.tensor([-4.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def forward(self, pixels: Tensor) -> Tensor:
        fine = self.to_16(pixels * 2 - 1)  # (B, 72, S / 16, S / 16)
        middle = self.to_8(fine)  # (B, 104, S / 32, S / 32)
        middle = middle + F.interpolate(self.to_4(middle), scale_factor=2.0, mode="bilinear")
        fine = fine + F.interpolate(self.lateral(middle), scale_factor=2.0, mode="bilinear")
        return self.head(fine)  # (B, 6, S / 16, S / 16)


def finder_boxes(answer: Tensor) -> tuple[Tensor, Similarity]:
    """The finder's maps as scores (B, n, n) and upright unit boxes (B, n, n) in pixels of its view."""
    n = answer.shape[-1]
    cells = (torch.arange(n, device=answer.device, dtype=answer.dtype) + 0.5) * _FINDER_STRIDE - 0.5
    x = cells[None, None, :] + answer[:, 1] * _FINDER_STRIDE
    y = cells[None, :, None] + answer[:, 2] * _FINDER_STRIDE
    half_size = torch.exp(0.5 * answer[:, 3] + math.log(_FINDER_SIZE / 2))
    return answer[:, 0].sigmoid(), Similarity(
        half_size, torch.atan2(answer[:, 5], answer[:, 4]), torch.stack([x, y], -1)
    )


class LandmarkNet(nn.Module):
    """(B, 3, 128, 128) in [0, 1] -> (B, K, 2) positions in the crop's frame, [-1, 1] from edge to edge."""

    def __init__(self, size: int = 128):
        super().__init__()
        n = size // 8
        self.stem = nn.Sequential(Conv(3, 32, 7, 4), Residual(32, num_convs=1))
        self.middle = nn.Sequential(Conv(32, 64, stride=2), Residual(64))
        self.deep = nn.Sequential(Conv(64, 112, stride=2), Residual(112), Residual(112))
        self.lateral = nn.Conv2d(112, 64, 1)
        self.neck = Conv(64, 64)
        self.head = nn.Conv2d(64, NUM_POINTS, 1)
        self.prior = nn.Parameter(torch.zeros(NUM_POINTS, n, n))  # where each point usually is
        cells = ((torch.arange(n) + 0.5) * 2 / n - 1) * _CELL_REACH
        self.register_buffer("cells", torch.stack(torch.meshgrid(cells, cells, indexing="xy"), -1), persistent=False)

    @torch.no_grad()
    def start_at(self, points: Tensor) -> None:
        """Begin training with every point expected near its mean place.  points: (K, 2) in the frame."""
        self.prior.copy_(-6 * (self.cells - points[:, None, None]).square().sum(dim=-1))

    def forward(self, pixels: Tensor) -> Tensor:
        middle = self.middle(self.stem(pixels * 2 - 1))  # (B, 64, n, n), n = 128 / 8
        deep = F.interpolate(self.lateral(self.deep(middle)), scale_factor=2.0, mode="bilinear")  # (B, 64, n, n)
        logits = self.head(self.neck(middle + deep)) + self.prior  # (B, K, n, n)
        return logits.flatten(2).softmax(dim=-1) @ self.cells.flatten(0, 1)  # (B, K, 2)
