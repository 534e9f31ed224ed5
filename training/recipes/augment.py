"""Self-augmentation: one random A for both pictures of a pair, as one sampling.

    query = A(before),   target = A(after),   A = scale, crop, rotation, flip, aspect

The operation stays the same and its coordinates do not, which is what teaches a network to copy the one and not the
other. Ranges are those of the published helper (crop area 0.55..1, aspect 1/3..3, -15..15 degrees in steps of 5, flip
with probability 1/2). It crops, rotates and resizes one after the other and leaves black corners; here the three are
one affine map from output pixels to the photo, sampled once, so corners show what the photo has there, and beyond the
photo its border goes on, as everywhere in this package.

Pixels, x then y, the centre of the top-left pixel at (0, 0); sizes are (H, W). N points.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.geometry.displacement import MINIFYING_STRETCH, sample
from mirrorppr_core.images import as_float

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; the ends are excluded

_MULTIPLE = 16  # sides of outputs of free shape, as published
_SOFTENING = 0.5 / 12  # of the variance of a pixel's area, per tap; bilinear sampling itself does the rest
_REACH = 3  # px that bicubic sampling looks beyond a position
_POSE_PAIRS = ((1, 4), (2, 5), (3, 6), *((i, i + 1) for i in (7, 9, *range(11, 33, 2))))
_IRIS_PAIRS = ((468, 473), (469, 476), (470, 475), (471, 474), (472, 477))
_MIDLINE = (0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 94, 151, 152, 164, 168, 175, 195, 197,
            199, 200)  # fmt: skip


def _mirror(num: int, pairs) -> tuple[int, ...]:
    partner = list(range(num))
    for right, left in pairs:
        partner[right], partner[left] = left, right
    return tuple(partner)


# Left/right partner of every point. FaceMesh counts the right half first and the left one in the same order.
MIRROR_478 = _mirror(478, [*zip((i for i in range(248) if i not in _MIDLINE), range(248, 468), strict=True),
                           *_IRIS_PAIRS])  # fmt: skip
MIRROR_POSE = _mirror(33, _POSE_PAIRS)


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Where A is drawn from. The defaults are the published ones but for `stretch`."""

    area: tuple[float, float] = (0.55, 1.0)  # of the photo that is kept
    aspect: tuple[float, float] = (1 / 3, 3.0)  # width over height of the crop, where the output may have any shape
    stretch: tuple[float, float] = (0.9, 1.1)  # the same, relative to the output's, where that is given
    degrees: tuple[float, ...] = (-15, -10, -5, 0, 5, 10, 15)
    flip: float = 0.5  # probability
    output_area: int = 1024**2  # px, of outputs of free shape

    def __post_init__(self) -> None:
        for name, lowest, highest in (("area", 0, 1), ("aspect", 0, math.inf), ("stretch", 0, math.inf)):
            low, high = getattr(self, name)
            if not lowest < low <= high <= highest:
                raise ValueError(f"{name}={low, high}: use a lower and an upper end above {lowest}, up to {highest}")
        if not self.degrees or max(map(abs, self.degrees)) > 45:
            raise ValueError(f"degrees={self.degrees}: list angles of -45 to 45, (0,) for none")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip={self.flip}: a probability lies between 0 and 1")
        if self.output_area < _MULTIPLE**2:
            raise ValueError(f"output_area={self.output_area} px: use {_MULTIPLE**2} or more")


@dataclass(frozen=True, kw_only=True)
class View:
    """An affine look at a photo: the output pixel q shows the photo at `linear` q + `shift`."""

    linear: tuple[tuple[float, float], tuple[float, float]]  # rows
    shift: tuple[float, float]
    size: tuple[int, int]  # of the output

    @classmethod
    def whole(cls, size: tuple[int, int]) -> View:
        """The photo as it is."""
        return cls(linear=((1.0, 0.0), (0.0, 1.0)), shift=(0.0, 0.0), size=size)

    @property
    def flipped(self) -> bool:
        (a, b), (c, d) = self.linear
        return a * d - b * c < 0

    @property
    def steps(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """How far the photo position moves per output pixel along x and along y, as two vectors."""
        (a, b), (c, d) = self.linear
        return (a, c), (b, d)

    def positions(self, box: Box) -> Tensor:
        """Where the output pixels of a box lie in the photo, (1, 2, h, w)."""
        (a, b), (c, d) = self.linear
        x, y = torch.arange(box[0], box[2]).float(), torch.arange(box[1], box[3]).float()[:, None]
        return torch.stack([a * x + (b * y + self.shift[0]), c * x + (d * y + self.shift[1])])[None]

    def vectors(self, moved: Tensor) -> Tensor:
        """Photo vectors (1, 2, h, w) in output pixels."""
        (a, b), (c, d) = _inverse(self.linear)
        x, y = moved[:, :1], moved[:, 1:]
        return torch.cat([a * x + b * y, c * x + d * y], 1)

    def points(self, points: Tensor) -> Tensor:
        """Photo points (N, 2) in output pixels."""
        return (points - points.new_tensor(self.shift)) @ points.new_tensor(_inverse(self.linear)).mT

    def landmarks(self, landmarks: Tensor) -> Tensor:
        """The landmarks of the output: a mesh (478, 2) or a pose (33, 2..4), with sides exchanged by a flip.

        A pose's z scales as the picture does; its visibility stays.
        """
        moved = torch.cat([self.points(landmarks[:, :2]), landmarks[:, 2:]], 1)
        if landmarks.shape[1] > 2:
            (a, b), (c, d) = self.linear
            moved[:, 2] /= abs(a * d - b * c) ** 0.5
        if not self.flipped:
            return moved
        return moved[list(MIRROR_478 if len(landmarks) == 478 else MIRROR_POSE)]

    def extent(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom of what the output's pixels show of the photo."""
        ends = [(x, y) for x in (0, self.size[1] - 1) for y in (0, self.size[0] - 1)]
        return _extent(ends, self.linear, self.shift)

    def box_around(self, box: tuple[float, float, float, float]) -> Box | None:
        """Output pixels that may show a box of the photo; None if none does."""
        corners = [(x - self.shift[0], y - self.shift[1]) for x in (box[0], box[2]) for y in (box[1], box[3])]
        left, top, right, bottom = _extent(corners, _inverse(self.linear), (0.0, 0.0))
        left, top = max(0, math.floor(left)), max(0, math.floor(top))
        right, bottom = min(self.size[1], math.ceil(right) + 1), min(self.size[0], math.ceil(bottom) + 1)
        return (left, top, right, bottom) if left < right and top < bottom else None


def draw_view(
    generator: torch.Generator,
    photo: tuple[int, int],
    *,
    keep: tuple[float, float, float, float] | None = None,
    size: tuple[int, int] | None = None,
    may_flip: bool = True,
    config: AugmentConfig = AugmentConfig(),
) -> View:
    """A at random for a photo of this size (H, W).

    keep: left, top, right, bottom of what must stay in the picture, pixels; the crop grows for it, beyond the photo
    only if it must.  size: (H, W) of the output; None draws the shape too, of about `output_area`, sides in steps
    of 16.  may_flip: False for operations that a flip would change. The same number of random numbers is drawn in
    any case.
    """
    area, shape, turn, flip, place_x, place_y = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
    height, width = photo
    low, high = config.aspect if size is None else config.stretch
    aspect = (low + (high - low) * shape) * (1 if size is None else size[1] / size[0])
    kept = (config.area[0] + (config.area[1] - config.area[0]) * area) * width * height
    crop = [math.sqrt(kept * aspect), math.sqrt(kept / aspect)]  # width, height
    degrees = config.degrees[min(int(turn * len(config.degrees)), len(config.degrees) - 1)]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    low_uv, high_uv = _turned_extent(keep, cos, sin) if keep else ([0.0, 0.0], [0.0, 0.0])
    needed = [high_uv[0] - low_uv[0], high_uv[1] - low_uv[1]]
    if size is None:
        crop = [max(min(side, limit), need) for side, limit, need in zip(crop, (width, height), needed, strict=True)]
        size = _free_size(crop[0] / crop[1], config.output_area)
    else:
        fit = min(1.0, width / crop[0], height / crop[1])
        grow = max(fit, needed[0] / crop[0], needed[1] / crop[1])
        crop = [side * grow for side in crop]
    # Anywhere inside the photo (about its middle if it is too small), then as little aside as `keep` asks for.
    centre = [_between(share, side / 2, limit - side / 2)
              for share, side, limit in zip((place_x, place_y), crop, (width, height), strict=True)]  # fmt: skip
    if keep:
        turned = [cos * centre[0] + sin * centre[1], -sin * centre[0] + cos * centre[1]]
        turned = [min(max(value, high - side / 2), low + side / 2)
                  for value, low, high, side in zip(turned, low_uv, high_uv, crop, strict=True)]  # fmt: skip
        centre = [cos * turned[0] - sin * turned[1], sin * turned[0] + cos * turned[1]]
    scale_x, scale_y = crop[0] / size[1], crop[1] / size[0]
    if may_flip and flip < config.flip:
        scale_x = -scale_x
    linear = ((cos * scale_x, -sin * scale_y), (sin * scale_x, cos * scale_y))
    middle = (size[1] / 2 - 0.5, size[0] / 2 - 0.5)
    shift = tuple(c - 0.5 - row[0] * middle[0] - row[1] * middle[1] for c, row in zip(centre, linear, strict=True))
    return View(linear=linear, shift=shift, size=size)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The part of a photo that a view shows, made ready for its scale."""

    pixels: Tensor  # (1, C, h, w)
    corner: Tensor  # (2, 1, 1) photo position of its first pixel's edge
    factor: int  # photo pixels per pixel
    mode: str

    def at(self, positions: Tensor) -> Tensor:
        """positions: (1, 2, h, w) in the photo.  Returns (1, C, h, w) in [0, 1]."""
        inside = positions - self.corner
        if self.factor > 1:
            inside = (inside + 0.5) / self.factor - 0.5
        sampled = sample(self.pixels, inside, mode=self.mode)
        return sampled.clamp_(0, 1) if self.mode == "bicubic" else sampled

    def through(self, view: View) -> Tensor:
        """What a view shows, (1, C, h, w) in [0, 1]."""
        if self.mode == "bicubic":
            return self.at(view.positions((0, 0, view.size[1], view.size[0])))
        # The same as `at`, with all that is linear put together: grid_sample counts from -1 to 1 across the picture.
        columns, rows = torch.arange(view.size[1]).float(), torch.arange(view.size[0]).float()[:, None]
        planes = []
        for (in_x, in_y), shift, corner, side in zip(
            view.linear, view.shift, self.corner.flatten().tolist(), self.pixels.shape[:1:-1], strict=True
        ):
            unit = 2 / (self.factor * side)
            planes.append(columns * (unit * in_x) + (rows * (unit * in_y) + (unit * (shift - corner + 0.5) - 1)))
        grid = torch.stack(planes)[None].permute(0, 2, 3, 1)
        return F.grid_sample(self.pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


def source_of(image: Tensor, view: View, *, margin: float = 0.0) -> Source:
    """image: (1, C, H, W) float or uint8.  margin: px beyond the view that will be asked for.

    Where the view shrinks the photo, whole blocks of pixels are averaged down to a step of about two, then three taps
    take away what the step left cannot show; both are within 48 dB of the mean over the output pixel's area. Where it
    does not, bicubic sampling keeps the photo sharp.
    """
    lengths = [math.hypot(*step) for step in view.steps]
    factor = max(1, int(min(lengths) / MINIFYING_STRETCH))
    reach = math.ceil(margin) + _REACH * factor
    first_x, first_y, last_x, last_y = view.extent()
    left, right = _range(first_x - reach, last_x + reach, image.shape[-1], factor)
    top, bottom = _range(first_y - reach, last_y + reach, image.shape[-2], factor)
    pixels = image[..., top:bottom, left:right]
    if factor > 1:
        pixels = _averaged(as_float(pixels), factor)
    step = max(lengths) / factor
    shrinks = step > MINIFYING_STRETCH
    pixels = _softened(pixels, min(_SOFTENING * (step**2 - 1), 1 / 3)) if shrinks else as_float(pixels)
    corner = torch.tensor([left, top], dtype=torch.float32).view(2, 1, 1)
    return Source(pixels=pixels, corner=corner, factor=factor, mode="bilinear" if shrinks else "bicubic")


def see(image: Tensor, view: View) -> Tensor:
    """The photo through a view, sampled once.  image: (1, C, H, W) float or uint8.  Returns (1, C, h, w) in [0, 1]."""
    return source_of(image, view).through(view)


def see_motion(displacement: Tensor, view: View) -> Tensor:
    """A displacement of the photo (1, 2, H, W) as one of the output: warp(A(x), A(d)) shows what A(warp(x, d)) does."""
    positions = view.positions((0, 0, view.size[1], view.size[0]))
    return view.vectors(sample(displacement, positions, mode="bilinear"))


def _averaged(pixels: Tensor, factor: int) -> Tensor:
    """Means of whole blocks, rows first: seven times faster than avg_pool2d. What is left at the end is dropped."""
    for dim in (-2, -1):
        length = pixels.shape[dim] // factor * factor
        if factor == 1 or length == 0:
            continue
        starts = [pixels.narrow(dim, 0, length).unflatten(dim, (-1, factor)).select(dim, i) for i in range(factor)]
        pixels = starts[0] + starts[1]
        for more in starts[2:]:
            pixels += more
        pixels /= factor
    return pixels


def _softened(pixels: Tensor, tap: float) -> Tensor:
    """Three taps along each axis: tap, 1 - 2 tap, tap; bytes become floats in [0, 1] on the way.  (1, C, h, w).

    Written into place, since what this costs is passes over memory.
    """
    _, channels, height, width = pixels.shape
    scale = 1 / 255 if pixels.dtype == torch.uint8 else 1.0
    padded = torch.empty(channels, height, width + 2)
    padded[..., 1:-1] = pixels[0]
    padded[..., 0], padded[..., -1] = padded[..., 1], padded[..., -2]
    across = torch.empty(channels, height + 2, width)
    inner = across[:, 1:-1]
    torch.add(padded[..., :-2], padded[..., 2:], out=inner)
    inner.mul_(tap * scale).add_(padded[..., 1:-1], alpha=(1 - 2 * tap) * scale)
    across[:, 0], across[:, -1] = across[:, 1], across[:, -2]
    return (across[:, :-2] + across[:, 2:]).mul_(tap).add_(inner, alpha=1 - 2 * tap)[None]


def _inverse(linear) -> tuple[tuple[float, float], tuple[float, float]]:
    (a, b), (c, d) = linear
    determinant = a * d - b * c
    return (d / determinant, -b / determinant), (-c / determinant, a / determinant)


def _extent(points, linear, shift) -> tuple[float, float, float, float]:
    """Of points after an affine map."""
    (a, b), (c, d) = linear
    xs, ys = [a * x + b * y + shift[0] for x, y in points], [c * x + d * y + shift[1] for x, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def _turned_extent(box, cos: float, sin: float) -> tuple[list[float], list[float]]:
    """Extent of a box along the axes of a crop that is turned; edges, not pixel centres."""
    corners = [(x + 0.5, y + 0.5) for x in (box[0], box[2]) for y in (box[1], box[3])]
    left, top, right, bottom = _extent(corners, ((cos, sin), (-sin, cos)), (0.0, 0.0))
    return [left, top], [right, bottom]


def _free_size(aspect: float, area: int) -> tuple[int, int]:
    width, height = math.sqrt(area * aspect), math.sqrt(area / aspect)
    return tuple(max(_MULTIPLE, int(side) // _MULTIPLE * _MULTIPLE) for side in (height, width))


def _between(share: float, low: float, high: float) -> float:
    return (low + high) / 2 if low > high else low + share * (high - low)


def _range(low: float, high: float, limit: int, factor: int) -> tuple[int, int]:
    """First and one past the last pixel to read, a whole number of blocks where the photo allows, never empty."""
    first = min(max(math.floor(low), 0), max(limit - factor, 0))
    last = max(min(math.ceil(high) + 1, limit), first + 1)
    return first, min(first + -(-(last - first) // factor) * factor, limit)
