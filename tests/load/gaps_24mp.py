"""The longest stretches of our own work that cannot be stopped, on a photo of 24 megapixels.

    python tests/load/gaps_24mp.py [--side 4900]

For extraction, retouch, reprojection and the transfer of a body's motion: seconds of CPU time between two questions
whether to stop, on one thread, with the places in the code that asked. interrupt.py shows what the host makes of it.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "helpers"), str(_TESTS.parent)]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from gaps import gaps  # noqa: E402
from toys import astronaut  # noqa: E402

from mirrorppr_core.exemplar import Exemplar  # noqa: E402
from mirrorppr_core.geometry.displacement import pixel_grid  # noqa: E402
from mirrorppr_core.geometry.field import Field, apply_field  # noqa: E402
from mirrorppr_core.mini.pipeline import MirrorPPR  # noqa: E402
from mirrorppr_core.motion.reproject import ReprojectConfig, reproject  # noqa: E402
from mirrorppr_core.operations.sliders import Amount, Sliders  # noqa: E402


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=4900)
    parser.add_argument("--only", nargs="+", help="some of the rows")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print("| work | seconds in all | longest without a question | next | where |\n|---|---|---|---|---|")
    for name, work in works(options.side).items():
        if options.only and name not in options.only:
            continue
        began = time.process_time()
        found = gaps(work)
        whole, longest = time.process_time() - began, found[0]
        print(
            f"| {name} | {whole:.1f} | {longest.seconds:.2f} | {found[1].seconds:.2f} | "
            f"{longest.after} -> {longest.before} |",
            flush=True,
        )
        for one in found[1:5]:
            print(f"    {one.seconds:.2f} {one.after} -> {one.before}")
    return 0


def works(side: int) -> dict:
    """Float pictures, as the host has them."""
    model = MirrorPPR.bundled()
    photo = F.interpolate(astronaut().float() / 255, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
    eyes, shoulders = (
        Sliders((Amount(operation=name, percent=60.0),)) for name in ("eye_resize", "body_shape_right_shoulder")
    )
    after = model.retouch(photo, eyes).image
    body = apply_field(photo, pushed(side))
    return {
        "extract": lambda: model.extract(Exemplar(photo, after)),
        "retouch": lambda: model.retouch(photo, eyes),
        "reproject": lambda: reproject(photo, after, ReprojectConfig(paste_residual=False)),
        "reproject and paste": lambda: reproject(photo, body, ReprojectConfig()),
        "body, extract": lambda: model.extract(Exemplar(photo, body)),
        "body, sliders": lambda: model.retouch(photo, shoulders),
        "body, carried": lambda: model.retouch(photo, body_operation(model, photo, body)),
    }


_kept: dict[str, object] = {}


def body_operation(model: MirrorPPR, before: torch.Tensor, after: torch.Tensor) -> object:
    return _kept.setdefault("body", _kept.get("body") or model.extract(Exemplar(before, after)))


def pushed(side: int) -> Field:
    """The shoulder on the right of the picture drawn in."""
    x, y = pixel_grid(side, side)[0] / side
    weight = torch.exp(-(((x - 0.8) ** 2 + (y - 0.75) ** 2) / 0.01))
    return Field.from_dense(torch.stack([weight * 0.02 * side, weight * 0])[None] * (weight > 0.01))


if __name__ == "__main__":
    sys.exit(main())
