"""Dense motion between a photo and its retouched version.

    target(p) ~ source(p + d(p))       warping the source by d gives the target

Coarse-to-fine Gauss-Newton on locally normalised luma: brightness, contrast and slow colour
changes cancel, so only geometry is left. The unknown is a grid with one node per 4 pixels,
held smooth by the bending energy of a thin plate and solved by preconditioned conjugate
gradients. (First-order smoothness was tried: it flattens small edits and triples the error.)
`clean.py` then removes what is not the edit: a global rescaling, noise, unproven motion.

The constants were measured together on synthetic edits of portraits under JPEG and VAE noise.
Shapes: B batch, H and W photo, h and w the grid of the level at hand. Nothing is differentiable.
"""

from dataclasses import dataclass
from functools import partial, reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.displacement import length, pixel_grid, resize_displacement, sample
from ..images import LUMA
from ..one_thread import one_thread
from ..side_by_side import side_by_side
from ..stopping import stop_if_asked
from ..windows import block_mean
from .clean import affine_motion, fit_global, node_positions, remove_noise, resize_affine
from .solver import apply_blocks, solve

STRIDE = 4  # pixels per grid node
MAX_MOTION = 0.25  # of the longer side
CONTRAST_FLOOR = 0.02  # local standard deviation below which texture counts as noise
# Evidence for a motion: misfit that it must save, per variance of the noise and per misfit that is left.
EVIDENCE_BLURS, NOISE_GAIN, LOCAL_GAIN = 8, 0.8, 1.6
_STRIP_PX, _LEAST_ROWS = 2**16, 8 * STRIDE  # of a level at a time


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    max_side: int = 1024  # larger pairs are measured on a copy of this size; cost is linear in its area
    iterations: tuple[int, ...] = (6, 6, 5, 4, 3, 2)  # Gauss-Newton steps, coarsest to finest level
    bending: float = 0.02  # stiffness of the thin plate on clean images
    max_bending: float = 1.0  # what noise in the images may raise it to, on the two finest levels
    num_solver_steps: int = 30  # conjugate-gradient steps in each Gauss-Newton step, at most
    tolerance: float = 1e-4  # relative residual at which they may stop
    min_gain: float = 0.003  # misfit that a motion must save to be believed; less finds fainter motion, and noise

    def __post_init__(self):
        if self.max_side < 64:
            raise ValueError(f"max_side={self.max_side}: use 64 or more, 512-1024 is usual")
        if not self.iterations or min(self.iterations) < 1 or self.num_solver_steps < 1:
            raise ValueError(
                f"iterations={self.iterations}, num_solver_steps={self.num_solver_steps}: every level "
                "needs 1 or more of both; (6, 6, 5, 4, 3, 2) and 30 are usual"
            )
        if not 0 < self.bending <= self.max_bending:
            raise ValueError(
                f"bending={self.bending}, max_bending={self.max_bending}: use 0 < bending <= max_bending; "
                "0.02 and 1.0 are usual"
            )


@dataclass(frozen=True, kw_only=True)
class MeasuredMotion:
    """Motion from source to target, in pixels of the given photos."""

    displacement: Tensor  # (B, 2, H, W) the edit alone; exactly zero where nothing moved
    raw: Tensor  # (B, 2, H, W) as measured, with the global part and the noise
    global_affine: Tensor  # (B, 2, 3) the global part taken out: x and y motion = A @ (x, y, 1)
    noise_px: Tensor  # (B,) estimated noise of raw; motion below 4 times that counts as none

    @property
    def max_px(self) -> Tensor:
        """Longest displacement of each pair; 0 means that nothing moved.  Returns (B,)."""
        return length(self.displacement).amax(dim=(1, 2, 3))


@one_thread()
@torch.no_grad()
def estimate_motion(
    *,
    source: Tensor,
    target: Tensor,
    config: MotionConfig | None = None,
    trust: Tensor | None = None,
    global_affine: Tensor | None = None,
) -> MeasuredMotion:
    """How each pixel of the target moved from the source, the same photo before the retouch.

    source, target: (B, 3, H, W) in [0, 1], same size.  trust: (B, 1, H, W) in [0, 1], 0 where what is seen says nothing
    about motion (paint); there the motion around goes on.  global_affine: (B, 2, 3) the global part, where it is known
    because these are parts of pictures: an edit may fill a part, and would be taken for its global motion.

    Pairs larger than `config.max_side` are measured on an area-averaged copy and the field is scaled up, so its
    resolution is that copy's. Good to about 0.1 px (of that copy) for motion up to 25 px.
    """
    config = config or MotionConfig()
    _check_pair(source, target)
    height, width = source.shape[-2:]
    scale = min(1.0, config.max_side / max(height, width))
    small = (max(1, round(height * scale)), max(1, round(width * scale)))
    source_luma, target_luma = _luma(source, small), _luma(target, small)

    if trust is not None:
        trust = F.interpolate(trust, small, mode="bilinear", align_corners=False, antialias=True)
    pair, grid, certainty = _estimate_grid(source_luma, target_luma, config, trust)
    if global_affine is None:
        affine = fit_global(grid, certainty, height=small[0], width=small[1], stride=STRIDE)
    else:
        affine = resize_affine(global_affine, (height, width), small)
    global_part = affine_motion(affine, node_positions(grid, STRIDE))
    edit, noise_px = remove_noise(
        grid=grid,
        global_part=global_part,
        evidence=_evidence(pair, grid, global_part, config.min_gain, trust),
        rows=-(-small[0] // STRIDE),
        columns=-(-small[1] // STRIDE),
    )
    return MeasuredMotion(
        displacement=_to_photo(edit, small, (height, width)),
        raw=_to_photo(grid, small, (height, width)),
        global_affine=resize_affine(affine, small, (height, width)),
        noise_px=noise_px * height / small[0],
    )


def _check_pair(source: Tensor, target: Tensor) -> None:
    for name, image in (("source", source), ("target", target)):
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            raise ValueError(f"{name} is {image.dtype} {tuple(image.shape)}: pass float (B, 3, H, W) in [0, 1]")
        if not image.sum().isfinite():  # one pass
            raise ValueError(f"{name} contains NaN or infinity: check the file or node it comes from")
    if source.shape != target.shape:
        raise ValueError(
            f"source is {tuple(source.shape)} but target is {tuple(target.shape)}: both must be the same "
            "photo at the same size. Resize the target to the source and try again."
        )


def _luma(image: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) -> (B, 1, *size), averaged down."""
    luma = torch.einsum("bchw,c->bhw", image.float(), image.new_tensor(LUMA, dtype=torch.float32))[:, None]
    if luma.shape[-2:] == size:
        return luma
    return F.interpolate(luma, size, mode="bilinear", align_corners=False, antialias=True)


def _to_photo(grid: Tensor, small: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Grid nodes (B, 2, h, w) -> every pixel of the photo (B, 2, H, W)."""
    stop_if_asked()
    dense = F.interpolate(grid, scale_factor=STRIDE, mode="bilinear", align_corners=False)
    return resize_displacement(dense[..., : small[0], : small[1]].contiguous(), *size)


# The estimator


def _estimate_grid(
    source: Tensor, target: Tensor, config: MotionConfig, trust: Tensor | None = None
) -> tuple[tuple[Tensor, Tensor], Tensor, Tensor]:
    """Coarse to fine.  source, target: luma (B, 1, H, W).

    Returns the normalised pair at the finest level, the motion at its nodes (B, 2, h, w) and how
    well texture fixes that (B, 1, h, w): the smaller eigenvalue of the structure tensor.
    """
    num_levels = len(config.iterations)
    size = source.shape[-2:]
    sources, targets = side_by_side(*(partial(_pyramid, luma, num_levels) for luma in (source, target)))
    trusts = [None] * num_levels if trust is None else _pyramid(trust, num_levels)
    flow = None
    for level in reversed(range(num_levels)):
        stop_if_asked()
        source_n, target_n = side_by_side(*(partial(_normalise, pictures[level]) for pictures in (sources, targets)))
        frame = _Frame.of(target_n, (size[0] / 2**level, size[1] / 2**level))  # the rest is padding
        if flow is None:
            h, w = target_n.shape[-2] // STRIDE, target_n.shape[-1] // STRIDE
            flow = target_n.new_zeros(len(target_n), 2, h, w)
        else:
            flow = 2 * F.interpolate(flow, scale_factor=2, mode="bilinear", align_corners=False)
        for _ in range(config.iterations[num_levels - 1 - level]):
            flow, tensor = _gauss_newton_step(
                source_n, target_n, flow, frame, fine=level < 2, config=config, trust=trusts[level]
            )
            # Two pictures that have nothing in common may drive it out of the frame, where nothing holds it back.
            flow = flow.clamp(-max(frame.valid) * MAX_MOTION, max(frame.valid) * MAX_MOTION)
    a, b, c = tensor.split(1, dim=1)  # [[a, b], [b, c]]
    certainty = (a + c) / 2 - (((a - c) / 2) ** 2 + b**2).sqrt()
    return (source_n, target_n), flow, certainty


def _evidence(
    pair: tuple[Tensor, Tensor], grid: Tensor, global_part: Tensor, min_gain: float, trust: Tensor | None = None
) -> Tensor:
    """How much better the motion explains the target than no edit does; above 1 counts.

    grid, global_part: (B, 2, h, w).  Returns (B, 1, h, w). On portraits with VAE noise or clipped
    new colours, motion that is not there lowers the misfit around it to 0.4 at best, since
    most of that misfit is noise; true motion above a pixel lowers it to a tenth or a hundredth.
    """

    source, target = pair
    height, width = target.shape[-2:]
    frame = _Frame.of(target, (height, width))
    if trust is not None:
        trust = F.pad(trust, (0, width - trust.shape[-1], 0, height - trust.shape[-2]))

    def misfit(flow: Tensor, rows: tuple[int, int]) -> tuple[Tensor, Tensor]:
        stop_if_asked()
        own = (..., slice(*rows), slice(None))
        residual = target[own] - sample(source, frame.grid[own] + frame.dense_rows(flow, *rows), mode="bilinear")
        seen = residual.square().log1p_()
        if trust is not None:
            seen = seen * trust[own]
        return block_mean(seen, STRIDE), residual[..., ::STRIDE, ::STRIDE]

    # Where a resaved rectangle ends, standing still is the rival as well.
    flows = [grid, torch.zeros_like(grid)] + ([global_part] if global_part.any() else [])
    strips = _strips(height, width)
    looks = side_by_side(*(partial(misfit, flow, rows) for flow in flows for rows in strips))
    seen, residuals = (torch.cat(parts, dim=2) for parts in zip(*looks, strict=True))
    moved, *rivals = seen.split(grid.shape[-2], dim=2)
    both = torch.cat([reduce(torch.minimum, rivals), moved], dim=1)
    variance = _variance(residuals[..., : grid.shape[-2], :])
    stop_if_asked()
    for _ in range(EVIDENCE_BLURS):
        both = blur(both)
    still, moved = both.split(1, dim=1)
    needed = torch.maximum(min_gain + NOISE_GAIN * variance, LOCAL_GAIN * (min_gain + moved))
    return (still - moved) / needed


def _pyramid(luma: Tensor, num_levels: int) -> list[Tensor]:
    """Finest first: one [1 2 1] blur, then [1 3 3 1] and every second pixel.

    Padded so that the coarsest level still has whole grid cells. A coarse pixel i lies at
    2i + 0.5 of the finer level: align_corners=False, like every resize here.
    """
    multiple = STRIDE * 2 ** (num_levels - 1)
    height, width = luma.shape[-2:]
    padded = F.pad(luma, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    levels = [blur(padded)]
    for _ in range(num_levels - 1):
        finer = F.pad(levels[-1], (1, 1, 1, 1), mode="replicate")
        levels.append(_every_second(_every_second(finer, -2), -1))
    return levels


def _every_second(planes: Tensor, dim: int) -> Tensor:
    """[1 3 3 1] / 8 at every second place along an axis."""
    last = planes.shape[dim] - 3
    a, b, c, d = (planes[..., i : last + i : 2] if dim == -1 else planes[..., i : last + i : 2, :] for i in range(4))
    return (b + c).mul_(3).add_(a).add_(d).mul_(1 / 8)


def _normalise(luma: Tensor) -> Tensor:
    """Take out local brightness and contrast, over windows of about 10 pixels.  (B, 1, H, W)."""
    mean = blur(blur(block_mean(luma, STRIDE)))
    square = blur(blur(block_mean(luma * luma, STRIDE)))
    contrast = ((square - mean**2).clamp_min(0) + CONTRAST_FLOOR**2).sqrt()
    mean, contrast = F.interpolate(
        torch.cat([mean, contrast], dim=1), scale_factor=STRIDE, mode="bilinear", align_corners=False
    ).split(1, dim=1)
    return (luma - mean) / contrast


def blur(planes: Tensor) -> Tensor:
    """[1 2 1] / 4 along both axes, border kept.  (B, C, H, W)."""
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    rows = (padded[..., :-2, :] + padded[..., 2:, :]).add_(padded[..., 1:-1, :], alpha=2)
    return (rows[..., :-2] + rows[..., 2:]).add_(rows[..., 1:-1], alpha=2).mul_(1 / 16)


@dataclass(frozen=True)
class _Frame:
    """One level's pixels, laid out once for all steps.  valid: height and width of the photo in it."""

    valid: tuple[float, float]
    grid: Tensor  # (1, 2, H, W) absolute positions
    within: Tensor  # (1, 1, H, W) bool, between the centres of the photo's outer pixels

    @classmethod
    def of(cls, picture: Tensor, valid: tuple[float, float]) -> "_Frame":
        grid = pixel_grid(*picture.shape[-2:], device=picture.device)
        return cls(valid, grid, _inside(grid, valid))

    def dense(self, flow: Tensor) -> Tensor:
        """Motion at every pixel.  (B, 2, h, w) -> (B, 2, H, W)."""
        return F.interpolate(flow, scale_factor=STRIDE, mode="bilinear", align_corners=False)

    def dense_rows(self, flow: Tensor, low: int, high: int) -> Tensor:
        """The same at some rows alone.  Returns (B, 2, high - low, W)."""
        first, last = max(0, low // STRIDE - 1), min(flow.shape[-2], -(-high // STRIDE) + 1)
        return self.dense(flow[..., first:last, :])[..., low - first * STRIDE : high - first * STRIDE, :]


def _gauss_newton_step(
    source: Tensor,
    target: Tensor,
    flow: Tensor,
    frame: _Frame,
    *,
    fine: bool,
    config: MotionConfig,
    trust: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One linearised solve.  flow: (B, 2, h, w).  Returns the new flow and A (B, 3, h, w).

    Minimises  sum w (g . (u - flow) - r)^2 + bending |Laplacian u|^2  with r = target - warped
    source and g the image gradient, both summed over grid cells.
    """
    equations = partial(_normal_equations, source, target, flow, frame, trust, fine=fine)
    strips = side_by_side(*(partial(equations, rows) for rows in _strips(*target.shape[-2:])))
    pooled = blur(torch.cat([sums for sums, _ in strips], dim=2))  # (B, 5, h, w)
    tensor, pull = pooled[:, :3], pooled[:, 3:]
    bending = torch.full((len(flow), 1, 1, 1), config.bending, device=flow.device)
    if fine:  # the noisier the pictures, the stiffer the plate
        variance = _variance(torch.cat([every_fourth for _, every_fourth in strips], dim=2))
        bending = (3 * variance).clamp(config.bending, config.max_bending)
    solution = solve(
        blocks=tensor,
        bending=bending,
        right=apply_blocks(tensor, flow) + pull,
        start=flow,
        num_steps=config.num_solver_steps,
        tolerance=config.tolerance,
    )
    return solution, tensor


def _strips(height: int, width: int) -> list[tuple[int, int]]:
    """First and one past the last row of strips of whole nodes, as the processor's cache can hold them."""
    rows = max(_LEAST_ROWS, _STRIP_PX // width // STRIDE * STRIDE)
    return [(top, min(top + rows, height)) for top in range(0, height, rows)]


def _normal_equations(
    source: Tensor,
    target: Tensor,
    flow: Tensor,
    frame: _Frame,
    trust: Tensor | None,
    rows: tuple[int, int],
    *,
    fine: bool,
) -> tuple[Tensor, Tensor]:
    """What brightness says about the motion at each node of these rows of pixels, whole nodes.

    Returns (B, 5, rows / 4, w), sum w g g^T as [[0, 1], [1, 2]] and sum w g r as [3, 4], with g the image's gradient,
    and r at every fourth pixel (B, 1, rows / 4, w).
    """
    stop_if_asked()
    top, bottom = rows
    height = target.shape[-2]
    low, high = max(0, top - 1), min(height, bottom + 1)  # one more on each side for the gradient
    own = slice(top - low, bottom - low)
    positions = frame.grid[..., low:high, :] + frame.dense_rows(flow, low, high)  # (B, 2, rows + 2, W)
    shown = target[..., low:high, :]
    warped = sample(source, positions, mode="bicubic" if fine else "bilinear")  # (B, 1, rows + 2, W)
    image = (shown + warped) / 2
    residual = (shown - warped)[..., own, :]
    weight = (_inside(positions[..., own, :], frame.valid) & frame.within[..., top:bottom, :]) / (residual.square() + 1)
    if trust is not None:
        weight = weight * trust[..., top:bottom, :]
    x, y = torch.gradient(image[..., own, :], dim=-1)[0], torch.gradient(image, dim=-2)[0][..., own, :]
    weighted_x, weighted_y = weight * x, weight * y
    products = image.new_empty(len(image), 5, *residual.shape[-2:])
    factors = [(weighted_x, x), (weighted_x, y), (weighted_y, y), (weighted_x, residual), (weighted_y, residual)]
    for place, (a, b) in enumerate(factors):
        torch.mul(a, b, out=products[:, place : place + 1])
    return block_mean(products, STRIDE), residual[..., ::STRIDE, ::STRIDE]


def _variance(every_fourth: Tensor) -> Tensor:
    """Robust variance, by the median of what remains at every fourth pixel.  (B, 1, h, w) -> (B, 1, 1, 1)."""
    deviation = 1.4826 * every_fourth.abs().flatten(1).median(dim=1).values
    return deviation.square().view(-1, 1, 1, 1)


def _inside(positions: Tensor, valid: tuple[float, float]) -> Tensor:
    """Between the centres of the photo's outer pixels.  (B, 2, H, W) -> (B, 1, H, W) bool."""
    last = positions.new_tensor([valid[1] - 1, valid[0] - 1]).view(2, 1, 1)
    within = positions.clamp(torch.zeros_like(last), last) == positions
    return within[:, :1] & within[:, 1:]
