"""Retouching on an idle and on a busy machine, with torch's default threads and with one.

    python tests/benchmarks/bench_busy.py [--rounds 5]

Busy: a loop runs on every core beside it. Three ways: the whole command for one 1024 px photo; the same calls as a
library in a process where torch was imported before us, as in ComfyUI (a warm extraction of a 512 px pair and a warm
retouch); each with the environment as it is and with OMP_NUM_THREADS=1. Interleaved, medians.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from bench_side_by_side import HERE, Asked, write_pictures

_THREADING = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@contextmanager
def busy():
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def environment(one_thread: bool) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in _THREADING}
    return {**plain, "OMP_NUM_THREADS": "1"} if one_thread else plain


def command(pictures: Path, one_thread: bool) -> float:
    with tempfile.TemporaryDirectory() as out:
        named = {"before": "before_512.png", "after": "after_512.png", "query": "query_1024.png"}
        words = [word for option, name in named.items() for word in (f"--{option}", str(pictures / name))]
        began = time.perf_counter()
        arguments = [sys.executable, "-m", "mirrorppr_core", "retouch", *words, "--out", out]
        subprocess.run(arguments, cwd=HERE, env=environment(one_thread), stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - began


def rows(pictures: Path, workers: dict[bool, Asked], rounds: int) -> dict[str, dict[bool, float]]:
    found: dict[str, dict[bool, list[float]]] = {}
    for _ in range(rounds):
        for one_thread, worker in workers.items():
            found.setdefault("command", {}).setdefault(one_thread, []).append(command(pictures, one_thread))
            for call in ("extract", "retouch"):
                found.setdefault(call, {}).setdefault(one_thread, []).append(worker.once(call)["wall"])
    return {what: {way: median(times) for way, times in ways.items()} for what, ways in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder)
        write_pictures(pictures)
        workers = {way: Asked(HERE, pictures, 1 if way else None, environment(way)) for way in (False, True)}
        idle = rows(pictures, workers, rounds)
        with busy():
            beside = rows(pictures, workers, rounds)
        for worker in workers.values():
            worker.close()
    print(f"seconds, medians of {rounds}, {os.cpu_count()} cores\n")
    print("| what | machine | default | OMP_NUM_THREADS=1 | default / one |\n|---|---|---|---|---|")
    for machine, measured in (("idle", idle), ("busy", beside)):
        for what, ways in measured.items():
            print(f"| {what} | {machine} | {ways[False]:.2f} | {ways[True]:.2f} | {ways[False] / ways[True]:.2f} |")


if __name__ == "__main__":
    main()
