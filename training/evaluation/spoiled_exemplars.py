"""Exemplar pairs as they come out of real studios and apps: a known retouch, and one thing more that is none.

Paint (a strap removed, a text, a patch, glasses, another background), a picture made worse (softened, sharpened,
graded, saved as JPEG, reduced), layers that do not lie on each other (shifted, zoomed, turned, cropped, framed), and
edits so small that noise nearly hides them. Every spoil keeps the true motion known, in pixels of the `before` that it
returns.

Pictures are (1, 3, H, W) in [0, 1], multiples of 1/255.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from mirrorppr_core.geometry.displacement import pixel_grid, resize_displacement, sample, warp

from .benchmark_cases import to_eight_bits

_EYES = ((33, 133), (362, 263))  # corners of the eyes in the mesh


@dataclass(frozen=True, kw_only=True)
class Pair:
    """before, after: (1, 3, H, W).  truth: (1, 2, H, W) true motion.  mesh: (478, 2), the face in `before`.

    hidden: (1, 1, H, W) bool, what was painted over: no reading can be asked for there.  seed: of what is random.
    """

    before: Tensor
    after: Tensor
    truth: Tensor
    mesh: Tensor
    hidden: Tensor
    seed: int = 0

    @property
    def face(self) -> tuple[float, float, float, float]:
        """Left, top, width and height of the face."""
        low, high = self.mesh.amin(0).tolist(), self.mesh.amax(0).tolist()
        return low[0], low[1], high[0] - low[0], high[1] - low[1]

    @property
    def size(self) -> tuple[int, int]:
        return self.before.shape[-2], self.before.shape[-1]


@dataclass(frozen=True, kw_only=True)
class Spoil:
    """kind: what the bars ask of a group.  needs_note: the user must be told in every case."""

    name: str
    kind: str
    apply: Callable[[Pair], Pair]
    needs_note: bool = False


# Paint. `beside` the face and `on` it.


def _painted(pair: Pair, draw: Callable[[ImageDraw.ImageDraw, float], None], *, before: bool) -> Pair:
    """draw(canvas, unit) paints; unit: a fortieth of the face's width.  before: something that was removed."""
    side = pair.before if before else pair.after
    picture, mark = _to_pil(side), Image.new("L", pair.size[::-1], 0)
    draw(_Brush(picture, mark), pair.face[2] / 40)
    hidden = torch.from_numpy(np.array(mark) > 0)[None, None]
    painted = _from_pil(picture)
    sides = {"before": painted} if before else {"after": painted}
    return replace(pair, hidden=pair.hidden | hidden, **sides)


class _Brush:
    """Draws on a picture and marks where."""

    def __init__(self, picture: Image.Image, mark: Image.Image):
        self.picture, self.mark = picture, mark

    def __getattr__(self, name: str):
        def draw(*arguments, fill=None, **options):
            getattr(ImageDraw.Draw(self.picture), name)(*arguments, fill=fill, **options)
            getattr(ImageDraw.Draw(self.mark), name)(*arguments, fill=255, **options)

        return draw


def _strap(pair: Pair, on_face: bool) -> Pair:
    """A thin band that was there before and is not after."""
    left, top, width, height = pair.face
    rng = np.random.default_rng(pair.seed)
    if on_face:  # a strand of hair over a cheek
        side = rng.choice([0.15, 0.62])
        line = [(left + width * (side + 0.1), top + height * 0.4), (left + width * side, top + height * 0.95)]
    else:
        x = left + width * rng.choice([0.0, 0.85])
        line = [(x, top + height * 1.12), (x + width * 0.5 * rng.choice([-1, 1]), pair.size[0] - 1)]
    colour = tuple(int(c) for c in rng.choice([[40, 30, 30], [230, 225, 220], [120, 20, 30]]))
    return _painted(pair, lambda d, u: d.line(line, fill=colour, width=max(2, round(u * 1.8))), before=True)


def _text(pair: Pair, on_face: bool) -> Pair:
    left, top, width, height = pair.face
    place = (left + width * 0.1, top + height * 0.15) if on_face else (left * 0.2, top + height * 1.15)

    def draw(d, unit):
        size = max(12, unit * 5)
        d.text(place, "PROOF 0231", fill=(250, 250, 250), font=ImageFont.load_default(size=size))

    return _painted(pair, draw, before=False)


def _patch(pair: Pair, on_face: bool) -> Pair:
    left, top, width, height = pair.face
    rng = np.random.default_rng(pair.seed)
    x, y = (left + width * 0.55, top + height * 0.05) if on_face else (left + width * 0.95, top + height * 1.1)
    side = width * (0.25 if on_face else 0.6)
    colour = tuple(int(c) for c in rng.integers(0, 256, 3))
    return _painted(pair, lambda d, u: d.rectangle((x, y, x + side, y + side * 0.6), fill=colour), before=False)


def _bars(pair: Pair, on_face: bool) -> Pair:
    left, top, width, height = pair.face
    x, y = (left - width * 0.1, top + height * 0.02) if on_face else (left - width * 0.2, top + height * 1.15)

    def draw(d, unit):
        for i in range(3 if not on_face else 2):
            at = y + i * unit * 4.5
            d.rectangle((x, at, x + width * 1.1, at + unit * (2.6 if not on_face else 1.6)), fill="white")

    return _painted(pair, draw, before=False)


def _glasses(pair: Pair) -> Pair:
    def draw(d, unit):
        for a, b in _EYES:
            (x0, y0), (x1, y1) = pair.mesh[a].tolist(), pair.mesh[b].tolist()
            x, y, r = (x0 + x1) / 2, (y0 + y1) / 2, abs(x1 - x0) * 0.85
            d.ellipse((x - r, y - r * 0.75, x + r, y + r * 0.8), fill=(18, 16, 20))
        (x0, y0), (x1, y1) = pair.mesh[133].tolist(), pair.mesh[362].tolist()
        d.line([(x0, y0), (x1, y1)], fill=(18, 16, 20), width=max(2, round(unit * 1.2)))

    return _painted(pair, draw, before=False)


def _background(pair: Pair) -> Pair:
    """Everything outside a head and shoulders is another place."""
    left, top, width, height = pair.face
    matte = Image.new("L", pair.size[::-1], 0)
    d = ImageDraw.Draw(matte)
    d.ellipse((left - width * 0.45, top - height * 0.6, left + width * 1.45, top + height * 1.25), fill=255)
    d.polygon([(left - width, pair.size[0]), (left, top + height), (left + width, top + height),
               (left + width * 2, pair.size[0])], fill=255)  # fmt: skip
    share = _from_pil(matte.filter(ImageFilter.GaussianBlur(width / 60)).convert("RGB"))
    generator = torch.Generator().manual_seed(pair.seed)
    place = 0
    for cells in (3, 12, 48):
        noise = torch.rand(1, 3, cells, cells, generator=generator)
        place = place + F.interpolate(noise, pair.size, mode="bicubic", align_corners=False) / 3
    after = to_eight_bits(torch.lerp(place.clamp(0, 1), pair.after, share))
    return replace(pair, after=after, hidden=pair.hidden | (share[:, :1] < 0.99))


# A picture made worse.


def _both(pair: Pair, change: Callable[[Tensor], Tensor]) -> Pair:
    return replace(pair, before=change(pair.before), after=change(pair.after))


def _after(change: Callable[[Tensor, float], Tensor]) -> Callable[[Pair], Pair]:
    """change(picture, face width / 190)."""
    return lambda pair: replace(pair, after=to_eight_bits(change(pair.after, pair.face[2] / 190).clamp(0, 1)))


def _gauss(image: Tensor, sigma: float) -> Tensor:
    radius = max(1, math.ceil(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    taps = taps / taps.sum()
    planes = F.pad(image.transpose(0, 1), (radius,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(planes, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1)).transpose(0, 1)


def _median(image: Tensor, size: int) -> Tensor:
    return _from_pil(_to_pil(image).filter(ImageFilter.MedianFilter(size)))


def _odd(size: float) -> int:
    return max(3, 2 * round((size - 1) / 2) + 1)


def _graded(image: Tensor, _: float) -> Tensor:
    away = pixel_grid(*image.shape[-2:]) / max(image.shape[-2:]) - 0.5
    vignette = 1.08 - 0.5 * away.square().sum(1, keepdim=True)
    return image.clamp_min(1e-4) ** torch.tensor([0.75, 0.85, 1.0]).view(1, 3, 1, 1) * vignette * 1.05 - 0.02


def jpeg(image: Tensor, quality: int) -> Tensor:
    buffer = io.BytesIO()
    _to_pil(image).save(buffer, "JPEG", quality=quality)
    return _from_pil(Image.open(buffer))


def _resized(pair: Pair, scale: float) -> Pair:
    """Both pictures and their truth at another size."""
    size = tuple(round(side * scale) for side in pair.size)

    def resize(image: Tensor) -> Tensor:
        return to_eight_bits(F.interpolate(image, size, mode="bicubic", antialias=scale < 1).clamp(0, 1))

    hidden = F.interpolate(pair.hidden.float(), size, mode="bilinear") > 0
    mesh = (pair.mesh + 0.5) * scale - 0.5
    return replace(_both(pair, resize), truth=resize_displacement(pair.truth, *size), mesh=mesh, hidden=hidden)


# Layers that do not lie on each other. The truth stays that of `before`.


def _misplaced(pair: Pair, *, shift: float = 0.0, zoom: float = 1.0, degrees: float = 0.0) -> Pair:
    """The after picture as a whole, as an export or a hasty layer has it."""
    height, width = pair.size
    middle = torch.tensor([(width - 1) / 2, (height - 1) / 2]).view(1, 2, 1, 1)
    angle = math.radians(degrees)
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) / zoom
    sign = -1 if pair.seed % 2 else 1
    at = pixel_grid(height, width) - middle - torch.tensor([shift * 0.8 * sign, shift * 0.6]).view(1, 2, 1, 1)
    positions = torch.einsum("ij,bjhw->bihw", turn, at) + middle
    return replace(pair, after=to_eight_bits(sample(pair.after, positions).clamp(0, 1)))


def _cropped(pair: Pair) -> Pair:
    """4 % off two sides, exported as it is: another size."""
    y, x = (round(0.04 * side) for side in pair.size)
    return replace(pair, after=pair.after[..., y:, : pair.size[1] - x].contiguous())


def _framed(pair: Pair) -> Pair:
    after, rim = pair.after.clone(), round(0.024 * max(pair.size))
    for part in (after[..., :rim, :], after[..., -rim:, :], after[..., :rim], after[..., -rim:]):
        part.fill_(1.0)
    return replace(pair, after=after)


def _exported(pair: Pair) -> Pair:
    """After at 80 % of the size of before."""
    size = tuple(round(side * 0.8) for side in pair.size)
    after = F.interpolate(pair.after, size, mode="bicubic", antialias=True)
    return replace(pair, after=to_eight_bits(after.clamp(0, 1)))


# Small edits.


def small_edit(largest_px: float, *, side: int = 1500, quality: int = 95) -> Callable[[Pair], Pair]:
    """The same edit on an enlarged photo with grain, so weak that its largest motion is this; both saved as JPEG."""

    def apply(pair: Pair) -> Pair:
        pair = _resized(pair, side / max(pair.size))
        truth = pair.truth * (largest_px / pair.truth.norm(dim=1).amax())
        generator = torch.Generator().manual_seed(pair.seed)
        grain = torch.randn(pair.before.shape, generator=generator) * (2.5 / 255)
        before = pair.before + _gauss(grain, 0.6)
        return replace(pair, before=jpeg(before, quality), after=jpeg(warp(before, truth), quality), truth=truth)

    return apply


def _to_pil(image: Tensor) -> Image.Image:
    array = (image[0].clamp(0, 1).permute(1, 2, 0) * 255).round().byte().contiguous().numpy()
    return Image.fromarray(array)


def _from_pil(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255


PAINT, WORSE, MISPLACED, SMALL = "paint", "made worse", "misplaced", "small"
SPOILS = (
    Spoil(name="strap removed beside", kind=PAINT, apply=lambda p: _strap(p, False), needs_note=True),
    Spoil(name="strap removed on the face", kind=PAINT, apply=lambda p: _strap(p, True), needs_note=True),
    Spoil(name="bars beside", kind=PAINT, apply=lambda p: _bars(p, False), needs_note=True),
    Spoil(name="bars on the face", kind=PAINT, apply=lambda p: _bars(p, True), needs_note=True),
    Spoil(name="text beside", kind=PAINT, apply=lambda p: _text(p, False), needs_note=True),
    Spoil(name="text on the face", kind=PAINT, apply=lambda p: _text(p, True), needs_note=True),
    Spoil(name="patch beside", kind=PAINT, apply=lambda p: _patch(p, False), needs_note=True),
    Spoil(name="patch on the face", kind=PAINT, apply=lambda p: _patch(p, True), needs_note=True),
    Spoil(name="sunglasses", kind=PAINT, apply=_glasses, needs_note=True),
    Spoil(name="new background", kind=PAINT, apply=_background, needs_note=True),
    Spoil(name="median 7", kind=WORSE, apply=_after(lambda i, u: _median(i, _odd(7 * u)))),
    Spoil(name="Gaussian 2 px", kind=WORSE, apply=_after(lambda i, u: _gauss(i, 2 * u))),
    Spoil(name="sharpened", kind=WORSE, apply=_after(lambda i, u: i + 1.2 * (i - _gauss(i, 1.5 * u)))),
    Spoil(name="graded", kind=WORSE, apply=_after(_graded)),
    Spoil(name="1.5 times brighter", kind=WORSE, apply=_after(lambda i, u: i * 1.5)),
    Spoil(name="JPEG 75", kind=WORSE, apply=lambda p: _both(p, lambda i: jpeg(i, 75))),
    Spoil(name="JPEG 40", kind=WORSE, apply=lambda p: _both(p, lambda i: jpeg(i, 40))),
    Spoil(name="half the size", kind=WORSE, apply=lambda p: _resized(p, 0.5)),
    Spoil(name="zoomed 3 %", kind=MISPLACED, apply=lambda p: _misplaced(p, zoom=1.03)),
    Spoil(name="shifted 10 px", kind=MISPLACED, apply=lambda p: _misplaced(p, shift=10)),
    Spoil(name="turned 2 degrees", kind=MISPLACED, apply=lambda p: _misplaced(p, degrees=2)),
    Spoil(name="zoomed, shifted, turned", kind=MISPLACED, apply=lambda p: _misplaced(p, shift=4, zoom=0.98, degrees=1)),
    Spoil(name="cropped 4 %", kind=MISPLACED, apply=_cropped),
    Spoil(name="framed", kind=MISPLACED, apply=_framed),
    Spoil(name="after at 80 %", kind=MISPLACED, apply=_exported),
    Spoil(name="at most 2 px of 1500", kind=SMALL, apply=small_edit(2.0)),
    Spoil(name="at most 1 px of 1500", kind=SMALL, apply=small_edit(1.0)),
    Spoil(name="at most 0.5 px of 1500", kind=SMALL, apply=small_edit(0.5)),
)
