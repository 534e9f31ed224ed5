"""What of a measured motion is the edit: take out the global part, silence the noise.

Many published before/after pairs were saved through another size, so the whole frame, or a
rectangle of it, is shifted or rescaled by about a pixel. That cannot be the retouch. It is
fitted as an affine motion by robust least squares and removed. Of the rest, two kinds become
exactly zero: motion that does not rise above the noise (a smooth gate), and patches of motion
that nowhere explain the target better than standing still does (a relit flat background).

Works on the estimator's grid: u (B, 2, h, w), one node per `stride` pixels, motion in pixels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import length, pixel_grid, smoothstep
from ..stopping import stop_if_asked
from ..windows import highest_around

MAX_SHIFT_PX = 2.0  # a global part beyond these is not a resaving artefact; leave the rest to the edit
MAX_SLOPE = 0.004
NOTABLE_PX = 0.15  # a global part longer than this may hold in a rectangle only
MIN_NOISE_PX, MAX_NOISE_PX = 0.015, 0.125
REACH = 24  # nodes that motion may go on from where it was seen, fading over the second half
GATE_FROM, GATE_TO = 4.0, 10.0  # times the noise: still below the first, fully kept above the second


def remove_noise(
    *, grid: Tensor, global_part: Tensor, evidence: Tensor, rows: int, columns: int
) -> tuple[Tensor, Tensor]:
    """The edit alone, and the noise it was told from.

    grid, global_part: (B, 2, h, w).  evidence: (B, 1, h, w), above 1 where the motion explains
    the target clearly better than standing still.  Only rows x columns nodes lie on the photo.
    Returns the edit (B, 2, h, w), zero where nothing moved, and its noise in pixels (B,).
    """
    edit = grid - global_part
    strength = length(_smooth(edit))
    notable = length(global_part).amax(dim=(1, 2, 3), keepdim=True) > NOTABLE_PX
    # Outside the resaved rectangle it is the raw motion that is still.
    strength = torch.where(notable, torch.minimum(strength, length(_smooth(grid))), strength)
    # The 40th percentile of a Rayleigh distribution is 1.01 sigma; edits cover less than the other 60 %.
    noise = strength[..., :rows, :columns].flatten(1).quantile(0.4, dim=1) / 1.01
    noise = noise.clamp(MIN_NOISE_PX, MAX_NOISE_PX)
    gate = strength / noise.view(-1, 1, 1, 1)
    gate = smoothstep((gate - GATE_FROM) / (GATE_TO - GATE_FROM))
    gate = gate * _near(gate > 0, evidence > 1)
    return edit * gate, noise


def _near(moving: Tensor, seeds: Tensor) -> Tensor:
    """1 at `moving` nodes close to a seed through other moving nodes, fading to 0 at REACH nodes.

    Both (B, 1, h, w) bool. The plate carries motion on through flat regions; far from anything
    that was seen to move it is invention.
    """
    moving = moving.float()
    reached = moving * seeds
    nearness = reached.clone()
    for _ in range(REACH - 1):
        stop_if_asked()
        reached = highest_around(reached, 1) * moving
        nearness += reached
    return (nearness * 2 / REACH).clamp_max(1)


def affine_motion(affine: Tensor, positions: Tensor) -> Tensor:
    """affine: (B, 2, 3).  positions: (1, 2, h, w).  Returns the motion there, (B, 2, h, w)."""
    x, y = positions[:, None, 0], positions[:, None, 1]  # (1, 1, h, w)
    a = affine[..., None, None]  # (B, 2, 3, 1, 1)
    return a[:, :, 0] * x + a[:, :, 1] * y + a[:, :, 2]


def resize_affine(affine: Tensor, size: tuple[int, int], new_size: tuple[int, int]) -> Tensor:
    """The same affine motion (B, 2, 3) on the same picture at another (height, width)."""
    scale = affine.new_tensor([new_size[1] / size[1], new_size[0] / size[0]])  # x, y
    slope, shift = affine[..., :2], affine[..., 2]
    # old pixel = (pixel + 0.5) / scale - 0.5, so the origin moves as well
    shift = shift + slope @ (0.5 / scale - 0.5)
    return torch.cat([slope / scale * scale[:, None], (shift * scale)[..., None]], dim=-1)


def part_affine(affine: Tensor, *, left: float, top: float, factor: float) -> Tensor:
    """The same affine motion (B, 2, 3) in a part of the picture with this corner, reduced by a factor (below 1:
    enlarged)."""
    slope, shift = affine[..., :2], affine[..., 2]
    # pixel = (part's pixel + 0.5) * factor - 0.5 + corner
    corner = affine.new_tensor([left, top]) + 0.5 * factor - 0.5
    return torch.cat([slope, ((shift + slope @ corner) / factor)[..., None]], dim=-1)


def _smooth(grid: Tensor) -> Tensor:
    """Gaussian of 2 nodes: eight rounds of [1 2 1] / 4, as one filter of binomials."""
    taps = grid.new_tensor([math.comb(16, k) for k in range(17)]) / 2**16
    planes = F.pad(grid.flatten(0, 1)[:, None], (8, 8, 8, 8), mode="replicate")  # (2B, 1, h, w)
    return F.conv2d(F.conv2d(planes, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1)).view_as(grid)


def fit_global(grid: Tensor, certainty: Tensor, *, height: int, width: int, stride: int) -> Tensor:
    """The affine motion that each photo as a whole makes, mostly zero.  Returns (B, 2, 3).

    grid: (B, 2, h, w).  certainty: (B, 1, h, w), how well texture fixes the motion, 0 if not at
    all. The nodes outside height x width are padding and do not count.
    """
    rows, columns = -(-height // stride), -(-width // stride)
    nodes = node_positions(grid, stride)[0, :, :rows, :columns]
    return torch.stack(
        [
            _fit_one(nodes, motion[:, :rows, :columns], sure[0, :rows, :columns], height, width)
            for motion, sure in zip(grid, certainty, strict=True)
        ]
    )


def node_positions(grid: Tensor, stride: int) -> Tensor:
    """Where the nodes of a grid (B, 2, h, w) lie, in pixels.  Returns (1, 2, h, w)."""
    return pixel_grid(*grid.shape[-2:], device=grid.device) * stride + (stride - 1) / 2


def _fit_one(nodes: Tensor, motion: Tensor, certainty: Tensor, height: int, width: int) -> Tensor:
    """The affine motion (2, 3) that most of the certain nodes agree on; often zero.

    An edit may hold more texture than the still background, so a single robust fit can lock
    onto it. Three starts compete: the commonest translation, everything, and no motion.
    """
    centre = nodes.new_tensor([(width - 1) / 2, (height - 1) / 2])
    extent = max(height, width) / 2
    xy = (nodes.flatten(1).T - centre) / extent  # (N, 2), about -1..1
    basis = torch.cat([xy, torch.ones_like(xy[:, :1])], dim=1).double()  # (N, 3)
    u = motion.flatten(1).T.double()  # (N, 2)
    c = certainty.flatten().double().clamp_min(0)
    c = c / (c + c.median() + 1e-12)
    limit = u.new_tensor([MAX_SLOPE * extent, MAX_SLOPE * extent, MAX_SHIFT_PX])[:, None]

    def agreeing(p: Tensor, within_px: float) -> Tensor:
        return c / (1 + (u - basis @ p).square().sum(dim=1) / within_px**2)

    zero = u.new_zeros(3, 2)
    common = zero.clone()
    common[2] = _commonest_translation(u, c)
    everything = (2.0, 1.5, 1.0, 0.7, 0.5, 0.35, 0.25, 0.2, 0.15, 0.1)
    closing_in = (0.5, 0.4, 0.3, 0.3, 0.2, 0.2, 0.2, 0.15, 0.1)
    candidates = [
        zero,
        robust_fit(basis, u, c, common, closing_in, num_translation=2).clamp(-limit, limit),
        robust_fit(basis, u, c, zero, everything).clamp(-limit, limit),
    ]
    best = max(candidates, key=lambda p: float(agreeing(p, 0.1).sum()))

    moving = c * (u.norm(dim=1) > 0.05)
    if best.abs().max() < 0.1 and moving.sum() > 0.1 * c.sum():
        # Perhaps only a rectangle was resaved: then most of what moves at all moves by one affine.
        p = robust_fit(basis, u, moving, zero, everything).clamp(-limit, limit)
        close = (u - basis @ p).norm(dim=1) < 0.15
        if (moving * close).sum() > 0.55 * moving.sum() and (basis @ p).norm(dim=1).max() > 0.25:
            best = p
    slope = best[:2].T / extent  # (2, 2): x and y motion per pixel
    shift = best[2] - slope @ centre.double()
    return torch.cat([slope, shift[:, None]], dim=1).to(motion.dtype)


def _commonest_translation(u: Tensor, weight: Tensor) -> Tensor:
    """Mode of the motion within 2 px, in bins of 0.1 px.  u: (N, 2).  Returns (2,)."""
    near = (u.abs() < 2).all(dim=1)
    bins = ((u[near] + 2) / 0.1).long().clamp(0, 39)
    votes = torch.bincount(bins[:, 0] * 40 + bins[:, 1], weights=weight[near], minlength=1600)
    winner = int(votes.argmax())
    return (u.new_tensor([winner // 40, winner % 40]) + 0.5) * 0.1 - 2


def robust_fit(
    basis: Tensor, u: Tensor, weight: Tensor, start: Tensor, scales: tuple[float, ...], num_translation: int = 0
) -> Tensor:
    """Reweighted least squares while the inlier scale (px) shrinks; the first few fit the shift alone.

    basis: (N, 3) = x, y, 1.  u: (N, 2).  weight: (N,).  Returns (3, 2): u ~ basis @ it.
    """
    x, y, one = rows = basis.T.contiguous()
    shown = u.T.contiguous()  # (2, N)
    # All sums of a round are one product of these with the weights.
    squares = torch.stack([x * x, x * y, x, y * y, y, one, *(row * part for row in rows for part in shown)])  # (12, N)
    p = start
    for i, scale in enumerate(scales):
        error = torch.addmm(shown, p.T, rows, beta=-1).square_().sum(dim=0)
        xx, xy, sx, yy, sy, s, *right = (squares @ (weight / (1 + error / scale**2) ** 2)).unbind()
        # The ridge keeps a fit on too few nodes finite.
        normal = torch.stack([xx, xy, sx, xy, yy, sy, sx, sy, s]).view(3, 3) + 1e-9 * torch.eye(3).to(basis)
        rest = torch.stack(right).view(3, 2) - normal @ p
        used = slice(2, None) if i < num_translation else slice(None)
        change = torch.linalg.solve(normal[used, used], rest[used])
        p = torch.cat([p[: 3 - len(change)], p[3 - len(change) :] + change])
    return p
