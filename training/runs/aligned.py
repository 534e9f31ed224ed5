"""Weights at addresses that matrix products treat alike, so that equal numbers give equal results.

CPU libraries sum a matrix product in another order where a matrix does not begin at a multiple of their vector length.
Files are mapped into memory as they are, so weights that were just loaded begin anywhere, while torch's own memory
begins at multiples of 64 bytes; whether a run copied its weights in between (several processes do) then changed their
last bits, and so the whole run. Copying them once settles it. GPU memory is aligned anyway.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

ALIGNMENT = 64  # bytes; torch's allocator keeps to it
Module = TypeVar("Module", bound=nn.Module)


@torch.no_grad()
def aligned(module: Module) -> Module:
    """The same module; its parameters and buffers in CPU memory now begin at multiples of ALIGNMENT."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
            tensor.data = tensor.data.clone()
    return module
