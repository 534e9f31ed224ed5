"""Train the body network from scratch on one CPU core, or measure one that exists.

    python -m training.train_body --portraits DIR --poses FILE --out body.safetensors --minutes 25
    python -m training.train_body --evaluate --portraits DIR --weights body.safetensors

The loss is the distance of the joints, as such and under the error that the network itself foretells (Laplace), plus
the cross-entropies of the heat maps and of which joints can be told. Only portraits of split `train` are used;
`--evaluate` uses those of `eval` and prints the mean distance in eye distances and in per cent of the shoulder width,
joint by joint.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mirrorppr_core.body_net import HALF_SIDE, JOINTS, BodyNet
from mirrorppr_core.body_points import LEAST_SEEN, load_body_net, save_body_net, told_joints
from mirrorppr_core.checkpoint import bundled_set
from mirrorppr_core.locator import Locator

from .body_data import BodyBatch, BodyPhoto, body_batch, load_body_photos, plain_crop

_HEAT_WIDTH = 0.04  # of the wanted heat map, in the crop's frame: a third of an eye distance


@dataclass(frozen=True, kw_only=True)
class BodyTraining:
    batch: int = 32
    num_steps: int = 3000
    minutes: float | None = None  # ends earlier after so much wall time
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05  # on convolution kernels only
    ema: float = 0.998
    share_whole: float = 0.35  # of the crops that come from half and full bodies
    held_out: float = 0.0  # share of the train identities kept for a look while training
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.batch < 2:
            raise ValueError(f"num_steps={self.num_steps}, batch={self.batch}: use 1 or more and 2 or more")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes={self.minutes}: give a positive time, 25 is usual")


def train_body(photos: list[BodyPhoto], config: BodyTraining, start: BodyNet | None = None) -> BodyNet:
    """The network after training: the moving average of its weights. Same photos, seed and start, same weights.

    start: weights to go on from; from scratch by default.
    """
    torch.manual_seed(config.seed)
    generator = Generator().manual_seed(config.seed)
    photos, held = _split(photos, config)
    net = BodyNet()
    net.start_at(_usual_places(photos))
    if start is not None:
        net.load_state_dict(start.state_dict())
    net.train()
    average = copy.deepcopy(net).eval().requires_grad_(False)
    kernels = [p for p in net.parameters() if p.ndim > 1]
    others = [p for p in net.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}],
        lr=config.learning_rate,
    )
    started, recent = time.monotonic(), []
    for step in range(config.num_steps):
        spent = (time.monotonic() - started) / 60
        done = max(step / config.num_steps, spent / config.minutes if config.minutes else 0.0)
        if done >= 1:
            break
        rate = config.learning_rate * min(1, (step + 1) / config.warmup_steps) * (1 + math.cos(math.pi * done)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        batch = body_batch(photos, config.batch, generator, share_whole=config.share_whole)
        loss, distance = body_loss(net, batch)
        if not loss.isfinite():
            raise ValueError(f"the loss became {float(loss)} at step {step}: lower learning_rate and start again")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        _follow(average, net, min(config.ema, step / (step + 20)))
        recent = [*recent[-99:], float(distance)]
        if step % 100 == 99:
            told = f", held out {mean_error(average, held):.3f}" if held else ""
            print(
                f"step {step + 1} {spent:.1f} min: error {sum(recent) / len(recent):.3f} eye distances{told}",
                flush=True,
            )
    return average


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


@torch.no_grad()
def mean_error(net: BodyNet, photos: list[BodyPhoto]) -> float:
    crops = [plain_crop(photo) for photo in photos]
    pixels, places, told = (torch.stack(parts) for parts in zip(*crops, strict=True))
    return float(body_loss(net, BodyBatch(pixels=pixels, places=places, told=told))[1])


@torch.no_grad()
def evaluate(net: BodyNet, photos: list[BodyPhoto]) -> list[str]:
    """One line for each joint: how many are told, how far off the answers are, and what is missed or invented."""
    crops = [plain_crop(photo) for photo in photos]
    pixels, places, told = (torch.stack(parts) for parts in zip(*crops, strict=True))
    answer = torch.cat([told_joints(net, part) for part in pixels.split(16)])  # (B, J, 3)
    distance = (answer[..., :2] - places).norm(dim=-1) * HALF_SIDE
    shoulders = ((places[:, 0] - places[:, 1]).norm(dim=-1) * HALF_SIDE)[:, None].clamp_min(1.0)
    lines = []
    for j, name in enumerate(JOINTS):
        is_told, claimed = told[:, j] > 0, answer[:, j, 2] >= LEAST_SEEN[j]
        if is_told.any():
            off, share = distance[is_told, j], (distance / shoulders)[is_told, j]
            missed, invented = int((is_told & ~claimed).sum()), int((~is_told & claimed).sum())
            lines.append(
                f"{name}: {int(is_told.sum())} told, error mean {float(off.mean()):.2f} median "
                f"{float(off.median()):.2f} eye distances ({float(share.median()):.1%} of the shoulders), "
                f"missed {missed}, invented {invented}"
            )
    return lines


def _usual_places(photos: list[BodyPhoto]) -> Tensor:
    """Mean place of each joint where it is told; the middle of the crop for one that never is.  (J, 2)."""
    crops = [plain_crop(photo) for photo in photos[:: max(1, len(photos) // 400)]]
    places, told = torch.stack([c[1] for c in crops]), torch.stack([c[2] for c in crops])[..., None]
    return (places * told).sum(0) / told.sum(0).clamp_min(1)


def _split(photos: list[BodyPhoto], config: BodyTraining) -> tuple[list[BodyPhoto], list[BodyPhoto]]:
    """Training photos, and whole bodies of other people to look at."""
    names = sorted({photo.identity for photo in photos if photo.whole})
    order = torch.randperm(len(names), generator=Generator().manual_seed(config.seed)).tolist()
    held = {names[i] for i in order[: int(len(names) * config.held_out)]}
    kept = [photo for photo in photos if photo.identity not in held]
    return kept, [photo for photo in photos if photo.identity in held and photo.whole]


@torch.no_grad()
def _follow(average: BodyNet, net: BodyNet, share: float) -> None:
    for own, new in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if own.is_floating_point():
            own.lerp_(new, 1 - share)
        else:
            own.copy_(new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--poses", type=Path, help=".npz of arrays files and pose (n, 33, 4) for face portraits")
    parser.add_argument("--out", type=Path, help="the file to write")
    parser.add_argument("--minutes", type=float, help="end after so much wall time")
    parser.add_argument("--start", type=Path, help="go on from this file's weights; from scratch by default")
    parser.add_argument("--batch", type=int, default=BodyTraining.batch)
    parser.add_argument("--learning-rate", type=float, default=BodyTraining.learning_rate)
    parser.add_argument("--steps", type=int, default=BodyTraining.num_steps)
    parser.add_argument("--held-out", type=float, default=BodyTraining.held_out)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--evaluate", action="store_true", help="measure --weights on split eval instead of training")
    parser.add_argument("--weights", type=Path)
    arguments = parser.parse_args()
    mean_face = Locator.from_file(bundled_set() / "locator.safetensors").mean_face
    if arguments.evaluate:
        if arguments.weights is None:
            parser.error("--evaluate needs --weights FILE")
        photos = load_body_photos(arguments.portraits, None, mean_face, split="eval")
        print("\n".join(evaluate(load_body_net(arguments.weights), photos)))
        return
    if arguments.out is None:
        parser.error("training needs --out FILE")
    config = BodyTraining(
        batch=arguments.batch,
        num_steps=arguments.steps,
        minutes=arguments.minutes,
        learning_rate=arguments.learning_rate,
        held_out=arguments.held_out,
        seed=arguments.seed,
    )
    start = load_body_net(arguments.start) if arguments.start else None
    photos = load_body_photos(arguments.portraits, arguments.poses, mean_face)
    net = train_body(photos, config, start)
    save_body_net(net, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
