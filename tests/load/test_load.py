"""The real ComfyUI when much comes at once and when the machine fails: nothing mixed, nothing half, and it goes on.

`make load` sends two hundred prompts from eight clients; here are a few.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from host import COMFYUI, PACK, ROOT, ComfyHost  # noqa: E402
from load import load, picture_of, prompt, upload  # noqa: E402

pytestmark = [pytest.mark.host, pytest.mark.skipif(not COMFYUI.exists(), reason="the real ComfyUI is not installed")]

PROBE = ROOT / "tests" / "helpers" / "packs" / "probe"
OPERATIONS = "mirrorppr_operations"


@pytest.fixture(scope="module")
def own_host(tmp_path_factory):
    """A host that a test may kill and starve; its folders outlive it."""
    host = ComfyHost(packs={PACK: ROOT, "mirrorppr-probe": PROBE}, base_dir=tmp_path_factory.mktemp("host"))
    host.start()
    yield host
    host.stop()


def keeping(name: str) -> dict:
    """A graph that writes one small file by our own writer."""
    inputs = {"operation": ["1", 0], "name": name, "pictures": "none"}
    return {
        "1": {"class_type": "MirrorPPR_OperationFromSliders", "inputs": {"eye_resize": 30.0}},
        "2": {"class_type": "MirrorPPR_SaveOperation", "inputs": inputs},
    }


def kept(host: ComfyHost) -> list[str]:
    return sorted(path.name for path in (host.base_dir / "output" / OPERATIONS).glob("*"))


def test_pictures_of_several_clients_at_once_are_those_of_single_runs(own_host):
    found = load(own_host, clients=3, prompts=9)
    assert found.wrong == 0 and found.prompts == 9
    assert found.grown < 150, f"memory along the way: {found.memory} MB"


def test_kill_9_in_the_middle_leaves_whole_files_and_the_next_start_goes_on(own_host):
    upload(own_host)
    before = picture_of(own_host, 0)
    assert own_host.queue(prompt(1)).prompt_id and own_host.queue(keeping("killed")).prompt_id
    time.sleep(0.4)
    os.killpg(own_host.pid, signal.SIGKILL)
    own_host.stop()
    for path in (own_host.base_dir / "output").rglob("*"):
        assert not path.name.endswith(".part") or path.name.startswith("."), "only hidden leftovers have no own name"
        if path.suffix == ".png":
            Image.open(io.BytesIO(path.read_bytes())).load()
    own_host.start()
    assert picture_of(own_host, 0) == before


@pytest.fixture
def small_disk(own_host):
    """The folder of operation files on a file system of 64 kB; skips where none may be mounted."""
    folder = own_host.base_dir / "output" / OPERATIONS
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs more rights than we have")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_told_and_leaves_nothing(own_host, small_disk):
    (small_disk / "filler").write_bytes(bytes(64 * 1024))
    run = own_host.run(keeping("full"))
    assert run.status == "error" and "free some space" in run.complaint and len(run.complaint) < 500
    assert kept(own_host) == ["filler"]
    (small_disk / "filler").unlink()
    assert own_host.run(keeping("full")).status == "success" and kept(own_host) == ["full_00001.safetensors"]


def test_a_folder_that_cannot_be_written_to_is_told(own_host, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    run = own_host.run(keeping("read only"))
    assert run.status == "error" and "choose a folder that can be written to" in run.complaint
    assert own_host.is_running and kept(own_host) == []


def test_a_host_out_of_file_descriptors_tells_it_and_recovers(own_host):
    assert own_host.run(keeping("warm")).status == "success"
    queued = own_host.queue(
        {
            **keeping("starved"),
            "3": {"class_type": "MirrorPPRProbe_TakeDescriptors", "inputs": {"seconds": 3.0}},
            "1": {"class_type": "MirrorPPR_OperationFromSliders", "inputs": {"text": ["3", 0]}},
        }
    )
    run = own_host.wait(queued.prompt_id)
    assert run.status == "error" and "Too many open files" in run.complaint and len(run.complaint) < 500
    time.sleep(3.5)  # the probe gives them back
    assert own_host.run(keeping("fed")).status == "success"
    assert not [name for name in kept(own_host) if "starved" in name]
