"""The reference's noise schedule and noise.

    s_i  = 1 - i / n                                    n steps, evenly spaced
    s'   = e^mu / (e^mu + 1 / s - 1)                    more steps near noise, the more the larger the picture
    s''  = 1 - (1 - s') * (1 - 0.02) / (1 - s'_last)    stretched so that the last step starts at 0.02

mu is linear in the number of image tokens, 0.5 at 256 and 0.9 at 8192. This is diffusers'
FlowMatchEulerDiscreteScheduler with Qwen-Image's settings; stock ComfyUI nodes cannot give the last line.
"""

from __future__ import annotations

import torch
from torch import Tensor

LAST_SIGMA = 0.02
NUM_STEPS = 40  # the reference's
SEED = 123  # the reference's


def shift_mu(num_tokens: int) -> float:
    """num_tokens: of the target alone, (H / 16) * (W / 16)."""
    return 0.5 + (num_tokens - 256) * 0.4 / (8192 - 256)


def official_sigmas(num_steps: int, *, height: int, width: int) -> Tensor:
    """num_steps + 1 values from 1 to 0 for a picture of this size in pixels."""
    if num_steps < 1:
        raise ValueError(f"num_steps={num_steps}: use 1 or more, {NUM_STEPS} is the reference's")
    mu = torch.tensor(shift_mu((height // 16) * (width // 16)), dtype=torch.float64)
    even = torch.linspace(1, 1 / num_steps, num_steps, dtype=torch.float64)
    shifted = mu.exp() / (mu.exp() + 1 / even - 1)
    if num_steps > 1:  # a single step starts at 1 and has no last value to stretch
        shifted = 1 - (1 - shifted) * (1 - LAST_SIGMA) / (1 - shifted[-1])
    return torch.cat([shifted, shifted.new_zeros(1)]).float()


def reference_time(sigma: Tensor) -> Tensor:
    """Time as the reference hands it to the DiT: in thousandths and back, in bfloat16. Returns float32."""
    return ((1000 * sigma.float()).bfloat16() / 1000).float()


def official_noise(height: int, width: int, *, seed: int = SEED) -> Tensor:
    """Noise of the reference: drawn in bfloat16 on the CPU. (1, 16, H / 8, W / 8) float32."""
    return torch.randn(_shape(height, width), generator=_seeded(seed), dtype=torch.bfloat16).float()


def native_noise(height: int, width: int, *, seed: int) -> Tensor:
    """The same in float32, as ComfyUI draws it. (1, 16, H / 8, W / 8)."""
    return torch.randn(_shape(height, width), generator=_seeded(seed))


def _shape(height: int, width: int) -> tuple[int, int, int, int]:
    return 1, 16, height // 8, width // 8


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
