"""Settings of Mini's training: where samples come from and how they are drawn."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mirrorppr_core.operations.llw import OPERATIONS

from .face_set import PROFESSIONAL_FACE

# A sample says which operations it holds by their place in this list plus one; 0 is none, UNNAMED a part operation.
NAMED = (*OPERATIONS, *PROFESSIONAL_FACE)
UNNAMED = len(NAMED) + 1


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How samples are drawn."""

    eye_distance_cells: float = 16.0
    same_identity: float = 0.15  # share of self-augmented samples
    professional_share: float = 0.4  # of the named operations; the rest are LLW's
    one_sided: float = 0.4  # share of paired professional operations that move one side only
    count_odds: tuple[float, float, float] = (0.3, 0.45, 0.25)  # of no, one and two named operations
    part_share: float = 0.25  # share of samples that get a part operation on top; those without a named one always do
    any_part: float = 0.5  # share of part operations on a random neighbourhood of landmarks instead of one of PARTS
    hidden: float = 0.15  # share of samples whose named operations are missing from the bank
    leave_out: tuple[str, ...] = ()  # named operations that are never drawn: for leave-one-out studies

    def __post_init__(self) -> None:
        unknown = [name for name in self.leave_out if name not in NAMED]
        if unknown:
            raise ValueError(f"leave_out={unknown}: no such operation; names are {', '.join(NAMED)}")
        shares = ("same_identity", "professional_share", "one_sided", "part_share", "any_part", "hidden")
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: a share is a number from 0 to 1")
        if int((self.odds > 0).sum()) < 2:
            raise ValueError("leave_out and professional_share leave fewer than two operations to draw from")

    @property
    def odds(self) -> Tensor:
        """(O,) chances of the named operations."""
        llw, professional = len(OPERATIONS), len(PROFESSIONAL_FACE)
        odds = torch.cat(
            [
                torch.full((llw,), (1 - self.professional_share) / llw),
                torch.full((professional,), self.professional_share / professional),
            ]
        )
        return odds * torch.tensor([name not in self.leave_out for name in NAMED])


@dataclass(frozen=True, kw_only=True)
class MiniData:
    """Where Mini's samples come from."""

    # A folder with portraits.csv and landmarks.npz, and the file of training.train_locator; empty: the bundled locator.
    portraits: str = field(default="", metadata={"compared": False})
    locator: str = field(default="", metadata={"compared": False})
    drawn: int = 0  # faces drawn at random instead of portraits: a rehearsal
    held_out: float = 0.06  # share of identities kept for validation
    samples: SampleConfig = field(default_factory=SampleConfig)

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1 or self.drawn < 0:
            raise ValueError(f"held_out={self.held_out}, drawn={self.drawn}: need 0 < held_out < 1 and drawn >= 0")
