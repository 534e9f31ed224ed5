"""The walk from noise to the retouched latent, one call of the DiT per step.

    x <- x + (s_next - s) * v(x, s)              v from the DiT, told [query words][operation tokens]

The released program runs classifier-free guidance at 4 with the same text on both sides. Both sides are then equal,
v_neg + 4 (v_pos - v_neg) = v_pos, and half of its calls are for nothing; we make one. What can be guided is the
operation itself, against the same query without its tokens:

    v = v_without + guidance * (v_with - v_without)          guidance 1 is plain; other values cost two calls

Shapes: B batch, h x w latent, L text tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .latents import pack, unpack
from .schedule import reference_time


@torch.no_grad()
def denoise(
    transformer: nn.Module,
    *,
    noise: Tensor,
    query: Tensor,
    text: Tensor,
    sigmas: Tensor,
    guidance: float = 1.0,
    text_without: Tensor | None = None,
    time_of: Callable[[Tensor], Tensor] | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Returns the clean latent (B, 16, h, w), float32; the walk is float32 whatever the DiT computes in.

    transformer: a diffusers QwenImageTransformer2DModel.  noise, query: (B, 16, h, w), one size, even sides.
    text: (B, L, D) with the operation tokens.  text_without: the same without, needed when guidance is not 1.
    time_of: what the DiT is told instead of sigma (schedule.reference_time).
    on_step(steps done, current estimate of the clean latent) may raise to interrupt.
    """
    if guidance != 1 and text_without is None:
        raise ValueError(f"guidance={guidance}: pass text_without, the text stream without operation tokens")
    if time_of is None and transformer.dtype == torch.bfloat16:
        # diffusers casts the time to the weights' precision. As thousandths, as the reference does, it is rounded far
        # less than as sigma itself: bfloat16 has 8 bits, and the time embedding multiplies the error by 1000.
        time_of = reference_time
    x = noise.float()
    for step, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        t = sigma if time_of is None else time_of(sigma)
        v = velocity(transformer, x, query=query, text=text, t=t)
        if guidance != 1:
            without = velocity(transformer, x, query=query, text=text_without, t=t)
            v = without + guidance * (v - without)
        if on_step is not None:
            on_step(step + 1, x - float(sigma) * v)
        x = x + float(sigma_next - sigma) * v
    return x


def velocity(transformer: nn.Module, x: Tensor, *, query: Tensor, text: Tensor, t: Tensor) -> Tensor:
    """One call of the DiT. x, query: (B, 16, h, w).  t: scalar in [0, 1].  Returns (B, 16, h, w) float32."""
    height, width = x.shape[-2:]
    if query.shape != x.shape or height % 2 or width % 2:
        raise ValueError(
            f"latents are {tuple(x.shape)} and {tuple(query.shape)}: target and query must have one size with even "
            "sides. Prepare the query with sizes.working_size."
        )
    tokens = torch.cat([pack(x), pack(query.to(x))], dim=1).to(transformer.dtype)
    grid = (1, height // 2, width // 2)
    predicted = transformer(
        hidden_states=tokens,
        encoder_hidden_states=text.to(tokens),
        encoder_hidden_states_mask=None,  # all tokens count; None lets fast attention run
        timestep=t.to(x).expand(len(x)),
        img_shapes=[[grid, grid]] * len(x),
        return_dict=False,
    )[0]
    return unpack(predicted[:, : tokens.shape[1] // 2].float(), height=height, width=width)
