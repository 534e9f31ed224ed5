"""Every program of training: what it answers to a mistake, and how it is stopped."""

from __future__ import annotations

import importlib
import inspect
import os
import signal
import subprocess
import sys

import pytest
from host import ROOT

from training.program import Parser, run

PROGRAMS = sorted(path.stem for path in (ROOT / "training").glob("*.py") if "\ndef main(" in path.read_text())

# Well-formed arguments that name what is not there, or ask for what cannot be.
MISTAKES = {
    "ablations": "--run nowhere --config tiny --set data.sources=2",
    "benchmark": "--portraits nowhere",
    "body_benchmark": "--portraits nowhere",
    "confidence_benchmark": "--portraits nowhere",
    "contact_sheet": "--portraits nowhere --out sheet.png",
    "evaluate": "--dataset nowhere.json --outputs nowhere",
    "evaluate_body": "--portraits nowhere",
    "exemplar_benchmark": "--portraits nowhere",
    "export": "--run nowhere --out out",
    "find_landmarks": "--portraits nowhere --out landmarks.npz",
    "generality": "--portraits nowhere",
    "make_cases": "--portraits nowhere --out out",
    "operation_benchmark": "explain --portraits nowhere",
    "pack": "--portraits nowhere --out out",
    "qwen_cache": "--config tiny",
    "qwen_export": "--run nowhere --mae nowhere.safetensors --out out",
    "qwen_memory": "--batch 0",
    "qwen_sources": "--config qwen-face",
    "robustness": "--portraits nowhere",
    "sequence_benchmark": "--portraits nowhere",
    "synthesize": "--portraits nowhere --landmarks mini --operations face --pairs 2 --out out",
    "train": "--config nowhere --run out",
    "train_locator": "--portraits nowhere --out locator.safetensors",
}


def refused(name: str, arguments: list[str], capsys) -> str:
    """The one line on stderr with which `name` answers."""
    status = importlib.import_module(f"training.{name}").main(arguments)
    told = capsys.readouterr().err
    assert status == 2, told
    assert told.startswith("error: ") and told.count("\n") == 1 and told.endswith("\n"), told
    return told


def test_the_list_of_mistakes_names_every_program():
    assert PROGRAMS == sorted(MISTAKES)


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_not_there_is_one_line_and_status_2(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    refused(name, MISTAKES[name].split(), capsys)


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_unknown_argument_is_one_line_and_status_2(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    told = refused(name, [*MISTAKES[name].split(), "--no-such-thing"], capsys)
    assert "--no-such-thing" in told and f"python -m training.{name} --help tells more" in told


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_hands_its_status_to_the_shell(name):
    assert inspect.getsource(importlib.import_module(f"training.{name}")).endswith(
        'if __name__ == "__main__":\n    sys.exit(main())\n'
    )


def test_the_shell_sees_the_line_and_the_status(tmp_path):
    command = [sys.executable, "-m", "training.pack", "--portraits", str(tmp_path / "nowhere"), "--out", "out"]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 2 and process.stderr.count("\n") == 1, process.stderr


def answer(error: BaseException) -> int:
    def work(options):
        raise error

    return run(Parser("train", "About."), work, [])


def test_ctrl_c_is_one_line_and_says_how_to_go_on_where_that_is_known(capsys):
    assert answer(KeyboardInterrupt()) == answer(KeyboardInterrupt("the same command continues")) == 130
    assert capsys.readouterr().err == "stopped\nthe same command continues\n"


def test_a_mistake_told_in_many_lines_becomes_one(capsys):
    assert answer(ImportError("ray is missing:\n  install it")) == 2
    assert capsys.readouterr().err == "error: ray is missing: install it\n"


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(KeyError):
        answer(KeyError("face_avg"))


def test_sigterm_is_one_line_and_status_143(capsys):
    def work(options):
        os.kill(os.getpid(), signal.SIGTERM)

    assert run(Parser("train", "About."), work, []) == 143
    assert capsys.readouterr().err == "stopped\n"
