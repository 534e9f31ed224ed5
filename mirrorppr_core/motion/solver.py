"""The sparse system behind one step of motion estimation: evidence plus a thin plate.

    (A + bending L^T L) u = right

A holds one symmetric 2x2 block per grid node (what the texture there says about the motion), L
is the 5-point Laplacian, so L^T L is the bending energy of a thin plate: constants and ramps
cost nothing, bends do. Conjugate gradients, preconditioned by the inverse of each node's own
block. Shapes: u and right (B, 2, h, w); blocks (B, 3, h, w) as (xx, xy, yy).

Most grids are so small that calling a function costs more than what it computes. So a step is few calls: the pairs of
a batch are solved one by one, vectors are written in place, and the parts of them that the calls use are cut out once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..stopping import stop_if_asked


def solve(*, blocks: Tensor, bending: Tensor, right: Tensor, start: Tensor, num_steps: int, tolerance: float) -> Tensor:
    """u after at most `num_steps` steps from `start`, or at that relative residual.

    bending: (B, 1, 1, 1), above 0.  Few steps are enough: the next linearisation goes on from here.
    """
    neighbours = _num_neighbours(blocks)
    own = bending * (neighbours**2 + neighbours)  # the diagonal of L^T L
    xx, xy, yy = blocks[:, :1] + own, blocks[:, 1:2], blocks[:, 2:] + own
    area, total = xx * yy - xy**2, xx + yy
    # A grid of one node does not bend, so where one direction alone is seen there, its block has no inverse.
    scaled = torch.cat([total, torch.zeros_like(xy), total], dim=1) / (total**2).clamp(min=1e-20)
    has_inverse = area > 1e-6 * total**2
    inverse = torch.where(has_inverse, torch.cat([yy, -xy, xx], dim=1) / area, scaled)
    pairs = zip(blocks, inverse, bending.flatten().tolist(), right, start, strict=True)
    with torch.inference_mode():
        solutions = [_solve_one(*pair, num_steps=num_steps, tolerance=tolerance) for pair in pairs]
    return torch.stack(solutions)


def _solve_one(
    blocks: Tensor, inverse: Tensor, bending: float, right: Tensor, start: Tensor, *, num_steps: int, tolerance: float
) -> Tensor:
    """blocks, inverse: (3, h, w).  right, start: (2, h, w)."""
    u, direction, residual, z, image, bent = (_Vector(start) for _ in range(6))
    across, down = torch.empty_like(u.left), torch.empty_like(u.upper)
    block_x, block_y, inverse_x, inverse_y = blocks[:2], blocks[1:], inverse[:2], inverse[1:]

    def add_laplacian(v: _Vector, to: _Vector, weight: float) -> None:
        """What flows to each node over its sides; a side that does not exist lets nothing by."""
        torch.sub(v.right, v.left, out=across)
        torch.sub(v.lower, v.upper, out=down)
        to.left.add_(across, alpha=weight)
        to.right.sub_(across, alpha=weight)
        to.upper.add_(down, alpha=weight)
        to.lower.sub_(down, alpha=weight)

    def apply() -> None:
        """image = the system's matrix times the direction."""
        torch.mul(block_x, direction.x, out=image.planes).addcmul_(block_y, direction.y)
        bent.planes.zero_()
        add_laplacian(direction, bent, 1.0)
        add_laplacian(bent, image, bending)

    def precondition() -> None:
        torch.mul(inverse_x, residual.x, out=z.planes).addcmul_(inverse_y, residual.y)

    u.planes.copy_(start)
    direction.planes.copy_(start)
    apply()
    torch.sub(right, image.planes, out=residual.planes)
    precondition()
    direction.planes.copy_(z.planes)
    energy = float(residual.flat.dot(z.flat))
    goal = tolerance**2 * float(right.square().sum())
    for _ in range(num_steps):
        stop_if_asked()
        if float(residual.flat.dot(residual.flat)) <= goal:
            break
        apply()
        curvature = float(direction.flat.dot(image.flat))
        if curvature <= 1e-30 or energy <= 1e-30:  # solved to the last bit, as a grid of one node is at once
            break
        step = energy / curvature
        u.flat.add_(direction.flat, alpha=step)
        residual.flat.sub_(image.flat, alpha=step)
        precondition()
        previous, energy = energy, float(residual.flat.dot(z.flat))
        direction.flat.mul_(energy / previous).add_(z.flat)
    return u.planes


class _Vector:
    """(2, h, w) numbers and views of them: one row of all, the x and the y part, the nodes on either side of each step
    across, and of each step down."""

    def __init__(self, like: Tensor):
        self.planes = torch.empty_like(like, memory_format=torch.contiguous_format)
        self.flat, self.x, self.y = self.planes.view(-1), self.planes[:1], self.planes[1:]
        self.left, self.right = self.planes[..., :-1], self.planes[..., 1:]
        self.upper, self.lower = self.planes[:, :-1], self.planes[:, 1:]


def apply_blocks(blocks: Tensor, u: Tensor) -> Tensor:
    """Each node's 2x2 block times its vector."""
    return blocks[:, :2] * u[:, :1] + blocks[:, 1:] * u[:, 1:]


def _num_neighbours(like: Tensor) -> Tensor:
    """4 inside, 3 at a border, 2 in a corner.  Returns (1, 1, h, w)."""
    h, w = like.shape[-2:]
    count = torch.full((1, 1, h, w), 4.0, device=like.device)
    count[..., 0, :] -= 1
    count[..., -1, :] -= 1
    count[..., 0] -= 1
    count[..., -1] -= 1
    return count
