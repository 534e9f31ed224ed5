"""How soon a long node of ours lets go: the real ComfyUI on a photo of 24 megapixels, interrupted again and again.

    python tests/load/interrupt.py [--tries 6]

For extraction, retouch, reprojection and a body's motion, at times spread over the work: seconds from the interruption
until the host says that the prompt is over, apart for tries that fell into a node of ours and into one of the host's
(loading and saving 24 megapixels, which nothing stops), and until the next prompt, which does next to nothing, has run.
A try that came too late, when the work was done, is left out and counted. gaps_24mp.py says where our own waits lie.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(_TESTS / "helpers"), str(_TESTS / "nodes"), str(_TESTS.parent)]

from host import PACK, ROOT, ComfyHost  # noqa: E402
from PIL import Image  # noqa: E402
from test_nodes import BUNDLED, node, simulate  # noqa: E402
from toys import astronaut  # noqa: E402

WORKS = ("extract", "retouch", "reproject", "body")
_SIDE = 4900  # 24 megapixels


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=6)
    parser.add_argument("--only", nargs="+", choices=WORKS)
    options = parser.parse_args(arguments)
    tries = options.tries
    with ComfyHost(packs={PACK: ROOT}) as host:
        host.upload_image("small.png", _png(astronaut()[0].permute(1, 2, 0).numpy(), 256))
        host.upload_image("large.png", _png(astronaut()[0].permute(1, 2, 0).numpy(), _SIDE))
        host.run(_prompt("extract", 0))  # everything is loaded, and what comes before the node is kept
        print("| work | s in all | over: in a node of ours | in one of the host's | next prompt ran | too late |")
        print("|---|---|---|---|---|---|")
        for work in options.only or WORKS:
            began = time.perf_counter()
            host.run(_prompt(work, 1), 600)
            whole = time.perf_counter() - began
            found = [_interrupted(host, work, 2 + n, whole * (n + 0.5) / tries) for n in range(tries)]
            waits = [one for one in found if one is not None]
            columns = [
                [one.over for one in waits if one.ours],
                [one.over for one in waits if not one.ours],
                [one.next for one in waits],
            ]
            told = " | ".join(", ".join(f"{wait:.2f}" for wait in sorted(column)) or "-" for column in columns)
            print(f"| {work} | {whole:.1f} | {told} | {tries - len(waits)} |", flush=True)
    return 0


@dataclass(frozen=True)
class Wait:
    """Seconds from the interruption: until the prompt was over, until the next had run.  ours: whose node it was in."""

    over: float
    next: float
    ours: bool


def _interrupted(host: ComfyHost, work: str, number: int, after_s: float) -> Wait | None:
    queued = host.queue(_prompt(work, number))
    time.sleep(after_s)
    began, clock = time.perf_counter(), time.time()
    host.interrupt(queued.prompt_id)
    host.run(_small(number), 300)
    ran = time.perf_counter() - began
    told = dict(host.history(queued.prompt_id)["status"]["messages"]).get("execution_interrupted")
    if told is None:
        return None
    return Wait(told["timestamp"] / 1000 - clock, ran, told["node_type"].startswith("MirrorPPR"))


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
    text = f"body_shape_thin_shoulders = {60 + number}" if work == "body" else ""
    steps["4"] = node("MirrorPPR_OperationFromSliders", eye_resize=0.0 if text else 60.0 + number, text=text)
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
