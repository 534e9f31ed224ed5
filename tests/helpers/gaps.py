"""How long work of ours goes on without asking whether it shall stop: its longest stretches, and where they lie."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mirrorppr_core.stopping import stoppable


@dataclass(frozen=True, order=True)
class Gap:
    """seconds: of this process's CPU time.  after, before: the places in our code that asked at both ends."""

    seconds: float
    after: str
    before: str


def gaps(work: Callable[[], object]) -> list[Gap]:
    """The longest first. Meant for torch on one thread, where pieces of work run one after the other."""
    asked: list[tuple[float, str]] = [(time.process_time(), "begin")]

    def ask() -> None:
        asked.append((time.process_time(), _place()))
        asked[-1] = (time.process_time(), asked[-1][1])  # finding the place is none of the work

    with stoppable(ask):
        work()
    asked.append((time.process_time(), "end"))
    return sorted((Gap(b - a, at, to) for (a, at), (b, to) in zip(asked, asked[1:], strict=False)), reverse=True)


def _place() -> str:
    own = [frame for frame in traceback.extract_stack() if "mirrorppr_core" in frame.filename]
    own = [frame for frame in own if Path(frame.filename).stem not in ("stopping", "side_by_side", "one_thread")]
    return " < ".join(f"{Path(frame.filename).stem}.{frame.name}:{frame.lineno}" for frame in own[:-4:-1])
