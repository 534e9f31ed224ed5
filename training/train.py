"""Train a preset, stage after stage, from wherever it stopped.

    python -m training.train --config mini-face --portraits DIR --run runs/mini
    accelerate launch --config_file training/configs/ddp.yaml -m training.train --config mini-face ...
    ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 -m training.train --config tiny --run RUN
    python -m training.train --config mini-face ... --stage joint --set stages.joint.learning_rate=5e-4
    python -m training.train --config mini-face --portraits SMALL --run RUN --minutes 10     on lent time, CPU or GPU
    python -m training.train --list

RUN collects results (`STAGE.safetensors`, averaged weights), checkpoints of the unfinished stage, `config.json`,
`log.jsonl`, sheets/ with samples and tensorboard/. The same command continues a run that was stopped or killed, and
gives the weights an unbroken run gives. (torchrun takes --run for an option of its own; accelerate launch does not.)
Then: python -m training.export --run RUN --out DIR
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mirrorppr_core.commands.ending import note_signal
from mirrorppr_core.file_writing import write_file

from .presets import PRESETS, load_preset
from .program import Parser, run
from .runs.preset import ENGINES, Preset, plain

if TYPE_CHECKING:
    from accelerate import Accelerator


def train(
    preset: Preset,
    run: Path,
    *,
    only: str = "",
    device: str = "auto",
    threads: int = 1,
    accept_changes: bool = False,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> list[Path]:
    """Run the preset's stages, or one of them. Returns the results in order.

    Every process of `accelerate launch` or torchrun calls this. Raises ValueError, FileNotFoundError, PreflightError
    and CheckpointError for what can be known before hours are lost, FloatingPointError and Stopped later.
    """
    import torch

    from .runs.checkpoints import check_result
    from .runs.loop import run_stage

    stages = [stage for stage in preset.stages if stage.name == (only or stage.name)]
    if not stages:
        raise ValueError(f"{preset.name} has no stage {only!r}, only {', '.join(s.name for s in preset.stages)}")
    engine = importlib.import_module(ENGINES[preset.engine])
    engine.check(preset, run)
    accelerator = _accelerator(preset.loop.precision, device, threads)
    run.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        write_file(run / "config.json", json.dumps(plain(preset), indent=1))
    results = []
    for number, stage in enumerate(stages, 1):
        described = preset.described(stage) | {"precision": accelerator.mixed_precision}
        result = run / f"{stage.name}.safetensors"
        if check_result(result, described):
            accelerator.print(f"{stage.name}: finished before ({result})")
            results.append(result)
            continue
        accelerator.print(f"stage {number} of {len(stages)}, {stage.name}: trains {stage.trains}")
        torch.manual_seed(preset.loop.seed)  # initial weights
        with accelerator.main_process_first():  # it may write caches that the others read
            parts = engine.build(stage, preset, run, accelerator.device)
        done = run_stage(
            stage,
            parts,
            preset.loop,
            run,
            accelerator,
            described,
            accept_changes=accept_changes,
            asked_to_stop=asked_to_stop,
        )
        results.append(done)
    return results


def _accelerator(precision: str, device: str, threads: int) -> Accelerator:
    """Where this process computes. Raises ValueError for what could not be checked or continued exactly."""
    import torch
    from accelerate import Accelerator, DistributedDataParallelKwargs

    # Some CUDA sums come out differently from run to run without it; read when CUDA starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision=precision or None,
        # Buffers are constants here: positions and tables.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated")  # older torch has no other name
    torch.set_num_threads(threads)
    if accelerator.mixed_precision not in ("no", "bf16"):
        raise ValueError(f"mixed precision {accelerator.mixed_precision} is not supported: use bf16 or no")
    if accelerator.distributed_type.value == "DEEPSPEED":
        raise ValueError(
            "DeepSpeed steps inside the backward pass, so a step could not be checked nor continued exactly. "
            "training/configs/zero2.yaml divides the same things with FSDP2"
        )
    if device == "cuda" and accelerator.device.type != "cuda":
        raise ValueError("--device cuda, but torch sees no CUDA device. Check the driver and the torch build")
    if accelerator.device.type == "cuda":
        torch.use_deterministic_algorithms(True, warn_only=True)
    return accelerator


def weights_hash(result: Path) -> str:
    """sha256 over names and numbers of a result: equal for equal weights, whatever else the file says."""
    import torch

    from .runs.stored import read_result

    digest = hashlib.sha256()
    for name, tensor in sorted(read_result(result).tensors.items()):
        digest.update(name.encode() + tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def stop_on_signal() -> Callable[[], bool]:
    """Ctrl-C or SIGTERM (a scheduler's notice) end the run after the step at hand; a second Ctrl-C ends it now."""
    asked = []

    def remember(number: int, frame: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)
        note_signal(number)  # it decides the exit status

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, remember)
    return lambda: bool(asked)


def stop_after(minutes: float | None, asked: Callable[[], bool]) -> Callable[[], bool]:
    """The run also ends, saved, when its time is over.  minutes: None for no end.  Raises ValueError for 0 and less."""
    if minutes is None:
        return asked
    if not minutes > 0:
        raise ValueError(f"--minutes {minutes:g}: give the time that the run may take, above 0")
    end = time.monotonic() + 60 * minutes
    return lambda: asked() or time.monotonic() >= end


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("train", __doc__)
    parser.add_argument("--config", help=f"a YAML file, or one of {', '.join(PRESETS)}")
    parser.add_argument("--run", type=Path, help="folder for checkpoints and results")
    parser.add_argument("--portraits", type=Path, help="short for --set data.portraits=DIR")
    parser.add_argument("--locator", type=Path, help="short for --set data.locator=FILE (training.train_locator)")
    parser.add_argument("--stage", default="", help="train this stage only; its predecessors' results must be in RUN")
    parser.add_argument("--steps", type=int, help="train every stage for so many steps, to try things out")
    parser.add_argument("--minutes", type=float, help="stop after so long, saved; the same command goes on")
    parser.add_argument("--seed", type=int, help="short for --set loop.seed=N")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change one setting")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="per process; more than one rarely helps at Mini's size")
    parser.add_argument("--accept-changes", action="store_true", help="continue a checkpoint under other settings")
    parser.add_argument("--print-hash", action="store_true", help="print the sha256 of each stage's weights at the end")
    parser.add_argument("--list", action="store_true", help="show presets and their stages, and end")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    if options.list:
        print("\n".join(describe_presets()))
        return
    if not options.config or not options.run:
        raise ValueError("--config and --run are needed (or --list)")
    short = {"data.portraits": options.portraits, "data.locator": options.locator, "loop.seed": options.seed}
    changes = [f"{name}={value}" for name, value in short.items() if value is not None]
    preset = load_preset(options.config, [*changes, *options.set])
    if options.steps:
        preset = replace(preset, stages=tuple(replace(s, steps=options.steps) for s in preset.stages))
    results = train(
        preset,
        options.run,
        only=options.stage,
        device=options.device,
        threads=options.threads,
        accept_changes=options.accept_changes,
        asked_to_stop=stop_after(options.minutes, stop_on_signal()),
    )
    if options.print_hash and int(os.environ.get("RANK", "0")) == 0:
        for result in results:
            print(f"{result.stem} {weights_hash(result)}")


def describe_presets() -> list[str]:
    """One block of lines for each preset."""
    lines = []
    for name, make in PRESETS.items():
        lines.append(name)
        for stage in make().stages:
            lines.append(
                f"  {stage.name:<12} {stage.trains:<28} {stage.steps:>6} steps of {stage.batch:>3}, "
                f"learning rate {stage.learning_rate:g}, {stage.data}"
            )
    return lines


if __name__ == "__main__":
    sys.exit(main())
