"""All results of an album on one picture, the most doubtful first: what a person looks through before delivering.

Each photo stands there twice, as it was and as it is now, at 2 x 160 pixels. These small pictures are kept beside the
journal while the album is made, so that the sheet of an album that was stopped and continued is complete.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ..file_writing import replacing
from ..images import reduce
from ..photo_files import Photo
from ..picture_guard import PictureError, open_picture
from .doubt import ranked

FOLDER = "album"  # below the results: journal, small pictures, report and sheet
MAX_ON_SHEET = 200  # the rest is the least doubtful
_SIDE = 160
_TEXT_PX = 13
_LINES = 3
_COLUMNS = 4
_GAP = 8
_PAPER, _INK, _WARNING = (24, 24, 24), (235, 235, 235), (255, 170, 60)


def thumbnail_file(out: Path, name: str) -> Path:
    return out / FOLDER / "small" / f"{name}.jpg"


def write_thumbnail(out: Path, name: str, before: Photo, after: Photo | None) -> None:
    """before and after side by side; after is None where the photo was left unchanged."""
    target = thumbnail_file(out, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    both = Image.new("RGB", (2 * _SIDE, _SIDE), _PAPER)
    for column, photo in enumerate((before, after)):
        if photo is not None:
            small = _small(photo)
            both.paste(small, (column * _SIDE + (_SIDE - small.width) // 2, (_SIDE - small.height) // 2))
    with replacing(target) as stream:
        both.save(stream, format="JPEG", quality=88)


def draw_album_sheet(rows: list[dict[str, Any]], out: Path) -> Image.Image:
    """rows: of a journal.  Photos without a small picture (unreadable files) are told in words alone."""
    shown = ranked(rows)[:MAX_ON_SHEET]
    cell_width, cell_height = 2 * _SIDE + _GAP, _SIDE + _LINES * (_TEXT_PX + 4) + _GAP
    num_rows = -(-len(shown) // _COLUMNS)
    sheet = Image.new("RGB", (min(_COLUMNS, len(shown)) * cell_width + _GAP, num_rows * cell_height + _GAP), _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=_TEXT_PX)
    for place, row in enumerate(shown):
        left, top = _GAP + place % _COLUMNS * cell_width, _GAP + place // _COLUMNS * cell_height
        small = thumbnail_file(out, row["output"])
        if small.is_file():
            with suppress(PictureError), open_picture(small) as picture:  # a damaged one is no reason to show none
                sheet.paste(picture.convert("RGB"), (left, top))
        for line, (text, colour) in enumerate(_words(row)):
            pen.text((left, top + _SIDE + 2 + line * (_TEXT_PX + 4)), _fitting(text, font), fill=colour, font=font)
    return sheet


def _words(row: dict[str, Any]) -> list[tuple[str, tuple[int, int, int]]]:
    if "error" in row:
        return [
            (row["output"], _INK),
            ("unchanged" if row["written"] else "not readable", _WARNING),
            (row["error"], _WARNING),
        ]
    sure = row.get("confidence")
    motion = f"{row['largest_displacement_px']:.1f} px, " + (
        f"doubt {row['doubt']:.2f}" if sure is None else f"confidence {sure:.2f}"
    )
    return [(row["output"], _INK), (motion, _INK), *((note, _WARNING) for note in row["notes"][:1])]


def _fitting(text: str, font: ImageFont.ImageFont) -> str:
    if font.getlength(text) <= 2 * _SIDE:
        return text
    while text and font.getlength(text + "...") > 2 * _SIDE:
        text = text[:-1]
    return text + "..."


def _small(photo: Photo) -> Image.Image:
    factor = max(1, max(photo.pixels.shape[-2:]) // (2 * _SIDE))
    reduced = (reduce(photo.pixels, factor)[0] * 255).clamp(0, 255).round().byte().permute(1, 2, 0)
    picture = Image.fromarray(reduced.contiguous().numpy())
    picture.thumbnail((_SIDE, _SIDE))
    return picture
