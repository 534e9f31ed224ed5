"""Independent pieces of work at the same time: the results are those of one after the other, bit for bit.

    faces, laid = side_by_side(lambda: locate(before), lambda: laid_together(before, after))

Each piece runs on one thread of torch (one_thread.py), so its result does not depend on what runs beside it; torch lets
go of Python's lock while it computes. There are never more of them at a time than cores, nor than threads that the
caller lets torch use; with one of these they run in order. Pieces of pieces share the same cores.

Errors come as if the pieces ran in order: the first that fails is the one that is raised, and later ones are given up.
Where the work is stopped (stopping.py, Ctrl-C), all are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any

import torch

from .one_thread import num_threads_given, one_thread
from .stopping import asked_by, stoppable

_busy = 0  # threads of ours at work beside their callers
_lock = threading.Lock()


def side_by_side(*calls: Callable[[], Any]) -> list[Any]:
    """What each of them returns, in order. They must not depend on each other, nor change what another reads."""
    with one_thread():
        spare = _take(min(len(calls), num_threads_given()) - 1)
        if not spare:
            return [call() for call in calls]
        work = _Work(calls)
        # Each in a copy of the context, with what torch keeps for each thread.
        runs = [copy_context().run for _ in range(spare)]
        helpers = [threading.Thread(target=run, args=(work.help, _modes()), daemon=True) for run in runs]
        for helper in helpers:
            helper.start()
        work.go_on()
        work.wait(helpers)
        return work.results()


class _GivenUp(BaseException):
    """A piece ends because another failed or was stopped."""


class _Work:
    """Pieces that several threads take in turn."""

    def __init__(self, calls: Sequence[Callable[[], Any]]):
        self._calls, self._next, self._lock = calls, 0, threading.Lock()
        self._done: list[Any] = [None] * len(calls)
        self._failed: dict[int, BaseException] = {}
        self._stop: BaseException | None = None
        self._ask = asked_by()

    def help(self, modes: tuple[bool, bool]) -> None:
        """What a thread beside the caller's does."""
        grad, inference = modes
        try:
            torch.set_num_threads(1)  # of this thread
            with torch.inference_mode(inference), torch.set_grad_enabled(grad):
                self.go_on()
        finally:
            _give_back_one()  # at once: what is still at work may have parts for it

    def go_on(self) -> None:
        """Take pieces until there are none."""
        try:
            while (place := self._take()) is not None:
                self._run(place)
        except BaseException as stop:  # Ctrl-C between two pieces
            self._stop = self._stop or stop

    def wait(self, helpers: list[threading.Thread]) -> None:
        for helper in helpers:
            while helper.is_alive():
                try:
                    helper.join()
                except BaseException as stop:  # Ctrl-C: the others end at their next step
                    self._stop = self._stop or stop

    def results(self) -> list[Any]:
        if self._stop is not None:
            raise self._stop
        if self._failed:
            raise self._failed[min(self._failed)]
        return self._done

    def _take(self) -> int | None:
        with self._lock:
            if self._next == len(self._calls) or self._stop is not None or self._failed:
                return None
            self._next += 1
            return self._next - 1

    def _run(self, place: int) -> None:
        def ask() -> None:
            if self._stop is not None or any(failed < place for failed in tuple(self._failed)):
                raise _GivenUp
            try:
                self._ask()
            except BaseException as stop:
                self._stop = stop
                raise

        try:
            with stoppable(ask):
                self._done[place] = self._calls[place]()
        except _GivenUp as given_up:
            if self._stop is None and not self._failed:  # of work around this one
                self._stop = given_up
        except BaseException as error:
            if isinstance(error, Exception):
                self._failed[place] = error
            else:
                self._stop = self._stop or error


def _modes() -> tuple[bool, bool]:
    return torch.is_grad_enabled(), torch.is_inference_mode_enabled()


def _take(wanted: int) -> int:
    """So many threads of those that are free."""
    global _busy
    with _lock:
        taken = max(0, min(wanted, num_threads_given() - 1 - _busy))
        _busy += taken
        return taken


def _give_back_one() -> None:
    global _busy
    with _lock:
        _busy -= 1
