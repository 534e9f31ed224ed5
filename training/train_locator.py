"""Train the face locator from scratch on one CPU core, or measure one that exists.

    python -m training.train_locator --portraits DIR --out FILE --minutes 40
    python -m training.train_locator --evaluate --portraits DIR --weights FILE

Stage 1 (rough crops) comes first, then the finder, then stage 2, which continues from stage 1's weights on aligned
crops; last, the ridge regression from 130 points to the 478-point mesh is fitted on stage 2's own answers. The loss of
the landmark networks is the error we report: mean distance of the points in per cent of the eye distance (NME).
Only portraits of the split `train` are used; `--evaluate` uses those of `eval`.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn

from mirrorppr_core.faces.landmarks import FACE_POINTS, MIRROR_130, eye_distance
from mirrorppr_core.faces.locator import Locator, LocatorConfig, face_box
from mirrorppr_core.faces.networks import Finder, LandmarkNet
from mirrorppr_core.geometry.crop import widened
from mirrorppr_core.geometry.similarity import fit_similarity

from .locator.data import CROP_PX, STAGE_1, STAGE_2, FaceCrops, cut_faces, landmark_batch, mean_mesh, read_portraits
from .locator.finder_data import finder_batch, finder_error, load_photos
from .locator.scores import evaluate
from .program import Parser, run


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One network's training. Ends after `num_samples`, or after `minutes` of wall time where those are given."""

    name: str
    batch: int
    num_samples: int
    minutes: float | None = None
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    weight_decay: float = 0.02  # on convolution kernels only
    ema: float = 0.998

    def __post_init__(self):
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(f"minutes={self.minutes} for {self.name}: give a positive time, 40 in all is usual")


SCHEDULES = [
    Schedule(name="stage1", batch=16, num_samples=90_000),
    Schedule(name="finder", batch=24, num_samples=48_000),
    Schedule(name="stage2", batch=32, num_samples=120_000),
]
SHARES = (8, 8, 20)  # of the wall time
NUM_RIDGE_SAMPLES, RIDGE_BATCH, RIDGE_STRENGTH = 6144, 32, 1e-3


def train(
    net: nn.Module,
    loss_of: Callable[[nn.Module, Generator], Tensor],
    schedule: Schedule,
    *,
    seed: int,
    folder: Path,
) -> nn.Module:
    """Minimise loss_of(net, generator); returns the moving average of the weights, in eval mode.

    Progress is kept in folder/<name>.pt, so a run that was cut off goes on where it stopped; a finished one is
    only loaded.
    """
    path = folder / f"{schedule.name}.pt"
    generator = Generator().manual_seed(seed)
    average = copy.deepcopy(net)
    kernels = [p for n, p in net.named_parameters() if p.ndim == 4]
    others = [p for n, p in net.named_parameters() if p.ndim != 4]
    optimiser = torch.optim.AdamW(
        [{"params": kernels, "weight_decay": schedule.weight_decay}, {"params": others, "weight_decay": 0.0}],
        betas=(0.9, 0.99),
    )
    step, elapsed = 0, 0.0
    if path.exists():
        state = torch.load(path)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        step, elapsed = state["step"], state["elapsed"]

    def progress() -> float:
        if schedule.minutes is not None:
            return elapsed / (60 * schedule.minutes)
        return step * schedule.batch / schedule.num_samples

    def save() -> None:
        state = dict(net=net.state_dict(), average=average.state_dict(), optimiser=optimiser.state_dict())
        state |= dict(generator=generator.get_state(), step=step, elapsed=elapsed)
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    if progress() >= 1:
        print(f"{schedule.name}: already trained, {step * schedule.batch} samples", flush=True)
        return average.eval()
    net.train()
    tick, last_saved, recent = time.perf_counter(), elapsed, 0.0
    while progress() < 1:
        rate = schedule.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * progress())) / 2)
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / schedule.warmup_steps)
        loss = loss_of(net, generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        _follow(average, net, 1 - min(schedule.ema, (step + 1) / (step + 20)))
        step += 1
        recent += (loss.item() - recent) / min(step, 100)
        elapsed += time.perf_counter() - tick
        tick = time.perf_counter()
        if elapsed - last_saved > 60:
            save()
            last_saved = elapsed
            speed = step * schedule.batch / elapsed
            print(f"{schedule.name}: {progress():.0%}  loss {recent:.2f}  {speed:.0f} samples/s", flush=True)
    save()
    print(
        f"{schedule.name}: {step * schedule.batch} samples in {elapsed / 60:.1f} min, loss {recent:.2f}",
        flush=True,
    )
    return average.eval()


@torch.no_grad()
def _follow(average: nn.Module, net: nn.Module, rate: float) -> None:
    """Exponential moving average of weights and batch-norm statistics."""
    for mean, value in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(value, rate)
        else:
            mean.copy_(value)


def landmark_error(answer: Tensor, target: Tensor) -> Tensor:
    """NME in per cent, smooth within 0.15 px of the crop and deaf to hopeless points.  (B, 130, 2) frames."""
    distance = ((answer - target).square().sum(dim=-1) + (0.15 * 2 / CROP_PX) ** 2).sqrt()
    return (100 * distance / eye_distance(target)[:, None]).clamp(max=60).mean()


def fit_ridge(net: LandmarkNet, faces: FaceCrops, meshes: Tensor, mean: Tensor, mirror: Tensor, *, seed: int) -> Tensor:
    """Ridge regression from stage 2's 130 answers to the labelled mesh, both as offsets from the mean. (260, 956).

    Fitted on what the network says of augmented training crops, not on the labels: it then also smooths the
    network's own noise. Every face counts once more mirrored, so the mesh treats left and right alike.
    meshes: (N, 478, 2) in the pixels of `faces`.  mean: (478, 2).  mirror: (478,) partner of each mesh point.
    """
    generator = Generator().manual_seed(seed)
    mean_face = mean[list(FACE_POINTS)]
    said, true = [], []
    for _ in range(NUM_RIDGE_SAMPLES // RIDGE_BATCH):
        sample = landmark_batch(faces, mean_face, STAGE_2, RIDGE_BATCH, generator, meshes=meshes)
        with torch.no_grad():
            points = net(sample.pixels)
        align = fit_similarity(points, mean_face)
        offsets, mesh_offsets = align.apply(points) - mean_face, align.apply(sample.meshes) - mean
        flip = torch.tensor([-1.0, 1.0])
        said += [offsets.flatten(1), (offsets[:, MIRROR_130] * flip).flatten(1)]
        true += [mesh_offsets.flatten(1), (mesh_offsets[:, mirror] * flip).flatten(1)]
    x, y = torch.cat(said).double(), torch.cat(true).double()
    gram = x.T @ x
    penalty = RIDGE_STRENGTH * gram.diagonal().mean()
    return torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), x.T @ y).float()


def train_locator(portraits: Path, schedules: list[Schedule], *, seed: int, folder: Path) -> Locator:
    """All three networks, mean face and ridge.  schedules: stage 1, finder, stage 2."""
    stage_1, finder, stage_2 = schedules
    people = read_portraits(portraits, "train")
    meshes = torch.stack([person.mesh for person in people])
    with np.load(portraits / "landmarks.npz") as stored:
        mirror = torch.from_numpy(stored["mirror"]).long()
    locator = Locator(LocatorConfig())
    locator.mean_mesh.copy_(mean_mesh(meshes, mirror))
    mean_face = locator.mean_face
    faces = cut_faces(portraits, people, mean_face)

    def landmark_loss(jitter, batch):
        def loss_of(net, generator):
            sample = landmark_batch(faces, mean_face, jitter, batch, generator)
            return landmark_error(net(sample.pixels), sample.points)

        return loss_of

    torch.manual_seed(seed)
    net = LandmarkNet()
    square = face_box(mean_face, mean_face)
    net.start_at(widened(square, STAGE_1.side).inverse(mean_face))
    net = train(net, landmark_loss(STAGE_1, stage_1.batch), stage_1, seed=seed, folder=folder)
    locator.stage_1.load_state_dict(net.state_dict())

    found = _train_finder(portraits, mean_face, finder, seed=seed + 1, folder=folder)
    locator.finder.load_state_dict(found.state_dict())

    net = train(net, landmark_loss(STAGE_2, stage_2.batch), stage_2, seed=seed + 2, folder=folder)
    locator.stage_2.load_state_dict(net.state_dict())
    to_crop = fit_similarity(meshes[:, list(FACE_POINTS)], faces.points)
    ridge = fit_ridge(net, faces, to_crop.apply(meshes), locator.mean_mesh, mirror, seed=seed + 3)
    locator.ridge.copy_(ridge)
    return locator.eval()


def _train_finder(portraits: Path, mean_face: Tensor, schedule: Schedule, *, seed: int, folder: Path) -> Finder:
    """Body portraits join here: their faces are small, and the rest of them is background worth knowing."""
    photos = load_photos(portraits, read_portraits(portraits, "train", body=True), mean_face)

    def loss_of(net, generator):
        canvases, frames = finder_batch(photos, schedule.batch, generator)
        return finder_error(net(canvases), frames)

    torch.manual_seed(seed)
    return train(Finder(), loss_of, schedule, seed=seed, folder=folder)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("train_locator", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with portraits.csv and landmarks.npz")
    parser.add_argument("--out", type=Path, help="safetensors file to write")
    parser.add_argument("--minutes", type=float, help="wall time for all three; default: the fixed numbers of samples")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=Path, help="folder that keeps the progress; give it again to go on")
    parser.add_argument("--evaluate", action="store_true", help="measure --weights on the split eval instead")
    parser.add_argument("--weights", type=Path, help="safetensors file to measure")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    torch.set_num_threads(1)  # these networks are too small to gain from more
    if options.evaluate:
        if options.weights is None:
            raise ValueError("--evaluate needs --weights FILE")
        print(evaluate(Locator.from_file(options.weights), options.portraits))
        return
    if options.out is None:
        raise ValueError("training needs --out FILE; to measure a trained locator give --evaluate --weights FILE")
    schedules = SCHEDULES
    if options.minutes is not None:
        total = sum(SHARES)
        schedules = [
            replace(schedule, minutes=options.minutes * share / total)
            for schedule, share in zip(SCHEDULES, SHARES, strict=True)
        ]
    folder = options.resume or options.out.with_suffix(".progress")
    folder.mkdir(parents=True, exist_ok=True)
    locator = train_locator(options.portraits, schedules, seed=options.seed, folder=folder)
    asked = {schedule.name: schedule.minutes or schedule.num_samples for schedule in schedules}
    locator.save(options.out, training=json.dumps({"seed": options.seed, **asked}))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    sys.exit(main())
