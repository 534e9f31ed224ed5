"""A stage: one row of the curriculum, what it trains, from what, for how long and how fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

SUBSETS = ("simulated", "professional", "both")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of the curriculum."""

    name: str  # the result becomes RUN/<name>.safetensors
    module: str  # which stage module of the engine learns
    trains: str = field(metadata={"compared": False})  # for people
    steps: int
    batch: int  # samples of one optimizer step, over all processes
    learning_rate: float
    starts: Mapping[str, str] = field(default_factory=dict)  # part of the module -> earlier stage whose result it loads
    data: str = "simulated"  # subset of operations, one of SUBSETS
    samples: Mapping[str, object] = field(default_factory=dict)  # changes to the engine's sample settings
    micro_batch: int = 0  # samples of one forward pass, the rest is accumulated; 0: a process takes its share at once
    warmup: int = 100  # steps
    weight_decay: float = 0.02
    clip: float = 1.0  # largest gradient norm
    ema: float = 0.998  # of the averaged weights, which are the result

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.micro_batch < 0 or self.learning_rate <= 0 or self.clip <= 0:
            raise ValueError(f"stage {self.name}: steps, batch, learning_rate and clip must be positive")
        if not 0 <= self.ema < 1 or self.warmup < 0:
            raise ValueError(f"stage {self.name}: need 0 <= ema < 1 and warmup >= 0, got {self.ema} and {self.warmup}")
        if self.data not in SUBSETS:
            raise ValueError(f"stage {self.name}: data={self.data!r} is none of {', '.join(SUBSETS)}")
        if not self.name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"stage name {self.name!r} names files: use letters, digits, - and _")

    def accumulate(self, processes: int) -> int:
        """Forward passes of one process per step."""
        each = self.micro_batch or self.batch // processes
        if each < 1 or self.batch % (processes * each):
            raise ValueError(
                f"stage {self.name}: {processes} processes cannot share a batch of {self.batch} in equal parts of "
                f"{max(1, each)}. Make batch a multiple of {processes * max(1, each)}, or change micro_batch."
            )
        return self.batch // (processes * each)


def rate(step: int, stage: Stage) -> float:
    """Share of the learning rate: a linear start, then a cosine to 2 %."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def check_order(stages: tuple[Stage, ...]) -> None:
    """Names are unique, and what a stage starts from is trained before it."""
    before: list[str] = []
    for stage in stages:
        if stage.name in before:
            raise ValueError(f"two stages are called {stage.name}: results would overwrite each other")
        for part, source in stage.starts.items():
            if source not in before:
                raise ValueError(
                    f"stage {stage.name} takes {part} from {source!r}, but before it come only {before or 'no stages'}"
                )
        before.append(stage.name)
