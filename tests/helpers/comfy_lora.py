"""Runs inside ComfyUI's folder, as a process of its own: a stock DiT, LoRAs by the stock code, forward passes.

    python comfy_lora.py SHIM DIT INPUTS LORA OUTPUT [LORA OUTPUT ...]

SHIM: the test pack that lets the stock loader read a tiny DiT.  OUTPUT: what the model says with the LoRA and without,
and how many of the file's keys ComfyUI used.
"""

import importlib.util
import sys

import comfy.cli_args

comfy.cli_args.args.cpu = True  # before anything that asks for a GPU

import comfy.lora  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

shim, dit, inputs_file, *pairs = sys.argv[1:]
spec = importlib.util.spec_from_file_location("tiny_qwen_shim", shim)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
model = comfy.sd.load_diffusion_model(dit, model_options={"dtype": torch.float32})
inputs = load_file(inputs_file)


def run(patcher) -> torch.Tensor:
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)
    x, query = (inputs[name][:, :, None] for name in ("x", "query"))  # one frame
    with torch.no_grad():
        said = patcher.model.diffusion_model(x, inputs["t"], inputs["text"], ref_latents=[query])
    return said[:, :, 0]


keys = comfy.lora.model_lora_keys_unet(model.model, {})
for lora_file, output_file in zip(pairs[::2], pairs[1::2], strict=True):
    state = comfy.utils.load_torch_file(lora_file, safe_load=True)
    patched = model.clone()
    used = patched.add_patches(comfy.lora.load_lora(state, keys), 1.0)
    # The way of the stock node, which says nothing of what it could not use.
    by_node, _ = comfy.sd.load_lora_for_models(model, None, state, 1.0, 0.0)
    results = {"without": run(model), "with": run(patched), "node": run(by_node)}
    results["counts"] = torch.tensor([len(state), len(used)])
    save_file({name: value.contiguous() for name, value in results.items()}, output_file)
