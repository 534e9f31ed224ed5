"""How commands end when they are stopped, and that idle threads sleep before torch is there."""

import json
import os
import signal
import subprocess
import sys

import pytest
from host import ROOT

from mirrorppr_core.commands.ending import ended, tell_when_stopped


def stopped_by(stop) -> int:
    def work() -> int:
        rows = []
        tell_when_stopped(queries=rows)
        rows.append({"query": "a.png"})
        stop()
        return 0

    return ended(work)


def interrupt() -> None:
    raise KeyboardInterrupt


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("stop", "status", "word"), [(interrupt, 130, "interrupted"), (terminate, 143, "terminated")])
def test_a_stopped_command_is_one_line_and_tells_what_is_done(stop, status, word, capsys):
    assert stopped_by(stop) == status
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"error": f"stopped: {word}", "queries": [{"query": "a.png"}]}
    assert printed.err == f"stopped: {word}; what is done stays\n"


def test_what_one_command_did_is_not_told_of_the_next(capsys):
    stopped_by(interrupt)
    capsys.readouterr()
    ended(interrupt)
    assert json.loads(capsys.readouterr().out) == {"error": "stopped: interrupted"}


def test_the_handler_of_sigterm_is_given_back():
    before = signal.getsignal(signal.SIGTERM)
    assert ended(lambda: 0) == 0
    assert signal.getsignal(signal.SIGTERM) is before


def python(text: str, **options) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


def test_a_closed_pipe_is_no_traceback():
    text = (
        "import sys; from mirrorppr_core.commands.ending import ended; sys.exit(ended(lambda: print('x' * 10**6) or 0))"
    )
    process = python(text, stdout=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == ("", 141)


@pytest.mark.parametrize("package", ["mirrorppr_core.__main__", "training"])
def test_idle_threads_sleep_before_torch_is_imported(package):
    text = (
        f"import sys, {package}, os; print(os.environ['OMP_WAIT_POLICY'], os.environ['GOMP_SPINCOUNT'], "
        "'torch' in sys.modules)"
    )
    free = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    told = subprocess.run([sys.executable, "-c", text], cwd=ROOT, env=free, capture_output=True, text=True)
    assert told.stdout == "PASSIVE 0 False\n", told.stderr


def test_what_the_user_says_of_idle_threads_stays():
    text = "import mirrorppr_core.__main__, os; print(os.environ['OMP_WAIT_POLICY'])"
    own = {**os.environ, "OMP_WAIT_POLICY": "ACTIVE"}
    told = subprocess.run([sys.executable, "-c", text], cwd=ROOT, env=own, capture_output=True, text=True)
    assert told.stdout == "ACTIVE\n", told.stderr
