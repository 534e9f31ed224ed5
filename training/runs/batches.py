"""Batches and noise of a step as functions of (seed, step, part), on whichever process they are needed.

Resuming is arithmetic: no loader state is kept, and loader processes only draw ahead what the loop would draw itself.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset


class StepBatches(Dataset):
    """The batches of one process. Item i is micro-batch i % accumulate of step i // accumulate, as (part, batch).

    first: this process's first part of `parts`; it works through `accumulate` of them each step.
    """

    def __init__(self, source: Any, *, size: int, first: int, parts: int, accumulate: int):
        self.source, self.size, self.first, self.parts, self.accumulate = source, size, first, parts, accumulate

    def __getitem__(self, index: int) -> tuple[int, Any]:
        step, offset = divmod(index, self.accumulate)
        part = self.first + offset
        return part, self.source.batch(step, self.size, part, self.parts)

    def between(self, start: int, stop: int, *, workers: int) -> Iterator[tuple[int, Any]]:
        """The items of steps start .. stop - 1 in order. workers: processes that draw ahead; 0 draws here."""
        items = range(start * self.accumulate, stop * self.accumulate)
        if not workers:
            return (self[item] for item in items)
        return iter(DataLoader(self, batch_size=None, sampler=items, num_workers=workers, collate_fn=_as_it_is))


class WholeSteps:
    """A source that draws a step's whole batch, whatever the number of parts, and cuts it.

    draw: (step, size) -> a dataclass of tensors and lists with a row for each of `size` samples; None stays None.
    """

    def __init__(self, draw: Callable[[int, int], Any]):
        self.draw = draw
        self._drawn: tuple[tuple[int, int], Any] | None = None

    def batch(self, step: int, size: int, part: int, parts: int) -> Any:
        if self._drawn is None or self._drawn[0] != (step, size):
            self._drawn = (step, size), self.draw(step, size)
        rows, whole = slice(part * size // parts, (part + 1) * size // parts), self._drawn[1]
        columns = {f.name: getattr(whole, f.name) for f in fields(whole)}
        return replace(whole, **{name: value[rows] for name, value in columns.items() if value is not None})


def noise(seed: int, stage: str, step: int, part: int) -> torch.Generator:
    """The generator for one part's noise and times. Seeds the global one too, for dropout."""
    mixed = np.random.SeedSequence([seed, zlib.crc32(stage.encode()), step, part]).generate_state(2)
    torch.manual_seed(int(mixed[1]))
    return torch.Generator().manual_seed(int(mixed[0]))


def to_device(batch: Any, device: torch.device) -> Any:
    """The batch with its tensors on the device. Dataclasses, dicts, lists and tuples are looked into."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if is_dataclass(batch):
        return replace(batch, **{f.name: to_device(getattr(batch, f.name), device) for f in fields(batch) if f.init})
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(value, device) for value in batch)
    return batch


def _as_it_is(item: Any) -> Any:
    return item
