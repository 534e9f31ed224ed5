"""What retouching tools do to a body, with the truth known: our pushes, the measured forms, and freehand brushes.

A tool has its own windows and its own ruler, the same on everybody: our pushes count in shoulder widths, the measured
forms in u (bodies/unit.py), a brush in what its user holds it to, which is drawn. So a transfer cannot be right by
having the tool's own formula: rulers differ by about 16 % between people, and that alone costs some tenths of relEPE.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mirrorppr_core.bodies.frames import Body, Frame, facing, frames_of
from mirrorppr_core.bodies.unit import measures, unit_of
from mirrorppr_core.operations.body_forms import Style, form_displacement_at
from mirrorppr_core.operations.professional import professional_displacement_at
from mirrorppr_core.operations.professional_table import OPERATIONS

BODY_OPERATIONS = tuple(name for name, operation in OPERATIONS.items() if operation.on_body)
BRUSHES = ("hips", "belly", "bust", "neck", "hair")
KINDS = ("pushes", "forms", "brush")
_REACHES = (0.7, 1.0, 1.4)
_WIDTH_SPREAD, _RULER_SPREAD = 0.12, 0.08  # log-sd of a form's widths, of the ruler between two people
_LEAST_VISIBILITY = 0.5


@dataclass(frozen=True, kw_only=True)
class Person:
    """pose: (33, 4) MediaPipe's joints, pixels and visibility.  body: the same as core knows it."""

    pose: Tensor
    body: Body

    @property
    def unit(self) -> float | None:
        return unit_of(measures(facing(self.body)))


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One use of a tool.  name: an operation or a brush.  strength: -100 to 100.  ruler: of the query against u."""

    kind: str
    name: str
    strength: float
    side: str = "both"
    reach: float = 1.0
    style: Style = Style()
    ruler: float = 1.0

    @property
    def group(self) -> str:
        return f"{self.kind}: {self.name.removeprefix('body_shape_')}"


def drawn_edit(kind: str, name: str, strength: float, generator: Generator) -> Edit:
    """A tool of this kind and one use of it, a function of the generator's state."""

    def normal(spread: float) -> float:
        return math.exp(spread * float(torch.randn((), generator=generator)))

    chance = float(torch.rand((), generator=generator))
    side = "both" if chance < 0.6 or kind == "brush" else ("left" if chance < 0.8 else "right")
    reach = _REACHES[int(torch.randint(len(_REACHES), (), generator=generator))]
    widths = (normal(_WIDTH_SPREAD),) * 2 + tuple(normal(_WIDTH_SPREAD) for _ in range(3))
    style = Style(widths=widths, amplitude=normal(_WIDTH_SPREAD))
    return Edit(
        kind=kind, name=name, strength=strength, side=side, reach=reach, style=style, ruler=normal(_RULER_SPREAD)
    )


def motion_at(edit: Edit, person: Person, points: Tensor, *, on_query: bool) -> Tensor | None:
    """(N, 2) backward displacement at points (N, 2), or None where the person does not show what it moves."""
    unit = person.unit
    if unit is None:
        return None
    if edit.kind == "pushes":
        return _pushed(edit, person.pose, points)
    unit = unit * edit.ruler if on_query else unit
    if edit.kind == "forms":
        return form_displacement_at(
            points, person.body, unit, operation=edit.name, strength=edit.strength, side=edit.side, style=edit.style
        )
    return _brushed(edit, frames_of(facing(person.body), unit), unit, points)


def _pushed(edit: Edit, pose: Tensor, points: Tensor) -> Tensor | None:
    visible = pose[:, 3] >= _LEAST_VISIBILITY
    sides = OPERATIONS[edit.name].sides()
    pushes = [push for side, own in sides.items() if edit.side in ("both", side) for push in own]
    if not any(bool(visible[list(push.landmarks)].all()) for push in pushes):
        return None
    how = {"operation": edit.name, "strength": edit.strength, "side": edit.side, "reach": edit.reach}
    return professional_displacement_at(points, None, pose, **how)


def _brushed(edit: Edit, frames: dict[str, Frame], unit: float, points: Tensor) -> Tensor | None:
    """A soft round brush: pushes on both sides of an axis, or swells a place."""
    part = {"neck": "neck", "hair": "head"}.get(edit.name, "trunk")
    frame = frames.get(part)
    if frame is None:
        return None
    amount = 0.06 * unit * edit.style.amplitude * edit.strength / 100
    at, beside, radius, swells = {
        "hips": (1.02, 0.42, 0.45, False),
        "belly": (0.75, 0.0, 0.60, True),
        "bust": (0.33, 0.22, 0.28, True),
        "neck": (0.55, 0.16, 0.22, False),
        "hair": (0.75, 0.27, 0.30, False),
    }[edit.name]
    size, total = frame.unit, torch.zeros_like(points)
    for sign in (-1.0, 1.0) if beside else (0.0,):
        middle = frame.origin + at * frame.length * frame.along + sign * beside * size * frame.outward
        away = points - middle
        weight = (1 - away.square().sum(1, keepdim=True) / (radius * size) ** 2).clamp_min(0) ** 2
        total = total + weight * (2.5 * amount / (radius * size) * away if swells else sign * amount * frame.outward)
    return total
