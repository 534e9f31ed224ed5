"""The Qwen engine of the trainer: files to frozen networks, portraits to batches, results of stages to later stages.

    data.base, data.mae     the frozen networks            data.portraits    pictures with landmarks
    data.cache              what language model and VAE say about them (training.qwen_cache), or asked while training

Samples are drawn from portraits (quadruplets.py), one set for each query size. Whose identity is held out is decided
by a hash of the name, so adding portraits moves nobody from one side to the other.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mirrorppr_core.checkpoint import file_sha256
from mirrorppr_core.qwen.config import QwenConfig
from mirrorppr_core.qwen.official import OfficialRFormer

from .curriculum import Stage
from .landmark_sources import landmark_source
from .loop import StageParts
from .portrait_folder import Portrait, PortraitFolder, Skipped
from .presets import Preset
from .quadruplets import QuadrupletConfig, Quadruplets
from .qwen_base import load_mae, load_transformer
from .qwen_cache import CachedEncoder, Encoder, base_identity, load_encoder
from .qwen_config import QwenDataConfig
from .qwen_data import BODY_POOL, FACE_POOL, QwenSource
from .qwen_stages import PictureBatch, QwenExtractorStage, QwenJointStage, load_lpips
from .recipes import PROFESSIONAL_BODY, operations_named

_PARTS = {"extractor": ("rformer",), "joint": ("rformer", "connector", "lora")}  # what a stage may start from
_PREFIX = {"rformer": "rformer.", "connector": "connector.", "lora": "transformer."}
_GROUPS = {  # operations of a stage's row, by kind of set
    ("face", "simulated"): ("simulated",), ("face", "professional"): ("face",), ("face", "both"): ("simulated", "face"),
    ("pro", "simulated"): ("simulated",), ("pro", "professional"): ("professional",), ("pro", "both"): ("all",),
}  # fmt: skip
_PRO_EXEMPLAR = (1536, 1440)
_VALIDATION_SEED = 10_000  # far from the training seeds
_VALIDATION_SAMPLES = 512


class PeopleOf:
    """The portraits of some identities: those held out, or all others."""

    def __init__(self, folder: PortraitFolder, *, share: float, held_out: bool):
        self.folder = folder
        names = [folder.known(row)["identity"] for row in range(len(folder))]
        self.rows = [row for row, name in enumerate(names) if is_held_out(name, share) == held_out]
        if not self.rows:
            which = "held out" if held_out else "left for training"
            raise ValueError(
                f"none of the {len(set(names))} identities is {which} at held_out={share}: use more portraits or "
                "another share"
            )

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> Portrait | Skipped:
        return self.folder.read(self.rows[index])


class QwenExaminer:
    """Stage I: what the decoder paints, scored where the truth differs from the query. Stage II shows nothing, as it
    has no VAE to look with; its loss reports region_error instead."""

    def numbers(self, module: nn.Module, batch: object, generator: torch.Generator) -> dict[str, float]:
        """psnr_region of the painting, and copy_psnr_region of the query as it came, in dB."""
        if not isinstance(batch, PictureBatch):
            return {}
        region = (batch.query - batch.target).abs().amax(1, keepdim=True) > 3 / 255
        pictures = {"psnr_region": module.paint(batch), "copy_psnr_region": batch.query}
        return {name: _psnr(picture, batch.target, region) for name, picture in pictures.items()}

    def pictures(self, module: nn.Module, batch: object, generator: torch.Generator) -> Mapping[str, Tensor]:
        if not isinstance(batch, PictureBatch):
            return {}
        return {"query": batch.query, "painted": module.paint(batch).clamp(0, 1), "target": batch.target}


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
    needed = {"base": "the diffusers folder of Qwen-Image-Edit", "mae": "mae_pretrained.safetensors",
              "portraits": "a folder of portraits"}  # fmt: skip
    for name, what in needed.items():
        path = getattr(data, name)
        if not path:
            raise ValueError(f"data.{name} is not set: give {what}, --set data.{name}=PATH")
        if not Path(path).exists():
            raise FileNotFoundError(f"data.{name}={path} does not exist: give {what}")
    if any(stage.module == "joint" for stage in preset.stages):
        _check_readers(preset)


def build(stage: Stage, preset: Preset, run: Path, device: torch.device) -> StageParts:
    """The stage's module with the results of earlier stages in it, and its samples."""
    config, data = preset.model, preset.data
    mae_dtype = torch.float32 if config.storage == "float32" else torch.bfloat16
    mae = load_mae(Path(data.mae), config.model, dtype=mae_dtype)
    starts_from = {"mae": file_sha256(Path(data.mae))}
    encoder = None
    if stage.module == "extractor":
        module = QwenExtractorStage(config, mae, perceptual=load_lpips() if config.lpips_weight else None)
    else:
        base = Path(data.base)
        starts_from["base"] = base_identity(base, ("transformer", "text_encoder", "vae"))
        module = QwenJointStage(
            config, mae, load_transformer(base, storage=config.storage), OfficialRFormer(config.model)
        )
        encoder = CachedEncoder(Path(data.cache)) if data.cache else load_encoder(base, device=device)
    for part, source in stage.starts.items():
        path = run / f"{source}.safetensors"
        load_part(path, part, module)
        starts_from[path.name] = file_sha256(path)
    return StageParts(
        module=module,
        training=batches(stage, preset, encoder, held_out=False),
        validation=batches(stage, preset, encoder, held_out=True),
        examiner=QwenExaminer(),
        starts_from=starts_from,
    )


def batches(stage: Stage, preset: Preset, encoder: Encoder | None, *, held_out: bool) -> QwenSource:
    """The stage's samples: of the training identities, or of those held out."""
    data, model = preset.data, preset.model.model
    folder = PortraitFolder(data.portraits, landmark_source(data.landmarks), min_side=data.min_side)
    people = PeopleOf(folder, share=data.held_out, held_out=held_out)
    chosen = operations(stage, preset)
    queries = query_sizes(data, model, chosen)
    seed = preset.loop.seed + (_VALIDATION_SEED if held_out else 0)
    total = min(data.samples, _VALIDATION_SAMPLES) if held_out else data.samples
    buckets = tuple(
        Quadruplets(
            people,
            QuadrupletConfig(
                operations=chosen,
                max_steps=data.max_steps,
                mode=data.mode,
                cross_identity=data.cross_identity,
                exemplar_size=exemplar_size(data, model),
                query_size=size,
            ),
            seed=seed * 1_009 + number,
            length=math.ceil(total / len(queries)),
        )
        for number, size in enumerate(queries)
    )
    return QwenSource(buckets=buckets, model=model, seed=seed, encoder=encoder)


def pictures_to_encode(preset: Preset, *, part: int = 0, parts: int = 1) -> Iterator[tuple[Tensor, bool]]:
    """Every query (with its text) and target (without) of the preset's joint stages; part `part` of `parts`."""
    if not 0 <= part < parts:
        raise ValueError(f"part {part} of {parts}: parts count from 0 to parts - 1")
    for stage in (stage for stage in preset.stages if stage.module == "joint"):
        for held_out in (False, True):
            for bucket in batches(stage, preset, None, held_out=held_out).buckets:
                for index in range(part, len(bucket), parts):
                    sample = bucket[index]
                    yield sample.query[0], True
                    yield sample.target[0], False


def operations(stage: Stage, preset: Preset) -> tuple[str, ...]:
    """Names of the operations that a stage's samples are made with."""
    data, kind = preset.data, preset.model.model.kind
    groups = data.operations.split(",") if data.operations else _GROUPS[kind, stage.data]
    chosen = tuple(dict.fromkeys(name for group in groups for name in operations_named(group)))
    if data.landmarks == "mini" and set(chosen) & set(PROFESSIONAL_BODY):
        raise ValueError(
            f"stage {stage.name} has body operations and data.landmarks=mini finds faces only: use npz:FILE or "
            "mediapipe, or leave the body out with --set data.operations=simulated,face"
        )
    return chosen


def query_sizes(data: QwenDataConfig, model: QwenConfig, chosen: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """(height, width) of the sets that samples come in."""
    if data.query_sizes:
        return tuple((int(height), int(width)) for height, width in data.query_sizes)
    if model.kind == "face":
        return ((model.side_px, model.side_px),)
    pool = BODY_POOL if set(chosen) & set(PROFESSIONAL_BODY) else FACE_POOL
    return tuple((height, width) for width, height in pool)


def exemplar_size(data: QwenDataConfig, model: QwenConfig) -> tuple[int, int]:
    if data.exemplar_size:
        height, width = data.exemplar_size
        return int(height), int(width)
    return (model.side_px, model.side_px) if model.kind == "face" else _PRO_EXEMPLAR


def load_part(path: Path, part: str, module: nn.Module) -> None:
    """Fill a trained part from an earlier stage's result, strictly."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run --stage {path.stem} first")
    prefix = _PREFIX[part]
    own = {name: p for name, p in module.named_parameters() if p.requires_grad and name.startswith(prefix)}
    found = {name: value for name, value in load_file(str(path)).items() if name.startswith(prefix)}
    odd = sorted(name for name in own.keys() | found.keys() if _shape(own.get(name)) != _shape(found.get(name)))
    if odd:
        raise ValueError(
            f"{path} does not hold the {part} of this run: {len(odd)} of {len(own)} tensors differ, first {odd[0]}. "
            "Use the configuration it was trained with, or another --run folder."
        )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(found[name])


def is_held_out(identity: str, share: float) -> bool:
    digest = hashlib.sha256(identity.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


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


def _psnr(picture: Tensor, target: Tensor, region: Tensor) -> float:
    error = ((picture - target).square() * region).sum() / (3 * region.sum()).clamp(min=1)
    return float(-10 * torch.log10(error.clamp(min=1e-10)))


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)
