"""Work whose result shall not depend on how many threads torch may use: it runs on one.

A sum that two threads share is rounded otherwise than one thread's, by some 1e-7 of it; what is measured and predicted
here then differs by some 1e-5 pixel. Most of our work is also so small that more threads hardly pay: on an idle machine
they save little, and on a busy one, where the threads wait for each other, a retouch takes ten times as long. What does
pay is work that shares no sum, side by side (side_by_side.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

_given: ContextVar[int | None] = ContextVar("_given", default=None)


@contextmanager
def one_thread() -> Iterator[None]:
    """Around a block or a function. What torch may use elsewhere is as before when it ends, however it ends."""
    before = torch.get_num_threads()
    token = _given.set(before) if _given.get() is None else None
    try:
        if before != 1:
            torch.set_num_threads(1)
        yield
    finally:
        if before != 1:
            torch.set_num_threads(before)
        if token is not None:
            _given.reset(token)


def num_threads_given() -> int:
    """How many threads whoever called us lets torch use (OMP_NUM_THREADS, torch.set_num_threads), and no more than the
    cores that this process may run on."""
    given = _given.get() or torch.get_num_threads()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(given, cores))
