"""The real ComfyUI under load: eight people at once, two hundred prompts, and every picture the one a single run gives.

    python tests/load/load.py                       eight clients, two hundred prompts
    python tests/load/load.py --clients 2 --prompts 12

Prints times, memory along the way, and how many pictures differ from those of single runs; exit status 1 with any.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "helpers"), str(_TESTS.parent)]

import numpy as np  # noqa: E402
from host import PACK, ROOT, ComfyHost  # noqa: E402
from PIL import Image  # noqa: E402
from toys import astronaut, hopper  # noqa: E402

STRENGTHS = (1.0, 0.5, -0.5, 0.8, -1.0, 0.3, 1.5)
_SIDE = 320  # of the pictures: the host is what is tried here


@dataclass(frozen=True)
class Load:
    """wrong: prompts whose picture was another than a single run's, or none.  memory: megabytes, in order of time."""

    prompts: int
    wrong: int
    seconds: float
    memory: tuple[int, ...]

    @property
    def grown(self) -> int:
        """Megabytes from the first third to the end, when everything is loaded."""
        return self.memory[-1] - self.memory[len(self.memory) // 3]


def upload(host: ComfyHost) -> None:
    """Two faces under the names that `prompt` has."""
    for name, photo, (top, left) in (
        ("load_before.png", astronaut(), (0, 66)),
        ("load_query.png", hopper(), (20, 100)),
    ):
        part = photo[0, :, top : top + _SIDE, left : left + _SIDE].permute(1, 2, 0).numpy()
        stream = io.BytesIO()
        Image.fromarray(part).save(stream, "PNG")
        host.upload_image(name, stream.getvalue())


def prompt(number: int) -> dict:
    """A pair is made and read, and a photo retouched, as strongly as the number says."""

    def node(kind: str, **inputs: object) -> dict:
        return {"class_type": kind, "inputs": inputs}

    sampled = {"dit": ["1", 2], "connector": ["1", 1], "operation": ["5", 0], "query": ["3", 0], "seed": 0}
    made = {"extractor": ["1", 0], "image": ["2", 0], "operation": "nose_alar", "strength": -100.0}
    return {
        "1": node("MirrorPPR_Load", set_name="mini-face (bundled)"),
        "2": node("LoadImage", image="load_before.png"),
        "3": node("LoadImage", image="load_query.png"),
        "4": node("MirrorPPR_SimulateRetouch", **made),
        "5": node("MirrorPPR_ExtractOperation", extractor=["1", 0], before=["2", 0], after=["4", 0]),
        "6": node(
            "MirrorPPR_RetouchSampler", **sampled, steps=2, strength=STRENGTHS[number % len(STRENGTHS)], face="only"
        ),
        "7": node("SaveImage", images=["6", 0], filename_prefix="load"),
    }


def picture_of(host: ComfyHost, number: int, timeout_s: float = 900.0) -> str:
    """sha256 of the pixels that the prompt saves; what went wrong, if it did."""
    run = host.run(prompt(number), timeout_s)
    if run.status != "success":
        return f"{run.status}: {run.complaint}"
    (content,) = host.images(run, "7")
    return hashlib.sha256(np.asarray(Image.open(io.BytesIO(content))).tobytes()).hexdigest()


def memory_of(host: ComfyHost) -> int:
    """Resident megabytes of the host's process."""
    status = Path(f"/proc/{host.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) // 1000


def load(host: ComfyHost, *, clients: int, prompts: int) -> Load:
    """Every kind of prompt alone first; then so many clients send so many prompts, each waiting for its own."""
    upload(host)
    alone = [picture_of(host, number) for number in range(len(STRENGTHS))]
    if any(":" in one for one in alone) or len(set(alone)) < len(alone):
        raise RuntimeError(f"single runs do not give {len(alone)} different pictures: {alone}")
    memory: list[int] = [memory_of(host)]

    def client(own: int) -> int:
        wrong = 0
        for number in range(own, prompts, clients):
            wrong += picture_of(host, number * 3 + own) != alone[(number * 3 + own) % len(STRENGTHS)]
            memory.append(memory_of(host))
        return wrong

    began = time.monotonic()
    with ThreadPoolExecutor(clients) as people:
        wrong = sum(people.map(client, range(clients)))
    return Load(prompts, wrong, time.monotonic() - began, tuple(memory))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=200)
    options = parser.parse_args()
    with ComfyHost(packs={PACK: ROOT}) as host:
        found = load(host, clients=options.clients, prompts=options.prompts)
    told = {
        "clients": options.clients,
        "prompts": found.prompts,
        "pictures_that_differ_from_single_runs": found.wrong,
        "seconds": round(found.seconds, 1),
        "memory_mb": {"begin": found.memory[0], "most": max(found.memory), "end": found.memory[-1]},
        "grown_after_a_third_mb": found.grown,
    }
    print(json.dumps(told, indent=1))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
