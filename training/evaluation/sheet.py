"""The worst cases of a tool, as pictures.

A row is a case, worst first: exemplar before and after, query, target, output, and three times the difference of
output and target on grey, all cut to the part that the edit changes and as much around it. Worst by relEPE, or by
in-region gain where no case's target moves. The sheets show people: look at them, do not publish them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from mirrorppr_core.picture_guard import open_picture

from .outputs import CaseFiles, ToolResult

CELL_PX, CAPTION_PX = 192, 18
COLUMNS = ("exemplar before", "exemplar after", "query", "target", "output", "output - target, x3")
DIFFERENCE_GAIN = 3
VISIBLE = 10  # grey levels of change that count
MARGIN, LEAST_SHARE = 0.4, 0.15  # around the change, of its side; smallest cut, of the picture


def worst_cases(cases: Sequence[CaseFiles], result: ToolResult, num: int) -> list[CaseFiles]:
    """Those with a picture of the tool's own, worst first."""
    scores = {case.index: result.honest[case.index] for case in cases if case.index in result.outputs}
    if any(score.relative_epe is not None for score in scores.values()):
        badness = {i: score.relative_epe for i, score in scores.items()}
    else:
        badness = {i: None if score.gain_db is None else -score.gain_db for i, score in scores.items()}
    ranked = sorted((case for case in cases if badness.get(case.index) is not None), key=lambda c: -badness[c.index])
    return ranked[:num]


def draw_sheet(cases: Sequence[CaseFiles], result: ToolResult) -> Image.Image:
    """One row for each case."""
    sheet = Image.new("RGB", (CELL_PX * len(COLUMNS), CAPTION_PX + len(cases) * (CELL_PX + CAPTION_PX)), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(COLUMNS):
        draw.text((column * CELL_PX + 4, 3), title, fill="black")
    for row, case in enumerate(cases):
        top = CAPTION_PX + row * (CELL_PX + CAPTION_PX)
        exemplar = _cut(case.exemplar_before, case.exemplar_after)
        query, target, output = _cut(case.query, case.target, result.outputs[case.index])
        cells = [*exemplar, query, target, output, _difference(output, target)]
        for column, cell in enumerate(cells):
            sheet.paste(cell, (column * CELL_PX, top))
        score = result.honest[case.index]
        error = "-" if score.relative_epe is None else f"{score.relative_epe:.2f}"
        gain = "-" if score.gain_db is None else f"{score.gain_db:+.1f} dB"
        draw.text((4, top + CELL_PX + 3), f"case {case.index}: {case.label}, relEPE {error}, gain {gain}", fill="black")
    return sheet


def _cut(before: Path, after: Path, *others: Path) -> list[Image.Image]:
    """All pictures at the size of `after`, cut to a square around where it differs from `before`."""
    pictures = []
    for path in (before, after, *others):
        with open_picture(path) as picture:
            pictures.append(picture.convert("RGB"))
    size = pictures[1].size
    pictures = [p if p.size == size else p.resize(size, Image.Resampling.BILINEAR) for p in pictures]
    changed = ImageChops.difference(pictures[0], pictures[1]).convert("L").point(lambda level: 255 * (level > VISIBLE))
    left, top, right, bottom = changed.getbbox() or (0, 0, *size)
    wanted = max(right - left, bottom - top, LEAST_SHARE * max(size)) * (0.5 + MARGIN)
    half = min(wanted, max(size) / 2)
    x, y = (left + right) / 2, (top + bottom) / 2
    box = [round(v) for v in (x - half, y - half, x + half, y + half)]
    return [p.crop(box).resize((CELL_PX, CELL_PX), Image.Resampling.LANCZOS) for p in pictures]


def _difference(output: Image.Image, target: Image.Image) -> Image.Image:
    difference = np.asarray(output, dtype=np.float32) - np.asarray(target, dtype=np.float32)
    return Image.fromarray(np.uint8((128 + DIFFERENCE_GAIN * difference).clip(0, 255)))
