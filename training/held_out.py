"""Scores and pictures on people never trained on, while a stage trains.

The averaged weights are judged, on the same held-out batches and noise every time. An engine's examiner adds what a
loss cannot say (relEPE and PSNR gain of whole predictions) and the columns of the sample sheet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from PIL import Image, ImageDraw
from torch import Tensor, nn

from .batches import to_device

SHEET_ROWS = 6
_CELL_PX = 192
_CAPTION_PX = 16


class Examiner(Protocol):
    """What an engine measures beyond its loss. The module is in eval mode, without gradients."""

    def numbers(self, module: nn.Module, batch: Any, generator: torch.Generator) -> dict[str, float]:
        """Scores of whole predictions. The names overwrite those of the loss's own numbers."""
        ...

    def pictures(self, module: nn.Module, batch: Any, generator: torch.Generator) -> Mapping[str, Tensor]:
        """Column title -> (B, 3, H, W) in [0, 1]; empty where a stage has nothing to show."""
        ...


@torch.no_grad()
def examine(
    module: nn.Module,
    validation: Any,
    examiner: Examiner | None,
    accelerator: Accelerator,
    *,
    size: int,
    batches: int,
    with_sheet: bool,
) -> tuple[dict[str, float], Image.Image | None]:
    """Mean loss and numbers over the first held-out batches of `size`, and the sheet of the first."""
    module.eval()
    rows, sheet = [], None
    with accelerator.autocast():
        for index in range(batches):
            batch = to_device(validation.batch(index, size, 0, 1), accelerator.device)
            loss, numbers = module(batch, torch.Generator().manual_seed(index))
            row = {"loss": float(loss), **numbers}
            if examiner is not None:
                row |= examiner.numbers(module, batch, torch.Generator().manual_seed(index))
                if with_sheet and index == 0:
                    columns = examiner.pictures(module, batch, torch.Generator().manual_seed(index))
                    sheet = draw_sheet(columns) if columns else None
            rows.append(row)
    module.train()
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}, sheet


def draw_sheet(columns: Mapping[str, Tensor]) -> Image.Image:
    """A row for each of the first people, a captioned column for each entry."""
    rows = min(SHEET_ROWS, *(len(pictures) for pictures in columns.values()))
    sheet = Image.new("RGB", (_CELL_PX * len(columns), _CAPTION_PX + _CELL_PX * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for column, (title, pictures) in enumerate(columns.items()):
        draw.text((column * _CELL_PX + 4, 2), title, fill="black")
        for row in range(rows):
            pixels = (pictures[row].float().clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
            cell = Image.fromarray(pixels).resize((_CELL_PX, _CELL_PX), Image.Resampling.BICUBIC)
            sheet.paste(cell, (column * _CELL_PX, _CAPTION_PX + row * _CELL_PX))
    return sheet
