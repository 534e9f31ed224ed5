"""Pictures for the locator: aligned crops for the landmark networks, pasted canvases for the finder.

Everything is drawn anew for every batch from a generator: where the crop lies, how the face is bent (a smooth random
warp, so that unusual proportions and retouched faces are seen), what covers it, and how the pixels are degraded.
Targets follow the geometry exactly. Sources are drawn with weight 1 / sqrt(their number of pictures), so that
officials and generated people, who are most of the set, do not dominate.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor

from mirrorppr_core.faces.landmarks import EYE_L, EYE_R, FACE_POINTS, MIRROR_130
from mirrorppr_core.faces.locator import face_box
from mirrorppr_core.geometry.crop import crop, widened
from mirrorppr_core.geometry.similarity import Similarity, fit_similarity
from mirrorppr_core.images import LUMA

from ..data.labelled import LabelledPortrait, source_weights

CACHE_PX = 224  # side of the stored crops
CACHE_SIDE = 1.9  # of the face's box: room for every jitter
CROP_PX, FINDER_PX = 128, 256
NUM_NODES = 33  # a side, of the grid on which crops are bent


def mean_mesh(meshes: Tensor, mirror: Tensor, *, num_rounds: int = 4) -> Tensor:
    """Median Procrustes mean of (N, 478, 2) meshes, made symmetric: eyes at (-0.5, 0) and (0.5, 0)."""
    points = list(FACE_POINTS)
    mean = _eyes_to_unit(meshes[0])
    for _ in range(num_rounds):
        aligned = fit_similarity(meshes[:, points], mean[points]).apply(meshes)
        mean = aligned.median(dim=0).values
        mean = (mean + mean[mirror] * torch.tensor([-1.0, 1.0])) / 2
        mean = _eyes_to_unit(mean)
    return mean


def _eyes_to_unit(mesh: Tensor) -> Tensor:
    points = mesh[list(FACE_POINTS)]
    eyes = torch.stack([points[list(EYE_R)].mean(dim=0), points[list(EYE_L)].mean(dim=0)])
    return fit_similarity(eyes, torch.tensor([[-0.5, 0.0], [0.5, 0.0]])).apply(mesh)


@dataclass(frozen=True)
class FaceCrops:
    """Every training face at P = CACHE_PX.  pixels: (N, 3, P, P) uint8.  points: (N, 130, 2) crop pixels."""

    pixels: Tensor
    points: Tensor
    weights: Tensor


def cut_faces(portraits: Sequence[LabelledPortrait], mean_face: Tensor) -> FaceCrops:
    pixels, points = [], []
    for portrait in portraits:
        frame = widened(face_box(portrait.points, mean_face), CACHE_SIDE)
        view = crop(portrait.picture(), frame, CACHE_PX)
        pixels.append((view[0] * 255).round().byte())
        points.append((frame.inverse(portrait.points) + 1) * CACHE_PX / 2 - 0.5)
    return FaceCrops(torch.stack(pixels), torch.stack(points), source_weights(portraits))


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """How far a crop strays from the ideal one: uniform ranges for stage 1, normal deviations for stage 2."""

    side: float  # crop side / face box
    centre: float  # of the face box, per axis
    log_scale: float
    rotation_deg: float
    normal: bool

    def draw(self, count: int, generator: Generator) -> Tensor:
        shape = (count, 4)
        unit = (
            torch.randn(shape, generator=generator) if self.normal else torch.rand(shape, generator=generator) * 2 - 1
        )
        return unit * torch.tensor([self.centre, self.centre, self.log_scale, math.radians(self.rotation_deg)])


STAGE_1 = Jitter(side=1.4, centre=0.10, log_scale=0.223, rotation_deg=30, normal=False)
STAGE_2 = Jitter(side=1.2, centre=0.014, log_scale=0.03, rotation_deg=2.0, normal=True)


@dataclass(frozen=True)
class LandmarkBatch:
    """pixels: (B, 3, 128, 128).  points: (B, 130, 2) and meshes: (B, 478, 2) in the crop's frame."""

    pixels: Tensor
    points: Tensor
    meshes: Tensor | None


def landmark_batch(
    faces: FaceCrops,
    mean_face: Tensor,
    jitter: Jitter,
    batch: int,
    generator: Generator,
    *,
    meshes: Tensor | None = None,
) -> LandmarkBatch:
    """Augmented crops with their landmarks.  With `meshes` (N, 478, 2) nothing is flipped, and they come along."""
    index = torch.multinomial(faces.weights, batch, replacement=True, generator=generator)
    points = faces.points[index]
    box = face_box(points, mean_face)
    draw = jitter.draw(batch, generator)
    frame = Similarity(
        box.scale * jitter.side * torch.exp(draw[:, 2]),
        box.rotation + draw[:, 3],
        box.translation + draw[:, :2] * 2 * box.scale[:, None],
    )
    bend = Bend.draw(batch, generator)
    u = _nodes(CROP_PX)
    coarse = frame.apply(bend.apply(u.expand(batch, -1, -1))).mT.unflatten(-1, (NUM_NODES, NUM_NODES))
    positions = F.interpolate(coarse, size=(CROP_PX, CROP_PX), mode="bilinear", align_corners=True).movedim(1, -1)
    pixels = F.grid_sample(
        faces.pixels[index].float() / 255,
        (2 * positions + 1) / CACHE_PX - 1,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
    points = bend.inverse(frame.inverse(points))
    if meshes is not None:
        meshes = bend.inverse(frame.inverse(meshes[index]))
    else:
        flip = torch.rand(batch, generator=generator) < 0.5
        pixels = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels)
        mirrored = points[:, MIRROR_130] * torch.tensor([-1.0, 1.0])
        points = torch.where(flip[:, None, None], mirrored, points)
    pixels = degrade(occlude(pixels, points, generator), generator)
    return LandmarkBatch(pixels, points, meshes)


def _nodes(size: int) -> Tensor:
    """A coarse grid (NUM_NODES^2, 2) in the frame whose corners are the crop's corner pixels: bends are smooth."""
    u = torch.linspace(1 / size - 1, 1 - 1 / size, NUM_NODES)
    return torch.stack(torch.meshgrid(u, u, indexing="xy"), dim=-1).flatten(0, 1)


@dataclass(frozen=True)
class Bend:
    """A mild smooth warp of the frame: u -> A u + sum_k a_k sin(w_k . u + phase_k).  Small enough never to fold."""

    matrix: Tensor  # (B, 2, 2)
    amplitude: Tensor  # (B, 4, 2)
    wave: Tensor  # (B, 2, 4)
    phase: Tensor  # (B, 1, 4)

    @staticmethod
    def draw(batch: int, generator: Generator) -> Bend:
        used = (torch.rand(batch, 1, 1, generator=generator) < 0.7).float()
        return Bend(
            torch.eye(2) + used * 0.04 * torch.randn(batch, 2, 2, generator=generator),
            used * 0.015 * torch.randn(batch, 4, 2, generator=generator).clamp(-2, 2),
            2.5 * torch.randn(batch, 2, 4, generator=generator).clamp(-2, 2),
            6.2832 * torch.rand(batch, 1, 4, generator=generator),
        )

    def _waves(self, u: Tensor) -> Tensor:
        return torch.sin(u @ self.wave + self.phase) @ self.amplitude

    def apply(self, u: Tensor) -> Tensor:
        return u @ self.matrix.mT + self._waves(u)

    def inverse(self, v: Tensor, *, num_rounds: int = 10) -> Tensor:
        undo = torch.linalg.inv(self.matrix).mT
        u = v
        for _ in range(num_rounds):
            u = (v - self._waves(u)) @ undo
        return u


def occlude(pixels: Tensor, points: Tensor, generator: Generator) -> Tensor:
    """One ellipse somewhere (12 %) or dark glasses on the eyes (6 %).  points: (B, 130, 2) in the frame."""
    batch, _, size, _ = pixels.shape
    u = (torch.arange(size) + 0.5) * 2 / size - 1
    for index in range(batch):
        kind = torch.rand((), generator=generator)
        if kind < 0.12:
            centre = torch.rand(2, generator=generator) * 1.6 - 0.8
            radius = 0.12 + 0.3 * torch.rand(2, generator=generator)
            inside = ((u - centre[0]) / radius[0]).square() + ((u[:, None] - centre[1]) / radius[1]).square() < 1
            colour = torch.rand(3, 1, generator=generator)
        elif kind < 0.18:
            eyes = torch.stack([points[index, list(EYE_R)].mean(dim=0), points[index, list(EYE_L)].mean(dim=0)])
            span = (eyes[1] - eyes[0]).norm() * (0.3 + 0.15 * torch.rand(2, generator=generator))
            away = [((u - x) / span[0]).abs() ** 3 + ((u[:, None] - y) / (0.8 * span[1])).abs() ** 3 for x, y in eyes]
            inside = torch.minimum(*away) < 1
            colour = 0.25 * torch.rand(3, 1, generator=generator)
        else:
            continue
        pixels[index][:, inside] = colour
    return pixels


def degrade(pixels: Tensor, generator: Generator) -> Tensor:
    """Colour, light, blur, resolution, JPEG and noise of real photos; most pictures get a few of them."""
    batch, _, height, width = pixels.shape

    def draw(*shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(*shape, generator=generator)

    def chosen(probability):
        return (draw(batch) < probability).nonzero().flatten().tolist()

    # Grey, saturation, contrast, brightness and colour cast are one 3 x 4 matrix per picture.
    saturation = torch.where(draw(batch) < 0.15, torch.zeros(batch), draw(batch, low=0.6, high=1.4))
    contrast, brightness = draw(batch, low=-0.43, high=0.34).exp(), draw(batch, low=-0.51, high=0.37).exp()
    cast = torch.where(draw(batch, 1) < 0.6, draw(batch, 3, low=0.85, high=1.15), torch.ones(batch, 3))
    luma = torch.tensor(LUMA).expand(3, 3)
    matrix = saturation[:, None, None] * torch.eye(3) + (1 - saturation)[:, None, None] * luma
    matrix = matrix * (contrast * brightness)[:, None, None] * cast[:, :, None]
    mean = pixels.mean(dim=(1, 2, 3))
    offset = (brightness * (1 - contrast) * mean)[:, None] * cast
    pixels = torch.baddbmm(offset[:, :, None], matrix, pixels.flatten(2)).unflatten(2, (height, width))

    x, y = torch.linspace(-1, 1, width), torch.linspace(-1, 1, height)
    slope = draw(batch, 2, low=-0.35, high=0.35) * (draw(batch, 1) < 0.3)
    pixels = pixels * (1 + slope[:, :1, None, None] * x + slope[:, 1:, None, None] * y[:, None])

    for index in chosen(0.25):
        pixels[index] = _blur(pixels[index], float(draw(1, low=0.4, high=2.0)))
    for index in chosen(0.15):
        small = [max(8, round(side * float(draw(1, low=0.3, high=0.8)))) for side in (height, width)]
        reduced = F.interpolate(pixels[index : index + 1], size=small, mode="area")
        pixels[index] = F.interpolate(reduced, size=(height, width), mode="bilinear")[0]
    for index in chosen(0.30):
        noise = torch.randn(3, height, width, generator=generator)
        pixels[index] += noise * float(draw(1, high=0.06))
    pixels = pixels.clamp(0, 1)
    for index in chosen(0.10):
        pixels[index] = _jpeg(pixels[index], int(draw(1, low=15, high=70)))
    return pixels


def _blur(pixels: Tensor, sigma: float) -> Tensor:
    taps = torch.arange(-4, 5).float()
    kernel = torch.exp(-taps.square() / (2 * sigma * sigma))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, 9)
    padded = F.pad(pixels[:, None], (4, 4, 4, 4), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel), kernel.mT)[:, 0]


def _jpeg(pixels: Tensor, quality: int) -> Tensor:
    picture = Image.fromarray((pixels.permute(1, 2, 0) * 255).round().byte().numpy())
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1).float() / 255
