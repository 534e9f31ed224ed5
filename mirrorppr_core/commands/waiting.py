"""Idle threads of OpenMP sleep instead of spinning, in this process: to be called before torch is imported.

Threads that spin while they wait for the others are fast on an idle machine. On a busy one each of them takes the time
in which another could work: a retouch takes ten times as long there. The runtime reads these once, when it is loaded.
"""

from __future__ import annotations

import os


def wait_passively() -> None:
    """What the user has set stays."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
