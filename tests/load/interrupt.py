"""How soon a long node of ours lets go: the real ComfyUI on a photo of 24 megapixels, interrupted again and again.

    python tests/load/interrupt.py [--tries 6]

For extraction, retouch and reprojection, at times spread over the work: seconds from the interruption until the next
prompt, which does next to nothing, has run. A try that came too late, when the work was done, is left out and counted.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "helpers"), str(_TESTS / "nodes"), str(_TESTS.parent)]

from host import PACK, ROOT, ComfyHost  # noqa: E402
from PIL import Image  # noqa: E402
from test_nodes import BUNDLED, node, simulate  # noqa: E402
from toys import astronaut  # noqa: E402

_SIDE = 4900  # 24 megapixels


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=6)
    tries = parser.parse_args(arguments).tries
    with ComfyHost(packs={PACK: ROOT}) as host:
        host.upload_image("small.png", _png(astronaut()[0].permute(1, 2, 0).numpy(), 256))
        host.upload_image("large.png", _png(astronaut()[0].permute(1, 2, 0).numpy(), _SIDE))
        host.run(_prompt("extract", 0))  # everything is loaded, and what comes before the node is kept
        for work in ("extract", "retouch", "reproject"):
            began = time.perf_counter()
            host.run(_prompt(work, 1), 300)
            whole, late, waits = time.perf_counter() - began, 0, []
            for number in range(tries):
                queued = host.queue(_prompt(work, 2 + number))
                time.sleep(whole * (number + 0.5) / tries)
                began = time.perf_counter()
                host.interrupt(queued.prompt_id)
                host.run(_small(number), 120)
                if host.wait(queued.prompt_id).status == "success":
                    late += 1
                else:
                    waits.append(time.perf_counter() - began)
            told = ", ".join(f"{wait:.2f}" for wait in sorted(waits))
            print(f"{work}: {whole:.1f} s in all; seconds to the next prompt: {told}; {late} too late", flush=True)
    return 0


def _small(number: int) -> dict:
    """A prompt of next to nothing that the host has not run before."""
    return {
        "1": node("LoadImage", image="small.png"),
        "2": node(
            "ImageScale", image=["1", 0], upscale_method="bilinear", width=64 + number, height=64, crop="disabled"
        ),
        "3": node("PreviewImage", images=["2", 0]),
    }


def _prompt(work: str, number: int) -> dict:
    """Only the node that is tried is new each time."""
    steps = {"1": node("LoadImage", image="large.png"), "2": node("MirrorPPR_Load", set_name=BUNDLED)}
    steps["3"] = simulate(["2", 0], ["1", 0])
    joints = ("auto", "mini")[number % 2]
    face = ("only", "largest", "1")[number % 3]
    if work == "reproject":
        steps["3"]["inputs"]["strength"] = -100.0 + number  # simulated anew as well: a node of ours too
        steps["4"] = node("MirrorPPR_Reproject", original=["1", 0], edited=["3", 0], paste_residual=False)
        return steps | {"9": node("PreviewImage", images=["4", 0])}
    extract = {"extractor": ["2", 0], "before": ["1", 0], "after": ["3", 0]}
    if work == "extract":
        steps["4"] = node("MirrorPPR_ExtractOperation", **extract, face=face, joints=joints)
        return steps | {"9": node("PreviewImage", images=["4", 1])}
    steps["4"] = node("MirrorPPR_OperationFromSliders", eye_resize=60.0 + number, text="")
    how = {"strength": 1.0, "steps": 2, "seed": number, "face": "only"}
    steps["5"] = node(
        "MirrorPPR_RetouchSampler", dit=["2", 2], connector=["2", 1], operation=["4", 0], query=["1", 0], **how
    )
    return steps | {"9": node("PreviewImage", images=["5", 0])}


def _png(array, side: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).resize((side, side), Image.Resampling.BICUBIC).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


if __name__ == "__main__":
    sys.exit(main())
