"""How the threads of a command wait and where they take memory: to be called before torch is imported.

Threads of OpenMP that spin while they wait for the others are fast on an idle machine. On a busy one each of them takes
the time in which another could work: a retouch takes ten times as long there. The runtime reads these once, when it is
loaded. And the C library gives each thread a heap of its own, which keeps what another thread could use: 15 MB more
for two.
"""

from __future__ import annotations

import os
import sys

_M_ARENA_MAX = -8  # of glibc's malloc.h


def wait_passively() -> None:
    """Idle threads sleep instead of spinning, in this process. What the user has set stays."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


def share_one_heap() -> None:
    """All threads of this process take memory from one heap, where the C library is glibc; else nothing changes."""
    if sys.platform != "linux" or "MALLOC_ARENA_MAX" in os.environ:
        return
    import ctypes  # only here: other systems need none of it

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
