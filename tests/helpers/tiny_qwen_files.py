"""The tiny Qwen-Image-Edit of tiny_qwen.py twice: for our standalone engine, and as files of ComfyUI's stock loaders.

ComfyUI fixes the VAE's depth and brings the real tokenizer, so both differ from tiny_qwen.py's; the stock loaders need
the pack tiny_qwen_shim beside them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from host import COMFYUI
from safetensors.torch import save_file
from tiny_qwen import lora_state, randomise, save_set, text_encoder, transformer

from mirrorppr_core.qwen.standalone import QwenComponents

DIT, TEXT, VAE, STYLE = "tiny_qwen.safetensors", "tiny_vl.safetensors", "tiny_vae.safetensors", "tiny_style.safetensors"

# diffusers' names -> those of Wan, which ComfyUI reads. Resnets of the decoder are counted through, four to a block.
_MIDDLE = {"resnets.0": "0", "attentions.0": "1", "resnets.1": "2"}
_RESNET = {
    "norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}  # fmt: skip
_OUTER = {
    "quant_conv": "conv1", "post_quant_conv": "conv2", "conv_in": "conv1", "norm_out": "head.0", "conv_out": "head.2",
}  # fmt: skip


def host_components() -> QwenComponents:
    from diffusers import AutoencoderKLQwenImage
    from transformers import Qwen2Tokenizer

    words = Qwen2Tokenizer.from_pretrained(COMFYUI / "comfy" / "text_encoders" / "qwen25_tokenizer")
    vae = AutoencoderKLQwenImage(
        base_dim=4, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, temperal_downsample=[False, True, True]
    )
    return QwenComponents(
        transformer=transformer(), text_encoder=text_encoder(words), tokenizer=words, vae=randomise(vae, seed=3),
        device=torch.device("cpu"),
    )  # fmt: skip


def save_for_host(parts: QwenComponents, models: Path) -> Path:
    """The same weights under ComfyUI's models folder, with a set and a LoRA of another kind. Returns the set."""
    language = {
        name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): value
        for name, value in parts.text_encoder.state_dict().items()
        if not name.startswith("lm_head")
    }
    vae = {wan_name(name): value for name, value in parts.vae.state_dict().items()}
    style = {name.replace(".default", ""): value for name, value in lora_state(seed=77).items()}
    files = {
        f"diffusion_models/{DIT}": parts.transformer.state_dict(),
        f"text_encoders/{TEXT}": language,
        f"vae/{VAE}": vae,
        f"loras/{STYLE}": {f"transformer.{name}": value for name, value in style.items()},
    }
    for name, state in files.items():
        path = models / name
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    return save_set(models / "mirrorppr")


def wan_name(name: str) -> str:
    """A tensor of diffusers' AutoencoderKLQwenImage, as ComfyUI calls it."""
    coder, _, inner = name.partition(".")
    if coder not in ("encoder", "decoder"):
        return f"{_OUTER[coder]}.{inner}"
    parts = inner.split(".")
    if parts[0] == "mid_block":
        rest = [_RESNET.get(part, part) for part in parts[3:]]
        return ".".join([coder, "middle", _MIDDLE[".".join(parts[1:3])], *rest])
    if parts[0] == "down_blocks":
        return ".".join([coder, "downsamples", parts[1], *(_RESNET.get(part, part) for part in parts[2:])])
    if parts[0] == "up_blocks":
        place = 4 * int(parts[1]) + (int(parts[3]) if parts[2] == "resnets" else 3)
        return ".".join([coder, "upsamples", str(place), *(_RESNET.get(part, part) for part in parts[4:])])
    return ".".join([coder, _OUTER[parts[0]], *parts[1:]])
