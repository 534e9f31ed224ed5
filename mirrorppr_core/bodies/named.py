"""Operations of a body that have a name and their own formula, as bodies know them: a name and three numbers.

The formulas lie in operations/, which knows bodies and not the other way round; so whoever reads or moves a body is
handed them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .frames import Body

MOST = 10.0  # times the operation at 100 %
# The group of frames.GROUPS that each moves, and the frames that tell it on one side.
GROUP_OF = {
    "body_shape_right_shoulder": ("shoulders", ("shoulder",)),
    "body_shape_thin_shoulders": ("shoulders", ("shoulder",)),
    "body_shape_slim_hand": ("arms", ("upper_arm", "forearm")),
    "body_shape_slim_leg": ("legs", ("thigh", "shin")),
    "body_shape_slim_waist": ("trunk", ("trunk",)),
}


@dataclass(frozen=True, kw_only=True)
class NamedBodyOperation:
    """name: a row of the professional table.  reach: times as wide windows.  right, left: amounts, 1 is +100."""

    name: str
    reach: float
    right: float
    left: float

    def __post_init__(self) -> None:
        if self.name not in GROUP_OF:
            raise ValueError(f"there is no body operation {self.name!r}: use one of {', '.join(GROUP_OF)}")
        if not 0.2 <= self.reach <= 5 or max(abs(self.right), abs(self.left)) > MOST:
            raise ValueError(
                f"{self.name} with reach={self.reach}, right={self.right}, left={self.left}: reaches lie between 0.2 "
                f"and 5, amounts within {MOST:g}"
            )

    @property
    def group(self) -> str:
        return GROUP_OF[self.name][0]


class KnownOperations(Protocol):
    """What operations/ offers."""

    def explained(self, motion: Tensor, places: Tensor, body: Body) -> tuple[NamedBodyOperation, float] | None: ...

    def motion_of(self, found: NamedBodyOperation, body: Body, places: Tensor) -> Tensor: ...
