"""The real host and our client for it: everything else end-to-end rests on these."""

import io
import subprocess
import sys
import time

import host as harness
import numpy as np
import pytest
from PIL import Image


def png(seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    return file.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def save_after(node: dict, image: str) -> dict:
    """LoadImage -> node -> SaveImage, as an API workflow."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": image}},
        "2": {**node, "inputs": {"image": ["1", 0], **node.get("inputs", {})}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "smoke"}},
    }


@pytest.fixture
def picture(host) -> str:
    return host.upload_image("smoke.png", png())


@pytest.mark.host
def test_the_host_loads_the_pack_without_complaint(host):
    (line,) = (line for line in host.log().splitlines() if "seconds" in line and line.endswith(harness.PACK))
    assert "IMPORT FAILED" not in line


@pytest.mark.host
def test_a_picture_passes_through_the_host_bit_for_bit(host, picture):
    flip = {"class_type": "ImageFlip", "inputs": {"flip_method": "x-axis: vertically"}}
    (result,) = host.images(host.run(save_after(flip, picture)))
    assert np.array_equal(pixels(result), pixels(png())[::-1])


@pytest.mark.host
def test_a_refused_prompt_names_the_node_and_the_reason(host):
    queued = host.queue(save_after({"class_type": "ImageInvert"}, "no such file.png"))
    assert queued.prompt_id is None
    assert list(queued.node_errors) == ["1"]
    assert "no such file.png" in queued.complaint


@pytest.mark.host
def test_a_node_that_raises_is_reported_and_the_host_goes_on(host, picture):
    foreign = host.upload_image("foreign.png", b"no picture at all")
    failed = host.run(save_after({"class_type": "ImageInvert"}, foreign))
    assert (failed.status, failed.error["node_type"]) == ("error", "LoadImage")
    assert failed.complaint
    assert host.run(save_after({"class_type": "ImageInvert"}, picture)).status == "success"


@pytest.mark.host
def test_a_running_prompt_can_be_interrupted(host, picture):
    wait = {"class_type": "MirrorPPRProbe_Wait", "inputs": {"seconds": 30.0}}
    prompt_id = host.queue(save_after(wait, picture)).prompt_id
    while not host.history(prompt_id):  # the host forgets an interruption that comes before the first node
        host.interrupt(prompt_id)
        time.sleep(0.1)
    assert host.wait(prompt_id).status == "interrupted"


def test_a_host_that_ends_by_itself_shows_its_log(tmp_path, monkeypatch):
    (tmp_path / "main.py").write_text("raise SystemExit('no such library')")
    monkeypatch.setattr(harness, "COMFYUI", tmp_path)
    with pytest.raises(harness.HostError, match="no such library"):
        harness.ComfyHost(packs={}).start()


def test_a_host_ends_with_the_process_that_started_it(tmp_path):
    (tmp_path / "main.py").write_text("import time; print('up', flush=True); time.sleep(60)")
    command = [sys.executable, "-c", harness.WATCHED_MAIN]
    orphan = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert orphan.stdout.readline() == b"up\n"
    orphan.stdin.close()  # as the system does when its holder dies
    assert orphan.wait(timeout=10) == 1
