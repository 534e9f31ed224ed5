"""The body network as a stage of the curriculum: crops of portraits with known joints -> where the joints are.

    loss = distance of the joints, as such and under the error that the network itself foretells (Laplace)
           + cross-entropies of the heat maps and of which joints can be told

Batch norm has two faces: while training it uses each batch's own statistics, in use it needs fixed ones. Those are not
collected on the way, where they would lag behind the weights, depend on the number of processes and be part of every
checkpoint: they are measured with the weights at hand, over a few training batches, whenever the module is asked to
evaluate. So they follow from the weights alone, and the averaged weights get their own.

Joint errors are in eye distances of the mean face. Shapes: B batch, J joints.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mirrorppr_core.bodies.joints import save_body_net
from mirrorppr_core.bodies.network import CROP_PX, HALF_SIDE, BodyNet

from ..data.order import seed_of
from ..runs.batches import to_device
from .data import BodyBatch, BodyPhoto, plain_batch, sampled_batch

CALIBRATION_BATCHES, CALIBRATION_SIZE = 8, 32
_HEAT_WIDTH = 0.04  # of the wanted heat map, in the crop's frame: a third of an eye distance
_DOT_PX = 2


class Batches(Protocol):
    def batch(self, step: int, size: int, part: int, parts: int) -> BodyBatch: ...


@dataclass(frozen=True)
class BodySource:
    """Augmented crops for training: row r of a step's batch is a function of (seed, step, r)."""

    photos: tuple[BodyPhoto, ...]
    seed: int

    def batch(self, step: int, size: int, part: int, parts: int) -> BodyBatch:
        rows = range(part * size // parts, (part + 1) * size // parts)
        return sampled_batch(self.photos, [seed_of("body", self.seed, step, row) for row in rows])


@dataclass(frozen=True)
class PlainBodySource:
    """Held-out photos as they are at use, one after the other and round again."""

    photos: tuple[BodyPhoto, ...]

    def batch(self, step: int, size: int, part: int, parts: int) -> BodyBatch:
        rows = range(step * size + part * size // parts, step * size + (part + 1) * size // parts)
        return plain_batch([self.photos[row % len(self.photos)] for row in rows])


class BodyStage(nn.Module):
    """calibration: where the statistics of batch norm are measured, training crops of the training photos."""

    def __init__(self, usual_places: Tensor, calibration: Batches, *, batches: int):
        super().__init__()
        self.body = BodyNet()
        self.body.start_at(usual_places)
        self._calibration, self._batches = calibration, batches

    def forward(self, batch: BodyBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Nothing is drawn here: augmentations belong to the data."""
        loss, distance = body_loss(self.body, batch)
        return loss, {"joint_error": float(distance)}

    def train(self, mode: bool = True) -> BodyStage:
        if not mode and self.training:
            self.calibrate()
        return super().train(mode)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Batch norm's statistics for the present weights: means over the calibration batches."""
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # all batches count alike
        for step in range(self._batches):
            batch = self._calibration.batch(step, CALIBRATION_SIZE, 0, 1)
            self.body(to_device(batch, self.body.cells.device).pixels)
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum

    def statistics(self) -> dict[str, Tensor]:
        """What the weights alone do not tell: see StageParts.completion."""
        self.train().eval()
        return {name: value.detach().clone() for name, value in self.named_buffers() if name in self.state_dict()}


class BodyExaminer:
    """See held_out.Examiner. The error is in the loss's own numbers; sheets show the joints."""

    def numbers(self, module: BodyStage, batch: BodyBatch, generator: torch.Generator) -> dict[str, float]:
        return {}

    def pictures(self, module: BodyStage, batch: BodyBatch, generator: torch.Generator) -> dict[str, Tensor]:
        pixels, found = batch.pixels[:, :3], module.body(batch.pixels).places
        return {
            "portrait": pixels,
            "true joints": _dotted(pixels, batch.places, batch.told),
            "found joints": _dotted(pixels, found, batch.told),
        }

    def sheet_numbers(self, batch: BodyBatch, columns: dict[str, Tensor]) -> dict[str, float]:
        return {}


def body_loss(net: BodyNet, batch: BodyBatch) -> tuple[Tensor, Tensor]:
    """What is minimised, and the mean distance of the told joints in eye distances."""
    answers = net(batch.pixels)
    distance = (answers.places - batch.places).square().sum(-1).add(1e-8).sqrt() * HALF_SIDE  # (B, J)
    count = batch.told.sum().clamp_min(1)
    place = (batch.told * (distance / answers.spread.exp() + answers.spread)).sum() / count
    straight = (batch.told * distance).sum() / count  # also what is foretold badly must move
    away = (net.cells.flatten(0, 1) - batch.places[:, :, None]).square().sum(-1)  # (B, J, n * n)
    wanted = (-away / (2 * _HEAT_WIDTH**2)).softmax(dim=-1)
    heat = -(batch.told * (wanted * answers.heat).sum(-1)).sum() / count
    seen = F.binary_cross_entropy_with_logits(answers.seen, batch.told)
    return 0.5 * place + straight + 0.3 * heat + seen, straight.detach()


def usual_places(photos: tuple[BodyPhoto, ...]) -> Tensor:
    """Mean place of each joint where it is told; the middle of the crop for one that never is.  (J, 2)."""
    crops = plain_batch(photos[:: max(1, len(photos) // 400)])
    told = crops.told[..., None]
    return (crops.places * told).sum(0) / told.sum(0).clamp_min(1)


def split_photos(
    photos: list[BodyPhoto], *, held_out: float, seed: int
) -> tuple[tuple[BodyPhoto, ...], tuple[BodyPhoto, ...]]:
    """Photos for training, and whole bodies of other people to look at. Raises ValueError where either is empty."""
    names = sorted({photo.identity for photo in photos if photo.whole})
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    held = {names[i] for i in order[: max(1, int(len(names) * held_out))]}
    training = tuple(photo for photo in photos if photo.identity not in held)
    shown = tuple(photo for photo in photos if photo.identity in held and photo.whole)
    if not training or not shown:
        raise ValueError(
            f"{len(names)} people with half or whole bodies cannot be divided into training and held-out ones: the "
            "stage `body` needs at least two. Add portraits under body/, or leave the stage out (preset mini-face)"
        )
    return training, shown


def fingerprint(photos: list[BodyPhoto]) -> str:
    """Twelve digits that change with the people, their joints or their order."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(f"{photo.identity} {photo.unit} {tuple(photo.pixels.shape)}".encode())
        digest.update(photo.joints.numpy().tobytes() + photo.told.numpy().tobytes())
    return digest.hexdigest()[:12]


def save_trained(state: dict[str, Tensor], path: Path) -> None:
    """The result of a body stage as the network file that a set holds. Strict."""
    net = BodyNet()
    net.load_state_dict({name.removeprefix("body."): value for name, value in state.items()})
    save_body_net(net, path)


def _dotted(pixels: Tensor, places: Tensor, told: Tensor) -> Tensor:
    """The crops with a square at each told joint, red for the person's right and green for the left."""
    marked = pixels.clone()
    centres = ((places + 1) * CROP_PX / 2).long().clamp(_DOT_PX, CROP_PX - 1 - _DOT_PX).tolist()
    for row, joints in enumerate(centres):
        for joint, (x, y) in enumerate(joints):
            if told[row, joint]:
                area = marked[row, :, y - _DOT_PX : y + _DOT_PX + 1, x - _DOT_PX : x + _DOT_PX + 1]
                area.copy_(
                    area.new_tensor([1.0, 0.0, 0.0] if joint % 2 == 0 else [0.0, 1.0, 0.0])
                    .view(3, 1, 1)
                    .expand_as(area)
                )
    return marked
