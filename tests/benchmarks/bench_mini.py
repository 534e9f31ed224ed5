"""Speed and memory of Mini, as the command line runs it: 8-bit photos in, PNG files out.

    python tests/benchmarks/bench_mini.py [--threads 2]

Every size runs in a process of its own, so that its peak memory is its own. "torch" is what `import torch` alone takes.
The photo is scikit-image's astronaut, enlarged so that her face fills a portrait; the exemplar's after is simulated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

SIZES = {"512 px": (512, 512), "1024 px": (1024, 1024), "4 MP": (2000, 2000), "24 MP": (6000, 4000)}
REPEATS = 5


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(size: tuple[int, int], threads: int) -> dict[str, float]:
    import torch

    torch.set_num_threads(threads)
    torch_mib = peak_mib()
    import numpy as np
    import skimage.data
    from PIL import Image

    from mirrorppr_core.exemplar import Exemplar
    from mirrorppr_core.images import as_float
    from mirrorppr_core.mini.pipeline import MirrorPPR
    from mirrorppr_core.operations.llw import apply_llw
    from mirrorppr_core.photo_files import Photo, read_photo, write_photo

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "query.png"
        head = Image.fromarray(skimage.data.astronaut()).crop((90, 0, 360, 270))
        write_photo(path, Photo(to_pixels(np.asarray(head.resize(size, Image.Resampling.BICUBIC)))))
        began = time.perf_counter()
        model = MirrorPPR.bundled()
        load = time.perf_counter() - began
        small = to_pixels(np.asarray(head.resize((512, 512), Image.Resampling.BICUBIC)))
        mesh = model.editor.sight.faces(small)[0].mesh
        after = apply_llw(as_float(small), mesh, [("eye_resize", 100), ("mouth_resize", 100)]).image
        after = to_pixels((after[0].permute(1, 2, 0) * 255).round().byte().numpy())
        pair = Exemplar(enlarged(small, size), enlarged(after, size))
        rows: dict[str, list[float]] = {"extract": [], "read": [], "retouch": [], "write": []}
        for _ in range(1 + REPEATS):
            times = [time.perf_counter()]
            operation = model.extract(pair)
            times.append(time.perf_counter())
            photo = read_photo(path)
            times.append(time.perf_counter())
            result = model.retouch(photo.pixels, operation)
            times.append(time.perf_counter())
            write_photo(Path(folder) / "result.png", Photo(result.image))
            times.append(time.perf_counter())
            for name, start, end in zip(rows, times, times[1:], strict=False):
                rows[name].append(end - start)
    report = {"load": load, "first extract": rows["extract"][0], "first retouch": rows["retouch"][0]}
    report |= {name: median(values[1:]) for name, values in rows.items()}
    return report | {"peak MiB beyond torch": peak_mib() - torch_mib, "moved px": result.field.max_px}


def to_pixels(array):
    import torch

    return torch.from_numpy(array.copy()).permute(2, 0, 1)[None]


def enlarged(pixels, size: tuple[int, int]):
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(pixels[0].permute(1, 2, 0).contiguous().numpy())
    return to_pixels(np.asarray(picture.resize(size, Image.Resampling.BICUBIC)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    threads = parser.parse_args().threads
    reports = {}
    for name, size in SIZES.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            reports[name] = pool.apply(measure, (size, threads))
    columns = list(next(iter(reports.values())))
    print(f"{threads} thread(s), seconds; medians of {REPEATS} after the first call\n")
    print("| photo | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, report in reports.items():
        cells = [f"{v:.0f}" if "MiB" in k else f"{v:.2f}" for k, v in report.items()]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(json.dumps(reports))


if __name__ == "__main__":
    main()
