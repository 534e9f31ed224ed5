"""How fast an album is, and whether its memory grows: photos of 2 megapixels made from any folder of portraits.

    python tests/benchmarks/bench_album.py --portraits DIR [--photos 300] [--threads 2]

Prints photos a second, and the memory of the process after a tenth of the album and at its end.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--portraits", type=Path, required=True, help="a folder of face portraits")
parser.add_argument("--photos", type=int, default=300)
parser.add_argument("--threads", type=int, default=2)
arguments = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from PIL import Image

from mirrorppr_core.albums.journal import Journal
from mirrorppr_core.albums.photos import find_photos
from mirrorppr_core.albums.run import run_album
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.llw import apply_llw
from mirrorppr_core.photo_files import read_photo


def resident_mib() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    files = sorted(path for path in arguments.portraits.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    with tempfile.TemporaryDirectory() as folder:
        shoot, out = Path(folder, "shoot"), Path(folder, "out")
        shoot.mkdir()
        out.mkdir()
        for number in range(arguments.photos):
            with Image.open(files[number % len(files)]) as picture:
                picture.convert("RGB").resize((1414, 1414), Image.Resampling.BICUBIC).save(
                    shoot / f"IMG_{number}.jpg", quality=92
                )
        model = MirrorPPR.bundled()
        before = read_photo(files[0]).pixels
        mesh = model.extractor.sight.locator.find(before.float() / 255)[0].mesh
        after = apply_llw(before.float() / 255, mesh, [("eye_resize", 80), ("nose_alar", -60)]).image
        operation = model.extract(Exemplar(before, (after * 255).round().byte()))
        began, early = time.perf_counter(), 0.0
        steps = run_album(
            find_photos([shoot]),
            lambda photo: model.retouch(photo, operation, RetouchConfig()),
            out=out,
            journal=Journal(out / "journal.jsonl", {}),
        )
        failed = 0
        for step in steps:
            failed += "error" in step.row
            if step.number == max(1, arguments.photos // 10):
                early = resident_mib()
        seconds = time.perf_counter() - began
        print(f"threads {torch.get_num_threads()}, photos {arguments.photos}, of which not retouched {failed}")
        print(f"{arguments.photos / seconds:.2f} photos a second")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"memory {early:.0f} MiB after a tenth, {resident_mib():.0f} MiB at the end, {peak:.0f} MiB at most")


if __name__ == "__main__":
    main()
