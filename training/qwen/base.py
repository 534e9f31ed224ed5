"""The frozen 20 B base of Stage II: loaded in the wanted precision, with adapters on it that all get a gradient.

LoRA parameters are float32 whatever the base is stored as: AdamW's small steps vanish in bfloat16. alpha equals the
rank (LoRAConfig insists), because ComfyUI's loader and the released program ignore what diffusers writes about alpha.

    bfloat16   as released                                               38 GiB
    fp8        stored in 8 bits, computed in bfloat16 (part of diffusers) 19 GiB
    nf4        4 bits through bitsandbytes, needs a GPU and the extra `quant`  about 10 GiB
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from mirrorppr_core.networks.config import LoRAConfig
from mirrorppr_core.qwen.config import QwenConfig
from mirrorppr_core.qwen.files import expected_tensors, require
from mirrorppr_core.qwen.files import load_mae as load_checked_mae
from mirrorppr_core.qwen.networks import OfficialMAE

# Of the last block, the text branch after attention: its output is dropped, so these get no gradient, or a zero one.
_UNREAD_IN_LAST_BLOCK = ("attn.add_q_proj", "attn.to_add_out", "txt_mlp.net.0.proj", "txt_mlp.net.2")


def load_transformer(folder: Path, *, storage: str) -> nn.Module:
    """The DiT of a diffusers folder of Qwen-Image-Edit, frozen. storage: see QwenTrainConfig."""
    path = folder / "transformer"
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"{path}/config.json is missing: name a diffusers folder of Qwen-Image-Edit as the base model"
        )
    from diffusers import QwenImageTransformer2DModel

    dtype = torch.float32 if storage == "float32" else torch.bfloat16
    options = {"torch_dtype": dtype, "local_files_only": True}
    if storage == "nf4":
        options["quantization_config"] = _nf4()
    transformer = QwenImageTransformer2DModel.from_pretrained(path, **options)
    if getattr(transformer.config, "zero_cond_t", False):
        raise ValueError(
            f"{folder.name} is Qwen-Image-Edit-2511, which treats the query differently: train on the first "
            "Qwen-Image-Edit"
        )
    transformer.requires_grad_(False)
    if storage == "fp8":
        transformer.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.bfloat16)
    return transformer


def adapted_layers(transformer: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Names of the linear layers that get an adapter. Raises ValueError when a target names none."""
    last = f"transformer_blocks.{len(transformer.transformer_blocks) - 1}."
    unread = {last + name for name in _UNREAD_IN_LAST_BLOCK}
    blocks = [name for name, _ in transformer.named_modules() if name.startswith("transformer_blocks.")]
    missing = [target for target in targets if not any(name.endswith("." + target) for name in blocks)]
    if missing:
        raise ValueError(f"LoRA targets {missing} name no layer of {type(transformer).__name__}: check the names")
    return [name for name in blocks if name.endswith(tuple("." + t for t in targets)) and name not in unread]


def add_lora(transformer: nn.Module, config: LoRAConfig) -> list[str]:
    """Put trainable float32 adapters on the frozen transformer; fresh ones change nothing. Returns their layers."""
    from peft import LoraConfig

    layers = adapted_layers(transformer, config.targets)
    transformer.add_adapter(
        LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=layers, init_lora_weights="gaussian")
    )
    adapters = {name: p for name, p in transformer.named_parameters() if p.requires_grad}
    for parameter in adapters.values():
        parameter.data = parameter.data.float()
    odd = [name for name in adapters if ".lora_A." not in name and ".lora_B." not in name]
    if odd or len(adapters) != 2 * len(layers):
        raise ValueError(
            f"peft made {len(adapters)} trainable tensors for {len(layers)} layers (unexpected: {odd[:2]}): update peft"
        )
    return layers


def load_mae(path: Path, config: QwenConfig, *, dtype: torch.dtype) -> OfficialMAE:
    """The frozen MAE encoder from a released mae_pretrained.safetensors, or facebook/vit-mae-large's file."""
    file = require(path, "mae")
    expected = expected_tensors("mae", config)
    wrong = sorted(name for name, shape in expected.items() if file.tensors.get(name) != shape)
    if wrong:
        raise ValueError(
            f"{path.name} is an MAE of other dimensions: {len(wrong)} of {len(expected)} tensors do not fit (first: "
            f"{wrong[0]}). This run needs width {config.mae.width}, depth {config.mae.depth}."
        )
    return load_checked_mae(file, config, dtype=dtype)


def _nf4():
    if find_spec("bitsandbytes") is None:
        raise ModuleNotFoundError("storage nf4 needs bitsandbytes: run `pip install bitsandbytes`, or use storage fp8")
    if not torch.cuda.is_available():
        raise ValueError("storage nf4 needs a CUDA GPU (bitsandbytes quantises there): use storage fp8 or bfloat16")
    from diffusers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_storage=torch.bfloat16,  # so that FSDP can shard it
    )
