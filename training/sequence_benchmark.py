"""How much a retouch trembles from frame to frame, with and without a face followed over time.

    python -m training.sequence_benchmark --portraits DIR [--people 3] [--frames 16]

An eval portrait becomes frames of a camera: standing still or drifting, turning and coming closer smoothly, each frame
with its own grain and JPEG. The retouch of another person's exemplar is given to every frame, each by itself and as one
sequence. Its field is carried back onto the portrait, where a perfectly steady one would be the same in all frames:

    jitter = root mean square of what the fields differ from their mean over time, in pixels, where the mean moves

No truth about the retouch is needed; only its steadiness is scored. `lag` is how far the mean of the sequence's fields
lies from the mean of the single frames' fields: smoothing must not move the retouch as a whole.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import pixel_grid, sample
from mirrorppr_core.geometry.similarity import Similarity
from mirrorppr_core.mini.editor import RetouchConfig, Retouched
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.mini.sequence import FrameSequence

from .evaluation.benchmark_cases import BenchmarkConfig, build_case, list_cases, load_people, to_eight_bits
from .evaluation.retouchers import load_model
from .evaluation.spoiled_exemplars import jpeg
from .program import Parser, run

_GRAIN = 2.5 / 255
_QUALITY = 90
_CONFIG = RetouchConfig(face="largest")


@dataclass(frozen=True, kw_only=True)
class Steadiness:
    """Of one portrait's frames. single, followed: jitter in pixels.  lag, moved: pixels, means over the region."""

    single: float
    followed: float
    lag: float
    moved: float


def camera(kind: str, num: int, centre: Tensor) -> list[Similarity]:
    """Where the portrait's pixels are in each frame."""
    poses = []
    for t in range(num):
        if kind == "still":
            poses.append(Similarity(torch.tensor(1.0), torch.tensor(0.0), torch.zeros(2)))
            continue
        phase = 2 * math.pi * t / 24
        turn, zoom = torch.tensor(math.radians(4) * math.sin(phase)), torch.tensor(1 + 0.04 * math.sin(phase / 2))
        about = Similarity(zoom, turn, torch.zeros(2))
        drift = torch.tensor([1.3 * t, 6 * math.sin(phase)])
        poses.append(Similarity(zoom, turn, centre - about.apply(centre) + drift))
    return poses


def frame(portrait: Tensor, pose: Similarity, seed: int) -> Tensor:
    """The portrait as that camera sees it, (1, 3, H, W) in [0, 1]."""
    height, width = portrait.shape[-2:]
    grid = pixel_grid(height, width).flatten(2)[0].mT  # (H * W, 2)
    origins = pose.inverse(grid).mT.reshape(1, 2, height, width)
    seen = sample(portrait, origins)
    grain = torch.randn(seen.shape, generator=torch.Generator().manual_seed(seed)) * _GRAIN
    return jpeg(to_eight_bits((seen + grain).clamp(0, 1)), _QUALITY)


def carried_back(field: Tensor, pose: Similarity) -> Tensor:
    """The motion of a frame on the portrait's own pixels.  (1, 2, H, W) both."""
    height, width = field.shape[-2:]
    places = pose.apply(pixel_grid(height, width).flatten(2)[0].mT).mT.reshape(1, 2, height, width)
    back = torch.linalg.inv(pose.linear())
    return torch.einsum("ij,bjhw->bihw", back.reshape(2, 2), sample(field, places, mode="bilinear"))


def measure(model: MirrorPPR, operation: Operation, portrait: Tensor, kind: str, num: int) -> Steadiness:
    height, width = portrait.shape[-2:]
    poses = camera(kind, num, torch.tensor([(width - 1) / 2, (height - 1) / 2]))
    frames = [frame(portrait, pose, seed) for seed, pose in enumerate(poses)]
    sequence = FrameSequence(model.editor, operation, model.connector.connector, _CONFIG)
    for seen in frames:
        sequence.look(seen, "frame")

    def fields(results: list[Retouched]) -> Tensor:
        return torch.cat([carried_back(r.field.dense(), p) for r, p in zip(results, poses, strict=True)])

    single = fields([model.retouch(seen, operation, _CONFIG) for seen in frames])
    steady = fields([sequence.retouch(index, seen) for index, seen in enumerate(frames)])
    mean = single.mean(0, keepdim=True)
    region = mean.norm(dim=1) > 0.05 * mean.norm(dim=1).amax()

    def jitter(of: Tensor) -> float:
        strayed = (of - of.mean(0, keepdim=True)).square().sum(1).mean(0)
        return float(strayed[region[0]].mean().sqrt())

    return Steadiness(
        single=jitter(single),
        followed=jitter(steady),
        lag=float((steady.mean(0) - mean[0]).norm(dim=0)[region[0]].mean()),
        moved=float(mean.norm(dim=1)[region].mean()),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("sequence_benchmark", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--people", type=int, default=3, help="so many cases of Benchmark P, each with its own retouch")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--weights", type=Path, help="folder of a matched set; the bundled one by default")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    if options.frames < 6 or options.people < 1:
        raise ValueError(f"--frames {options.frames}, --people {options.people}: use 6 or more, and 1 or more")
    model = load_model(options.weights)
    cases = list_cases(load_people(options.portraits), BenchmarkConfig())[: options.people]
    print(
        "| case | camera | jitter, single frames | followed | ratio | lag | mean motion |",
        "|---|---|---|---|---|---|---|",
    )
    for case in cases:
        pictures = build_case(case, options.portraits)
        operation = model.extract(Exemplar(pictures.exemplar_before, pictures.exemplar_after), face="largest")
        for kind in ("still", "moving"):
            found = measure(model, operation, pictures.query, kind, options.frames)
            print(
                f"| {case.label} | {kind} | {found.single:.3f} px | {found.followed:.3f} px | "
                f"{found.followed / found.single:.2f} | {found.lag:.3f} px | {found.moved:.2f} px |",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
