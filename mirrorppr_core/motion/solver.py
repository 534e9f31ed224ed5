"""The sparse system behind one step of motion estimation: evidence plus a thin plate.

    (A + bending L^T L) u = right

A holds one symmetric 2x2 block per grid node (what the texture there says about the motion), L
is the 5-point Laplacian, so L^T L is the bending energy of a thin plate: constants and ramps
cost nothing, bends do. Conjugate gradients, preconditioned by the inverse of each node's own
block. Shapes: u and right (B, 2, h, w); blocks (B, 3, h, w) as (xx, xy, yy).
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def solve(*, blocks: Tensor, bending: Tensor, right: Tensor, start: Tensor, num_steps: int, tolerance: float) -> Tensor:
    """u after at most `num_steps` steps from `start`, or at that relative residual.

    bending: (B, 1, 1, 1), above 0.  Few steps are enough: the next linearisation goes on from here.
    """
    neighbours = _num_neighbours(blocks)
    own = bending * (neighbours**2 + neighbours)  # the diagonal of L^T L
    xx, xy, yy = blocks[:, :1] + own, blocks[:, 1:2], blocks[:, 2:] + own
    inverse = torch.cat([yy, -xy, xx], dim=1) / (xx * yy - xy**2)

    def apply(u: Tensor) -> Tensor:
        return apply_blocks(blocks, u) + bending * laplacian(laplacian(u))

    u = start
    residual = right - apply(u)
    direction = z = apply_blocks(inverse, residual)
    energy = _dot(residual, z)
    goal = tolerance**2 * _dot(right, right)
    for _ in range(num_steps):
        if (_dot(residual, residual) <= goal).all():
            break
        image = apply(direction)
        # One pair of the batch may have converged to zero before the others.
        step = energy / _dot(direction, image).clamp_min(1e-30)
        u = u + step * direction
        residual = residual - step * image
        z = apply_blocks(inverse, residual)
        previous, energy = energy, _dot(residual, z)
        direction = z + energy / previous.clamp_min(1e-30) * direction
    return u


def apply_blocks(blocks: Tensor, u: Tensor) -> Tensor:
    """Each node's 2x2 block times its vector."""
    return blocks[:, :2] * u[:, :1] + blocks[:, 1:] * u[:, 1:]


def laplacian(u: Tensor) -> Tensor:
    """Sum of the differences to the neighbours that exist: symmetric, zero for constants."""
    padded = F.pad(u, (1, 1, 1, 1), mode="replicate")  # a neighbour that does not exist differs by nothing
    out = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    out += padded[..., 1:-1, :-2]
    out += padded[..., 1:-1, 2:]
    return out.sub_(u, alpha=4)


def _dot(u: Tensor, v: Tensor) -> Tensor:
    return (u * v).sum(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1)


def _num_neighbours(like: Tensor) -> Tensor:
    """4 inside, 3 at a border, 2 in a corner.  Returns (1, 1, h, w)."""
    h, w = like.shape[-2:]
    count = torch.full((1, 1, h, w), 4.0, device=like.device)
    count[..., 0, :] -= 1
    count[..., -1, :] -= 1
    count[..., 0] -= 1
    count[..., -1] -= 1
    return count
