"""What is checked before hours are spent: room in memory and on disk, gradients, and whether the loss can fall at all.

The one-batch test is the cheapest proof that data, loss and optimizer fit together: a few steps on one repeated batch
must lower its loss. The weights are put back afterwards, so it changes nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

_RATE_SHARE = 0.2
_LEAST_FALL = 1e-3  # share of the first loss; noise and times are fixed, so any fall is learning
_COPIES = 4  # of the trained parameters: gradient, two moments, average
_STORED = 4  # of them in a checkpoint: weights, average, two moments


class PreflightError(ValueError):
    """A run that cannot work, found before it began. The message says what to change."""


def check_room(module: nn.Module, run: Path, device: torch.device, *, keep: int) -> None:
    """Raises PreflightError when weights and what the optimizer adds cannot fit, or checkpoints cannot be stored.

    Activations come on top and depend on the batch; the one-batch test meets them before the first real step.
    """
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in module.parameters()]
    weights, trained = sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)
    if not trained:
        raise PreflightError(f"{type(module).__name__} has nothing to train: no parameter requires a gradient")
    needed = _COPIES * trained + (0 if device.type == "cpu" else weights)  # on the CPU the weights are there already
    free = free_memory(device)
    if needed > free:
        raise PreflightError(
            f"training needs {needed / 2**30:.2f} GiB on {device} before activations (weights {weights / 2**30:.2f}, "
            f"{_COPIES} x {trained / 2**30:.2f} for what is trained), but {free / 2**30:.2f} GiB are free. "
            "Use a smaller LoRA rank, a quantised base, or divide it with training/configs/fsdp2.yaml."
        )
    needed, free = (keep + 1) * _STORED * trained, shutil.disk_usage(run).free
    if needed > free:
        raise PreflightError(
            f"{run} has {free / 1e6:.0f} MB free but {keep} checkpoints and the one being written need "
            f"{needed / 1e6:.0f} MB. Free some space, lower loop.keep, or choose another --run folder."
        )


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken on the device."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil  # comes with accelerate

    return psutil.virtual_memory().available


def freeze_silent(module: nn.Module, batch: Any, generator: torch.Generator, accelerator: Accelerator) -> list[str]:
    """Freeze the parameters that one backward pass does not reach, and name them.

    They would keep their values anyway, and DDP waits for their gradients in vain.
    """
    with accelerator.autocast():
        loss, _ = module(batch, generator)
    loss.backward()
    silent = [name for name, p in module.named_parameters() if p.requires_grad and p.grad is None]
    for name, parameter in module.named_parameters():
        parameter.grad = None
        if name in silent:
            parameter.requires_grad_(False)
    return silent


def overfit_one_batch(
    model: nn.Module,
    trainable: dict[str, nn.Parameter],
    batch: Any,
    seed_noise: Any,
    accelerator: Accelerator,
    *,
    steps: int,
    learning_rate: float,
) -> tuple[float, float]:
    """Loss before and after a few steps on one batch with the same noise. The weights are restored.

    model: as accelerate prepared it.  seed_noise: () -> torch.Generator.  Raises PreflightError when it does not fall,
    and when memory does not suffice.
    """
    before = {name: p.detach().clone() for name, p in trainable.items()}
    # A stage starts slowly too; at its full rate the first steps from zero weights may overshoot.
    optimizer = torch.optim.AdamW(trainable.values(), lr=_RATE_SHARE * learning_rate, weight_decay=0.0)
    losses = []
    try:
        for _ in range(steps + 1):
            loss, _ = model(batch, seed_noise())
            losses.append(float(accelerator.reduce(loss.detach().double(), "mean")))
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
    except torch.OutOfMemoryError as error:
        raise PreflightError(
            f"pre-flight: one forward and backward pass does not fit in memory ({error}). Lower the stage's "
            "micro_batch, or divide the model with training/configs/fsdp2.yaml."
        ) from error
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(before[name])
    first, last = losses[0], losses[-1]
    if not first - last > _LEAST_FALL * abs(first):
        raise PreflightError(
            f"pre-flight: the loss on one repeated batch went from {first:.5g} to {last:.5g} in {steps} steps at "
            f"a fifth of the learning rate {learning_rate:g}; it must fall. Check the data and what is trainable, or "
            "try another learning rate. --set loop.preflight_steps=0 leaves this test out."
        )
    return first, last
