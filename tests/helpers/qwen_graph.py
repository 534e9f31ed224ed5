"""The Qwen engine's API workflow on the tiny models of tiny_qwen_files.py, as tests change and run it."""

from __future__ import annotations

import copy
import io
import itertools
import json

import numpy as np
from host import ROOT
from PIL import Image
from safetensors.torch import load
from tiny_qwen_files import DIT, TEXT, VAE
from torch import Tensor

WORKFLOW = json.loads((ROOT / "workflows" / "api" / "qwen_retouch.json").read_text())
NODE = {one["class_type"].removeprefix("MirrorPPR_"): name for name, one in WORKFLOW.items()}
LOAD, APPLY, EXTRACT, TELL, SAMPLE, RESTORE = (
    NODE[n] for n in ("LoadQwen", "ApplyQwen", "ExtractQwenOperation", "QwenConditioning", "QwenSampler", "QwenRestore")
)
BEFORE, AFTER, QUERY, MODEL, CLIP, DECODER = "123456"
STEPS = 3
_runs = itertools.count()


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def drawn(height: int, width: int, *, seed: int, channels: int = 3) -> np.ndarray:
    rough = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, channels), dtype=np.uint8)
    return np.asarray(Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC))


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def graph(changes: dict[str, dict] | None = None, **more_nodes: dict) -> dict:
    """The workflow up to Restore Size with some inputs changed, {node: {input: value}}, and more nodes: n20=node(...).

    Node 30 saves the latent, 31 the picture at the query's size.
    """
    prompt = {name: copy.deepcopy(one) for name, one in WORKFLOW.items() if int(name) <= int(RESTORE)}
    tiny = {MODEL: {"unet_name": DIT}, CLIP: {"clip_name": TEXT}, DECODER: {"vae_name": VAE}, SAMPLE: {"steps": STEPS}}
    for inputs in (tiny, changes or {}):
        for name, values in inputs.items():
            prompt[name]["inputs"].update(values)
    run = f"run_{next(_runs)}"  # the host saves only what it has not saved under this name
    prompt["30"] = node("SaveLatent", samples=[SAMPLE, 0], filename_prefix=run)
    prompt["31"] = node("SaveImage", images=[RESTORE, 0], filename_prefix=run)
    return prompt | {name.removeprefix("n"): one for name, one in more_nodes.items()}


def done(host, prompt: dict):
    run = host.run(prompt)
    assert run.status == "success", f"{run.error.get('node_type')}: {run.complaint}\n{host.log(30)}"
    return run


def latent(host, prompt: dict) -> Tensor:
    """(B, 16, h, w) in the VAE's units."""
    (file,) = done(host, prompt).outputs["30"]["latents"]
    return load(host.fetch(file))["latent_tensor"][:, :, 0]


def restored(host, prompt: dict) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(one))) for one in host.images(done(host, prompt), "31")]
