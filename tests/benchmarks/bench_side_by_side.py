"""Two checkouts of this repository, interleaved on one machine: ratio of medians, new over old.

    python tests/benchmarks/bench_side_by_side.py OLD_CHECKOUT [--new NEW_CHECKOUT] [--threads 2] [--rounds 9]

What is timed: a warm extraction of a 512 px pair and a warm retouch of a 512 px photo (one process a checkout, each
asked in turn), and the whole command for one 1024 px photo with its largest resident memory. CPU time (user and
system) stands beside the wall clock, because it is steadier where others use the machine too. Pictures are the same
for both: scikit-image's astronaut, and the same with a simulated retouch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parents[2]

# Runs in either checkout; they name a few things differently.
WORKER = """
import json, resource, sys, time
import torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
if sys.argv[3] != "default":
    torch.set_num_threads(int(sys.argv[3]))
try:
    from mirrorppr_core.exemplar import Exemplar
    from mirrorppr_core.mini.pipeline import MirrorPPR
except ImportError:
    from mirrorppr_core.extractor import Exemplar
    from mirrorppr_core.pipeline import MirrorPPR
from mirrorppr_core.photo_files import read_photo
folder = Path(sys.argv[2])
model = MirrorPPR.bundled()
pair = Exemplar(read_photo(folder / "before_512.png").pixels, read_photo(folder / "after_512.png").pixels)
query, operation = read_photo(folder / "query_512.png").pixels, model.extract(pair)
model.retouch(query, operation)
calls = {"extract": lambda: model.extract(pair), "retouch": lambda: model.retouch(query, operation)}
print("ready", flush=True)
for line in sys.stdin:
    began, used = time.perf_counter(), time.process_time()
    calls[line.strip()]()
    print(json.dumps({"wall": time.perf_counter() - began, "cpu": time.process_time() - used}), flush=True)
"""


class Asked:
    """A process of one checkout that does a call when it is asked to."""

    def __init__(self, checkout: Path, pictures: Path, threads: int | None, variables: dict[str, str]):
        arguments = [sys.executable, "-c", WORKER, str(checkout), str(pictures), str(threads or "default")]
        self.process = subprocess.Popen(
            arguments, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables
        )
        if self.process.stdout.readline().strip() != "ready":
            raise SystemExit(f"the checkout {checkout} does not run: see above")

    def once(self, call: str) -> dict[str, float]:
        print(call, file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def environment(threads: int) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}


def command_once(checkout: Path, pictures: Path, threads: int) -> dict[str, float]:
    """The whole command for one photo, from the start of Python to its end."""
    names = {"--before": "before_512.png", "--after": "after_512.png", "--query": "query_1024.png"}
    with tempfile.TemporaryDirectory() as out:
        arguments = [sys.executable, "-m", "mirrorppr_core", "retouch", "--out", out]
        for option, name in names.items():
            arguments += [option, str(pictures / name)]
        began = time.perf_counter()
        process = subprocess.Popen(arguments, cwd=checkout, stdout=subprocess.DEVNULL, env=environment(threads))
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"the command of {checkout} failed with {process.returncode}")
        wall = time.perf_counter() - began
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak MiB": used.ru_maxrss / 1024}


def write_pictures(folder: Path) -> None:
    sys.path.insert(0, str(HERE))
    import numpy as np
    import skimage.data
    import torch
    from PIL import Image

    from mirrorppr_core.images import as_float
    from mirrorppr_core.mini.pipeline import MirrorPPR
    from mirrorppr_core.operations.llw import apply_llw

    head = Image.fromarray(skimage.data.astronaut()).crop((90, 0, 360, 270))
    small = head.resize((512, 512), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]
    mesh = MirrorPPR.bundled().editor.sight.faces(pixels)[0].mesh
    after = apply_llw(as_float(pixels), mesh, [("eye_resize", 100), ("mouth_resize", 100)]).image
    small.save(folder / "before_512.png")
    small.save(folder / "query_512.png")
    Image.fromarray((after[0].permute(1, 2, 0) * 255).round().byte().numpy()).save(folder / "after_512.png")
    head.resize((1024, 1024), Image.Resampling.BICUBIC).save(folder / "query_1024.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("--new", type=Path, default=HERE)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    checkouts = {"old": options.old.resolve(), "new": options.new.resolve()}
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder)
        write_pictures(pictures)
        variables = environment(options.threads)
        asked = {name: Asked(path, pictures, options.threads, variables) for name, path in checkouts.items()}
        for call in ("extract", "retouch"):
            for _ in range(options.rounds):
                for name, worker in asked.items():
                    found.setdefault((call, name), []).append(worker.once(call))
        for worker in asked.values():
            worker.close()
        for path in checkouts.values():  # bytecode and the disk's cache
            command_once(path, pictures, options.threads)
        for _ in range(options.rounds):
            for name, path in checkouts.items():
                found.setdefault(("command", name), []).append(command_once(path, pictures, options.threads))
    print(f"{options.threads} thread(s), medians of {options.rounds} interleaved rounds, seconds\n")
    print("| what | measure | old | new | new / old |\n|---|---|---|---|---|")
    for call in ("extract", "retouch", "command"):
        for measure in found[call, "old"][0]:
            old, new = (median(row[measure] for row in found[call, name]) for name in checkouts)
            print(f"| {call} | {measure} | {old:.3f} | {new:.3f} | {new / old:.2f} |")


if __name__ == "__main__":
    main()
