"""Batch norm in a stage: its statistics follow from the weights alone.

While training, batch norm uses each batch's own statistics; in use it needs fixed ones. Those are not collected on the
way, where they would lag behind the weights, depend on the number of processes and be part of every checkpoint: they
are measured with the weights at hand, over a few training batches, whenever the module is asked to evaluate. So they
follow from the weights alone, and the averaged weights get their own.
"""

from __future__ import annotations

from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn

from .batches import to_device

CALIBRATION_BATCHES, CALIBRATION_SIZE = 8, 32


class Batches(Protocol):
    def batch(self, step: int, size: int, part: int, parts: int) -> Any: ...


class CalibratedStage(nn.Module):
    """A stage of one network, which a subclass names. Batches have `pixels`, which are all that the network sees."""

    def __init__(self, calibration: Batches, *, batches: int):
        """calibration: where the statistics are measured, drawn as for training."""
        super().__init__()
        self._calibration, self._batches = calibration, batches

    @property
    def network(self) -> nn.Module:
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        if not mode and self.training:
            self.calibrate()
        return super().train(mode)

    @torch.no_grad()
    def calibrate(self) -> None:
        """Batch norm's statistics for the present weights: means over the calibration batches."""
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm2d)]
        usual = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # all batches count alike
        device = next(self.parameters()).device
        for step in range(self._batches):
            self.network(to_device(self._calibration.batch(step, CALIBRATION_SIZE, 0, 1), device).pixels)
        for norm, momentum in zip(norms, usual, strict=True):
            norm.momentum = momentum

    def statistics(self) -> dict[str, Tensor]:
        """What the weights alone do not tell: see StageParts.completion."""
        self.train().eval()
        return {name: value.detach().clone() for name, value in self.named_buffers() if name in self.state_dict()}
