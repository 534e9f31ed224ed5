"""Displacement fields: how an edit moves pixels, and the arithmetic of moving them.

    out(p) = in(p + d(p))        d is backward: it says where a pixel comes from

Structural retouching is geometry, so every result of this package is a field
applied to the photographer's own pixels. Two promises follow from that and are
kept here: a pixel with zero displacement is copied bit for bit, and the map is
anti-aliased only where it shrinks the picture, so everything else stays sharp.

Units are pixels, x then y; the centre of the top-left pixel is (0, 0), so sizes
change by the align_corners=False rule. Shapes: B batch, C channels, H height,
W width. A photo larger than a network's view is handled by `field.py`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Below this stretch the extra blur would cost more sharpness than aliasing does.
MINIFYING_STRETCH = 1.2
_INVERTIBLE_AREA = 0.05  # of the map; below it `invert` takes the small steps that cannot run away


def smoothstep(t: Tensor) -> Tensor:
    """0 below 0, 1 above 1, and between them without a kink: 3 t^2 - 2 t^3."""
    t = t.clamp(0, 1)
    return t * t * (3 - 2 * t)


def pixel_grid(height: int, width: int, *, device=None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Absolute position of every pixel, x then y.  Returns (1, 2, H, W)."""
    y = torch.arange(height, device=device, dtype=dtype)
    x = torch.arange(width, device=device, dtype=dtype)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]


def sample(image: Tensor, positions: Tensor, *, mode: str = "bicubic") -> Tensor:
    """The image at absolute pixel positions; its border goes on for ever.

    image: (B, C, H, W).  positions: (B, 2, h, w), x then y.  Returns (B, C, h, w).
    A batch of one on either side serves the whole batch of the other. Bicubic overshoots a
    little, as any sharp filter does; the caller clamps.
    """
    if image.ndim != 4 or positions.ndim != 4 or positions.shape[1] != 2:
        raise ValueError(
            f"sample() got image {tuple(image.shape)} and positions {tuple(positions.shape)}: "
            "pass (B, C, H, W) and (B, 2, h, w)"
        )
    if not image.is_floating_point():
        raise ValueError(f"sample() got {image.dtype} pixels: convert them to float32 first")
    batch = max(len(image), len(positions))
    # Half precision cannot address a pixel beyond 1000, so positions stay in 32 bits.
    dtype = torch.promote_types(image.dtype, torch.float32)
    size = positions.new_tensor([image.shape[-1], image.shape[-2]], dtype=dtype).view(2, 1, 1)
    grid = (positions.to(dtype) * (2 / size) + (1 / size - 1)).permute(0, 2, 3, 1)  # (B, h, w, 2)
    return F.grid_sample(
        image.to(dtype).expand(batch, -1, -1, -1),
        grid.expand(batch, -1, -1, -1),
        mode=mode,
        padding_mode="border",
        align_corners=False,
    ).to(image.dtype)


def warp(image: Tensor, displacement: Tensor, *, mode: str = "bicubic") -> Tensor:
    """Move the pixels of an image.

    image: (B, C, H, W) in [0, 1].  displacement: (B or 1, 2, H, W).  Returns (B, C, H, W).
    Pixels whose displacement is exactly zero are copied; the others are clamped to [0, 1].
    """
    check_displacement(displacement)
    if image.ndim != 4 or image.shape[-2:] != displacement.shape[-2:]:
        raise ValueError(
            f"image {tuple(image.shape)} and displacement {tuple(displacement.shape)} differ in "
            "height or width: bring the field to the image with resize_displacement() first"
        )
    moved = changed_mask(displacement).bool()
    positions = pixel_grid(*image.shape[-2:], device=image.device) + displacement
    warped = sample_antialiased(image, positions, local_steps(displacement), mode=mode)
    return torch.where(moved, warped.clamp(0, 1), image)


def sample_antialiased(image: Tensor, positions: Tensor, steps: Tensor, *, mode: str = "bicubic") -> Tensor:
    """`sample`, averaged over the pixel's footprint where the map shrinks the image.

    positions: (B or 1, 2, h, w).  steps: (B or 1, 4, h, w), their `local_steps`.  The footprint
    opens from zero at MINIFYING_STRETCH, separately along the two output axes, so there is no
    seam where anti-aliasing begins. Stretches up to 4 are covered; it carries no gradient.
    """
    steps = steps.detach()
    sampled = sample(image, positions, mode=mode)
    along_x, along_y = steps[:, :2], steps[:, 2:]
    stretch_x, stretch_y = length(along_x)[:, 0], length(along_y)[:, 0]  # (B or 1, h, w)
    stretch = torch.maximum(stretch_x, stretch_y)
    for num, low, high in ((2, MINIFYING_STRETCH, 2.0), (4, 2.0, math.inf)):
        chosen = (stretch > low) & (stretch <= high)
        if not chosen.any():
            continue
        offsets = (torch.arange(num, device=image.device) + 0.5) / num - 0.5
        for b in range(len(image)):
            own = min(b, len(positions) - 1)  # one field may serve the whole batch
            where = chosen[own]
            centre = positions[own][:, where]  # (2, N)
            step_x = along_x[own][:, where] * _footprint(stretch_x[own][where])
            step_y = along_y[own][:, where] * _footprint(stretch_y[own][where])
            total = 0
            for dy in offsets:
                for dx in offsets:
                    point = (centre + dx * step_x + dy * step_y)[None, :, None]  # (1, 2, 1, N)
                    total = total + sample(image[b : b + 1], point, mode=mode)[0, :, 0]
            sampled[b][:, where] = total / num**2  # (C, N)
    return sampled


def _footprint(stretch: Tensor) -> Tensor:
    """Share of the step to average over: 0 up to MINIFYING_STRETCH, towards 1 far above it."""
    return (1 - (MINIFYING_STRETCH / stretch.clamp_min(MINIFYING_STRETCH)) ** 2).sqrt()


def local_steps(displacement: Tensor) -> Tensor:
    """How far the source position moves per output pixel, along x and along y.

    (B, 2, H, W) -> (B, 4, H, W): (dX/dx, dY/dx, dX/dy, dY/dy), the Jacobian of p + d(p).
    """
    slope_x, slope_y = _central(displacement, -1), _central(displacement, -2)
    slope_x[:, 0] += 1
    slope_y[:, 1] += 1
    return torch.cat([slope_x, slope_y], dim=1)


def _central(values: Tensor, dim: int) -> Tensor:
    """Central differences, one-sided at the border; zero along an axis of one pixel."""
    if values.shape[dim] == 1:
        return torch.zeros_like(values)
    return torch.gradient(values, dim=dim)[0]


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """Local area scale of p + d(p); above 0 everywhere means the map does not fold.

    (B, 2, H, W) -> (B, 1, H, W). The smallest value over the four triangles that a pixel forms
    with its neighbours: central differences would overlook a fold one pixel wide.
    """
    check_displacement(displacement)
    # Each pixel has two neighbours along an axis; those on the border have one, which counts twice.
    slopes_x = F.pad(displacement.diff(dim=-1), (1, 1, 0, 0), mode="replicate")
    slopes_y = F.pad(displacement.diff(dim=-2), (0, 0, 1, 1), mode="replicate")
    xx, yx = slopes_x[:, :1] + 1, slopes_x[:, 1:]
    xy, yy = slopes_y[:, :1], slopes_y[:, 1:] + 1
    areas = [
        xx[..., left] * yy[..., top, :] - yx[..., left] * xy[..., top, :]
        for left in (slice(1, None), slice(None, -1))
        for top in (slice(1, None), slice(None, -1))
    ]
    return torch.minimum(torch.minimum(areas[0], areas[1]), torch.minimum(areas[2], areas[3]))


def folds(displacement: Tensor) -> bool:
    """Whether p + d(p) turns any part of the picture over: any of `jacobian_determinant` is 0 or less.

    displacement: (B, 2, H, W). Most motions are so gentle that the extremes of their slopes tell, which is four times
    as fast as the areas.
    """
    right, down = displacement.diff(dim=-1), displacement.diff(dim=-2)
    if right.numel() and down.numel():
        (xx, _), (yx_low, yx_high) = (right[:, i].aminmax() for i in (0, 1))
        (xy_low, xy_high), (yy, _) = (down[:, i].aminmax() for i in (0, 1))
        sheared = torch.maximum(-yx_low, yx_high) * torch.maximum(-xy_low, xy_high)
        if 1 + xx > 0 and (1 + xx) * (1 + yy) > sheared:
            return False
    return bool((jacobian_determinant(displacement) <= 0).any())


def resize_displacement(displacement: Tensor, height: int, width: int) -> Tensor:
    """The same motion on the same picture at another size: magnitudes scale with it.

    (B, 2, h, w) -> (B, 2, height, width). Shrinking averages, so thin motion is not skipped.
    """
    check_displacement(displacement)
    old_height, old_width = displacement.shape[-2:]
    if (old_height, old_width) == (height, width):
        return displacement
    resized = F.interpolate(displacement, (height, width), mode="bilinear", align_corners=False, antialias=True)
    scale = displacement.new_tensor([width / old_width, height / old_height])
    return resized * scale.view(2, 1, 1)


def compose(first: Tensor, second: Tensor) -> Tensor:
    """One field for "apply `first`, then `second` to the result".  All (B, 2, H, W).

    in(p + d) with d = second(p) + first(p + second(p)). Warping once with it keeps the
    sharpness that two warps in a row would lose.
    """
    check_displacement(first)
    check_displacement(second)
    if first.shape[-2:] != second.shape[-2:]:
        raise ValueError(
            f"cannot compose fields of {tuple(first.shape[-2:])} and {tuple(second.shape[-2:])}: "
            "bring both to one size with resize_displacement() first"
        )
    positions = pixel_grid(*second.shape[-2:], device=second.device) + second
    pulled = sample(first, positions, mode="bilinear")
    # Copy where nothing moved: interpolating there would leak 1e-6 px into still pixels.
    return second + torch.where(changed_mask(second).bool(), pulled, first)


def invert(displacement: Tensor, *, num_iterations: int = 16, start: Tensor | None = None) -> Tensor:
    """The field that undoes this one: g with g(q) + d(q + g(q)) = 0.

    (B, 2, H, W) -> (B, 2, H, W). Converges where the map does not fold; `compose(displacement, result)` is the
    residual, zero when exact.  start: an approximation of the result, which saves most of the iterations.
    """
    grid = pixel_grid(*displacement.shape[-2:], device=displacement.device)
    return inverse_at(displacement, grid, num_iterations=num_iterations, start=start)


def inverse_at(
    displacement: Tensor, positions: Tensor, *, num_iterations: int = 16, start: Tensor | None = None
) -> Tensor:
    """The same at any positions (B or 1, 2, h, w), by Newton's method. Returns (B, 2, h, w).

    The simpler g = -d(q + g) would diverge where the map stretches to twice and more, and Newton's method may circle
    there if it starts far away: so without a start d grows to its length in the first half of the steps.
    """
    check_displacement(displacement)
    field = torch.cat([displacement, _central(displacement, -1), _central(displacement, -2)], dim=1)
    inverse = torch.zeros_like(positions.expand(len(displacement), -1, -1, -1)) if start is None else start
    for i in range(num_iterations):
        share = min(1.0, 2 * (i + 1) / num_iterations) if start is None else 1.0
        dx, dy, xx, yx, xy, yy = (share * sample(field, positions + inverse, mode="bilinear")).split(1, dim=1)
        xx, yy = xx + 1, yy + 1
        left_x, left_y = inverse[:, :1] + dx, inverse[:, 1:] + dy
        area = xx * yy - xy * yx
        step = torch.cat([yy * left_x - xy * left_y, xx * left_y - yx * left_x], dim=1) / area
        # Near a fold Newton's steps have no bounds; the simple ones have.
        inverse = torch.where(area > _INVERTIBLE_AREA, inverse - step, -torch.cat([dx, dy], dim=1))
    return inverse


def length(vectors: Tensor) -> Tensor:
    """Euclidean length.  (B, 2, H, W) -> (B, 1, H, W). Ten times faster than `norm(dim=1)`."""
    return torch.hypot(vectors[:, :1], vectors[:, 1:])


def changed_mask(displacement: Tensor, threshold_px: float = 0.0) -> Tensor:
    """1 where the motion is longer than the threshold, else 0.  (B, 2, H, W) -> (B, 1, H, W)."""
    if threshold_px == 0:  # exact: the square of a tiny displacement would underflow
        return (displacement != 0).any(dim=1, keepdim=True).to(displacement.dtype)
    return (length(displacement) > threshold_px).to(displacement.dtype)


def check_displacement(displacement: Tensor) -> None:
    """Raise unless this is a finite (B, 2, H, W) floating-point tensor."""
    if displacement.ndim != 4 or displacement.shape[1] != 2:
        raise ValueError(f"displacement has shape {tuple(displacement.shape)}: pass (B, 2, H, W), x then y")
    if not displacement.is_floating_point():
        raise ValueError(f"displacement is {displacement.dtype}: pass pixels as float32")
    # The extremes show it too: NaN spreads to them. Twenty times as fast as asking every value.
    if displacement.numel() and not all(map(math.isfinite, displacement.detach().aminmax())):
        raise ValueError(
            "displacement contains NaN or infinity: the field was computed from bad input; "
            "check the image or landmarks it came from"
        )
