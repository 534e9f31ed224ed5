"""Every setting of a MirrorPPR model as frozen dataclasses, and their way to and from JSON.

A model is a *matched set*: extractor (MAE + R-Former), connector and DiT + LoRA are trained together. `set_id`
names the set; files of different sets refuse each other. Defaults are the bundled Mini model, sized so that a
1024 px portrait takes about a second on a plain CPU; the paper's own dimensions (arXiv:2606.29308) are noted beside.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field

from ..faces.view import ViewConfig
from ..operations.atoms import KNOWN_OPERATIONS, atoms_of
from ..settings_file import parsed, settings_of

FORMAT_VERSION = 1
_MOST_SIZE, _MOST_DEPTH = 16384, 128  # of anything that networks are made of
_MAY_BE_ZERO = ("motion_channels", "geometry_codes")


@dataclass(frozen=True, kw_only=True)
class MAEConfig:
    """ViT-MAE encoder. Paper: MAE-Large, width 1024, depth 24, heads 16, patch 16, 1024 px images."""

    image_size: int = 128
    patch: int = 16
    width: int = 128
    depth: int = 4
    heads: int = 4

    def __post_init__(self) -> None:
        _need_divisible("MAE image_size", self.image_size, "patch", self.patch)
        _need_divisible("MAE width", self.width, "heads", self.heads)
        _need_sizes(self)

    @property
    def grid(self) -> int:
        return self.image_size // self.patch


@dataclass(frozen=True, kw_only=True)
class RFormerConfig:
    """R-Former: learnable queries read the pair. Paper: 8 queries, width 768, depth 4, heads 12."""

    num_queries: int = 8
    width: int = 128
    depth: int = 3
    heads: int = 4
    motion_channels: int = 4  # canonical motion and face shape per cell; 0 as in the paper

    def __post_init__(self) -> None:
        _need_divisible("R-Former width", self.width, "heads", self.heads)
        if self.num_queries < 1:
            raise ValueError(f"num_queries={self.num_queries}: use 1 or more, 8 is the paper's")
        _need_sizes(self)


@dataclass(frozen=True, kw_only=True)
class ConnectorConfig:
    """Operation tokens to conditioning tokens. Paper: width 768, depth 6, heads 12, output 3584."""

    width: int = 128
    depth: int = 2
    heads: int = 4
    output: int = 128

    def __post_init__(self) -> None:
        _need_divisible("connector width", self.width, "heads", self.heads)
        _need_sizes(self)


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Dual-stream DiT with Qwen-Image's names. Paper: 60 blocks, 24 heads of 128, text width 3584."""

    depth: int = 4
    heads: int = 4
    head_dim: int = 32
    text_width: int = 128
    rope_axes: tuple[int, int, int] = (8, 12, 12)
    grid: int = 8  # image tokens a side
    stem_channels: int = 24
    geometry_codes: int = 64  # numbers that describe a face's proportions
    adaptation_width: int = 512
    operations: tuple[str, ...] = KNOWN_OPERATIONS  # whose motions are looked for in an exemplar
    bank_width: int = 256

    def __post_init__(self) -> None:
        if sum(self.rope_axes) != self.head_dim or any(a % 2 or a < 1 for a in self.rope_axes):
            raise ValueError(f"rope_axes={self.rope_axes}: must be even and add up to head_dim={self.head_dim}")
        atoms_of(self.operations)  # refuses unknown names
        if not self.operations or len(set(self.operations)) < len(self.operations):
            raise ValueError(f"operations={self.operations}: name at least one, and each once")
        if self.bank_width < 1:
            raise ValueError(f"bank_width={self.bank_width}: use 1 or more, 256 is usual")
        _need_sizes(self)

    @property
    def width(self) -> int:
        return self.heads * self.head_dim


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adapters on the DiT. alpha == rank, so that loaders that ignore alpha agree with those that read it."""

    rank: int = 16
    alpha: int = 16
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj",
                                "img_mlp.net.0.proj", "img_mlp.net.2")  # fmt: skip

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha != self.rank:
            raise ValueError(f"LoRA rank={self.rank}, alpha={self.alpha}: need rank >= 1 and alpha == rank")
        _need_sizes(self)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One matched set."""

    name: str = "mini-face"
    view: ViewConfig = field(default_factory=ViewConfig)
    mae: MAEConfig = field(default_factory=MAEConfig)
    rformer: RFormerConfig = field(default_factory=RFormerConfig)
    connector: ConnectorConfig = field(default_factory=ConnectorConfig)
    dit: DiTConfig = field(default_factory=DiTConfig)
    lora: LoRAConfig = field(default_factory=LoRAConfig)

    def __post_init__(self) -> None:
        _need_divisible("view size", self.view.size, "twice the DiT grid", 2 * self.dit.grid)
        _need_divisible("view size", self.view.size, "MAE grid", self.mae.grid)
        if self.mae.grid != self.dit.grid:
            raise ValueError(f"MAE grid {self.mae.grid} and DiT grid {self.dit.grid} must be equal: tokens are added")
        if self.connector.output != self.dit.text_width:
            raise ValueError(f"connector output {self.connector.output} must be DiT text_width {self.dit.text_width}")
        if self.connector.width != self.rformer.width:
            raise ValueError(f"connector width {self.connector.width} must be R-Former width {self.rformer.width}")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Inverse of to_json. Unknown or missing fields are refused: they mean another code version."""
        return settings_of(cls, parsed(text, "its configuration"))


def set_id_of(config: ModelConfig, run: str) -> str:
    """Twelve hex digits that name one training run's matched set. run: anything that identifies the run."""
    return hashlib.sha256(f"{config.to_json()}|{run}".encode()).hexdigest()[:12]


def _need_divisible(what: str, value: int, by: str, divisor: int) -> None:
    if divisor < 1 or value % divisor:
        raise ValueError(f"{what}={value} must be a multiple of {by}={divisor}")


def _need_sizes(config: object) -> None:
    """Whole numbers within reason, before any memory is asked for."""
    for one in dataclasses.fields(config):
        value, low = getattr(config, one.name), 0 if one.name in _MAY_BE_ZERO else 1
        high = _MOST_DEPTH if one.name == "depth" else _MOST_SIZE
        if isinstance(value, int) and not low <= value <= high:
            raise ValueError(f"{type(config).__name__}.{one.name}={value}: use {low} to {high}")
