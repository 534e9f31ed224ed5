"""The five body operations in the forms of a commercial retouching tool, as measured on published before/after pairs.

Where professional.py has windows of our own design, these are the lobes that explained 0.72 to 0.98 of that tool's
motion (bodies/families.py), with the widths and amplitudes that were fitted to it. Tools differ: `Style` makes all
windows wider or narrower, shifts them and makes the motion stronger, the same on every person, as a tool would.

    +100 of an operation is twice its measured amplitude. Displacements are backward: where a pixel comes from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..bodies.families import NAMED, Column, Fitted, motion_of
from ..bodies.frames import Body, facing, frames_of

_FULL = 2.0  # times the measured amplitude at 100
_FOREARM = 0.85  # of the upper arm's amplitude

# operation: family, parameters (s_out, s_in, sigma, t0, h), amplitude in u
FORMS = {
    "body_shape_right_shoulder": ("corner", (0.05, 0.0, 0.20, 0.0, 0.20), 0.030),
    "body_shape_thin_shoulders": ("lobe", (0.18, 0.0, 0.17, 0.15, 0.37), 0.048),
    "body_shape_slim_hand": ("arms", (0.12, 0.12, 0.13, 0.50, 0.44), 0.013),
    "body_shape_slim_leg": ("legs", (0.26, 0.26, 0.32, 0.50, 0.44), 0.036),
    "body_shape_slim_waist": ("waist", (0.18, 0.0, 0.17, 0.58, 0.12), 0.023),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a tool differs from the measured one, as factors of s_out, s_in, sigma, t0 and h, and of the amplitude."""

    widths: tuple[float, float, float, float, float] = (1.0, 1.0, 1.0, 1.0, 1.0)
    amplitude: float = 1.0

    def __post_init__(self) -> None:
        if min(*self.widths, self.amplitude) <= 0:
            raise ValueError(f"widths {self.widths} and amplitude {self.amplitude}: use factors above 0, 1 is measured")


def form_displacement_at(
    points: Tensor,
    body: Body,
    unit: float,
    *,
    operation: str,
    strength: float,
    side: str = "both",
    style: Style | None = None,
) -> Tensor:
    """points: (N, 2) photo pixels.  unit: u in pixels.  strength: -100 to 100.  side: the person's own, or both.

    Returns (N, 2). Parts that the body does not tell do not move.
    """
    if operation not in FORMS:
        raise ValueError(f"{operation!r} has no measured form: use one of {', '.join(FORMS)}")
    style = style or Style()
    name, parameters, amplitude = FORMS[operation]
    family = NAMED[name]
    widths = torch.tensor(parameters) * torch.tensor(style.widths)
    amplitudes = torch.tensor([_amount(operation, column, side) for column in family.columns])
    amplitudes = amplitudes * (amplitude * style.amplitude * _FULL * strength / 100)
    return motion_of(Fitted(name, widths, amplitudes), frames_of(facing(body), unit), points)


def _amount(operation: str, column: Column, side: str) -> float:
    """Of the operation's amplitude that a column has at +100: narrower, slimmer, shoulders lifted."""
    on_right = column.sign < 0 if column.part in ("trunk", "neck") else column.part.endswith("_r")
    if side != "both" and on_right != (side == "right"):
        return 0.0
    if operation == "body_shape_right_shoulder":
        return 0.0 if column.across else 1.0  # pixels come from below, towards the hips
    if not column.across:
        return 0.0
    inner = operation in ("body_shape_slim_hand", "body_shape_slim_leg") and column.sign < 0
    return (-1.0 if inner else 1.0) * (_FOREARM if column.part.startswith("forearm") else 1.0)
