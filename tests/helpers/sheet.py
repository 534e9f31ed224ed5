"""A labelled comparison sheet: rows of pictures, each with a caption, on one light page."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageChops, ImageDraw, ImageFont

PANEL_PX = 400  # every picture is scaled to fit this square
MARGIN_PX = 14
CAPTION_PX = 44
PAPER = (250, 250, 248)
INK = (30, 30, 30)


@dataclass(frozen=True)
class Panel:
    picture: Image.Image
    caption: str  # one or two lines


def draw_sheet(rows: list[list[Panel]]) -> Image.Image:
    """All rows, one below the other."""
    width = max(len(row) for row in rows) * (PANEL_PX + MARGIN_PX) + MARGIN_PX
    height = len(rows) * (PANEL_PX + CAPTION_PX + MARGIN_PX) + MARGIN_PX
    sheet = Image.new("RGB", (width, height), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    for r, row in enumerate(rows):
        for c, panel in enumerate(row):
            left = MARGIN_PX + c * (PANEL_PX + MARGIN_PX)
            top = MARGIN_PX + r * (PANEL_PX + CAPTION_PX + MARGIN_PX)
            picture = fit(panel.picture)
            sheet.paste(picture, (left + (PANEL_PX - picture.width) // 2, top + PANEL_PX - picture.height))
            pen.multiline_text((left, top + PANEL_PX + 5), panel.caption, fill=INK, font=font, spacing=3)
    return sheet


def fit(picture: Image.Image) -> Image.Image:
    scale = PANEL_PX / max(picture.size)
    return picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)


def difference(one: Image.Image, other: Image.Image, gain: float) -> Image.Image:
    """Where two pictures differ, amplified, dark on white."""
    return ImageChops.invert(ImageChops.difference(one, other).point(lambda value: min(255, round(gain * value))))
