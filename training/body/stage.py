"""The pose network as a stage of the curriculum: squares of photos with known joints -> where the joints are.

    loss = distance of the joints, as such and under the error that the network itself foretells (Laplace)
           + cross-entropies of the heat maps and of which joints can be told

`real_share` of the squares are of real pictures, of which there are few; a CPU draws squares one by one (crops.py), a
GPU a batch at once (device_squares.py). Held-out numbers are of real pictures alone.

What becomes of batch norm: runs/calibration.py.

Distances in the loss are in tenths of half the square. Shapes: B batch, J joints.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirrorppr_core.bodies.pose import save_pose_net
from mirrorppr_core.bodies.pose_network import CROP_PX, JOINTS, STRIDE, PoseNet, cells

from ..data.order import seed_of
from ..runs.calibration import Batches, CalibratedStage
from .crops import PoseBatch, plain_batch, sampled_batch
from .data import PosePhoto
from .settings import PoseSettings, chances_of
from .trust import measured_trust

UNIT = 10.0  # distances of half the square
_HEAT_WIDTH = 0.04  # of the wanted heat map, in the square's frame: about a cell
_BODY = slice(5, len(JOINTS))  # joints below the face
_DOT_PX = 2


@dataclass(frozen=True)
class PoseSource:
    """Augmented squares for training: row r of a step's batch is a function of (seed, step, r)."""

    photos: tuple[PosePhoto, ...]
    seed: int
    settings: PoseSettings

    @cached_property
    def chances(self) -> np.ndarray:
        """(N,) how often each picture is drawn."""
        return np.array(chances_of(self.photos, self.settings.real_share))

    def batch(self, step: int, size: int, part: int, parts: int) -> PoseBatch:
        rows = range(part * size // parts, (part + 1) * size // parts)
        seeds = [seed_of("body", self.seed, step, row) for row in rows]
        return sampled_batch(
            [self.drawn(seed) for seed in seeds],
            self.photos,
            seeds,
            self.settings.side_px,
            self.settings.hard,
            self.settings.moved,
        )

    def drawn(self, seed: int) -> PosePhoto:
        return self.photos[int(np.random.default_rng([seed, 1]).choice(len(self.photos), p=self.chances))]


@dataclass(frozen=True)
class PlainPoseSource:
    """Held-out photos in their tight squares, one after the other and round again."""

    photos: tuple[PosePhoto, ...]
    side_px: int = CROP_PX

    def batch(self, step: int, size: int, part: int, parts: int) -> PoseBatch:
        rows = range(step * size + part * size // parts, step * size + (part + 1) * size // parts)
        return plain_batch([self.photos[row % len(self.photos)] for row in rows], self.side_px)


class PoseStage(CalibratedStage):
    """calibration: training squares of the training photos.

    judged_by: photos of other people, on which the result learns how far to trust itself (trust.py).
    """

    def __init__(self, usual_places: Tensor, calibration: Batches, judged_by: Sequence[PosePhoto], *, batches: int):
        super().__init__(calibration, batches=batches)
        self.body = PoseNet().to(memory_format=torch.channels_last)  # a quarter faster on a CPU
        self.body.start_at(usual_places)
        self._judged_by = judged_by

    @property
    def network(self) -> nn.Module:
        return self.body

    def forward(self, batch: PoseBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Nothing is drawn here: augmentations belong to the data."""
        loss, distance = pose_loss(self.body, batch)
        return loss, {"joint_error": float(distance)}

    def statistics(self) -> dict[str, Tensor]:
        """What the weights alone do not tell: see StageParts.completion."""
        statistics = super().statistics()
        self.body.trust.copy_(measured_trust(self.body, self._judged_by))
        return {**statistics, "body.trust": self.body.trust.detach().clone()}


class PoseExaminer:
    """See held_out.Examiner: share of the joints below the face within a tenth of the torso; sheets show the joints."""

    def numbers(self, module: PoseStage, batch: PoseBatch, generator: torch.Generator) -> dict[str, float]:
        places = module.body(batch.pixels).places
        near = ((places - batch.places).norm(dim=-1) < 0.1 * batch.torso[:, None])[:, _BODY].float()
        asked = ((batch.weight == 1) & (batch.told == 1) & (batch.sure == 1))[:, _BODY].float()
        return {"pck": float((near * asked).sum() / asked.sum().clamp_min(1))}

    def pictures(self, module: PoseStage, batch: PoseBatch, generator: torch.Generator) -> dict[str, Tensor]:
        pixels, found = batch.pixels[:, :3], module.body(batch.pixels)
        return {
            "portrait": pixels,
            "true joints": dotted(pixels, batch.places, batch.told * batch.weight),
            "found joints": dotted(pixels, found.places, found.seen > 0),
        }

    def sheet_numbers(self, batch: PoseBatch, columns: dict[str, Tensor]) -> dict[str, float]:
        return {}


def pose_loss(net: PoseNet, batch: PoseBatch) -> tuple[Tensor, Tensor]:
    """What is minimised, and the mean distance of the known joints in tenths of half the square."""
    answers = net(batch.pixels.contiguous(memory_format=torch.channels_last))
    distance = (answers.places - batch.places).square().sum(-1).add(1e-6).sqrt() * UNIT  # (B, J)
    count = batch.weight.sum().clamp_min(1)
    place = (batch.weight * (distance / answers.spread.exp() + answers.spread)).sum() / count
    straight = (batch.weight * distance).sum() / count  # also what is foretold badly must move
    away = (
        (cells(batch.pixels.shape[-1] // STRIDE, answers.heat).flatten(0, 1) - batch.places[:, :, None])
        .square()
        .sum(-1)
    )  # (B, J, n * n)
    wanted = (-away / (2 * _HEAT_WIDTH**2)).softmax(dim=-1)
    heat = -(batch.weight * (wanted * answers.heat).sum(-1)).sum() / count
    seen = F.binary_cross_entropy_with_logits(answers.seen, batch.told, batch.sure)
    return 0.5 * place + straight + 0.4 * heat + seen, straight.detach()


def usual_places(photos: Sequence[PosePhoto]) -> Tensor:
    """Mean place of each joint where it is known; the middle of the square for one that never is.  (J, 2)."""
    squares = plain_batch(photos[:: max(1, len(photos) // 200)], CROP_PX // 2)
    known = (squares.weight > 0).float()[..., None]
    return (squares.places * known).sum(0) / known.sum(0).clamp_min(1)


def real_bodies(photos: Sequence[PosePhoto]) -> tuple[PosePhoto, ...]:
    """Those that show real bodies, more than a face; all of them where there are none."""
    return tuple(photo for photo in photos if photo.group in ("photo", "painting", "body")) or tuple(photos)


def fingerprint(photos: Sequence[PosePhoto]) -> str:
    """Twelve digits that change with the people, their joints or their order."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(f"{photo.file} {photo.identity} {tuple(photo.pixels.shape)}".encode())
        for array in (photo.joints, photo.weight, photo.told, photo.unsure):
            digest.update(array.tobytes())
    return digest.hexdigest()[:12]


def dotted(pixels: Tensor, places: Tensor, shown: Tensor) -> Tensor:
    """The squares with a dot at each shown joint, red for the person's right and green for the left."""
    marked = pixels.clone()
    side = pixels.shape[-1]
    centres = ((places + 1) * side / 2).long().clamp(_DOT_PX, side - 1 - _DOT_PX).tolist()
    for row, joints in enumerate(centres):
        for joint, (x, y) in enumerate(joints):
            if shown[row, joint] > 0:
                colour = (1.0, 0.0, 0.0) if JOINTS[joint].endswith("_r") else (0.0, 1.0, 0.0)
                area = marked[row, :, y - _DOT_PX : y + _DOT_PX + 1, x - _DOT_PX : x + _DOT_PX + 1]
                area.copy_(area.new_tensor(colour).view(3, 1, 1).expand_as(area))
    return marked


def save_trained(state: dict[str, Tensor], path: Path) -> None:
    """The result of a body stage as the network file that a set holds. Strict."""
    network = PoseNet()
    network.load_state_dict({name.removeprefix("body."): value for name, value in state.items()})
    save_pose_net(network, path)
