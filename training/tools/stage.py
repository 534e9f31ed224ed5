"""The network for tools without a name as a stage of the curriculum: motions and landmarks alone, no pictures.

loss = mean error of the query's motion / mean length of it, over the area of the view (relEPE of each sample)
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.mini.carry import CarryNet, save_carry

from .family import ToolBatch

_HOPELESS = 3.0  # a sample that errs by more counts as this much: a tool that hardly shows on the query


class CarryStage(nn.Module):
    def __init__(self, view: CanonicalView):
        super().__init__()
        self.carry = CarryNet.of(view)

    def forward(self, batch: ToolBatch, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Nothing is drawn here. relEPE: in all; copied: of the plain copy, the mean over the exemplars."""
        errors = self._errors(self.carry.at_places(batch.condition), batch.target)
        with torch.no_grad():
            copied = self._errors(batch.motions.mean(1), batch.target).mean()
        loss = errors.clamp(max=_HOPELESS).mean()
        return loss, {"relEPE": float(loss.detach()), "copied": float(copied)}

    def _errors(self, made: Tensor, true: Tensor) -> Tensor:
        area = self.carry.area
        wrong, length = (made - true).norm(dim=-1) * area, true.norm(dim=-1) * area
        return wrong.sum(-1) / length.sum(-1).clamp(min=1e-6)


def save_trained(state: dict[str, Tensor], view: CanonicalView, path: Path) -> None:
    """The result of the stage as the file that a set holds. Strict."""
    network = CarryNet.of(view)
    network.load_state_dict({name.removeprefix("carry."): value for name, value in state.items()})
    save_carry(network, path)
