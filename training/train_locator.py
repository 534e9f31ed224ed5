"""Train the face locator from scratch on one CPU core, or measure one that exists.

    python -m training.train_locator --portraits DIR --out locator.safetensors
    python -m training.train_locator --evaluate --portraits DIR --weights locator.safetensors

Trains the preset `locator` (curriculum.py): the finder, the landmarks of rough crops, those of aligned crops; last, on
the answers of the aligned ones, the ridge regression from 130 points to the 478-point mesh. The same command continues
a run that was stopped or killed, and gives the locator an unbroken run gives. Only portraits of the split `train` are
used; `--evaluate` uses those of `eval`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from mirrorppr_core.faces.locator import Locator

from .locator.engine import trained_locator
from .locator.scores import evaluate
from .presets import load_preset
from .program import Parser, run
from .train import stop_on_signal, train


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("train_locator", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits with landmarks.npz")
    parser.add_argument("--out", type=Path, help="safetensors file to write")
    parser.add_argument("--resume", type=Path, help="folder that keeps the progress; default: beside --out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="train every network for so many steps, to try things out")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change one setting")
    parser.add_argument("--evaluate", action="store_true", help="measure --weights on the split eval instead")
    parser.add_argument("--weights", type=Path, help="safetensors file to measure")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    if options.evaluate:
        if options.weights is None:
            raise ValueError("--evaluate needs --weights FILE")
        torch.set_num_threads(1)  # these networks are too small to gain from more
        print(evaluate(Locator.from_file(options.weights), options.portraits))
        return
    if options.out is None:
        raise ValueError("training needs --out FILE; to measure a trained locator give --evaluate --weights FILE")
    changes = [f"data.portraits={options.portraits}", f"loop.seed={options.seed}", *options.set]
    preset = load_preset("locator", changes)
    if options.steps:
        preset = replace(preset, stages=tuple(replace(stage, steps=options.steps) for stage in preset.stages))
    folder = options.resume or options.out.with_suffix(".progress")
    train(preset, folder, asked_to_stop=stop_on_signal())
    about = {"seed": options.seed, **{stage.name: stage.steps * stage.batch for stage in preset.stages}}
    trained_locator(preset.stages, preset.model, folder).save(options.out, training=json.dumps(about))
    print(f"wrote {options.out}")


if __name__ == "__main__":
    sys.exit(main())
