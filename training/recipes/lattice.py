"""Motion written down on a regular lattice, and read between its points.

A step of a recipe is asked for its motion at tens of thousands of pixels, several times for each picture. So what it
has to say is written down once, on a few thousand points, and read by bilinear interpolation, in two passes over the
positions: into the lattice's own units, then the sampling. Pixels, x then y. C channels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


class Lattice:
    """values: (1, C, rows, columns).  corner: place of the first point.  spacing: px between points, x and y."""

    def __init__(self, values: Tensor, *, corner: tuple[float, float], spacing: tuple[float, float]):
        self.values, self.corner, self.spacing = values, corner, spacing
        # grid_sample counts from -1 to 1 across the outermost edges of the lattice's cells.
        counts = values.shape[-1], values.shape[-2]
        factors = [2 / (step * count) for step, count in zip(spacing, counts, strict=True)]
        offsets = [(1 - 2 * first / step) / count - 1
                   for first, step, count in zip(corner, spacing, counts, strict=True)]  # fmt: skip
        self._factor, self._offset = values.new_tensor([factors, offsets]).view(2, 2, 1, 1)

    def at(self, positions: Tensor) -> Tensor:
        """(1, 2, h, w) -> (1, C, h, w). Outside, the values on the border go on."""
        grid = (positions * self._factor).add_(self._offset).permute(0, 2, 3, 1)
        return F.grid_sample(self.values, grid, mode="bilinear", padding_mode="border", align_corners=False)
