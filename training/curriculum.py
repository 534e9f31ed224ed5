"""The curriculum as data: what each stage trains, for how long and how fast.

Stages run in the order of STAGES; each starts from the results of the ones before it. `steps` are the bundled
Mini's: about an hour on one CPU core in all. A step is a pure function of (seed, step), so a run can be stopped and
resumed anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of the curriculum."""

    name: str
    trains: str
    steps: int
    batch: int
    learning_rate: float
    warmup: int = 100
    weight_decay: float = 0.02
    clip: float = 1.0
    ema: float = 0.998

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1 or self.learning_rate <= 0:
            raise ValueError(f"stage {self.name}: steps, batch and learning_rate must be positive")


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(name="encoder", trains="MAE", steps=1000, batch=16, learning_rate=1e-3),
        Stage(name="backbone", trains="field DiT", steps=4000, batch=32, learning_rate=1e-3),
        Stage(name="extractor", trains="R-Former", steps=600, batch=32, learning_rate=1e-3),
        Stage(name="joint", trains="R-Former, connector, LoRA", steps=2200, batch=32, learning_rate=1e-3),
    )
}
