"""What a person sees while a stage trains: a line with the time left, curves, and a log that reads back.

    backbone  1200/4000  loss 0.4312  relEPE 0.5121  lr 9.1e-04  3.2 steps/s  left 0:14:31
    RUN/log.jsonl      one JSON object a line; what a killed run logged after its last checkpoint is dropped on resume
    RUN/tensorboard/   scalars and sample sheets, where tensorboard is installed; Weights & Biases where it is asked for

Only the main process writes. Times stand on the screen, not in the log, so equal runs have equal logs.
"""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mirrorppr_core.file_writing import append_line, replacing, write_file


class Progress:
    """The reports of one stage. steps: of the whole stage; start: steps done before this process."""

    def __init__(self, run: Path, stage: str, *, steps: int, start: int, reporters: tuple[str, ...], main: bool):
        self.run, self.stage, self.steps, self.main = run, stage, steps, main
        self._begun, self._first = time.monotonic(), start
        self._curves, self._wandb = None, None
        if not main:
            return
        _forget(run / "log.jsonl", stage, start)
        if "tensorboard" in reporters:
            if importlib.util.find_spec("tensorboard") is None:
                self.say("no TensorBoard curves: `pip install tensorboard` for them; log.jsonl has the same numbers")
            else:
                from torch.utils.tensorboard import SummaryWriter

                self._curves = SummaryWriter(str(run / "tensorboard" / stage), purge_step=start + 1)
        if "wandb" in reporters:
            if importlib.util.find_spec("wandb") is None:
                self.say("no Weights & Biases report: `pip install wandb` for it; log.jsonl has the same numbers")
            else:
                import wandb

                # One run on the server per folder and stage, also after a resume.
                self._wandb = wandb.init(
                    project="mirrorppr", name=f"{run.name}-{stage}", id=f"{run.name}-{stage}", resume="allow", dir=run
                )

    def say(self, text: str) -> None:
        if self.main:
            print(f"{self.stage}: {text}", flush=True)

    def training(self, step: int, numbers: dict[str, float]) -> None:
        """Means since the last line, after `step` steps."""
        done, seconds = step - self._first, time.monotonic() - self._begun
        left = (self.steps - step) * seconds / max(1, done)
        shown = "  ".join(f"{name} {_short(value)}" for name, value in numbers.items())
        if self.main:
            print(
                f"{self.stage}  {step}/{self.steps}  {shown}  {done / max(seconds, 1e-9):.2g} steps/s  "
                f"left {clock(left)}",
                flush=True,
            )
        self._write(step, "training", numbers)

    def validation(self, step: int, numbers: dict[str, float]) -> None:
        """Numbers on people never trained on, with the averaged weights."""
        self.say(
            f"held-out at {step}/{self.steps}  "
            + "  ".join(f"{name} {_short(value)}" for name, value in numbers.items())
        )
        self._write(step, "validation", numbers)

    def sheet(self, step: int, picture: Image.Image) -> None:
        """Keep a sample sheet as RUN/sheets/STAGE-STEP.png."""
        if not self.main:
            return
        path = self.run / "sheets" / f"{self.stage}-{step:08d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as stream:
            picture.save(stream, format="PNG", compress_level=1)  # the default takes longer than a training step
        if self._curves:
            self._curves.add_image("held-out", np.asarray(picture), step, dataformats="HWC")
        if self._wandb:
            import wandb

            self._wandb.log({"held-out": wandb.Image(picture)}, step=step)

    def close(self) -> None:
        if self._curves:
            self._curves.close()
        if self._wandb:
            self._wandb.finish()

    def _write(self, step: int, kind: str, numbers: dict[str, float]) -> None:
        if not self.main:
            return
        append_line(self.run / "log.jsonl", json.dumps({"stage": self.stage, "step": step, kind: numbers}))
        if self._curves:
            for name, value in numbers.items():
                self._curves.add_scalar(f"{kind}/{name}", value, step)
            self._curves.flush()
        if self._wandb:
            self._wandb.log({f"{kind}/{name}": value for name, value in numbers.items()}, step=step)


def clock(seconds: float) -> str:
    """1:02:03 for 3723 seconds."""
    minutes, seconds = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


def _short(value: float) -> str:
    return f"{value:.1e}" if value and abs(value) < 1e-2 else f"{value:.4f}"


def _forget(log: Path, stage: str, start: int) -> None:
    """Drop what a killed process logged of this stage after the checkpoint that goes on."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(errors="replace").splitlines(keepends=True):
        try:
            entry = json.loads(line)
            ours = entry["stage"] == stage and entry["step"] > start
        except (ValueError, KeyError, TypeError, RecursionError):  # cut in the middle of a line by a kill, or damaged
            continue
        if not ours:
            kept.append(line)
    write_file(log, "".join(kept))
