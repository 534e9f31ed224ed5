"""How long work is stopped: whoever starts it says how to ask, and the work asks often.

    with stoppable(ask):        ask() raises when the work shall end, and otherwise returns at once
        model.extract(exemplar)

Work that takes longer than some tenths of a second calls `stop_if_asked` between its steps; what `ask` raises passes
through. Nothing is left half done by that, because nothing here changes what it is given. The question belongs to the
thread that asks: other work of the process is not stopped, parts of the same work are (side_by_side.py). It changes no
result, so it is no argument of every function between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ask: ContextVar[Callable[[], None] | None] = ContextVar("_ask", default=None)


@contextmanager
def stoppable(ask: Callable[[], None]) -> Iterator[None]:
    """Work inside the block calls `ask` between its steps."""
    token = _ask.set(ask)
    try:
        yield
    finally:
        _ask.reset(token)


def asked_by() -> Callable[[], None]:
    """The question of whoever started the work, for threads that do part of it."""
    return _ask.get() or _never


def _never() -> None:
    """Nobody asks."""


def stop_if_asked() -> None:
    """Raises what the question raises, if there is one."""
    ask = _ask.get()
    if ask is not None:
        ask()
