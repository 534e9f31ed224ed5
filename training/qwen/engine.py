"""The Qwen engine of the trainer: files to frozen networks, portraits to batches, results of stages to later stages.

data.base, data.mae           the frozen networks
data.portraits, data.pairs    pictures with landmarks, or finished pairs (qwen_sources.py)
data.cache                    what language model and VAE say of them (training.qwen_cache), or asked while training
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import nn

from mirrorppr_core.mini.files import file_sha256
from mirrorppr_core.qwen.networks import OfficialRFormer

from ..runs.checkpoints import read_part
from ..runs.loop import StageParts
from ..runs.preset import Preset
from ..runs.stage import Stage
from .base import load_mae, load_transformer
from .encoders import CachedEncoder, Encoder, OnlineEncoder, base_identity, load_encoder, load_vae
from .examiner import QwenExaminer
from .sources import batches, check_pairs, operations, pairs_of
from .stages import QwenExtractorStage, QwenJointStage, lpips_loss

_PARTS = {"extractor": ("rformer",), "joint": ("rformer", "connector", "lora")}  # what a stage may start from
_DATA = {  # what holds the samples of each source
    "online": {"portraits": "a folder of portraits"},
    "shards": {"pairs": "the folder that python -m training.synthesize wrote"},
    "released": {"pairs": "the folder that a released data set was unpacked into"},
}
_PREFIX = {"rformer": "rformer.", "connector": "connector.", "lora": "transformer."}


def check(preset: Preset, run: Path) -> None:
    """Raises ValueError or FileNotFoundError for missing weights and data, and rows that cannot work."""
    data = preset.data
    for stage in preset.stages:
        if stage.module not in _PARTS:
            raise ValueError(f"stage {stage.name}: module {stage.module!r} is none of Qwen's {', '.join(_PARTS)}")
        foreign = [part for part in stage.starts if part not in _PARTS[stage.module]]
        if foreign:
            raise ValueError(f"stage {stage.name} cannot start {foreign} from anything: it has {_PARTS[stage.module]}")
        operations(stage, preset)
    needed = {
        "base": "the diffusers folder of Qwen-Image-Edit",
        "mae": "mae_pretrained.safetensors",
        **_DATA[data.source],
    }
    for name, what in needed.items():
        path = getattr(data, name)
        if not path:
            raise ValueError(f"data.{name} is not set: give {what}, --set data.{name}=PATH")
        if not Path(path).exists():
            raise FileNotFoundError(f"data.{name}={path} does not exist: give {what}")
    if data.source != "online":
        check_pairs(preset)
    if any(stage.module == "joint" for stage in preset.stages):
        _check_readers(preset)


def build(stage: Stage, preset: Preset, run: Path, device: torch.device) -> StageParts:
    """The stage's module with the results of earlier stages in it, and its samples."""
    config, data = preset.model, preset.data
    mae_dtype = torch.float32 if config.storage == "float32" else torch.bfloat16
    mae = load_mae(Path(data.mae), config.model, dtype=mae_dtype)
    starts_from = {"mae": file_sha256(Path(data.mae))}
    pairs, encoder = pairs_of(data), None
    if pairs is not None:
        starts_from["pairs"] = pairs.digest
    if stage.module == "extractor":
        module = QwenExtractorStage(config, mae, perceptual=lpips_loss() if config.lpips_weight else None)
    else:
        base = Path(data.base)
        starts_from["base"] = base_identity(base, ("transformer", "text_encoder", "vae"))
        module = QwenJointStage(
            config, mae, load_transformer(base, storage=config.storage), OfficialRFormer(config.model)
        )
        encoder = CachedEncoder(Path(data.cache)) if data.cache else load_encoder(base, device=device)
    for part, source in stage.starts.items():
        path = run / f"{source}.safetensors"
        _load_part(path, part, module)
        starts_from[path.name] = file_sha256(path)
    return StageParts(
        module=module,
        training=batches(stage, preset, encoder, held_out=False),
        validation=batches(stage, preset, encoder, held_out=True),
        examiner=QwenExaminer(partial(_vae, encoder, Path(data.base), device)),
        starts_from=starts_from,
    )


def _load_part(path: Path, part: str, module: nn.Module) -> None:
    """Fill a trained part from an earlier stage's result, strictly."""
    prefix = _PREFIX[part]
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad and name.startswith(prefix)}
    own = {name.removeprefix(prefix): parameter for name, parameter in trained.items()}
    found = read_part(path, part, own, prefix=prefix)
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(found[name])


def _check_readers(preset: Preset) -> None:
    """Language model and VAE: a cache of this base, or no loader processes, which could not share a GPU."""
    data = preset.data
    if not data.cache:
        if preset.loop.workers:
            raise ValueError(
                f"without data.cache, language model and VAE work in the training process: set loop.workers=0 (now "
                f"{preset.loop.workers}), or fill a cache with python -m training.qwen_cache and set data.cache"
            )
        return
    cache, base = CachedEncoder(Path(data.cache)), base_identity(Path(data.base))
    if not len(cache):
        raise ValueError(f"data.cache={data.cache} is empty: fill it with python -m training.qwen_cache")
    if cache.base != base:
        raise ValueError(f"data.cache={data.cache} was filled from base model {cache.base}, data.base is {base}")


def _vae(encoder: Encoder | None, base: Path, device: torch.device) -> nn.Module:
    """The one that works while training, or where a cache answers one for the sheets."""
    return encoder.components.vae if isinstance(encoder, OnlineEncoder) else load_vae(base, device=device)
