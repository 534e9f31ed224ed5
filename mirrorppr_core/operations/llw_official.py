"""LLW to the last bit of the published pairs: OpenCV 4's arithmetic in a few lines of torch.

MirrorPPR's simulated data was made with integer landmarks, 8-bit pictures and four OpenCV
calls. Whoever compares with that data needs the same bits, so this file reproduces them:
`fillConvexPoly`, `GaussianBlur` of bytes (fixed point), `resize` and `remap` (positions
rounded to 1/32 px, black outside). Two quirks are part of it and kept on purpose:

- the grid bias: the vertex grid spans 0..W inclusive but is enlarged as if its values were
  pixel areas, so masked content is pulled to the picture's centre even at strength 0;
- pictures are blended and cut to bytes after each operation.

`llw.py` has the clean version. Pictures here are (H, W, 3) integer tensors in 0..255.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BLUR_RATIO = 0.05  # width of the feather's kernel as a share of the short side
GRID_PX = 30  # nominal spacing of the vertices at which the deformation is evaluated
_SUBPIXEL = 32  # remap rounds positions to this fraction


def vertex_grid(height: int, width: int) -> Tensor:
    """Positions of the grid's vertices, (n_y, n_x, 2) float64, from 0 to the size inclusive."""
    x = torch.linspace(0, width, width // GRID_PX + 1, dtype=torch.float64)
    y = torch.linspace(0, height, height // GRID_PX + 1, dtype=torch.float64)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def enlarge_with_bias(grid: Tensor, height: int, width: int) -> Tensor:
    """(n_y, n_x, 2) vertex values -> (2, H, W) float32, by cv2.resize's rule."""
    planes = grid.permute(2, 0, 1)[None]
    return F.interpolate(planes, (height, width), mode="bilinear", align_corners=False)[0].float()


def feather_mask(rings: list[Tensor], height: int, width: int, kernel_size: int) -> Tensor:
    """Union of the rings' convex hulls, filled and blurred, (H, W) float32 multiples of 1/255.

    rings: (n, 2) integer points each.  kernel_size: odd; also decides the blur's sigma.
    """
    filled = torch.zeros(height, width)
    for ring in rings:
        fill_hull(filled, convex_hull(ring))
    taps = torch.tensor(_fixed_point_gaussian(kernel_size), dtype=torch.float32)
    radius = kernel_size // 2
    padded = F.pad(filled[None, None], (radius,) * 4, mode="reflect")
    across = F.conv2d(padded, taps.view(1, 1, 1, -1))
    total = F.conv2d(across, taps.view(1, 1, -1, 1))[0, 0]  # integers below 2^24: exact in float32
    return ((total.int() + 2**15) >> 16).float() / 255


def _feather_sigma(kernel_size: int) -> float:
    """The sigma OpenCV chooses for a kernel when none is given."""
    return 0.3 * ((kernel_size - 1) * 0.5 - 1) + 0.8


def _fixed_point_gaussian(kernel_size: int) -> list[int]:
    """Taps in 1/256, summing to 256: the rounding error of each tap is handed to the next."""
    offsets = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    kernel = torch.exp(-0.5 * (offsets / _feather_sigma(kernel_size)) ** 2)
    kernel = kernel / kernel.sum() * 256
    half, error = [], 0.0
    for value in kernel[: kernel_size // 2].tolist():
        half.append(round(value + error))
        error += value - half[-1]
    return half + [256 - 2 * sum(half)] + half[::-1]


def convex_hull(points: Tensor) -> Tensor:
    """Corners of the convex hull, clockwise on screen, (n, 2) -> (m, 2) (monotone chain)."""
    ordered = sorted(set(map(tuple, points.tolist())))
    chains = []
    for run in (ordered, ordered[::-1]):
        chain = []
        for x, y in run:
            while len(chain) > 1:
                (ax, ay), (bx, by) = chain[-2:]
                if (bx - ax) * (y - ay) - (by - ay) * (x - ax) > 0:
                    break
                chain.pop()  # the last corner is inside or on the line
            chain.append((x, y))
        chains += chain[:-1]
    return torch.tensor(chains or ordered, dtype=points.dtype)


def fill_hull(plane: Tensor, corners: Tensor) -> None:
    """Set the pixels of a convex polygon to 255 in place, as cv2.fillConvexPoly does.

    plane: (H, W).  corners: (m, 2) integers. OpenCV fills between the two sides of each row
    (16-bit fixed point) and then strokes the outline; rows stay intervals, so only their ends are kept.
    """
    height, width = plane.shape
    top, bottom = int(corners[:, 1].min()), int(corners[:, 1].max())
    first = torch.full((bottom - top + 1,), 2**30)
    last = -first
    for start, end in zip(corners.tolist(), corners.roll(-1, 0).tolist(), strict=True):
        for x, y in (_side(start, end), _stroke(start, end)):
            first.scatter_reduce_(0, y - top, x, "amin")
            last.scatter_reduce_(0, y - top, x, "amax")
    rows = torch.arange(top, bottom + 1)
    kept = (rows >= 0) & (rows < height)
    x = torch.arange(width)
    inside = (x >= first[kept, None]) & (x <= last[kept, None])
    plane[rows[kept]] = plane[rows[kept]].masked_fill(inside, 255)


def _side(start: list[int], end: list[int]) -> tuple[Tensor, Tensor]:
    """Where a polygon side crosses each row but its lowest, which its corner covers."""
    (x0, y0), (x1, y1) = sorted((start, end), key=lambda corner: corner[1])
    rise = y1 - y0
    n = torch.arange(rise)
    slope = int(((x1 - x0) * 2**17 + rise) / (2 * rise)) if rise else 0  # cut towards zero, as C does
    return (x0 * 2**16 + n * slope + 2**15) >> 16, y0 + n


def _stroke(start: list[int], end: list[int]) -> tuple[Tensor, Tensor]:
    """Bresenham's line from the left end to the right one; exact halves round back."""
    (x0, y0), (x1, y1) = (start, end) if start[0] <= end[0] else (end, start)
    run, rise = x1 - x0, abs(y1 - y0)
    down = 1 if y1 >= y0 else -1
    long, short = max(run, rise), min(run, rise)
    n = torch.arange(long + 1)
    k = -torch.div(long - 2 * short * n, 2 * max(long, 1), rounding_mode="floor")
    return (x0 + k, y0 + down * n) if rise > run else (x0 + n, y0 + down * k)


def blend(image: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
    """Mix the deformed picture into the original and cut to bytes.

    image: (H, W, 3) int64.  positions: (2, H, W) where to sample.  mask: (H, W).
    """
    y, x = mask.nonzero(as_tuple=True)
    moved = _remap(image, positions[:, y, x].T).float()
    share = mask[y, x, None]
    result = image.clone()
    result[y, x] = (moved * share + image[y, x].float() * (1 - share)).long()
    return result


def _remap(image: Tensor, positions: Tensor) -> Tensor:
    """Bilinear samples at (N, 2) positions, black outside.  Returns (N, 3) int64."""
    height, width = image.shape[:2]
    steps = (positions * _SUBPIXEL).round().long()
    corner, fraction = steps.div(_SUBPIXEL, rounding_mode="floor"), steps % _SUBPIXEL
    total = torch.zeros(len(positions), 3, dtype=torch.int64)
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = corner[:, 0] + dx, corner[:, 1] + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            weight_x = fraction[:, 0] if dx else _SUBPIXEL - fraction[:, 0]
            weight_y = fraction[:, 1] if dy else _SUBPIXEL - fraction[:, 1]
            taps = image[y.clamp(0, height - 1), x.clamp(0, width - 1)]
            total += taps * (weight_x * weight_y * inside)[:, None]
    return (total + _SUBPIXEL**2 // 2) // _SUBPIXEL**2
