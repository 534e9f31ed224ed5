"""Named operations by amount, without any exemplar: sliders, as numbers and as lines of text.

    eye_resize = 30
    mouth_smile_left = -20          one side of a paired operation
    mandible_both = 15              both of them

A slider is one of the 8 simulated operations or one of the professional ones, in per cent of its full strength.
Paired ones, called X_left+X_right in the paper's tables, have three names: X_both, X_left and X_right, or X for both
where the paper's name has no sides in it. An explained operation is written in such lines, to be opened and changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .llw_table import OPERATIONS as LLW
from .professional_table import OPERATIONS as PROFESSIONAL

FULL = 100.0
_PAIR = "_left+"


@dataclass(frozen=True, kw_only=True)
class Amount:
    """percent: -100 to 100 of the operation's full strength.  side: the person's own."""

    operation: str
    percent: float
    side: str = "both"

    def __post_init__(self) -> None:
        if self.operation not in LLW and self.operation not in PROFESSIONAL:
            raise ValueError(f"there is no operation named {self.operation!r}: see the list of sliders")
        if not math.isfinite(self.percent) or abs(self.percent) > FULL:
            raise ValueError(f"{self.name} = {self.percent:g}: sliders go from -100 to 100 per cent")

    @property
    def name(self) -> str:
        """The slider's name."""
        return _name(self.operation, self.side)

    @property
    def in_words(self) -> str:
        """What it does, e.g. "larger eyes"; the size is not said."""
        table = LLW if self.operation in LLW else PROFESSIONAL
        words = table[self.operation].plus if self.percent >= 0 else table[self.operation].minus
        if self.operation in LLW:
            words = f"{self.operation.replace('_', ' ')}: {words}"
        return words if self.side == "both" else f"{words}, {self.side} side"

    @property
    def on_body(self) -> bool:
        return self.operation in PROFESSIONAL and PROFESSIONAL[self.operation].on_body


@dataclass(frozen=True)
class Sliders:
    """Operations to be made, all at once on the same face; those at 0 are left out."""

    amounts: tuple[Amount, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing was measured, so there is nothing to say of it; an Operation may have something."""
        return ()

    @classmethod
    def of(cls, percents: Mapping[str, float]) -> Sliders:
        """From percentages by slider name. Raises ValueError for unknown names and percentages beyond 100."""
        unknown = [name for name in percents if name not in NAMES]
        if unknown:
            raise ValueError(f"there is no slider named {unknown[0]!r}: use names from {', '.join(SLIDERS)}")
        made = [Amount(operation=NAMES[n][0], side=NAMES[n][1], percent=float(v)) for n, v in percents.items()]
        return cls(tuple(amount for amount in made if amount.percent != 0))

    @classmethod
    def from_text(cls, text: str) -> Sliders:
        """From lines `name = percent`. What follows a # is a remark. Raises ValueError that names the line."""
        return cls.of(percents_of(text))

    @property
    def is_identity(self) -> bool:
        """True when it leaves every photo as it is."""
        return not any(one.percent for one in self.amounts)

    def to_text(self) -> str:
        return "\n".join(f"{amount.name} = {amount.percent:g}" for amount in self.amounts)


def percents_of(text: str) -> dict[str, float]:
    """The lines of a text as percentages by slider name."""
    percents: dict[str, float] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#")[0].strip()
        if not line:
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        try:
            percent = float(value.removesuffix("%"))
        except ValueError:
            equals, percent = "", 0.0
        if not equals:
            raise ValueError(f"line {number} is {line[:60]!r}: write NAME = PER CENT, for example eye_resize = 30")
        if name not in NAMES:
            raise ValueError(f"line {number} names no slider ({name[:40]!r}): use names from {', '.join(SLIDERS)}")
        if name in percents:
            raise ValueError(f"line {number} sets {name} a second time: keep one of the two lines")
        if not abs(percent) <= FULL:
            raise ValueError(f"line {number} sets {name} to {value}: sliders go from -100 to 100 per cent")
        percents[name] = percent
    return percents


def _name(operation: str, side: str) -> str:
    base = operation.split(_PAIR)[0]
    if side == "both":
        return f"{base}_both" if _PAIR in operation else base
    return f"{base}_{side}"


def _sides(operation: str) -> Iterable[str]:
    return ("both", "left", "right") if operation in PROFESSIONAL and PROFESSIONAL[operation].paired else ("both",)


# Every name that a slider answers to: its operation and side; and those that stand for whole operations, in order.
NAMES: dict[str, tuple[str, str]] = {
    _name(operation, side): (operation, side) for operation in (*LLW, *PROFESSIONAL) for side in _sides(operation)
}
SLIDERS: tuple[str, ...] = tuple(name for name, (_, side) in NAMES.items() if side == "both")
