"""Who works: this process, its children, or a Ray cluster. A job is a list of numbers and a function of one of them.

    here   one after the other in this process
    pool   `workers` processes of this machine
    ray    every CPU of a Ray cluster, or of this machine (optional extra `cluster`)

There is no scheduler of ours: ProcessPoolExecutor and Ray hand out the numbers, and a SLURM array needs nothing at all
(`--shard-id $SLURM_ARRAY_TASK_ID` in each of its tasks). The function must be importable, its answer plain data, and
its effect the same whoever calls it and how often: then every engine leaves the same files behind, and a task that
was cut off is just called again. Everything runs on one thread per task: answers could depend on the number of
threads, and many small tasks waste less that way.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import torch

WORKERS = ("pool", "ray")
INSTALL_RAY = "pip install ray"
_PACKAGES = ("training", "mirrorppr_core")
_PER_CPU = 2  # Ray tasks handed in at a time, so that tens of thousands of shards do not wait in its memory

Task = Callable[[int], dict]


def run_here(task: Task, numbers: Sequence[int]) -> Iterator[dict]:
    """Answers in order."""
    with _single_thread():
        for number in numbers:
            yield task(number)


def run_pool(task: Task, numbers: Sequence[int], *, workers: int) -> Iterator[dict]:
    """Answers as they come. The first error ends the run; finished shards stay."""
    spawn = multiprocessing.get_context("spawn")  # forking a process that has used torch can hang
    executor = ProcessPoolExecutor(min(workers, len(numbers)), mp_context=spawn, initializer=_start_worker)
    try:
        for future in as_completed([executor.submit(task, number) for number in numbers]):
            yield future.result()
    except BrokenProcessPool as error:
        raise OSError(
            f"a worker process was killed ({error}), most often for want of memory: give the same command again, with "
            "fewer --workers; finished shards are kept"
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


def run_ray(task: Task, numbers: Sequence[int], *, address: str | None) -> Iterator[dict]:
    """Answers as they come. address: of a running cluster ("auto", "host:6379"), or None to start Ray here.

    The nodes need torch, numpy, pillow, safetensors and the folders that the task names, under the same paths; our
    own code travels to them. A task whose node dies is started elsewhere by Ray.
    """
    ray = require_ray()
    root = Path(__file__).resolve().parents[2]
    environment = {"py_modules": [str(root / name) for name in _PACKAGES]}
    ray.init(address=address or "local", runtime_env=environment, log_to_driver=False, logging_level=logging.WARNING)
    try:
        remote = ray.remote(num_cpus=1)(_single_threaded)
        waiting = list(numbers)[::-1]
        running: list = []
        while waiting or running:
            room = max(1, int(_PER_CPU * ray.cluster_resources().get("CPU", 1)))
            while waiting and len(running) < room:
                running.append(remote.remote(task, waiting.pop()))
            done, running = ray.wait(running)
            try:
                answers = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error  # what the task raised; Ray's own text is a traceback
            yield from answers
    finally:
        ray.shutdown()


def require_ray():
    """The module. Raises ImportError with the remedy."""
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            f"--engine ray needs Ray ({error}): {INSTALL_RAY}, or use --workers on this machine, or --shard-id in a "
            "SLURM array"
        ) from error
    return ray


def _single_threaded(task: Task, number: int) -> dict:
    with _single_thread():
        return task(number)


@contextmanager
def _single_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start_worker() -> None:
    torch.set_num_threads(1)
    # A pool whose master was killed waits for work for ever otherwise.
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
