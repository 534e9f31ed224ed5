"""Tools to be judged by, which nothing here is trained on: four families of retouch with rules of their own.

    slider   sliders of a beauty app: pushes and zooms with the window of interactive image warping (Gustafsson 1993)
    cage     control points moved by a rule, everything between by inverse multiquadrics (Hardy 1971)
    bands    features stretched along or across themselves between soft edges (tanh)
    brush    a liquify brush: overlapping Lorentzian dabs along a hand-drawn path, within the face and beside it

They share no window, no unit and no anchor with what Mini learns from (operations/, mini/part_operations.py). Units are
roots of areas, perimeters and spreads of outlines. Anchors are means of mesh points, most of them outside of the 130
landmarks; brushes also start beside the face. One programme (family and seed) done to every face is the truth, as it is
for the user of a tool.
Shapes: P points, 478 mesh points. Faces are upright, eye centres about one unit apart, y down. Motion is backward.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Motion = Callable[[Tensor, Tensor], Tensor]

_OUTLINES: dict[str, tuple[int, ...]] = {
    "face": (10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176,
             149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
    "mouth": (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185),
    "eye_r": (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246),
    "eye_l": (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466),
    "nose": (168, 193, 245, 188, 174, 198, 209, 49, 48, 64, 98, 97, 2, 326, 327, 294, 278, 279, 429, 420, 399, 412,
             465, 417),
    "lower": (234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288, 361, 323, 454,
              2),
    "brow_r": (46, 53, 52, 65, 55, 107, 66, 105, 63, 70),
    "brow_l": (276, 283, 282, 295, 285, 336, 296, 334, 293, 300),
}  # fmt: skip
# Groups of mesh points whose mean is an anchor; most are not among the 130 landmarks. (right, left) or (middle,).
_SPOTS: dict[str, tuple[tuple[int, ...], ...]] = {
    "cheek": ((116, 123, 147, 187), (345, 352, 376, 411)),
    "jaw": ((58, 215, 138, 135), (288, 435, 367, 364)),
    "chin_side": ((149, 170, 140), (378, 395, 369)),
    "chin": ((199, 175, 200),),
    "temple": ((139, 71, 21), (368, 301, 251)),
    "forehead": ((151, 108, 337, 10),),
    "nostril": ((48, 115, 220), (278, 344, 440)),
    "nose_tip": ((44, 274, 19, 94),),
    "nose_root": ((122, 351, 193, 417),),
    "eye": ((33, 133, 159, 145), (263, 362, 386, 374)),
    "outer_eye": ((130, 226, 247), (359, 446, 467)),
    "under_eye": ((111, 117, 118, 119), (340, 346, 347, 348)),
    "brow_tail": ((46, 70, 124), (276, 300, 353)),
    "brow_mid": ((52, 65, 105), (282, 295, 334)),
    "mouth_corner": ((61, 57, 186, 43), (291, 287, 410, 273)),
    "upper_lip": ((11, 72, 302, 164),),
    "lower_lip": ((16, 85, 315, 18),),
    "philtrum": ((164, 165, 391, 2),),
    "nasolabial": ((206, 92, 165), (426, 322, 391)),
}
FAMILIES = ("slider", "cage", "bands", "brush")
# Of each outline on an average face, so that a unit is about one there.
_MEAN_UNIT = {"face": 1.9, "mouth": 0.5, "eye_r": 0.27, "nose": 0.6, "lower": 1.5}
_UNITS = ("face", "face", "face", "lower", "lower", "nose", "mouth", "eye_r")


@dataclass(frozen=True)
class Tool:
    """One programme: call it with a mesh (478, 2) and points (P, 2) for the motion (P, 2) of the points."""

    family: str
    motion: Motion


def held_out_tool(family: str, seed: int) -> Tool:
    g = torch.Generator().manual_seed(1_000 * FAMILIES.index(family) + seed)
    return Tool(family, {"slider": _slider, "cage": _cage, "bands": _bands, "brush": _brush}[family](g))


def area(points: Tensor) -> Tensor:
    x, y = points.unbind(-1)
    return ((x * y.roll(-1) - x.roll(-1) * y).sum() / 2).abs()


def _unit(mesh: Tensor, name: str, how: int) -> Tensor:
    """A length of the face: root of an area, a share of a perimeter, or the spread of an outline's points."""
    outline = mesh[list(_OUTLINES[name])]
    if how == 0:
        return area(outline).clamp(min=1e-6).sqrt()
    if how == 1:
        return (outline - outline.roll(1, 0)).norm(dim=1).sum() / 4
    return (outline - outline.mean(0)).square().sum(1).mean().sqrt() * 1.5


def _one(g: torch.Generator, high: int) -> int:
    return int(torch.randint(high, (), generator=g))


def _between(g: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=g))


def _draw_unit(g: torch.Generator) -> Callable[[Tensor], Tensor]:
    name, how = _UNITS[_one(g, len(_UNITS))], _one(g, 3)
    return lambda mesh: _unit(mesh, name, how) / _MEAN_UNIT[name]


def _sides(spot: str, g: torch.Generator) -> tuple[tuple[tuple[int, ...], float], ...]:
    groups = _SPOTS[spot]
    if len(groups) == 1:
        return ((groups[0], 1.0),)
    both = ((groups[0], 1.0), (groups[1], -1.0))
    return both if _one(g, 4) else (both[_one(g, 2)],)


def _up(mesh: Tensor) -> Tensor:
    """Unit vector from the chin to the forehead."""
    up = mesh[[10, 151, 9]].mean(0) - mesh[[152, 175, 199]].mean(0)
    return up / up.norm()


def _frame(mesh: Tensor, kind: int) -> tuple[Tensor, Tensor]:
    """right, down of the picture or of the face."""
    if kind == 0:
        return mesh.new_tensor([1.0, 0.0]), mesh.new_tensor([0.0, 1.0])
    down = -_up(mesh)
    return torch.stack([down[1], -down[0]]), down


def _slider(g: torch.Generator) -> Motion:
    parts = []
    for _ in range(1 + _one(g, 3)):
        spot = tuple(_SPOTS)[_one(g, len(_SPOTS))]
        size, length = _draw_unit(g), _draw_unit(g)
        radius, amount = _between(g, 0.35, 0.9), _between(g, 0.04, 0.1) * (1 if _one(g, 2) else -1)
        kind, frame, to = _one(g, 4), _one(g, 2), tuple(_SPOTS)[_one(g, len(_SPOTS))]
        angle = torch.tensor(_one(g, 8) * torch.pi / 4)
        parts.append((_sides(spot, g), size, length, radius, amount, kind, frame, to, angle))

    def motion(mesh: Tensor, points: Tensor) -> Tensor:
        total = torch.zeros_like(points)
        for sides, size, length, radius, amount, kind, frame, to, angle in parts:
            right, down = _frame(mesh, frame)
            for group, sign in sides:
                centre, r = mesh[list(group)].mean(0), radius * size(mesh)
                offset = points - centre
                r2 = offset.square().sum(1) / r.square()
                inside = (1 - r2).clamp(min=0)
                if kind < 2:  # a push, along the face or towards another spot by a share of the way
                    goal = _SPOTS[to][0 if sign > 0 or len(_SPOTS[to]) == 1 else 1]
                    push = (sign * angle.cos() * right + angle.sin() * down) * amount * length(mesh)
                    if kind == 1:
                        push = (mesh[list(goal)].mean(0) - centre) * amount * 1.5
                    m2 = push.square().sum() / r.square()
                    w = (inside / (inside + m2 * 4 + 0.15)) ** 2
                    total = total + w[:, None] * push
                else:  # a zoom, of width and height or of one of them
                    w = (inside * (2 - inside)) * inside
                    scale = offset if kind == 2 else (offset @ right)[:, None] * right
                    total = total + 2 * amount * w[:, None] * scale
        return total

    return motion


def _cage(g: torch.Generator) -> Motion:
    name = tuple(_OUTLINES)[_one(g, 6)]
    control, rule = _OUTLINES[name][:: 1 + _one(g, 2)], _one(g, 4)
    amount = _between(g, 0.06, 0.16) * (1 if _one(g, 2) else -1)
    width, length, frame = _between(g, 0.25, 0.7), _draw_unit(g), _one(g, 2)
    size = _draw_unit(g)
    half = _one(g, 3) == 0  # one half of the outline only
    angle = torch.tensor(_one(g, 8) * torch.pi / 4)
    others = [n for n in _OUTLINES if n not in (name, "lower") and (name, n) != ("lower", "face")]
    held = [i for n in others for i in _OUTLINES[n][::4] if i not in control]

    def motion(mesh: Tensor, points: Tensor) -> Tensor:
        right, down = _frame(mesh, frame)
        nodes = mesh[list(control)]
        middle = nodes.mean(0)
        offset = nodes - middle
        if rule == 0:
            moved = amount * offset
        elif rule == 1:
            moved = amount * 1.3 * (offset @ right)[:, None] * right
        elif rule == 2:
            moved = amount * 1.3 * (offset @ down)[:, None] * down
        else:
            moved = (angle.cos() * right + angle.sin() * down).expand_as(offset) * amount * 0.6 * length(mesh)
        if half:
            side = (offset @ (down if rule % 2 else right)) / offset.norm(dim=1).amax()
            moved = moved * (0.5 + 0.5 * torch.tanh(4 * side))[:, None]
        every, values = torch.cat([nodes, mesh[held]]), torch.cat([moved, torch.zeros(len(held), 2)])
        c2 = (width * size(mesh)).square() * 0.25

        def kernel(a: Tensor, b: Tensor) -> Tensor:
            return 1 / (1 + (a[:, None] - b[None]).square().sum(-1) / c2)

        solved = torch.linalg.solve(kernel(every, every) + 0.05 * torch.eye(len(every)), values)
        far = ((points - mesh.mean(0)).norm(dim=1) / _unit(mesh, "face", 0))[:, None]
        return (kernel(points, every) @ solved) * (0.5 - 0.5 * torch.tanh(6 * (far - 1.1)))

    return motion


def _bands(g: torch.Generator) -> Motion:
    name = tuple(_OUTLINES)[_one(g, len(_OUTLINES))]
    paired = name[:-2] if name[-2:] in ("_r", "_l") and _one(g, 3) else None
    frame, across, amount = _one(g, 2), _one(g, 3), _between(g, 0.1, 0.3) * (1 if _one(g, 2) else -1)
    edge, grow, shift = _between(g, 0.25, 0.6), _between(g, 0.8, 1.5), _one(g, 3) == 0
    length = _draw_unit(g)

    def one(mesh: Tensor, points: Tensor, outline: tuple[int, ...], sign: float) -> Tensor:
        right, down = _frame(mesh, frame)
        nodes = mesh[list(outline)]
        spread = (nodes - nodes.mean(0)) @ torch.stack([right, down], 1)
        half = spread.square().mean(0).sqrt() * 1.5 * grow
        local = (points - nodes.mean(0)) @ torch.stack([right, down], 1)
        soft = edge * half.mean()
        low, high = torch.tanh((half + local) / soft), torch.tanh((half - local) / soft)
        w = ((1 + low) * (1 + high) / 4).prod(1, keepdim=True)
        if shift:
            way = (sign * right, down, sign * 0.7 * right + 0.7 * down)[across]
            return w * way * amount * 0.25 * length(mesh)
        keep = ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0))[across]
        return w * amount * (local[:, :1] * keep[0] * right + local[:, 1:] * keep[1] * down)

    def motion(mesh: Tensor, points: Tensor) -> Tensor:
        if paired is None:
            return one(mesh, points, _OUTLINES[name], 1.0)
        return one(mesh, points, _OUTLINES[f"{paired}_r"], 1.0) + one(mesh, points, _OUTLINES[f"{paired}_l"], -1.0)

    return motion


@dataclass(frozen=True)
class _Stroke:
    spots: tuple[str, str]  # from, towards
    sides: tuple[int, int]  # which group of each spot
    beyond: float  # where it starts, as a share of the way from the middle of the face to its first spot
    share: float  # of the way to the second spot that it takes
    radius: float
    unit: int
    wobble: Tensor  # (D, 2) of the hand, for each dab
    push: float
    turn: float  # radians between the path and the push
    both: bool  # repeated on the other side of the face


def _brush(g: torch.Generator) -> Motion:
    strokes = [_draw_stroke(g) for _ in range(1 + _one(g, 3))]

    def motion(mesh: Tensor, points: Tensor) -> Tensor:
        total = torch.zeros_like(points)
        for stroke in strokes:
            for swap in (False, True) if stroke.both else (False,):
                total = total + _stroked(stroke, mesh, points, swap)
        return total * (total.norm(dim=1, keepdim=True) > 0.002)

    return motion


def _draw_stroke(g: torch.Generator) -> _Stroke:
    names = tuple(_SPOTS)
    start, goal = names[_one(g, len(names))], names[_one(g, len(names))]
    sides = [_one(g, len(_SPOTS[start])), _one(g, len(_SPOTS[goal]))]
    if len(_SPOTS[start]) == len(_SPOTS[goal]):
        sides[1] = sides[0]
    outer = start in ("cheek", "jaw", "chin", "chin_side", "temple", "forehead")
    return _Stroke(
        spots=(start, goal),
        sides=(sides[0], sides[1]),
        beyond=_between(g, 0.9, 1.45) if outer else 1.0,
        share=_between(g, 0.2, 0.6),
        radius=_between(g, 0.15, 0.45),
        unit=_one(g, 3),
        wobble=torch.randn(6, 2, generator=g) * 0.04,
        push=_between(g, 0.04, 0.1),
        turn=_between(g, -0.6, 0.6) + (torch.pi / 2) * _one(g, 4) * _one(g, 2),
        both=bool(_one(g, 2)) and len(_SPOTS[start]) == 2,
    )


def _stroked(stroke: _Stroke, mesh: Tensor, points: Tensor, swap: bool) -> Tensor:
    """swap: on the other side of the face."""
    ends = []
    for spot, side in zip(stroke.spots, stroke.sides, strict=True):
        groups = _SPOTS[spot]
        ends.append(mesh[list(groups[1 - side if swap and len(groups) == 2 else side])].mean(0))
    middle, flip = mesh.mean(0), -1.0 if swap else 1.0
    start = middle + stroke.beyond * (ends[0] - middle)
    stop = start + stroke.share * (ends[1] - start)
    unit = _unit(mesh, "face", stroke.unit) / _MEAN_UNIT["face"]
    cos, sin = torch.cos(torch.tensor(stroke.turn)), torch.sin(torch.tensor(stroke.turn)) * flip
    way = stop - start
    way = torch.stack([way[0] * cos - way[1] * sin, way[0] * sin + way[1] * cos])
    way = way / way.norm().clamp(min=1e-6) * stroke.push * unit
    moved = points
    for dab, off in enumerate(stroke.wobble):
        along = dab / (len(stroke.wobble) - 1)
        centre = start + (stop - start) * along + off * unit * torch.tensor([flip, 1.0])
        r2 = (moved - centre).square().sum(1) / (stroke.radius * unit).square()
        moved = moved + (way / 2) * ((1 + r2) ** -3)[:, None]  # dabs lie on what earlier dabs moved
    return moved - points
