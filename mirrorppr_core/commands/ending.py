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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

INTERRUPTED, TERMINATED, CLOSED = 130, 143, 141

_done: dict[str, Any] = {}
_signals: list[int] = []


def tell_when_stopped(**report: Any) -> None:
    """What is told if the command is stopped from now on; lists may grow after that."""
    _done.update(report)


def ended(work: Callable[[], int]) -> int:
    """Do the work. Returns its exit status, or the one of how it was stopped."""
    _done.clear()
    with stops_noted():
        try:
            status = work()
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            return pipe_closed()
        except KeyboardInterrupt:
            status = status_when_stopped()
            reason = "terminated" if status == TERMINATED else "interrupted"
            print(f"stopped: {reason}; what is done stays", file=sys.stderr)
            print(json.dumps({"error": f"stopped: {reason}", **_done}, indent=1), flush=True)
            return status


def leave(status: int) -> NoReturn:
    """End the process at once. Python would take torch apart first, piece by piece, for half a second; what we write is
    on the disk when it is written (file_writing.py)."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # whoever listened is gone
            stream.flush()
    os._exit(status)


@contextmanager
def stops_noted() -> Iterator[None]:
    """SIGTERM takes the way of Ctrl-C inside the block, and `status_when_stopped` knows which of them it was."""
    _signals.clear()
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def note_signal(number: int) -> None:
    """For those that handle signals themselves."""
    _signals.append(number)


def status_when_stopped() -> int:
    return TERMINATED if signal.SIGTERM in _signals else INTERRUPTED


def pipe_closed() -> int:
    """Nobody listens any more: say nothing, not even at the end of the process, where Python flushes once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED


def _terminate(number: int, frame: Any) -> NoReturn:
    note_signal(number)
    raise KeyboardInterrupt
