"""The squares of crops.py drawn thousands a second: a whole batch at once, on the device where the network learns.

What is drawn is the same (kinds of squares, cuts, turns, bends, faces that are not known, what is laid over, beside
and behind a person, colours, and how labels follow), but not the same numbers: one generator serves a batch, so a batch
is a function of (seed, step, part) and of the kind of device. On a CPU this is the slower way by far.

Pictures lie in one tensor, at the upper left of a square each. Frames and units are those of crops.py. Shapes: N
pictures, B rows of a batch, J joints, S pixels a side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from mirrorppr_core.bodies.pose_network import FACE_SPREAD, MIRROR_JOINTS

from ..data.order import seed_of
from .crops import BEND, BEND_NODES, FAR_OUTSIDE, JUST_OUTSIDE, TIGHT, PoseBatch
from .data import PosePhoto
from .device_looks import dressed
from .device_pictures import Draw, Labels, People, Pictures
from .settings import PoseSettings, chances_of


@dataclass(frozen=True)
class DeviceSource:
    """Augmented squares for training, made on `device`; the same protocol as stage.PoseSource."""

    photos: tuple[PosePhoto, ...]
    seed: int
    settings: PoseSettings
    device: torch.device

    @cached_property
    def pictures(self) -> Pictures:
        return Pictures.of(self.photos, self.device)

    @cached_property
    def chances(self) -> Tensor:
        """(N,) how often each picture is drawn."""
        return torch.tensor(chances_of(self.photos, self.settings.real_share), device=self.device)

    def batch(self, step: int, size: int, part: int, parts: int) -> PoseBatch:
        count = (part + 1) * size // parts - part * size // parts
        draw = Draw.seeded(seed_of("squares", self.seed, step, part), count, self.device)
        chosen = torch.multinomial(self.chances, count, replacement=True, generator=draw.generator)
        return drawn_squares(self.pictures, chosen, draw, self.settings)


@torch.no_grad()
def drawn_squares(pictures: Pictures, chosen: Tensor, draw: Draw, settings: PoseSettings) -> PoseBatch:
    """One augmented square for each chosen picture.  chosen: (B,)."""
    people = pictures.people(chosen)
    people = people.cut(draw)
    frame = _frames(people, settings.hard, draw)
    bend = _bends(settings.hard, draw)
    size = settings.side_px
    u = (torch.arange(size, device=draw.device) + 0.5) * 2 / size - 1
    x, y = frame.positions(u, bend)
    pixels = torch.empty(len(chosen), 5, size, size, device=draw.device)
    inside = (
        (x > people.low[:, 0, None, None]) & (x < people.high[:, 0, None, None])
        & (y > people.low[:, 1, None, None]) & (y < people.high[:, 1, None, None])
    )  # fmt: skip
    pixels[:, 3] = inside
    pixels[:, 4] = _spots(people, x, y, draw)
    colour = torch.empty_like(pixels[:, :3])
    for coarse in (False, True):  # from a reduced copy where the square is twice as coarse, as in crops.py
        rows = ((frame.half * 2 / size >= 2) == coarse).nonzero()[:, 0]
        if len(rows):
            colour[rows] = pictures.colours(chosen[rows], x[rows], y[rows], coarse=coarse)
    labels = _labels(people, frame, bend)
    colour, covered = dressed(colour, labels, pictures, draw, hard=settings.hard, moved=settings.moved)
    pixels[:, :3] = torch.lerp(torch.full_like(colour, 0.5), colour, pixels[:, 3:4])
    told, weight = labels.told * (1 - covered), labels.weight * (1 - 0.5 * covered)
    return PoseBatch(pixels, labels.places, weight, told, labels.sure, labels.torso)


@dataclass(frozen=True)
class Frames:
    """Where squares lie: pixels = matrix @ place + centre.  matrix: (B, 2, 2).  half: (B,).  mirrored: (B,) bool."""

    matrix: Tensor
    centre: Tensor
    half: Tensor
    mirrored: Tensor

    def positions(self, u: Tensor, bend: Tensor) -> tuple[Tensor, Tensor]:
        """x and y pixels of the frame's places, (B, n, n) each.  u: (n,) of a row.  bend: (B, 2, nodes, nodes)."""
        moved = F.interpolate(bend, (len(u), len(u)), mode="bicubic", align_corners=False)
        fx, fy = u[None, None] + moved[:, 0], u[None, :, None] + moved[:, 1]
        m, c = self.matrix[..., None, None], self.centre[..., None, None]
        return m[:, 0, 0] * fx + m[:, 0, 1] * fy + c[:, 0], m[:, 1, 0] * fx + m[:, 1, 1] * fy + c[:, 1]


def _frames(people: People, hard: float, draw: Draw) -> Frames:
    """Tight around what is seen, the whole picture, or a part of the body: crops._drawn_square."""
    low, high = people.box
    middle, box = (low + high) / 2, (high - low).amax(1)
    kind = draw.uniform()
    whole_side = torch.minimum(1.05 * (people.high - people.low).amax(1), 3.5 * box)
    room = (whole_side / 2 - 0.5 * box).clamp_min(0)[:, None]  # the person stays inside
    whole_centre = torch.minimum(torch.maximum((people.low + people.high) / 2, middle - room), middle + room)
    has_face = people.face.isfinite().all(-1)
    part_side = box * draw.uniform(0.45, 0.95)
    part_side = torch.where(has_face, torch.maximum(part_side, 2.2 * people.face[:, 2].nan_to_num()), part_side)
    shown = people.shown.float()
    some = shown.sum(1) > 0
    joint = torch.multinomial(torch.where(some[:, None], shown, 1.0), 1, generator=draw.generator)[:, 0]
    at = torch.where(some[:, None], people.joints[draw.rows, joint], middle)
    first = low + 0.3 * part_side[:, None]
    part_centre = torch.minimum(torch.maximum(at, first), torch.maximum(high - 0.3 * part_side[:, None], first))
    tight, whole = kind < 0.73 - 0.28 * hard, kind < 1 - 0.28 * hard
    side = torch.where(tight, TIGHT * box, torch.where(whole, whole_side, part_side))
    centre = torch.where(tight[:, None], middle, torch.where(whole[:, None], whole_centre, part_centre))
    jitter = torch.where(tight, 0.13, torch.where(whole, 0.1, 0.05))
    side = side * (draw.normal() * jitter).exp()
    centre = centre + 0.05 * draw.normal(2) * side[:, None]
    chance = draw.uniform()
    widest = torch.where(chance < 0.23 * hard, 35.0, 110.0)
    degrees = torch.where(chance >= 0.35 * hard, 10 * draw.normal(), widest * draw.uniform(-1, 1))
    turn, mirrored = degrees * (math.pi / 180), draw.happens(0.5)
    c, s = turn.cos() * side / 2, turn.sin() * side / 2
    sign = torch.where(mirrored, -1.0, 1.0)
    matrix = torch.stack([torch.stack([sign * c, -s], -1), torch.stack([sign * s, c], -1)], dim=1)
    return Frames(matrix, centre, side / 2, mirrored)


def _bends(hard: float, draw: Draw) -> Tensor:
    nodes = BEND * torch.randn(draw.count, 2, BEND_NODES, BEND_NODES, device=draw.device, generator=draw.generator)
    return nodes * draw.happens(0.6 * hard)[:, None, None, None]


def _spots(people: People, x: Tensor, y: Tensor, draw: Draw) -> Tensor:
    """(B, S, S): soft spots on faces about where they are, or nothing, see crops.face_spot."""
    centre, size = people.face[:, :2], people.face[:, 2]
    inside = ((centre > people.low) & (centre < people.high)).all(-1)
    known = people.face.isfinite().all(-1) & inside & ~draw.happens(0.22)
    centre = centre + 0.08 * draw.normal(2) * size[:, None]
    size = size * (0.12 * draw.normal()).exp()
    away = (x - centre[:, 0, None, None]).square() + (y - centre[:, 1, None, None]).square()
    spot = (-away / (2 * (FACE_SPREAD * size[:, None, None]) ** 2)).exp()
    return torch.where(known[:, None, None], spot, 0.0)


def _labels(people: People, frame: Frames, bend: Tensor) -> Labels:
    wanted = torch.linalg.solve(frame.matrix[:, None], (people.joints - frame.centre[:, None])[..., None])[..., 0]
    places = wanted
    for _ in range(5):  # where the bend shows each joint
        moved = F.grid_sample(bend, places[:, :, None], mode="bicubic", padding_mode="border", align_corners=False)
        places = wanted - moved[..., 0].transpose(1, 2)
    beyond = torch.maximum(people.low[:, None] - people.joints, people.joints - people.high[:, None]).amax(-1)
    low, high = people.box
    beyond = beyond / (high - low).amax(1)[:, None]
    near = (places.abs() < 0.98).all(-1)
    told = people.told * (near & (beyond < JUST_OUTSIDE))
    sure = (~people.unsure | ~near | (beyond >= JUST_OUTSIDE)).float()
    weight = people.weight * (near & (beyond < FAR_OUTSIDE))
    order = torch.where(
        frame.mirrored[:, None],
        torch.tensor(MIRROR_JOINTS, device=places.device)[None],
        torch.arange(len(MIRROR_JOINTS), device=places.device)[None],
    )  # (B, J)
    places = places.gather(1, order[..., None].expand(-1, -1, 2))
    weight, told, sure = (values.gather(1, order) for values in (weight, told, sure))
    return Labels(places, weight, told, sure, people.torso / frame.half)
