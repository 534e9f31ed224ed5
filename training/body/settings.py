"""What differs between the rows of the curriculum that train the pose network, and how often each picture is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from mirrorppr_core.bodies.pose_network import CROP_PX

from .data import PosePhoto

REAL = {"photo": 0.46, "painting": 0.14, "body": 0.24, "portrait": 0.16}  # shares among the real pictures ...
RENDERED = {"render": 0.85, "figure": 0.15}  # ... and among the others


@dataclass(frozen=True, kw_only=True)
class PoseSettings:
    """What differs between the rows of the curriculum."""

    real_share: float = 0.4  # of the drawn squares, where there are pictures of both kinds
    side_px: int = CROP_PX  # of the squares
    hard: float = 1.0  # how far the squares are harder than use, see crops.sampled_batch
    moved: float = 0.0  # how often people stand before another background or in another light, see there

    def __post_init__(self) -> None:
        shares = (self.real_share, self.hard, self.moved)
        if not all(0 <= share <= 1 for share in shares) or self.side_px < 64 or self.side_px % 32:
            raise ValueError(
                f"real_share={self.real_share}, hard={self.hard}, moved={self.moved}, side_px={self.side_px}: need "
                f"shares from 0 to 1 and a multiple of 32 from 64; {CROP_PX} is what the network sees in use"
            )


def chances_of(photos: Sequence[PosePhoto], real_share: float) -> list[float]:
    """How often each picture is drawn: groups by their shares, pictures of a group alike."""
    counts = Counter(photo.group for photo in photos)
    chances: dict[str, float] = {}
    for share, kinds in ((real_share, REAL), (1 - real_share, RENDERED)):
        known = {name: part for name, part in kinds.items() if counts[name]}
        chances |= {name: share * part / sum(known.values()) for name, part in known.items()}
    total = sum(chances.values())
    return [chances[photo.group] / counts[photo.group] / total for photo in photos]
