"""LoRA files for Qwen-Image in every key style that is in use, read as one thing and counted when applied.

    W <- W + strength * (alpha / rank) * up @ down        alpha = rank where the file has no alpha

Trainers and hosts name the same layer differently: `transformer.K.lora_A.weight`, `K.lora_A.default.weight`,
`diffusion_model.K.lora_down.weight`, `lora_unet_K_with_underscores.lora_up.weight`, `base_model.model.K...` and more.
Hosts skip what they do not know without a word; here a file that matches nothing, or only in part, is refused.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from ..weights_file import read_tensors

_SUFFIX = re.compile(
    r"^(?P<module>.+?)[._](?P<role>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up|lora_linear_layer\.(?:down|up))"
    r"(?:\.(?P<adapter>(?!weight$)[^.]+))?(?:\.weight)?$"
)
_PREFIXES = ("base_model.model.", "base_model_model_", "pipe.dit.", "model.", "diffusion_model.", "transformer.",
             "lora_unet_", "lora_transformer_", "lycoris_", "unet.")  # fmt: skip
_ADAPTER = "mirrorppr"


@dataclass(frozen=True, kw_only=True)
class LoRAFactors:
    """One layer's update. down: (rank, in).  up: (out, rank).  scale: alpha / rank."""

    down: Tensor
    up: Tensor
    scale: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]


@dataclass(frozen=True, kw_only=True)
class LoRAFile:
    """layers: factors by the module's name as the file spells it, known prefixes removed."""

    name: str
    layers: dict[str, LoRAFactors]

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(sorted({factors.rank for factors in self.layers.values()}))

    @property
    def targets(self) -> dict[str, int]:
        """Number of layers by what they are: the last part of the name after the block's number."""
        return dict(Counter(re.sub(r"^.*?transformer_blocks[._]\d+[._]", "", name) for name in self.layers))

    def matched_to(self, modules: Iterable[str]) -> dict[str, LoRAFactors]:
        """Factors by the model's own module names. Raises ValueError unless every layer of the file has its module.

        modules: names of the model's weights without `.weight`, with or without a `diffusion_model.` before them.
        """
        known = {}
        for module in modules:
            bare = _bare(module)
            known[bare] = known[bare.replace(".", "_")] = module
        missing = [name for name in self.layers if name not in known]
        if missing:
            raise ValueError(
                f"LoRA {self.name}: {len(self.layers) - len(missing)} of {len(self.layers)} layers exist in this "
                f"model (first without: {missing[0]}). It was made for another model: load Qwen-Image-Edit, or the "
                "LoRA of this set."
            )
        matched = {known[name]: factors for name, factors in self.layers.items()}
        if len(matched) != len(self.layers):
            raise ValueError(f"LoRA {self.name} names {len(self.layers) - len(matched)} layers twice: it is damaged")
        return matched


def read_lora(path: Path) -> LoRAFile:
    """Read a LoRA safetensors file. Raises ValueError when it is none, or of a kind that is more than low rank."""
    return parse_lora(read_tensors(path)[0], name=path.name)


def parse_lora(state: dict[str, Tensor], *, name: str) -> LoRAFile:
    """The same from tensors in memory. name: for messages."""
    halves: dict[str, dict[str, Tensor]] = {}
    foreign = []
    for key, value in state.items():
        if key.endswith(".alpha"):
            halves.setdefault(_bare(key.removesuffix(".alpha")), {})["alpha"] = value
        elif match := _SUFFIX.match(key):
            part = "down" if match["role"].endswith(("A", "down")) else "up"
            layer = halves.setdefault(_bare(match["module"]), {})
            if part in layer:
                raise ValueError(f"LoRA {name} holds several adapters ({key}): export the one that is meant")
            layer[part] = value
        else:
            foreign.append(key)
    if foreign or not halves:
        first = f": {sorted(foreign)[0]}" if foreign else ""
        raise ValueError(
            f"{name} is not a plain LoRA ({len(foreign)} of {len(state)} keys are something else{first}). "
            "Choose lora/lora.safetensors of a MirrorPPR set; DoRA, LoHa, LoKr and full-weight patches are not read."
        )
    return LoRAFile(name=name, layers={layer: _factors(parts, layer, name) for layer, parts in halves.items()})


def comfy_state(matched: dict[str, LoRAFactors]) -> dict[str, Tensor]:
    """Keys that ComfyUI's own LoRA code maps: `diffusion_model.K.lora_A.weight`, the scale folded into lora_B."""
    return {
        f"diffusion_model.{_bare(module)}.{key}": value
        for module, factors in matched.items()
        for key, value in (("lora_A.weight", factors.down), ("lora_B.weight", _scaled_up(factors)))
    }


def attach(transformer: nn.Module, lora: LoRAFile, *, strength: float = 1.0) -> int:
    """Put the LoRA beside the weights of a diffusers transformer with peft. Returns the number of layers changed.

    Nothing is fused: `detach` gives the model back exactly, and quantised weights stay as they are. Adapters that are
    active already stay active.
    """
    if strength == 0:
        return 0
    names = [name.removesuffix(".base_layer") for name, part in transformer.named_modules() if hasattr(part, "weight")]
    state = {}
    for module, factors in lora.matched_to(names).items():
        state[f"{module}.lora_A.weight"], state[f"{module}.lora_B.weight"] = factors.down, _scaled_up(factors)
    active = transformer.active_adapters() if getattr(transformer, "peft_config", None) else []
    transformer.load_lora_adapter(state, prefix=None, adapter_name=_ADAPTER)
    changed = [layer for layer in _adapted(transformer) if _ADAPTER in layer.lora_A]
    for layer in _adapted(transformer):
        layer.set_adapter([name for name in (*active, _ADAPTER) if name in layer.lora_A], inference_mode=True)
    for layer in changed:
        layer.set_scale(_ADAPTER, strength)
    if 2 * len(changed) != len(state):
        detach(transformer)
        raise ValueError(
            f"LoRA {lora.name}: peft changed {len(changed)} of {len(state) // 2} layers: update peft and diffusers"
        )
    return len(changed)


def detach(transformer: nn.Module) -> None:
    """Take the LoRA off again; other adapters stay."""
    adapters = getattr(transformer, "peft_config", {})
    if list(adapters) == [_ADAPTER]:
        transformer.unload_lora()
    elif _ADAPTER in adapters:
        for layer in _adapted(transformer):
            others = [name for name in layer.active_adapters if name != _ADAPTER]
            layer.set_adapter(others, inference_mode=True)
        transformer.delete_adapters(_ADAPTER)


def _adapted(transformer: nn.Module) -> list[nn.Module]:
    from peft.tuners.lora import LoraLayer

    return [part for part in transformer.modules() if isinstance(part, LoraLayer)]


def _scaled_up(factors: LoRAFactors) -> Tensor:
    return factors.up if factors.scale == 1 else (factors.up.float() * factors.scale).to(factors.up.dtype)


def _bare(name: str) -> str:
    """The module's name without what trainers and hosts put before it."""
    while prefix := next((p for p in _PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def _factors(parts: dict[str, Tensor], layer: str, name: str) -> LoRAFactors:
    if not {"down", "up"} <= parts.keys():
        lacking = " and ".join(sorted({"down", "up"} - parts.keys()))
        raise ValueError(f"LoRA {name}: {layer} lacks its {lacking} factor. The file is damaged: download it again.")
    down, up = (parts[p].squeeze((2, 3)) if parts[p].ndim == 4 else parts[p] for p in ("down", "up"))
    if down.ndim != 2 or up.ndim != 2 or down.shape[0] != up.shape[1]:
        raise ValueError(
            f"LoRA {name}: {layer} has factors {tuple(down.shape)} and {tuple(up.shape)}, which do not multiply. "
            "The file is damaged: download it again."
        )
    rank = down.shape[0]
    return LoRAFactors(down=down, up=up, scale=float(parts.get("alpha", rank)) / rank)
