"""One call on a damaged input, watched: how it ended, how long it took, what it opened for writing or started."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MISTAKES = (ValueError, OSError, FloatingPointError)  # what the commands tell in one line
MOST_SECONDS, MOST_WORDS, MOST_GROWN = 5.0, 500, 1_500_000  # of processor time; characters; kilobytes
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "socket.connect")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class _Hanging(BaseException):
    """Not an Exception: nobody's handler may swallow it."""


@dataclass(frozen=True)
class Ending:
    """value: what came back, or None.  refused: the sentence, where there was one.  faults: what must not be."""

    value: Any
    refused: str
    faults: tuple[str, ...]
    seconds: float


class _Watch:
    """Audit hooks cannot be removed: one for the process, active inside `watched` alone."""

    def __init__(self) -> None:
        self.active, self.allowed, self.seen = False, "", []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if not self.active:
            return
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            path = os.path.abspath(os.fspath(arguments[0])) if isinstance(arguments[0], str | bytes | Path) else ""
            if path and not str(path).startswith((self.allowed, "/dev/", "/proc/")):
                self.seen.append(f"opened {path} for writing")
        elif event in _STARTS:
            self.seen.append(f"{event}: a program or a connection was started")


_watch: list[_Watch] = []


def watched(call: Callable[[], Any], folder: Path) -> Ending:
    """folder: the only one that may be written into."""
    if not _watch:
        _watch.append(_Watch())
    watch = _watch[0]
    watch.active, watch.allowed, watch.seen = True, str(folder.resolve()), []
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    value, refused, faults = None, "", []
    signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        value = call()
    except MISTAKES as error:
        refused = str(error) or type(error).__name__
        if len(refused) > MOST_WORDS:
            faults.append(f"a message of {len(refused)} characters: {refused[:80]}...")
    except _Hanging:
        faults.append(f"more than {MOST_SECONDS:g} s of processor time")
    except BaseException as error:  # whatever else would have been a traceback
        faults.append(f"traceback: {type(error).__name__}: {str(error)[:200]}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        watch.active = False
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    if grown > MOST_GROWN:
        faults.append(f"{grown // 1000} MB of memory")
    return Ending(value, refused, (*faults, *watch.seen), time.process_time() - began)


def _hang(*_: object) -> None:
    raise _Hanging
