"""The training loop of every stage: accelerate, exact resume, held-out scores while it trains.

A stage plugs in as four things (StageParts); the loop knows nothing else about it.

    module(batch, generator) -> (loss, numbers)      one nn.Module; requires_grad on what it trains, nothing else
    source.batch(step, size, part, parts) -> batch   rows part*size/parts ... of the step's `size` samples
    validation                                       the same protocol, over people never trained on
    examiner                                         optional: held-out numbers and pictures that need a prediction

A step's batch is cut into parts, one for each forward pass of each process. Part p's data and noise are functions of
(seed, step, p) alone, so a killed run continues exactly, and one process that accumulates equals several that share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from shutil import rmtree
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .aligned import aligned
from .batches import StepBatches, noise, to_device
from .checkpoints import TrainingState, check_result, load_checkpoint, save_checkpoint, save_result
from .held_out import Examiner, examine
from .preflight import check_room, freeze_silent, overfit_one_batch
from .progress import Progress
from .stage import Stage, rate

REPORTERS = ("tensorboard", "wandb")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How a run is driven. Only seed and precision change what is learned."""

    seed: int = 0
    precision: str = ""  # "no" or "bf16"; empty: what `accelerate launch` says, else "no"
    log_steps: int = 50
    validate_steps: int = 500
    validation_batches: int = 8
    sheet_steps: int = 1000
    save_steps: int = 200
    keep: int = 2  # checkpoints of a stage
    workers: int = 0  # loader processes; 0 draws batches in the loop
    preflight_steps: int = 12  # of the one-batch test before a stage begins; 0 leaves it out
    reporters: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        if self.precision not in ("", "no", "bf16"):
            raise ValueError(f"precision={self.precision!r}: use no or bf16")
        every = ("log_steps", "validate_steps", "validation_batches", "sheet_steps", "save_steps", "keep")
        for name in every:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: use 1 or more")
        unknown = set(self.reporters) - set(REPORTERS)
        if unknown:
            raise ValueError(f"reporters {sorted(unknown)} are unknown: use some of {', '.join(REPORTERS)}")


class BatchSource(Protocol):
    """Where batches come from. Picklable, as loader workers call it."""

    def batch(self, step: int, size: int, part: int, parts: int) -> Any:
        """Rows part * size / parts and following of the `size` samples of a step. A pure function."""
        ...


@dataclass
class StageParts:
    """A stage, built and ready to learn.

    module: returns (loss, numbers) from (batch, generator). loss: mean over the rows of the batch. numbers: floats for
    the log, the same names on every call. generator: on the CPU, so that noise is the same on every device.
    starts_from: name -> sha256 of every file or table that shaped it; a run does not continue when one changes.
    completion: tensors of the result that are not trained but follow from the averaged weights, called with those in
    place, e.g. statistics of batch norm.
    """

    module: nn.Module
    training: BatchSource
    validation: BatchSource
    examiner: Examiner | None = None
    starts_from: Mapping[str, str] = field(default_factory=dict)
    completion: Callable[[], dict[str, Tensor]] | None = None


class Stopped(KeyboardInterrupt):
    """The run was asked to stop, and its state is saved: a Ctrl-C that was waited for."""


def run_stage(
    stage: Stage,
    parts: StageParts,
    config: LoopConfig,
    run: Path,
    accelerator: Accelerator,
    described: dict,
    *,
    accept_changes: bool = False,
    asked_to_stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train a stage to its end, from its checkpoint where there is one. Returns the path of its averaged weights.

    described: the settings that make the run what it is, as JSON values (compared on resume).
    Raises FloatingPointError when loss or gradient is no number, Stopped when asked to stop; both after saving.
    """
    described = {**described, "starts_from": dict(parts.starts_from), "processes": accelerator.num_processes}
    result = run / f"{stage.name}.safetensors"
    if check_result(result, described):
        return result
    running = _Running(stage, parts, config, run, accelerator, described)
    try:
        if not running.resume(accept_changes=accept_changes):
            running.preflight()
        running.train(asked_to_stop)
        running.finish(result)
    finally:
        if running.progress:
            running.progress.close()
        accelerator.free_memory()
    return result


class _Running:
    """One stage while it is trained: what accelerate prepared, and the state between steps."""

    def __init__(
        self,
        stage: Stage,
        parts: StageParts,
        config: LoopConfig,
        run: Path,
        accelerator: Accelerator,
        described: dict,
    ):
        self.stage, self.parts, self.config, self.run = stage, parts, config, run
        self.accelerator, self.described = accelerator, described
        self.folder, self.progress = run / "checkpoints" / stage.name, None
        self.accumulate = stage.accumulate(accelerator.num_processes)
        self.count = accelerator.num_processes * self.accumulate
        # FSDP2 deals with parameters in pieces: what looks at whole ones is left out.
        self.sharded = accelerator.distributed_type.value == "FSDP"
        if not self.sharded:
            check_room(parts.module, run, accelerator.device, keep=config.keep)
        # A sharded model is placed by accelerate, piece by piece: whole it may not fit.
        module = (parts.module if self.sharded else aligned(parts.module.to(accelerator.device))).train()
        self.owned = [name for name, p in module.named_parameters() if p.requires_grad]
        self.batches = StepBatches(
            parts.training,
            size=stage.batch,
            first=accelerator.process_index * self.accumulate,
            parts=self.count,
            accumulate=self.accumulate,
        )
        self.silent: list[str] = []
        if accelerator.num_processes > 1 and not self.sharded:
            # The same part on every process, so that all freeze the same.
            shared = to_device(parts.training.batch(0, stage.batch, 0, self.count), accelerator.device)
            self.silent = freeze_silent(module, shared, noise(config.seed, stage.name, 0, 0), accelerator)
        accelerator.gradient_accumulation_steps, accelerator.step = self.accumulate, 0
        self.model, self.optimizer = accelerator.prepare(module, _adamw(module, stage))
        self.bare = accelerator.unwrap_model(self.model)
        self.parameters = dict(self.bare.named_parameters())
        trainable = {name: p for name, p in self.parameters.items() if p.requires_grad}
        self.state = TrainingState(
            trainable=trainable,
            average={name: p.detach().clone() for name, p in trainable.items()},
            optimizer=self.optimizer.optimizer,
        )

    def resume(self, *, accept_changes: bool) -> bool:
        """Continue the newest checkpoint. False where there is none."""
        resumed = load_checkpoint(self.folder, self.state, self.described, accept_changes=accept_changes)
        self.progress = Progress(
            self.run,
            self.stage.name,
            steps=self.stage.steps,
            start=self.state.step,
            reporters=self.config.reporters,
            main=self.accelerator.is_main_process,
        )
        count = sum(p.numel() for p in self.state.trainable.values())
        self.progress.say(f"{count:,} numbers to train, from step {self.state.step}")
        if self.silent:
            self.progress.say(f"{len(self.silent)} tensors get no gradient and stay as they are ({self.silent[0]} ...)")
        return resumed

    def preflight(self) -> None:
        if not self.config.preflight_steps:
            return
        part, batch = self.batches[0]
        first, last = overfit_one_batch(
            self.model,
            self.state.trainable,
            to_device(batch, self.accelerator.device),
            lambda: noise(self.config.seed, self.stage.name, 0, part),
            self.accelerator,
            steps=self.config.preflight_steps,
            learning_rate=self.stage.learning_rate,
        )
        self.progress.say(f"pre-flight: the loss on one repeated batch falls, {first:.4f} to {last:.4f}")
        if self.accelerator.device.type == "cuda":
            peak, room = torch.cuda.max_memory_allocated(), torch.cuda.get_device_properties(0).total_memory
            self.progress.say(f"pre-flight: a step takes {peak / 2**30:.1f} of {room / 2**30:.1f} GiB")

    def train(self, asked_to_stop: Callable[[], bool]) -> None:
        """Step by step to the end, with reports and checkpoints on the way."""
        stage, config, state = self.stage, self.config, self.state
        drawn = self.batches.between(state.step, stage.steps, workers=config.workers)
        while state.step < stage.steps:
            broken, stop = self._take_step(drawn, asked_to_stop)
            if broken:
                self._save()
                raise FloatingPointError(
                    f"{stage.name}: {broken} at step {state.step} (seed {config.seed}). The state before this step is "
                    f"saved in {self.folder}. Lower learning_rate or clip and continue with --accept-changes."
                )
            last = state.step == stage.steps
            if last or state.step % config.log_steps == 0:
                self.progress.training(state.step, {**state.means(), "lr": self.optimizer.param_groups[0]["lr"]})
                state.sums.clear()
            if last or state.step % config.validate_steps == 0:
                self._validate(with_sheet=last or state.step % config.sheet_steps == 0)
            if last or stop or state.step % config.save_steps == 0:
                self._save()
            if stop and not last:
                raise Stopped(f"{stage.name} stopped at step {state.step}; the same command continues it")

    def finish(self, result: Path) -> None:
        """Write the averaged weights; parameters that no gradient reaches are part of them."""
        main = self.accelerator.is_main_process
        every = {name: self.state.average.get(name, self.parameters[name]) for name in self.owned}
        if self.parts.completion is not None:
            with _averaged(self.state, self.bare):
                every |= self.parts.completion()
        save_result(result, every, self.described, is_main=main)
        self.accelerator.wait_for_everyone()
        if main:
            rmtree(self.folder)

    def _take_step(self, drawn: Iterator[tuple[int, Any]], asked_to_stop: Callable[[], bool]) -> tuple[str, bool]:
        """One optimizer step. Returns why it was not taken, or "", and whether any process was asked to stop.

        A number that is not finite on one process leaves the weights as they were on all of them.
        """
        stage, state, accelerator = self.stage, self.state, self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = stage.learning_rate * rate(state.step, stage)
        totals: dict[str, float] = {}
        for part, batch in islice(drawn, self.accumulate):
            with accelerator.accumulate(self.model):
                generator = noise(self.config.seed, stage.name, state.step, part)
                loss, numbers = self.model(to_device(batch, accelerator.device), generator)
                accelerator.backward(loss)
            for name, value in {"loss": float(loss.detach()), **numbers}.items():
                totals[name] = totals.get(name, 0.0) + value / self.accumulate
        # One message carries the numbers and whether to stop: all processes decide alike.
        sent = torch.tensor([*totals.values(), float(asked_to_stop())], dtype=torch.float64, device=accelerator.device)
        *means, stops = accelerator.reduce(sent, "mean").tolist()
        means = dict(zip(totals, means, strict=True))
        norm = accelerator.clip_grad_norm_(list(state.trainable.values()), stage.clip)
        means["gradient"] = float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
        broken = [f"the {name} is {means[name]}" for name in ("loss", "gradient") if not math.isfinite(means[name])]
        if broken:
            return broken[0], bool(stops)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        keep = min(stage.ema, (state.step + 1) / (state.step + 20))
        with torch.no_grad():
            for name, parameter in state.trainable.items():
                state.average[name].lerp_(parameter, 1 - keep)
        state.step += 1
        state.add(means)
        return "", bool(stops)

    def _validate(self, *, with_sheet: bool) -> None:
        with _averaged(self.state, self.bare):
            numbers, sheet = examine(
                self.bare,
                self.parts.validation,
                None if self.sharded else self.parts.examiner,
                self.accelerator,
                size=self.stage.batch // self.count,
                batches=self.config.validation_batches,
                with_sheet=with_sheet,
            )
        self.progress.validation(self.state.step, numbers)
        if sheet is not None:
            self.progress.sheet(self.state.step, sheet)

    def _save(self) -> None:
        main = self.accelerator.is_main_process
        save_checkpoint(self.folder, self.state, self.described, keep=self.config.keep, is_main=main)
        self.accelerator.wait_for_everyone()


def _adamw(module: nn.Module, stage: Stage) -> torch.optim.AdamW:
    """Weight decay on matrices only."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": stage.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=stage.learning_rate, betas=(0.9, 0.98))


@contextmanager
@torch.no_grad()
def _averaged(state: TrainingState, module: nn.Module) -> Iterator[None]:
    """Inside, the parameters hold their averages."""
    kept = {name: p.detach().clone() for name, p in state.trainable.items()}
    for name, parameter in state.trainable.items():
        parameter.copy_(state.average[name])
    yield
    for part in module.modules():
        if hasattr(part, "reshard"):
            part.reshard()  # FSDP2 keeps the outermost parameters gathered after a forward pass, averages here
    for name, parameter in state.trainable.items():
        parameter.copy_(kept[name])
