"""Pictures of people and their labels in tensors on one device, and the random numbers of a batch.

All pictures lie in one tensor, each at the upper left of a square and reduced where it is larger. Points are x, y
pixels, the centre of the first pixel is (0, 0). Shapes: N pictures, B rows of a batch, J joints, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .crops import CUTS, FACE_JOINTS
from .data import PosePhoto
from .surroundings import strip_beside

_SPARSE = 4  # pixels between those that tell a picture's mean colours


@dataclass(frozen=True)
class Draw:
    """Random numbers for the rows of one batch, all (B,) unless said otherwise."""

    generator: torch.Generator
    count: int
    device: torch.device

    @classmethod
    def seeded(cls, seed: int, count: int, device: torch.device) -> Draw:
        return cls(torch.Generator(device).manual_seed(seed), count, device)

    def of(self, count: int) -> Draw:
        """For so many rows; numbers go on where they are."""
        return replace(self, count=count)

    @property
    def rows(self) -> Tensor:
        return torch.arange(self.count, device=self.device)

    def uniform(self, low: float = 0.0, high: float = 1.0, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(self.count, *shape, device=self.device, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape, device=self.device, generator=self.generator)

    def happens(self, chance: float) -> Tensor:
        return self.uniform() < chance

    def below(self, num: int) -> Tensor:
        return torch.randint(num, (self.count,), device=self.device, generator=self.generator)


@dataclass(frozen=True)
class People:
    """The chosen pictures' labels.  joints: (B, J, 2) pixels.  weight, told, unsure: (B, J).  face: (B, 3), NaN where
    none is known.  low, high: (B, 2) corners of what is left of the picture.  torso: (B,)."""

    joints: Tensor
    weight: Tensor
    told: Tensor
    unsure: Tensor
    face: Tensor
    low: Tensor
    high: Tensor
    torso: Tensor

    @property
    def shown(self) -> Tensor:
        """(B, J) joints with a place inside the picture."""
        inside = (self.joints > self.low[:, None]) & (self.joints < self.high[:, None])
        return inside.all(-1) & (self.weight > 0)

    @property
    def box(self) -> tuple[Tensor, Tensor]:
        """(B, 2) corners around the joints and the face that are inside, see crops.shown_box."""
        has_face = self.face.isfinite().all(-1, keepdim=True)
        half = torch.where(has_face, self.face[:, 2:] / 2, 0.0)
        centre = torch.where(has_face, self.face[:, :2], 0.0)
        there = self.shown[..., None]
        low = torch.where(there, self.joints, torch.inf).amin(1)
        high = torch.where(there, self.joints, -torch.inf).amax(1)
        low = torch.where(has_face, torch.minimum(low, centre - half), low)
        high = torch.where(has_face, torch.maximum(high, centre + half), high)
        few = (self.shown.sum(1, keepdim=True) + 2 * has_face) < 2
        low = torch.where(few, self.low, torch.maximum(low, self.low))
        high = torch.where(few, self.high, torch.minimum(high, self.high))
        middle = (low + high) / 2
        side = torch.maximum(high - low, 0.1 * (self.high - self.low).amax(1, keepdim=True))
        return middle - side / 2, middle + side / 2

    def cut(self, draw: Draw) -> People:
        """Some pictures cut off at a joint below the face, see crops._cut."""
        low, high = self.box
        box = (high - low).amax(1)
        body = self.shown.float()
        body[:, :FACE_JOINTS] = 0
        some = body.sum(1) > 0
        picks = torch.where(some[:, None], body, 1.0)
        corners = torch.stack([self.low, self.high], dim=1)  # (B, 2, 2)
        for chance, axis, corner in CUTS:
            joint = torch.multinomial(picks, 1, generator=draw.generator)[:, 0]
            at = self.joints[draw.rows, joint, axis] + draw.normal() * 0.06 * box
            new = corners.clone()
            new[:, corner, axis] = at.clamp(self.low[:, axis], self.high[:, axis])
            inside = ((self.joints > new[:, :1]) & (self.joints < new[:, 1:])).all(-1) & (self.weight > 0)
            left = (inside.sum(1) >= 4) & ((new[:, 1] - new[:, 0]).amin(1) > 0.25 * box)
            corners = torch.where((draw.happens(chance) & some & left)[:, None, None], new, corners)
        return replace(self, low=corners[:, 0], high=corners[:, 1])


@dataclass(frozen=True)
class Labels:
    """places: (B, J, 2) of the frame.  weight, told, sure: (B, J).  torso: (B,) in the frame."""

    places: Tensor
    weight: Tensor
    told: Tensor
    sure: Tensor
    torso: Tensor

    def of(self, rows: Tensor) -> Labels:
        return Labels(**{name: getattr(self, name)[rows] for name in Labels.__dataclass_fields__})


@dataclass(frozen=True)
class Pictures:
    """pixels: (N, 3, P, P) and half: (N, 3, P / 2, P / 2) uint8.  size: (N, 2) width and height of the picture in it.
    mean, spread: (N, 3) of its colours in [0, 1].  beside: (N, 2) first and last column beside the person, NaN where
    there is no room.  labels: of all pictures."""

    pixels: Tensor
    half: Tensor
    size: Tensor
    mean: Tensor
    spread: Tensor
    beside: Tensor
    labels: People

    @classmethod
    def of(cls, photos: Sequence[PosePhoto], device: torch.device) -> Pictures:
        side = max(max(photo.pixels.shape[-2:]) for photo in photos)
        side += side % 2
        pixels = torch.zeros(len(photos), 3, side, side, dtype=torch.uint8)
        mean, spread, beside = torch.empty(len(photos), 3), torch.empty(len(photos), 3), torch.empty(len(photos), 2)
        for row, photo in enumerate(photos):
            height, width = photo.pixels.shape[-2:]
            pixels[row, :, :height, :width] = photo.pixels
            pixels[row, :, :height, width : width + 1] = photo.pixels[:, :, -1:]  # for the last pixel of an odd size
            pixels[row, :, height : height + 1] = pixels[row, :, height - 1 : height]
            flat = photo.pixels[:, ::_SPARSE, ::_SPARSE].flatten(1).float() / 255
            mean[row], spread[row] = flat.mean(1), flat.std(1)
            beside[row] = torch.tensor(strip_beside(photo) or (torch.nan, torch.nan))
        pixels = pixels.to(device)
        half = torch.cat([F.avg_pool2d(part.half(), 2).round().byte() for part in pixels.split(256)])

        def stacked(name: str) -> Tensor:
            return torch.stack([torch.as_tensor(getattr(photo, name)) for photo in photos]).to(device)

        size = torch.tensor([photo.pixels.shape[:0:-1] for photo in photos], device=device, dtype=torch.float32)
        labels = People(
            joints=stacked("joints").float(),
            weight=stacked("weight"),
            told=stacked("told"),
            unsure=stacked("unsure"),
            face=stacked("face").float(),
            low=torch.full_like(size, -0.5),
            high=size - 0.5,
            torso=torch.tensor([photo.torso for photo in photos], device=device),
        )
        return cls(pixels, half, size, mean.to(device), spread.to(device), beside.to(device), labels)

    def people(self, chosen: Tensor) -> People:
        return People(**{name: getattr(self.labels, name)[chosen] for name in People.__dataclass_fields__})

    def colours(self, chosen: Tensor, x: Tensor, y: Tensor, *, coarse: bool = False) -> Tensor:
        """(B, 3, n, n) at these pixels of the chosen pictures; beyond their borders the border's.  x, y: (B, n, n).

        coarse: from the copies of half the size.
        """
        source, reduced = (self.half, 2) if coarse else (self.pixels, 1)
        last = (self.size[chosen] - 1)[..., None, None]
        x, y = torch.minimum(x.clamp_min(0), last[:, 0]), torch.minimum(y.clamp_min(0), last[:, 1])
        side = source.shape[-1] * reduced
        grid = torch.stack([(x + 0.5) * 2 / side - 1, (y + 0.5) * 2 / side - 1], dim=-1)
        picked = source[chosen].to(torch.float16 if source.is_cuda else torch.float32) / 255
        return F.grid_sample(picked, grid.to(picked.dtype), padding_mode="border", align_corners=False).float()
