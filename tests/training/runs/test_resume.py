"""Real processes, really killed: what is left continues to the weights and the log of a run that nobody touched.

One run in this process is the reference. Because a step's batch is cut into parts that belong to no process, it is also
what two processes must reproduce, to the last bit.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate")

from training.presets import load_preset
from training.train import train, weights_hash

ROOT = Path(__file__).parents[3]
STEPS = 9
CHANGES = ["loop.save_steps=2", "loop.preflight_steps=0"]
STAGES = ("encoder", "geometry", "backbone")
for stage in STAGES:
    CHANGES += [f"stages.{stage}.steps={STEPS}", f"stages.{stage}.micro_batch=2"]


def launch(run: Path, stage: str, *, processes: int = 1) -> list[subprocess.Popen]:
    """The training command in processes of its own, with the environment that launchers give them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "training.train", "--config", "tiny", "--run", str(run), "--stage", stage]
    for change in CHANGES:
        command += ["--set", change]
    started = []
    for rank in range(processes):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        if processes > 1:
            ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
            place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
            environment |= {name: str(value) for name, value in {**ranks, **place}.items()}
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
        )
    return started


def kill_at(step: int, processes: list[subprocess.Popen]) -> None:
    """kill -9 to all, as soon as the first one reports the step."""
    seen = []
    for line in processes[0].stdout:
        seen.append(line)
        if f" {step}/{STEPS} " in line:
            break
    for process in processes:
        process.send_signal(signal.SIGKILL)
    for process in processes:
        process.communicate()
    assert processes[0].returncode == -signal.SIGKILL, "".join(seen)


def log(run: Path, stage: str) -> list[dict]:
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [entry for entry in entries if entry["stage"] == stage]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    """One process, never interrupted."""
    run = tmp_path_factory.mktemp("unbroken")
    for stage in STAGES:
        train(load_preset("tiny", CHANGES), run, only=stage, device="cpu")
    return run


def test_one_killed_process_continues_to_the_same_losses_and_weights(unbroken, tmp_path):
    kill_at(4, launch(tmp_path, "encoder"))
    assert not (tmp_path / "encoder.safetensors").exists()
    train(load_preset("tiny", CHANGES), tmp_path, only="encoder", device="cpu")
    assert log(tmp_path, "encoder") == log(unbroken, "encoder")
    assert weights_hash(tmp_path / "encoder.safetensors") == weights_hash(unbroken / "encoder.safetensors")


def test_two_killed_processes_continue_to_the_weights_that_one_process_finds(unbroken, tmp_path):
    for earlier in STAGES[:-1]:
        shutil.copy(unbroken / f"{earlier}.safetensors", tmp_path)
    kill_at(5, launch(tmp_path, "backbone", processes=2))
    for process in launch(tmp_path, "backbone", processes=2):
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert log(tmp_path, "backbone") == log(unbroken, "backbone")
    assert weights_hash(tmp_path / "backbone.safetensors") == weights_hash(unbroken / "backbone.safetensors")
