"""How long a body operation takes on a photo of 1,500 px: reading it off a pair, and doing it to another photo.

    python tests/benchmarks/bench_body.py [--threads 2] [--times 5]

The pair is scikit-image's astronaut, enlarged, with both shoulders pushed inwards; the query is matplotlib's portrait
of Grace Hopper. Prints the median wall time of each in seconds. Weights are loaded before.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

_LONGEST = 1500


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()

    import torch
    import torch.nn.functional as F
    from toys import astronaut, hopper, push

    from mirrorppr_core.exemplar import Exemplar
    from mirrorppr_core.mini.pipeline import MirrorPPR

    torch.set_num_threads(options.threads)

    def enlarged(photo: torch.Tensor) -> torch.Tensor:
        factor = _LONGEST / max(photo.shape[-2:])
        large = F.interpolate(photo.float(), scale_factor=factor, mode="bicubic").clamp(0, 255)
        return large.round().byte()

    before = enlarged(astronaut())
    after = push(before, centre=(322, 879), radius=176, shift=(-26.0, 0.0))
    after = push(after, centre=(967, 879), radius=176, shift=(26.0, 0.0))
    query, model, seconds = enlarged(hopper()), MirrorPPR.bundled(), {"extraction": [], "retouch": []}
    for _ in range(options.times + 1):
        start = time.perf_counter()
        operation = model.extract(Exemplar(before, after))
        read = time.perf_counter()
        result = model.retouch(query, operation)
        seconds["extraction"].append(read - start)
        seconds["retouch"].append(time.perf_counter() - read)
    assert operation.body is not None and result.field.max_px > 3, "no body operation was carried"
    for name, taken in seconds.items():
        print(f"{name}: {median(taken[1:]):.2f} s, {options.threads} threads, {query.shape[-1]}x{query.shape[-2]} px")
    return 0


if __name__ == "__main__":
    sys.exit(main())
