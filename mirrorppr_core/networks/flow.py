"""Flow matching: the straight path from a latent to noise, and the walk back.

    x_t      = (1 - t) * x_0 + t * noise    t = 0 is the field, t = 1 is noise
    velocity = noise - x_0 = (x_t - x_0) / t

Rectified flow, arXiv:2209.03003; time runs as in Qwen-Image. Mini's network predicts x_0 (the clean field) instead
of the velocity: given the exemplar and the query the answer is nearly certain, and x_0 is then well defined at every
t. Both views are one division apart, and the sampler below walks with the velocity.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def interpolate(x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Point at time t on the path. x_0, noise: (B, ...).  t: (B,) in [0, 1]."""
    t = t.view(-1, *[1] * (x_0.ndim - 1))
    return (1 - t) * x_0 + t * noise


def schedule(num_steps: int) -> list[float]:
    """Times from 1 to 0, evenly spaced: num_steps + 1 values."""
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps}: use 1 or more; 1 to 4 is usual for Mini")
    return [1 - i / num_steps for i in range(num_steps)] + [0.0]


def euler_step(x_t: Tensor, velocity: Tensor, *, t: float, t_next: float) -> Tensor:
    """One straight step along the velocity."""
    return x_t + (t_next - t) * velocity


def integrate(
    predict_x_0: Callable[[Tensor, float], Tensor],
    noise: Tensor,
    *,
    num_steps: int,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Walk from noise (t = 1) to the field (t = 0).

    predict_x_0(x_t, t) is the network.  on_step(steps done, current estimate of x_0) may raise to interrupt.
    """
    x_t = noise
    times = schedule(num_steps)
    for step, (t, t_next) in enumerate(zip(times, times[1:], strict=False)):
        x_0 = predict_x_0(x_t, t)
        x_t = euler_step(x_t, (x_t - x_0) / t, t=t, t_next=t_next)
        if on_step is not None:
            on_step(step + 1, x_0)
    return x_t


def draw_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal from a CPU generator: the same seed gives the same noise on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
