"""LoRA on the DiT: peft trains it, plain arithmetic applies it.

    W <- W + strength * (alpha / rank) * B @ A        LoRA, arXiv:2106.09685

Training injects peft's adapters (the field's standard, so every trainer and loader understands the file). At
inference the two factors are folded into the frozen weights, so the nodes do not need peft. Keys on disk:
`<module>.lora_A.weight` (rank, in) and `<module>.lora_B.weight` (out, rank), as peft writes them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .config import LoRAConfig


def inject(module: nn.Module, config: LoRAConfig) -> None:
    """Freeze the module and add trainable adapters in place (needs peft). A fresh adapter changes nothing."""
    from peft import LoraConfig, inject_adapter_in_model

    module.requires_grad_(False)
    names = [name for name, part in module.named_modules() if isinstance(part, nn.Linear) and _is_target(name, config)]
    missing = [t for t in config.targets if not any(_ends_with(name, t) for name in names)]
    if missing:
        raise ValueError(f"LoRA targets {missing} name no linear layer of {type(module).__name__}: check the names")
    inject_adapter_in_model(
        LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=names, lora_dropout=0.0), module
    )


@torch.no_grad()
def merge(module: nn.Module, state: dict[str, Tensor], config: LoRAConfig, *, strength: float = 1.0) -> int:
    """Fold the factors into the module's weights. Returns the number of layers changed.

    Raises ValueError when a factor has no partner or no layer: a LoRA of another model must not half apply.
    """
    layers = dict(module.named_modules())
    names = sorted({key.rsplit(".lora_", 1)[0] for key in state})
    expected = {f"{name}.lora_{part}.weight" for name in names for part in "AB"}
    if not names or set(state) != expected:
        odd = sorted(set(state) ^ expected)[:4]
        raise ValueError(f"LoRA file: unpaired or foreign keys {odd}. Use the lora file of this matched set.")
    unknown = [name for name in names if not isinstance(layers.get(name), nn.Linear)]
    if unknown:
        raise ValueError(
            f"LoRA: {len(unknown)} of {len(names)} layers do not exist in this DiT (first: {unknown[0]}). "
            "The LoRA belongs to another model."
        )
    factors = {name: (state[f"{name}.lora_A.weight"], state[f"{name}.lora_B.weight"]) for name in names}
    for name, (down, up) in factors.items():
        needed = (config.rank, layers[name].in_features), (layers[name].out_features, config.rank)
        if (down.shape, up.shape) != needed:
            raise ValueError(
                f"LoRA: {name} has factors {tuple(down.shape)} and {tuple(up.shape)}, this DiT needs {needed[0]} and "
                f"{needed[1]}. The LoRA belongs to another model."
            )
    for name, (down, up) in factors.items():
        weight = layers[name].weight
        weight += strength * config.alpha / config.rank * (up.float() @ down.float()).to(weight)
    return len(names)


def _is_target(name: str, config: LoRAConfig) -> bool:
    return any(_ends_with(name, target) for target in config.targets)


def _ends_with(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)
