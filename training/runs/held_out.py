"""Scores and pictures on people never trained on, while a stage trains.

The averaged weights are judged, on the same held-out batches and noise every time. An engine's examiner adds what a
loss cannot say (relEPE and PSNR gain of whole predictions) and the columns of the sample sheet, with their own scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from PIL import Image, ImageDraw, ImageOps
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

    def sheet_numbers(self, batch: Any, columns: Mapping[str, Tensor]) -> dict[str, float]:
        """Scores of these pictures, where they cost too much to be made for every batch; the same names every time."""
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
    """Mean loss and numbers over the first held-out batches of `size`, and the sheet of the first people in them."""
    module.eval()
    rows, shown, scored = [], [], []
    with accelerator.autocast():
        for index in range(batches):
            batch = to_device(validation.batch(index, size, 0, 1), accelerator.device)
            loss, numbers = module(batch, torch.Generator().manual_seed(index))
            row = {"loss": float(loss), **numbers}
            if examiner is not None:
                row |= examiner.numbers(module, batch, torch.Generator().manual_seed(index))
                if with_sheet and len(shown) < SHEET_ROWS:
                    columns = examiner.pictures(module, batch, torch.Generator().manual_seed(index))
                    if columns:
                        shown += [
                            dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
                        ]
                        scored.append(examiner.sheet_numbers(batch, columns))
            rows.append(row)
    module.train()
    return {**_means(rows), **_means(scored)}, draw_sheet(shown[:SHEET_ROWS]) if shown else None


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in (rows[0] if rows else ())}


def draw_sheet(rows: Sequence[Mapping[str, Tensor]]) -> Image.Image:
    """A row for each person: column title -> (3, H, W) in [0, 1]. Pictures keep their shape."""
    titles = list(rows[0])
    sheet = Image.new("RGB", (_CELL_PX * len(titles), _CAPTION_PX + _CELL_PX * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((column * _CELL_PX + 4, 2), title, fill="black")
        for row, cells in enumerate(rows):
            pixels = (cells[title].float().clamp(0, 1).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
            cell = ImageOps.contain(Image.fromarray(pixels), (_CELL_PX, _CELL_PX), Image.Resampling.BICUBIC)
            sheet.paste(cell, (column * _CELL_PX, _CAPTION_PX + row * _CELL_PX))
    return sheet
