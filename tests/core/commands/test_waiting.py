"""How the threads of a command wait, and that they share one heap."""

import os
import subprocess
import sys

import pytest

_TWO_THREADS = """
import ctypes, sys, threading
from mirrorppr_core.commands.waiting import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
lib = ctypes.CDLL(None)
lib.malloc.restype = ctypes.c_void_p
thread = threading.Thread(target=lib.malloc, args=(100_000,))
thread.start()
thread.join()
lib.malloc_stats()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc alone")
@pytest.mark.parametrize(("way", "heaps"), [("shared", 1), ("as it comes", 2)])
def test_threads_of_a_command_share_one_heap(way, heaps):
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    run = subprocess.run([sys.executable, "-c", _TWO_THREADS, way], capture_output=True, text=True, env=plain)
    if "Arena" not in run.stderr:
        pytest.skip("another C library")
    assert run.stderr.count("Arena ") == heaps


def test_a_user_s_own_settings_stay(monkeypatch):
    from mirrorppr_core.commands.waiting import share_one_heap, wait_passively

    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    wait_passively()
    share_one_heap()
    assert (os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"]) == ("ACTIVE", "7")
