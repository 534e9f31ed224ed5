"""Convolutions in eight bits on disk: whole numbers times a step of their own for each output channel.

    stored[o] = round(weight[o] / step[o])    step[o] = largest |weight[o]| / 127

Half the size of half precision; each number is off by half a step at most. In memory weights are float32 as ever.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_LARGEST = 127
_STEP = ".step"  # name of the steps' tensor, after the weight's
_LEAST_STEP = 2.0**-24  # of half precision: an output channel of zeros has a step too


def in_eight_bits(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state with each kernel (four dimensions) as int8 and its steps in half precision; the rest as it is."""
    stored: dict[str, Tensor] = {}
    for name, value in state.items():
        if value.ndim != 4 or not value.is_floating_point():
            stored[name] = value
            continue
        largest = value.detach().float().abs().amax(dim=(1, 2, 3))
        step = (largest / _LARGEST).clamp_min(_LEAST_STEP).half()
        whole = (value.detach().float() / step.float()[:, None, None, None]).round()
        stored[name] = whole.clamp(-_LARGEST, _LARGEST).to(torch.int8)
        stored[name + _STEP] = step
    return stored


def from_eight_bits(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `in_eight_bits` stored, in float32. Raises ValueError where steps and kernels do not belong together."""
    state: dict[str, Tensor] = {}
    for name, value in stored.items():
        if name.endswith(_STEP) and name.removesuffix(_STEP) in stored:
            continue
        if value.dtype == torch.int8:
            step = stored.get(name + _STEP)
            if step is None or value.ndim != 4 or step.shape != value.shape[:1]:
                raise ValueError(f"{name} is stored in eight bits without a step for each output channel")
            value = value.float() * step.float()[:, None, None, None]
        state[name] = value
    return state
