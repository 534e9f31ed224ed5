"""Independent pieces at the same time give what they give in order: results, errors, stops."""

import threading
import time

import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core import side_by_side as module
from mirrorppr_core.one_thread import num_threads_given, one_thread
from mirrorppr_core.side_by_side import side_by_side
from mirrorppr_core.stopping import stop_if_asked, stoppable


class Enough(Exception):
    pass


@pytest.fixture(params=[1, 2, 4])
def cores(request, monkeypatch):
    """So many threads for torch on a machine of as many cores, and afterwards as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(request.param)), raising=False)
    yield request.param
    torch.set_num_threads(before)


def fail(kind: type[BaseException]) -> None:
    raise kind("failed")


def wait_for(event: threading.Event) -> bool:
    """Work that asks often, for five seconds at most."""
    for _ in range(500):
        if event.is_set():
            return True
        stop_if_asked()
        time.sleep(0.01)
    return False


def test_results_come_in_order_and_are_those_of_one_after_the_other(cores):
    numbers = torch.randn(9, 3000, generator=torch.Generator().manual_seed(0))
    calls = [lambda row=row: row.softmax(0).cumsum(0) @ row for row in numbers]
    with one_thread():
        alone = [call() for call in calls]
    assert all(torch.equal(a, b) for a, b in zip(side_by_side(*calls), alone, strict=True))
    assert side_by_side() == []
    assert torch.get_num_threads() == cores


def test_as_many_run_at_a_time_as_there_are_cores_parts_of_parts_too(cores):
    running, most, lock = set(), [0], threading.Lock()

    def piece() -> None:
        with lock:
            running.add(threading.get_ident())
            most[0] = max(most[0], len(running))
        time.sleep(0.01)
        with lock:
            running.discard(threading.get_ident())

    side_by_side(*[lambda: side_by_side(*[piece] * 4)] * 4)
    assert most[0] == cores
    assert module._busy == 0


def test_each_piece_runs_on_one_thread_of_torch_in_the_mode_of_its_caller(cores):
    def seen() -> tuple[int, bool, bool]:
        time.sleep(0.01)
        return torch.get_num_threads(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    assert set(side_by_side(*[seen] * 4)) == {(1, True, False)}
    with torch.no_grad():
        assert set(side_by_side(*[seen] * 4)) == {(1, False, False)}
    with torch.inference_mode():
        assert set(side_by_side(*[seen] * 4)) == {(1, False, True)}


def test_gradients_flow_through_pieces(cores):
    x = torch.ones(3, requires_grad=True)
    sum(side_by_side(lambda: (x * 2).sum(), lambda: (x * 3).sum())).backward()
    assert_close(x.grad, torch.full((3,), 5.0))


def test_of_several_errors_the_first_in_order_is_raised(cores):
    def late(kind: type[BaseException]) -> None:
        time.sleep(0.05)
        fail(kind)

    with pytest.raises(KeyError):
        side_by_side(lambda: 1, lambda: late(KeyError), lambda: fail(ValueError))
    assert module._busy == 0
    assert side_by_side(lambda: 1, lambda: 2) == [1, 2]


def test_a_failure_ends_later_pieces_at_their_next_step(cores):
    began = time.perf_counter()
    with pytest.raises(ValueError):
        side_by_side(lambda: fail(ValueError), lambda: wait_for(threading.Event()))
    assert time.perf_counter() - began < 2


@pytest.mark.parametrize("kind", [Enough, KeyboardInterrupt])
def test_a_stop_ends_all_pieces_and_comes_through_once(cores, kind):
    asked, lock = [0], threading.Lock()

    def ask() -> None:  # as in the host: who asks first is told, nobody else
        with lock:
            asked[0] += 1
            if asked[0] == 20:
                raise kind

    began = time.perf_counter()
    with stoppable(ask), pytest.raises(kind):
        side_by_side(*[lambda: side_by_side(*[lambda: wait_for(threading.Event())] * 3)] * 3)
    assert time.perf_counter() - began < 2
    assert module._busy == 0


def test_the_caller_s_own_limits_hold():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert num_threads_given() == 1
        torch.set_num_threads(2)
        with one_thread():
            assert num_threads_given() == min(2, module.num_threads_given())
            with one_thread():
                assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
