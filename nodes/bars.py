"""An explanation as a picture: a bar for every name, to the right where it is positive, and what is left over."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from ..mirrorppr_core.mini.explain import Explanation

_WIDTH, _ROW, _MARGIN = 900, 64, 28
_MIDDLE, _HALF = 610, 200  # of the bars: where 0 is, and how far 100 % goes
_PAPER, _INK, _FAINT = (24, 24, 24), (235, 235, 235), (84, 84, 84)
_PLUS, _MINUS, _REST = (255, 214, 10), (90, 230, 255), (140, 140, 140)
_TEXT_PX, _SMALL_PX = 22, 17


def draw_bars(told: Explanation) -> Image.Image:
    rows = max(1, len(told.found)) + 1
    page = Image.new("RGB", (_WIDTH, rows * _ROW + 2 * _MARGIN), _PAPER)
    pen = ImageDraw.Draw(page)
    text, small = (ImageFont.load_default(size=px) for px in (_TEXT_PX, _SMALL_PX))
    bottom = _MARGIN + (rows - 1) * _ROW
    if told.found:
        for percent in (-100, 0, 100):
            x = _MIDDLE + percent / 100 * _HALF
            pen.line([(x, _MARGIN), (x, bottom)], fill=_FAINT, width=2)
    else:
        pen.text((_MARGIN, _MARGIN), "none of the named operations is in it", fill=_INK, font=text)
    for number, one in enumerate(told.found):
        top = _MARGIN + number * _ROW
        pen.text((_MARGIN, top + 4), one.slider.in_words, fill=_INK, font=text)
        pen.text((_MARGIN, top + 32), one.slider.name, fill=_REST, font=small)
        end = _MIDDLE + max(-1.0, min(1.0, one.percent / 100)) * _HALF
        colour = _PLUS if one.percent >= 0 else _MINUS
        pen.rectangle([min(_MIDDLE, end), top + 10, max(_MIDDLE, end), top + 44], fill=colour)
        pen.text((_MIDDLE + _HALF + 14, top + 14), f"{one.percent:+.0f}", fill=_INK, font=text)
    pen.text((_MARGIN, bottom + 14), "left over", fill=_INK, font=text)
    x0, x1 = _MIDDLE - _HALF, _MIDDLE + _HALF
    pen.rectangle([x0, bottom + 14, x1, bottom + 44], outline=_FAINT, width=2)
    pen.rectangle([x0, bottom + 14, x0 + told.left_over * (x1 - x0), bottom + 44], fill=_REST)
    pen.text((x1 + 14, bottom + 16), f"{told.left_over:.0%}", fill=_INK, font=text)
    return page
