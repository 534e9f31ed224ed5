"""The dimensions of the Qwen engine's trained parts; defaults are those of the released files.

Two kinds share everything but the R-Former's positions. *Face* sees both exemplars squeezed to 64 x 64 patches and
has one row per token; *Pro* sees them at their own size and has separate tables for rows and columns, 280 long.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field

from ..networks.config import ConnectorConfig, MAEConfig, RFormerConfig
from ..settings_file import parsed, settings_of

KINDS = ("face", "pro")


@dataclass(frozen=True, kw_only=True)
class QwenConfig:
    """MAE, R-Former and connector that were trained together."""

    kind: str = "face"
    side_patches: int = 64  # face: patches a side, always; pro: the most a side may have
    mae: MAEConfig = field(default_factory=lambda: MAEConfig(image_size=224, patch=16, width=1024, depth=24, heads=16))
    rformer: RFormerConfig = field(
        default_factory=lambda: RFormerConfig(num_queries=8, width=768, depth=4, heads=12, motion_channels=0)
    )
    connector: ConnectorConfig = field(
        default_factory=lambda: ConnectorConfig(width=768, depth=6, heads=12, output=3584)
    )

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r}: use one of {', '.join(KINDS)}")
        if not 1 <= self.side_patches <= 4096:
            raise ValueError(f"side_patches={self.side_patches}: use 64 for face, 280 for pro")
        if self.rformer.motion_channels:
            raise ValueError("the Qwen engine's R-Former reads pictures only: set motion_channels=0")
        if self.rformer.width % 2:
            raise ValueError(f"R-Former width {self.rformer.width} must be even: half of it holds the row")
        if self.connector.width != self.rformer.width:
            raise ValueError(f"connector width {self.connector.width} must be R-Former width {self.rformer.width}")

    @property
    def side_px(self) -> int:
        """Face: the side of the square both exemplars become. Pro: the longest side."""
        return self.side_patches * self.mae.patch

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> QwenConfig:
        """Inverse of to_json. Unknown or missing fields are refused: they mean another code version."""
        return settings_of(cls, parsed(text, "its configuration"))


FACE = QwenConfig()
PRO = QwenConfig(kind="pro", side_patches=280)
