"""What squares drawn on a device look like: surroundings.py and the colours of crops.py for a whole batch at once.

Beside what is done there, colours are multiplied by a smooth field now and then: clothes and skin differ from place to
place in more ways than the few avatars' and the few real people's do.

Shapes: B rows of a batch, J joints, S pixels a side; places are in the square's frame, [-1, 1] from edge to edge.
"""

from __future__ import annotations

from itertools import permutations

import torch
import torch.nn.functional as F
from torch import Tensor

from .device_pictures import Draw, Labels, Pictures
from .surroundings import AT, CAPSULES, EDGE, HAND_FOOT, TRUNK

_ORDERS = tuple(permutations(range(3)))
_GAP = 0.12  # of half the square between a person and who stands beside them
_FIELD_NODES, _FIELD = 4, 0.18  # nodes a side; standard deviation of the log of the smooth field


def dressed(
    colour: Tensor, labels: Labels, pictures: Pictures, draw: Draw, *, hard: float, moved: float
) -> tuple[Tensor, Tensor]:
    """colour: (B, 3, S, S).  Returns it changed, and (B, J), 1 where something lies over a joint."""
    rows = draw.happens(moved).nonzero()[:, 0]
    if len(rows):
        part = draw.of(len(rows))
        mask = _person(labels.of(rows), colour.shape[-1], part)[:, None]
        colour[rows] = torch.lerp(_scenery(pictures, colour.shape[-1], part), colour[rows], mask)
    rows = draw.happens(moved).nonzero()[:, 0]
    if len(rows):
        colour[rows] = _in_anothers_light(colour[rows], pictures, draw.of(len(rows)))
    rows = draw.happens(0.12 * hard).nonzero()[:, 0]
    if len(rows):
        colour[rows] = _lay_beside(colour[rows], labels.of(rows), pictures, draw.of(len(rows)))
    covered = torch.zeros_like(colour[:, 0], dtype=torch.bool)
    first = draw.happens(0.35 * hard)
    for asked in (first, first & draw.happens(0.4)):
        rows = asked.nonzero()[:, 0]
        if len(rows):
            colour[rows], there = _lay_over(colour[rows], pictures, draw.of(len(rows)))
            covered[rows] |= there
    size = colour.shape[-1]
    x, y = ((labels.places + 1) * (size / 2)).long().clamp(0, size - 1).unbind(-1)
    return _recoloured(colour, hard, draw), covered[draw.rows[:, None], y, x].float()


def _person(labels: Labels, size: int, draw: Draw) -> Tensor:
    """(B, S, S): 1 on the person, 0 beyond a generous outline; 1 everywhere where the trunk is not known."""
    u = (torch.arange(size, device=draw.device) + 0.5) * 2 / size - 1
    known, places = labels.weight > 0, labels.places
    width, edge = draw.uniform(-0.1, 0.6).exp()[:, None, None], draw.uniform(*EDGE)[:, None, None]
    torso = labels.torso[:, None, None]
    distance = torch.full((draw.count, size, size), torch.inf, device=draw.device)
    ends = [(AT[name], AT[name], HAND_FOOT) for name in ("wrist_r", "wrist_l", "ankle_r", "ankle_l")]
    for a, b, radius in [(AT[first], AT[second], radius) for first, second, radius in CAPSULES] + ends:
        away = _from_bones(u, places[:, a], places[:, b]) / torso - width * radius
        distance = torch.where((known[:, a] & known[:, b])[:, None, None], torch.minimum(distance, away), distance)
    told = known[:, list(TRUNK)].all(1) & (labels.torso >= 0.1)
    return torch.where(told[:, None, None], (0.5 - distance / edge).clamp(0, 1), 1.0)


def _from_bones(u: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """(B, S, S) distance of each place of the frame from the lines between two joints, (B, 2) each."""
    bone = (end - start)[..., None, None]
    x, y = u[None, None] - start[:, 0, None, None], u[None, :, None] - start[:, 1, None, None]
    along = ((x * bone[:, 0] + y * bone[:, 1]) / bone.square().sum(1).clamp_min(1e-6)).clamp(0, 1)
    return torch.hypot(x - along * bone[:, 0], y - along * bone[:, 1])


def _part(pictures: Pictures, chosen: Tensor, low: Tensor, high: Tensor, size: int) -> Tensor:
    """(B, 3, S, S): the rectangles of these pictures from low to high, (B, 2) pixels each, stretched to the square."""
    u = (torch.arange(size, device=low.device) + 0.5) / size
    x = torch.lerp(low[:, 0, None], high[:, 0, None], u[None])[:, None].expand(-1, size, -1)
    y = torch.lerp(low[:, 1, None], high[:, 1, None], u[None])[:, :, None].expand(-1, -1, size)
    return pictures.colours(chosen, x, y, coarse=True)


def _scenery(pictures: Pictures, size: int, draw: Draw) -> Tensor:
    """(B, 3, S, S): what is beside somebody else, or a small part of a picture enlarged, or colours that fade."""
    other, kind = draw.below(len(pictures.size)), draw.uniform()
    whole, strip = pictures.size[other], pictures.beside[other]
    side = (whole.amin(1) * draw.uniform(0.12, 0.4)).clamp_min(8)[:, None]
    low = draw.uniform(0, 1, 2) * (whole - side)
    high = low + side
    beside = ((kind < 0.5) & strip.isfinite().all(1))[:, None]
    low = torch.where(beside, torch.stack([strip[:, 0], torch.zeros_like(strip[:, 0])], 1), low)
    high = torch.where(beside, torch.stack([strip[:, 1], whole[:, 1]], 1), high)
    corners = draw.uniform(0, 1, 3, 2, 2)
    corners = torch.lerp(corners.mean((2, 3), keepdim=True), corners, draw.uniform(0, 0.6)[:, None, None, None])
    faded = F.interpolate(corners, (size, size), mode="bilinear", align_corners=True)
    return torch.where((kind < 0.75)[:, None, None, None], _part(pictures, other, low, high, size), faded)


def _in_anothers_light(colour: Tensor, pictures: Pictures, draw: Draw) -> Tensor:
    other = draw.below(len(pictures.size))
    mean, spread = colour.mean((2, 3), keepdim=True), colour.std((2, 3), keepdim=True).clamp_min(0.02)
    gain = (pictures.spread[other][..., None, None] / spread).clamp(0.5, 2)
    moved = (colour - mean) * gain + pictures.mean[other][..., None, None]
    return torch.lerp(colour, moved, draw.uniform(0.2, 1)[:, None, None, None]).clamp(0, 1)


def _laid(
    colour: Tensor, patch: Tensor, low: Tensor, high: Tensor, shape: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """`patch` (B, 3, S, S) shrunk into the rectangles low to high, (B, 2) pixels, of the squares; and where it lies.

    shape: (B,) bool, an ellipse instead of the rectangle.
    """
    size = colour.shape[-1]
    at = torch.arange(size, device=colour.device) + 0.5
    u = (at[None] - low[:, :1]) * 2 / (high - low)[:, :1].clamp_min(1) - 1  # (B, S)
    v = (at[None] - low[:, 1:]) * 2 / (high - low)[:, 1:].clamp_min(1) - 1
    grid = torch.stack([u[:, None].expand(-1, size, -1), v[:, :, None].expand(-1, -1, size)], dim=-1)
    there = (grid.abs() < 1).all(-1)
    if shape is not None:
        there &= (grid.square().sum(-1) < 1) | ~shape[:, None, None]
    laid = F.grid_sample(patch, grid, padding_mode="border", align_corners=False)
    return torch.where(there[:, None], laid, colour), there


def _lay_beside(colour: Tensor, labels: Labels, pictures: Pictures, draw: Draw) -> Tensor:
    """Somebody else in the gap between the person and one side of the square."""
    size = colour.shape[-1]
    known, x = labels.weight > 0, labels.places[..., 0]
    first = (torch.where(known, x, torch.inf).amin(1) - _GAP + 1) * size / 2
    last = (torch.where(known, x, -torch.inf).amax(1) + _GAP + 1) * size / 2
    on_left = draw.happens(0.5)
    left = torch.where(on_left, 0.0, last.nan_to_num(size, size, size).clamp(0, size))
    right = torch.where(on_left, first.nan_to_num(0, 0, 0).clamp(0, size), float(size))
    top = size * (1 - draw.uniform(0.6, 1))
    other = draw.below(len(pictures.size))
    whole = pictures.size[other]
    width = torch.minimum((whole[:, 1] * (right - left) / (size - top)).clamp_min(8), whole[:, 0])
    start = draw.uniform() * (whole[:, 0] - width)
    low, high = torch.stack([start, torch.zeros_like(start)], 1), torch.stack([start + width, whole[:, 1]], 1)
    patch = _part(pictures, other, low, high, size)
    laid, _ = _laid(colour, patch, torch.stack([left, top], 1), torch.stack([right, torch.full_like(right, size)], 1))
    room = (right - left >= size // 7) & known.any(1)
    return torch.where(room[:, None, None, None], laid, colour)


def _lay_over(colour: Tensor, pictures: Pictures, draw: Draw) -> tuple[Tensor, Tensor]:
    """A part of another picture, one colour or coarse noise over some place, as a rectangle or an ellipse."""
    size = colour.shape[-1]
    extent = size * draw.uniform(0.07, 0.32, 2)
    low = draw.uniform(0, 1, 2) * (size - extent)
    other, kind = draw.below(len(pictures.size)), draw.uniform()[:, None, None, None]
    whole = pictures.size[other]
    part = (whole * draw.uniform(0.2, 0.8, 2)).clamp_min(8)
    start = draw.uniform(0, 1, 2) * (whole - part)
    patch = _part(pictures, other, start, start + part, size)
    noise = F.interpolate(draw.uniform(0, 1, 3, 5, 5), (size, size), mode="bilinear", align_corners=False)
    patch = torch.where(kind < 0.55, patch, torch.where(kind < 0.85, draw.uniform(0, 1, 3, 1, 1), noise))
    return _laid(colour, patch, low, low + extent, draw.happens(0.6))


def _recoloured(colour: Tensor, hard: float, draw: Draw) -> Tensor:
    """Tint, brightness, contrast, grey, other colours, sharpness and noise, see crops.recoloured."""
    size = colour.shape[-1]
    eye = torch.eye(3, device=colour.device)
    chance, amount = draw.uniform()[:, None, None], draw.uniform(0.4, 1.5)[:, None, None]
    orders = torch.stack([eye[list(order)] for order in _ORDERS])[draw.below(len(_ORDERS))]
    mixed = torch.where(chance < 0.65, amount * eye + (1 - amount) / 3, eye)
    mixed = torch.where(chance < 0.18 + 0.12 * hard, orders, mixed)
    mixed = torch.where(chance < 0.18, torch.full_like(mixed, 1 / 3), mixed)
    gain = draw.uniform(0.6, 1.3)[:, None, None]
    matrix = gain * draw.uniform(0.82, 1.2, 3, 1) * mixed
    offset = draw.uniform(-0.12, 0.12)[:, None, None] + 0.5 - 0.5 * gain
    out = (matrix @ colour.flatten(2) + offset).view_as(colour)
    field = _FIELD * draw.happens(0.3)[:, None, None, None] * draw.normal(3, _FIELD_NODES, _FIELD_NODES)
    out = out * F.interpolate(field, (size, size), mode="bicubic", align_corners=False).exp()
    power = torch.where(draw.happens(0.5), draw.uniform(-0.4, 0.4).exp(), 1.0)[:, None, None, None]
    out = out.clamp(0.001, 1) ** power
    small = max(size // 4, int(size * float(torch.rand((), generator=draw.generator, device=draw.device) * 0.5 + 0.3)))
    coarse = F.interpolate(out, (small, small), mode="bilinear", antialias=True)
    coarse = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=False)
    out = torch.where(draw.happens(0.25)[:, None, None, None], coarse, out)
    noise = torch.where(draw.happens(0.4), draw.uniform(0, 0.06), 0.0)[:, None, None, None]
    out = out + noise * draw.normal(3, size, size)
    u = torch.linspace(-1, 1, size, device=colour.device)
    slope = draw.uniform(-0.35, 0.35, 2) * draw.happens(0.2)[:, None]
    ramp = slope[:, 0, None, None] * u[None, None] + slope[:, 1, None, None] * u[None, :, None]  # one side lit
    return (out * (1 + ramp[:, None])).clamp(0, 1)
