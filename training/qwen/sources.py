"""Where the samples of a Qwen stage come from: drawn from portraits while training, shards, or a released layout."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from mirrorppr_core.qwen.config import QwenConfig

from ..data.landmark_sources import landmark_source
from ..data.portrait_folder import Portrait, PortraitFolder, Skipped
from ..recipes.quadruplets import QuadrupletConfig, Quadruplets
from ..recipes.recipe import PROFESSIONAL_BODY, operations_named
from ..runs.preset import Preset
from ..runs.stage import Stage
from .batches import BODY_POOL, FACE_POOL, Bucket, QwenSource
from .config import QwenDataConfig
from .encoders import Encoder
from .pairs import Pairs, bits_of, buckets_of
from .released_pairs import ReleasedPairs
from .shard_pairs import ShardPairs

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


def batches(stage: Stage, preset: Preset, encoder: Encoder | None, *, held_out: bool) -> QwenSource:
    """The stage's samples: of the training identities, or of those held out."""
    data, model = preset.data, preset.model.model
    seed = preset.loop.seed + (_VALIDATION_SEED if held_out else 0)
    find = _online if data.source == "online" else _stored
    return QwenSource(buckets=find(stage, preset, seed, held_out), model=model, seed=seed, encoder=encoder)


def pairs_of(data: QwenDataConfig) -> Pairs | None:
    """The folder of finished pairs; None where they are made while training."""
    return None if data.source == "online" else _opened(data.source, data.pairs, data.min_side, data.max_steps)


def check_pairs(preset: Preset) -> None:
    """Raises ValueError or FileNotFoundError for a folder that cannot feed every stage a batch of different pairs."""
    for stage in preset.stages:
        for held_out in (False, True):
            found = sum(len(bucket.rows) for bucket in _stored(stage, preset, 0, held_out))
            if not held_out and found < stage.batch:
                raise ValueError(
                    f"data.pairs={preset.data.pairs} has {found} pairs for stage {stage.name} and its batch is "
                    f"{stage.batch}: add pairs (training.synthesize --pairs), or lower stages.{stage.name}.batch"
                )


def _online(stage: Stage, preset: Preset, seed: int, held_out: bool) -> tuple[Bucket, ...]:
    data, model = preset.data, preset.model.model
    folder = PortraitFolder(data.portraits, landmark_source(data.landmarks), min_side=data.min_side, as_bytes=True)
    people = PeopleOf(folder, share=data.held_out, held_out=held_out)
    chosen = operations(stage, preset)
    queries = query_sizes(data, model, chosen)
    total = min(data.samples, _VALIDATION_SAMPLES) if held_out else data.samples
    return tuple(
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


def _stored(stage: Stage, preset: Preset, seed: int, held_out: bool) -> tuple[Bucket, ...]:
    data, model = preset.data, preset.model.model
    chosen, pairs = operations(stage, preset), pairs_of(data)
    return buckets_of(
        pairs,
        allowed=bits_of(chosen),
        held_out=held_out,
        share=data.held_out,
        samples=data.samples,
        at_most=_VALIDATION_SAMPLES if held_out else None,
        seed=seed,
        exemplar_size=exemplar_size(data, model),
        query_sizes=query_sizes(data, model, chosen),
        cross_identity=data.cross_identity,
    )


@lru_cache(maxsize=1)
def _opened(source: str, folder: str, min_side: int, max_steps: int) -> Pairs:
    """Kept, as every stage of a run reads the same."""
    if source == "shards":
        return ShardPairs(Path(folder), min_side=min_side)
    return ReleasedPairs(Path(folder), max_steps=max_steps)


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
    if data.source == "online" and data.landmarks == "mini" and set(chosen) & set(PROFESSIONAL_BODY):
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


def is_held_out(identity: str, share: float) -> bool:
    digest = hashlib.sha256(identity.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
