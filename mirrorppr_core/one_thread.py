"""Work whose result shall not depend on how many threads torch may use: it runs on one.

A sum that two threads share is rounded otherwise than one thread's, by some 1e-7 of it; what is measured and predicted
here then differs by some 1e-5 pixel. Most of our work is also so small that more threads hardly pay: on an idle machine
they save little, and on a busy one, where the threads wait for each other, a retouch takes ten times as long. Moving
the pixels of a large photo does pay, and there no sum is shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Around a block or a function. What torch may use elsewhere is as before when it ends, however it ends."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
