"""Speed and peak memory of warping, tiled application and motion estimation.

    python tests/benchmarks/bench_fields.py [--threads 1 2]

Each line is measured in its own process, so that "peak" (resident memory above what the
inputs and the imports take) belongs to that line alone. Times are the best of three.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bump(height: int, width: int, shift: float):
    """A push with compact support that fills its box."""
    from mirrorppr_core.geometry.displacement import pixel_grid

    away = pixel_grid(height, width)
    for axis, size in enumerate((width, height)):
        away[:, axis] = away[:, axis] / (size - 1) * 2 - 1
    weight = (1 - away.square().sum(1, keepdim=True)).clamp_min(0) ** 2
    return weight.repeat(1, 2, 1, 1) * shift


def photo(height: int, width: int):
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=generator)
    return F.interpolate(coarse, (height, width), mode="bilinear")


def case_warp_1024():
    from mirrorppr_core.geometry.displacement import warp

    image, displacement = photo(1024, 1024), bump(1024, 1024, 20)
    return lambda: warp(image, displacement)


def case_apply_1024():
    from mirrorppr_core.geometry.field import Field, apply_field

    image, field = photo(1024, 1024), Field.from_dense(bump(1024, 1024, 20))
    return lambda: apply_field(image, field)


def _large_field():
    from mirrorppr_core.geometry.field import Field

    return Field(displacement=bump(2000, 2000, 40), left=1500, top=800, height=4000, width=6000)


def case_apply_24mp_float():
    from mirrorppr_core.geometry.field import apply_field

    image, field = photo(4000, 6000), _large_field()
    return lambda: apply_field(image, field)


def case_apply_24mp_uint8():
    import torch

    from mirrorppr_core.geometry.field import apply_field

    image = torch.randint(0, 256, (1, 3, 4000, 6000), dtype=torch.uint8)
    field = _large_field()
    return lambda: apply_field(image, field)


def _estimate(size: int):
    from mirrorppr_core.geometry.displacement import warp
    from mirrorppr_core.motion.estimate import estimate_motion

    before = photo(size, size)
    after = warp(before, bump(size, size, size / 64))
    return lambda: estimate_motion(source=before, target=after)


def case_estimate_motion_512():
    return _estimate(512)


def case_estimate_motion_1024():
    return _estimate(1024)


CASES = {name[len("case_") :]: function for name, function in globals().items() if name.startswith("case_")}


def measure(name: str, threads: int) -> dict:
    import torch

    torch.set_num_threads(threads)
    run = CASES[name]()
    before = peak_mib()
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return {"seconds": min(seconds), "first": seconds[0], "extra": peak_mib() - before, "peak": peak_mib()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--only", choices=CASES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        print(json.dumps(measure(args.only, args.threads[0])))
        return
    print(f"{'case':24}{'threads':>8}{'first s':>9}{'best s':>9}{'peak MiB':>10}{'of it extra':>13}")
    for name in CASES:
        for threads in args.threads:
            command = [sys.executable, __file__, "--only", name, "--threads", str(threads)]
            # On failure the child's own traceback has been printed.
            output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
            row = json.loads(output)
            print(
                f"{name:24}{threads:8}{row['first']:9.3f}{row['seconds']:9.3f}{row['peak']:10.0f}{row['extra']:13.0f}",
                flush=True,
            )


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
