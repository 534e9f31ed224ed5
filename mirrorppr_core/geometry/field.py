"""A field on a large photo: kept on the box where it acts, applied tile by tile.

An edit touches a face; the photo around it may have 24 or 50 megapixels. A `Field` stores
the displacement on its box only and is zero outside, and `apply_field` turns only the tiles
of that box into floats. Everything else is copied, so 8-bit photos stay 8-bit and the
pixels outside the edit keep their bits. Conventions as in `displacement.py`.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..side_by_side import side_by_side
from ..stopping import stop_if_asked
from .displacement import changed_mask, check_displacement, length, local_steps, pixel_grid, sample, sample_antialiased

# Bicubic reaches 2 pixels from its position; one more for rounding.
SAMPLER_REACH = 3
_TRACE_PX = 1e-4


@dataclass(frozen=True, kw_only=True)
class Field:
    """Motion of one photo. Zero outside the box whose corner is (left, top)."""

    displacement: Tensor  # (1, 2, h, w) photo pixels, x then y; h and w may be 0: no motion
    left: int
    top: int
    height: int  # of the photo
    width: int

    def __post_init__(self):
        check_displacement(self.displacement)
        if len(self.displacement) != 1:
            raise ValueError(
                f"a Field is the motion of one photo, got a batch of {len(self.displacement)}: make one each"
            )
        left, top, right, bottom = self.box
        if left < 0 or top < 0 or right > self.width or bottom > self.height:
            raise ValueError(f"field box {self.box} leaves the {self.width}x{self.height} photo: crop the displacement")

    @classmethod
    def zero(cls, height: int, width: int) -> "Field":
        return cls(displacement=torch.zeros(1, 2, 0, 0), left=0, top=0, height=height, width=width)

    @classmethod
    def from_dense(cls, displacement: Tensor) -> "Field":
        """Keep the tightest box around the motion.  displacement: (1, 2, H, W)."""
        height, width = displacement.shape[-2:]
        moved = changed_mask(displacement)[0, 0]
        rows, columns = moved.amax(dim=1).nonzero(), moved.amax(dim=0).nonzero()
        if len(rows) == 0:
            return cls.zero(height, width)
        top, bottom = int(rows[0]), int(rows[-1]) + 1
        left, right = int(columns[0]), int(columns[-1]) + 1
        stop_if_asked()
        box = displacement[..., top:bottom, left:right].clone()  # do not keep the dense one alive
        return cls(displacement=box, left=left, top=top, height=height, width=width)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """left, top, right, bottom in photo pixels; right and bottom are outside."""
        height, width = self.displacement.shape[-2:]
        return self.left, self.top, self.left + width, self.top + height

    @property
    def max_px(self) -> float:
        """Length of the longest displacement."""
        return float(length(self.displacement).amax()) if self.displacement.numel() else 0.0

    def dense(self) -> Tensor:
        """The field on every pixel of the photo.  Returns (1, 2, H, W)."""
        left, top, right, bottom = self.box
        return F.pad(self.displacement, (left, self.width - right, top, self.height - bottom))

    def scaled(self, strength: float) -> "Field":
        """More, less or (negative) the opposite of the motion."""
        return replace(self, displacement=self.displacement * strength)

    def crop(self, *, left: int, top: int, height: int, width: int) -> "Field":
        """The same motion for a cut-out of the photo."""
        own_left, own_top, own_right, own_bottom = self.box
        x0, x1 = max(own_left, left), min(own_right, left + width)
        y0, y1 = max(own_top, top), min(own_bottom, top + height)
        if x0 >= x1 or y0 >= y1:
            return Field.zero(height, width)
        box = self.displacement[..., y0 - own_top : y1 - own_top, x0 - own_left : x1 - own_left]
        return Field(displacement=box, left=x0 - left, top=y0 - top, height=height, width=width)

    def resized(self, height: int, width: int) -> "Field":
        """The same motion for the same picture at another size; magnitudes scale with it."""
        if (height, width) == (self.height, self.width):
            return self
        if not self.displacement.numel():
            return Field.zero(height, width)
        scale = self.displacement.new_tensor([width / self.width, height / self.height]).view(2, 1, 1)
        # Two new pixels of zeros around the box, so that interpolation fades out inside the photo
        # instead of stopping; at the photo's own border the last value goes on, as in `sample`.
        rim = 1 + 2 * math.ceil(1 / float(scale.min()))
        left, top, right, bottom = self.box
        left, top = max(0, left - rim), max(0, top - rim)
        right, bottom = min(self.width, right + rim), min(self.height, bottom + rim)
        old = self.crop(left=left, top=top, height=bottom - top, width=right - left).dense()
        # Shrinking averages first, so that thin motion is not skipped.
        size = torch.tensor([right - left, bottom - top], device=old.device).view(2, 1, 1)
        averaged_size = (size * scale).round().clamp_min(1).minimum(size)
        columns, rows = averaged_size.int().flatten().tolist()
        averaged = F.interpolate(old, (rows, columns), mode="bilinear", align_corners=False, antialias=True)

        new_left, new_top = int(left * width / self.width), int(top * height / self.height)
        new_right = math.ceil(right * width / self.width)
        new_bottom = math.ceil(bottom * height / self.height)
        # new pixel -> old pixel -> position in the averaged box, each by align_corners=False
        grid = pixel_grid(new_bottom - new_top, new_right - new_left, device=old.device)
        new_positions = grid + torch.tensor([new_left, new_top], device=old.device).view(2, 1, 1) + 0.5
        in_box = new_positions / scale - torch.tensor([left, top], device=old.device).view(2, 1, 1)
        box = sample(averaged, in_box * averaged_size / size - 0.5, mode="bilinear") * scale
        return Field(displacement=box, left=new_left, top=new_top, height=height, width=width)


def apply_field(image: Tensor, field: Field, *, tile: int = 1024) -> Tensor:
    """Move the pixels of a photo at its native resolution.

    image: (B, C, H, W), float in [0, 1] or uint8, any number of channels (alpha moves with the
    colours).  Returns the same shape and dtype. Pixels that do not move keep their bits; beside
    the returned copy, memory is bounded by the tile and its longest displacement.
    """
    if image.ndim != 4 or image.shape[-2:] != (field.height, field.width):
        raise ValueError(
            f"the image is {tuple(image.shape)} but the field belongs to a photo of "
            f"{field.height}x{field.width}: use field.resized(height, width) first"
        )
    if not (image.is_floating_point() or image.dtype == torch.uint8):
        raise ValueError(f"the image is {image.dtype}: pass float in [0, 1] or uint8")
    stop_if_asked()
    result = image.clone()
    left, top, right, bottom = field.box

    def apply(x: int, y: int) -> None:
        stop_if_asked()
        _apply_tile(image, result, field, x, y, min(x + tile, right), min(y + tile, bottom))

    side_by_side(*(partial(apply, x, y) for y in range(top, bottom, tile) for x in range(left, right, tile)))
    return result


def _apply_tile(image: Tensor, result: Tensor, field: Field, x0: int, y0: int, x1: int, y1: int) -> None:
    """Write the warped pixels of photo columns x0..x1 and rows y0..y1 into `result`."""
    # One pixel more on each side, for the slopes: the result does not depend on the tiling.
    left, top = max(0, x0 - 1), max(0, y0 - 1)
    right, bottom = min(field.width, x1 + 1), min(field.height, y1 + 1)
    halo = field.crop(left=left, top=top, height=bottom - top, width=right - left).dense().to(image.device)
    inner = (..., slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
    displacement = halo[inner]
    moved = changed_mask(displacement).bool()
    if not moved.any():
        return
    steps = local_steps(halo)[inner]
    corner = torch.tensor([x0, y0], device=image.device).view(2, 1, 1)
    positions = pixel_grid(y1 - y0, x1 - x0, device=image.device) + corner + displacement
    # Still pixels need no source: take them out of the bounds.
    moving = positions[0][:, moved[0, 0]]  # (2, N)
    reach = SAMPLER_REACH + int(steps.abs().amax()) + 1
    lowest, highest = moving.amin(dim=1).floor() - reach, moving.amax(dim=1).ceil() + reach
    left, right = _range(lowest[0], highest[0], field.width)
    top, bottom = _range(lowest[1], highest[1], field.height)
    source = image[..., top:bottom, left:right]
    positions = positions - torch.tensor([left, top], device=image.device).view(2, 1, 1)
    as_float = source / 255 if source.dtype == torch.uint8 else source
    warped = sample_antialiased(as_float, positions, steps).clamp(0, 1)
    if source.dtype == torch.uint8:
        warped = (warped * 255).round().to(torch.uint8)
    target = result[..., y0:y1, x0:x1]
    target.copy_(torch.where(moved, warped, target))


def _range(lowest: Tensor, highest: Tensor, size: int) -> tuple[int, int]:
    """First and one past the last pixel to read, at least one, inside the photo."""
    first = min(max(int(lowest), 0), size - 1)
    return first, max(min(int(highest) + 1, size), first + 1)


def settled(field: Field) -> Field:
    """The field without traces too small for any picture to show: they would cost still pixels their last bit."""
    displacement = field.displacement
    if not displacement.numel():
        return field
    moves = displacement.abs().amax(dim=1, keepdim=True) > _TRACE_PX
    return replace(field, displacement=displacement * moves)


def joined(fields: list[Field], still: Field) -> Field:
    """Several fields of one photo as one; where they overlap the motions add. still: what none of them is."""
    fields = [f for f in fields if f.displacement.numel()]
    if len(fields) < 2:
        return fields[0] if fields else still
    boxes = [f.box for f in fields]
    left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
    right, bottom = max(b[2] for b in boxes), max(b[3] for b in boxes)
    total = torch.zeros(1, 2, bottom - top, right - left)
    for f, (x0, y0, x1, y1) in zip(fields, boxes, strict=True):
        total[..., y0 - top : y1 - top, x0 - left : x1 - left] += f.displacement
    return Field(displacement=total, left=left, top=top, height=still.height, width=still.width)
