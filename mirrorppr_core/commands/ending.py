"""How a command ends when it is stopped: one line, a JSON of what is done, and the exit status that shells expect.

    Ctrl-C     130
    SIGTERM    143
    whoever read the answer is gone (`| head`)    141, without a word

Needs no torch, so that it is in place before torch is imported, which takes seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

INTERRUPTED, TERMINATED, CLOSED = 130, 143, 141

_done: dict[str, Any] = {}


class Terminated(KeyboardInterrupt):
    """SIGTERM, on the way that Ctrl-C takes."""


def tell_when_stopped(**report: Any) -> None:
    """What is told if the command is stopped from now on; lists may grow after that."""
    _done.update(report)


def ended(work: Callable[[], int]) -> int:
    """Do the work. Returns its exit status, or the one of how it was stopped."""
    _done.clear()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        status = work()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Python flushes once more at the end of the process, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    except KeyboardInterrupt as stop:
        terminated = isinstance(stop, Terminated)
        reason = "terminated" if terminated else "interrupted"
        print(f"stopped: {reason}; what is done stays", file=sys.stderr)
        print(json.dumps({"error": f"stopped: {reason}", **_done}, indent=1), flush=True)
        return TERMINATED if terminated else INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: Any) -> NoReturn:
    raise Terminated
