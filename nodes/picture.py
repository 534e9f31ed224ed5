"""Motion drawn for people: arrows or colours on the photo, with the longest motion written below.

Every picture shows a square of the photo with a line of text under it, whatever the photo's size and shape, so that
the pictures of a batch fit together. Fields are backward, out(p) = in(p + d): what is drawn is where a spot of the
photo *went*, from p + d to p.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..mirrorppr_core.faces.locator import Face
from ..mirrorppr_core.geometry.displacement import pixel_grid
from ..mirrorppr_core.geometry.field import Field
from ..mirrorppr_core.images import reduce

STYLES = ("arrows", "colour")

_SIDE = 768
_SPACING = 30  # between arrows
_LONGEST = 54  # arrow; shorter motion is drawn in proportion, below _SHORTEST not at all
_SHORTEST = 4
_PAPER, _INK = (24, 24, 24), (235, 235, 235)
_GREY = 0.55
_YELLOW, _BLACK, _CYAN, _GREEN = (255, 214, 10), (0, 0, 0), (90, 230, 255), (80, 230, 120)


@dataclass(frozen=True)
class Square:
    """A square of the photo, in photo pixels, drawn _SIDE pixels wide. It may reach over the photo's edge."""

    left: float
    top: float
    side: float

    @property
    def scale(self) -> float:
        """Drawn pixels per photo pixel."""
        return _SIDE / self.side

    def drawn(self, points: Tensor) -> Tensor:
        """(..., 2) photo pixels -> drawn pixels."""
        return (points - points.new_tensor([self.left, self.top]) + 0.5) * self.scale - 0.5


def draw_field(field: Field, ground: Tensor | None, *, style: str, close_up: bool) -> Image.Image:
    """One field on its photo (1, C, H, W), or on grey."""
    if style not in STYLES:
        raise ValueError(f"style={style!r}: use {' or '.join(STYLES)}")
    box = field.box if close_up and field.displacement.numel() else (0, 0, field.width, field.height)
    square = _around(box)
    picture = _looked_at(ground, field, square)
    draw = _draw_arrows if style == "arrows" else _draw_colours
    explanation = draw(picture, field, square)
    return _with_text(picture, f"{_in_words(field)}{explanation}")


def draw_findings(photo: Tensor, face: Face, motion: Field) -> Image.Image:
    """An exemplar and what was read from it: the whole photo with the face's box, and the face with its motion."""
    whole, close = _around((0, 0, motion.width, motion.height)), _around(face.box, margin=1.35)
    left = _looked_at(photo, motion, whole)
    _draw_box(left, whole.drawn(torch.tensor(face.box).view(2, 2)))
    right = _looked_at(photo, motion, close)
    _draw_dots(right, close.drawn(face.landmarks))
    explanation = _draw_arrows(right, motion, close)
    both = Image.new("RGB", (2 * _SIDE, _SIDE))
    both.paste(left, (0, 0))
    both.paste(right, (_SIDE, 0))
    return _with_text(both, f"{_in_words(motion)}{explanation}")


def draw_comparison(before: Tensor, after: Tensor, field: Field | None, *, gain: float, close_up: bool) -> Image.Image:
    """Before, after, their difference times `gain` on grey and, with a field, how far each spot went.

    before, after: (1, C, H, W).  close_up: only where pixels changed.
    """
    change = (after[:, :3] - before[:, :3]).abs().amax(dim=1)[0]
    square = _around(_box_of(change) if close_up else (0, 0, change.shape[1], change.shape[0]), margin=1.1)
    still = Field.zero(*change.shape)
    grey = (0.5 + gain * (after[:, :3] - before[:, :3])).clamp(0, 1)
    panels = [("before", _looked_at(before, still, square)), ("after", _looked_at(after, still, square))]
    panels.append((f"difference x {gain:g}", _looked_at(grey, still, square)))
    if field is not None:
        panels.append((f"motion, {_in_words(field)}", _heat(field, square)))
    page = Image.new("RGB", (2 * _SIDE, 2 * (_SIDE + 2 * (_SIDE // 30))), _PAPER)
    for number, (words, picture) in enumerate(panels):
        page.paste(_with_text(picture, words), (number % 2 * _SIDE, number // 2 * (page.height // 2)))
    return page


def draw_faces(photo: Tensor, faces: list[Face], chosen: list[Face]) -> Image.Image:
    """The photo with a number on every face, counted from the left; those chosen in green, the others in grey."""
    height, width = photo.shape[-2:]
    square = _around((0, 0, width, height))
    picture = _looked_at(photo, Field.zero(height, width), square)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=_SIDE // 20)
    for number, face in enumerate(sorted(faces, key=lambda one: one.box[0]), start=1):
        (x0, y0), (x1, y1) = square.drawn(torch.tensor(face.box).view(2, 2)).tolist()
        colour = _GREEN if any(face is one for one in chosen) else (150, 150, 150)
        pen.rectangle((x0 - 4, y0 - 4, x1 + 4, y1 + 4), outline=colour, width=4)
        pen.text((x0, y0), str(number), fill=colour, font=font, stroke_width=3, stroke_fill=_BLACK)
    return _with_text(picture, f"{len(faces)} face(s) found, {len(chosen)} chosen; numbers count from the left")


def draw_motion_preview(latent: Tensor) -> Image.Image:
    """The motion while it forms, in colours.  latent: (1, 2, N, N), any unit."""
    strength = latent.norm(dim=1)[0]
    colours = _colours(-latent[0]) * (strength / strength.amax().clamp(min=1e-6))
    return _to_picture(colours).resize((256, 256), Image.Resampling.BICUBIC)


def draw_photo(photo: Tensor, side: int) -> Image.Image:
    """A photo (1, C, H, W) made small."""
    return _to_picture(reduce(photo, max(1, max(photo.shape[-2:]) // side))[0])


def _around(box: tuple[float, float, float, float], margin: float = 1.0) -> Square:
    x0, y0, x1, y1 = box
    side = margin * max(x1 - x0, y1 - y0, 16)
    return Square(left=(x0 + x1 - side) / 2, top=(y0 + y1 - side) / 2, side=side)


def _looked_at(photo: Tensor | None, field: Field, square: Square) -> Image.Image:
    """The part of the photo (grey without one) that the square sees; dark beyond the photo's edge."""
    canvas = Image.new("RGB", (_SIDE, _SIDE), _PAPER)
    left, top = max(0, math.floor(square.left)), max(0, math.floor(square.top))
    right = min(field.width, math.ceil(square.left + square.side))
    bottom = min(field.height, math.ceil(square.top + square.side))
    size = max(1, round((right - left) * square.scale)), max(1, round((bottom - top) * square.scale))
    if photo is None:
        part = Image.new("RGB", size, tuple(round(255 * _GREY) for _ in range(3)))
    else:
        factor = max(1, int(1 / square.scale))
        part = _to_picture(reduce(photo[..., top:bottom, left:right], factor)[0])
        part = part.resize(size, Image.Resampling.BICUBIC)
    canvas.paste(part, (round((left - square.left) * square.scale), round((top - square.top) * square.scale)))
    return canvas


def _seen(field: Field, square: Square) -> Tensor:
    """Displacement in photo pixels at every drawn pixel, zero outside the field's box: (2, _SIDE, _SIDE)."""
    if not field.displacement.numel():
        return torch.zeros(2, _SIDE, _SIDE)
    points = (pixel_grid(_SIDE, _SIDE) + 0.5) / square.scale - 0.5  # photo pixels from the square's corner
    points = points + torch.tensor([square.left - field.left, square.top - field.top]).view(2, 1, 1)
    height, width = field.displacement.shape[-2:]
    grid = (points + 0.5) * 2 / torch.tensor([width, height]).view(2, 1, 1) - 1
    return F.grid_sample(field.displacement, grid.movedim(1, -1), mode="bilinear", align_corners=False)[0]


def _heat(field: Field, square: Square) -> Image.Image:
    """Black where nothing moved, over red and yellow to white where most did."""
    share = _seen(field, square).norm(dim=0) / max(field.max_px, 1e-6)
    return _to_picture(torch.stack([3 * share, 3 * share - 1, 3 * share - 2]))


def _box_of(change: Tensor) -> tuple[float, float, float, float]:
    """Around all changed pixels of (H, W); the whole picture where none changed."""
    rows, columns = (change > 0).any(dim=1).nonzero().flatten(), (change > 0).any(dim=0).nonzero().flatten()
    if not len(rows):
        return 0, 0, change.shape[1], change.shape[0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _draw_arrows(picture: Image.Image, field: Field, square: Square) -> str:
    """Returns what the text should add."""
    seen = _seen(field, square) * square.scale
    longest = float(seen.norm(dim=0).amax())
    if longest < 1e-3:
        return ""
    gain = _LONGEST / longest
    pen = ImageDraw.Draw(picture)
    for y in range(_SPACING // 2, _SIDE, _SPACING):
        for x in range(_SPACING // 2, _SIDE, _SPACING):
            dx, dy = (-gain * seen[:, y, x]).tolist()  # the way it went
            if math.hypot(dx, dy) >= _SHORTEST:
                _draw_arrow(pen, x - dx / 2, y - dy / 2, x + dx / 2, y + dy / 2)
    return f"; arrows lengthened {gain:.2g} times" if gain > 1.05 else ""


def _draw_arrow(pen: ImageDraw.ImageDraw, x0: float, y0: float, x1: float, y1: float) -> None:
    angle, head = math.atan2(y1 - y0, x1 - x0), min(9.0, 0.5 * math.hypot(x1 - x0, y1 - y0) + 2)
    barbs = [(x1 - head * math.cos(angle + turn), y1 - head * math.sin(angle + turn)) for turn in (0.5, -0.5)]
    for colour, width in ((_BLACK, 6), (_YELLOW, 3)):  # the outline keeps it legible on any skin
        pen.line([(x0, y0), (x1, y1)], fill=colour, width=width)
        pen.line([barbs[0], (x1, y1), barbs[1]], fill=colour, width=width, joint="curve")


def _draw_colours(picture: Image.Image, field: Field, square: Square) -> str:
    """Returns what the text should add."""
    seen = _seen(field, square)
    cover = (seen.norm(dim=0) / max(field.max_px, 1e-6)).clamp(0, 1).sqrt() * 0.85
    ground = torch.from_numpy(np.asarray(picture.convert("L")).copy()).float() / 255
    mixed = ground * (1 - cover) + _colours(-seen) * cover
    picture.paste(_to_picture(mixed), (0, 0))
    wheel = pixel_grid(96, 96)[0] - 47.5
    disc = (wheel.norm(dim=0) <= 47).float()
    stamp = _to_picture(_colours(wheel) * (wheel.norm(dim=0) / 48))
    picture.paste(stamp, (_SIDE - 108, _SIDE - 108), Image.fromarray((disc * 255).byte().numpy()))
    return "; the wheel shows which way a colour goes"


def _colours(vectors: Tensor) -> Tensor:
    """A hue for each direction.  vectors: (2, h, w).  Returns (3, h, w)."""
    angle = torch.atan2(vectors[1], vectors[0])
    return torch.stack([0.5 + 0.5 * torch.cos(angle - third * 2 * math.pi / 3) for third in range(3)])


def _draw_dots(picture: Image.Image, points: Tensor) -> None:
    pen = ImageDraw.Draw(picture)
    for x, y in points.tolist():
        pen.ellipse((x - 2.5, y - 2.5, x + 2.5, y + 2.5), fill=_CYAN, outline=_BLACK)


def _draw_box(picture: Image.Image, corners: Tensor) -> None:
    (x0, y0), (x1, y1) = corners.tolist()
    ImageDraw.Draw(picture).rectangle((x0 - 6, y0 - 6, x1 + 6, y1 + 6), outline=_GREEN, width=4)


def _in_words(field: Field) -> str:
    longest = field.max_px
    return f"largest motion {longest:.1f} px" if longest else "nothing moved"


def _with_text(picture: Image.Image, text: str) -> Image.Image:
    font_px = picture.width // 30  # still legible where the page shows the picture small
    page = Image.new("RGB", (picture.width, picture.height + 2 * font_px), _PAPER)
    page.paste(picture, (0, 0))
    font = ImageFont.load_default(size=font_px)
    ImageDraw.Draw(page).text((font_px / 2, picture.height + font_px / 3), text, fill=_INK, font=font)
    return page


def _to_picture(image: Tensor) -> Image.Image:
    """(3, H, W) in [0, 1] -> RGB picture."""
    array = (image[:3].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    return Image.fromarray(array.contiguous().cpu().numpy())
