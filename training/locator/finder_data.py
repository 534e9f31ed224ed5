"""Canvases for the face finder: none to four portraits pasted on drawn backgrounds, with the true boxes.

Faces take 8 to 90 % of the canvas and are turned by up to 60 degrees. They come as whole photos with their borders
continued, as tilted prints, or as cut-out rectangles and soft ellipses. Faces cut into shuffled tiles and patches
of clothes and walls are pasted too and count as background: skin alone must not be enough. A third of the canvases are
plain views of one photo, near or far, with or without its face: what the finder's tiles will show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from mirrorppr_core.faces.locator import face_box, finder_boxes
from mirrorppr_core.geometry.similarity import Similarity

from ..data.labelled import LabelledPortrait, source_weights
from .data import FINDER_PX, degrade

LEVELS_PX = (512, 256, 128, 64, 32)  # each photo is kept at these sizes, so that small faces are not aliased


@dataclass(frozen=True)
class Photos:
    """Whole photos at every level, (N, 3, P, P) uint8, and the face's box as a frame on the unit square."""

    levels: list[Tensor]
    boxes: Similarity
    weights: Tensor


def load_photos(portraits: Sequence[LabelledPortrait], mean_face: Tensor) -> Photos:
    levels = [torch.empty(len(portraits), 3, size, size, dtype=torch.uint8) for size in LEVELS_PX]
    points = []
    for index, portrait in enumerate(portraits):
        pixels = portrait.picture()
        for level, size in zip(levels, LEVELS_PX, strict=True):
            level[index] = (F.interpolate(pixels, size=(size, size), mode="area")[0] * 255).round()
        points.append((portrait.points + 0.5) / torch.tensor([pixels.shape[-1], pixels.shape[-2]]))
    boxes = face_box(torch.stack(points), mean_face)
    return Photos(levels, boxes, source_weights(portraits))


@dataclass(frozen=True)
class FinderBatch:
    """pixels: (B, 3, 256, 256).  frames: for each canvas those of its faces, F of them, in canvas pixels."""

    pixels: Tensor
    frames: list[Similarity]


def finder_batch(photos: Photos, batch: int, generator: Generator) -> FinderBatch:
    draw = [_view if _uniform(generator) < 0.35 else _canvas for _ in range(batch)]
    canvases, frames = zip(*[drawn(photos, generator) for drawn in draw], strict=True)
    return FinderBatch(degrade(torch.stack(canvases), generator), list(frames))


def empty_canvas(photos: Photos, generator: Generator) -> Tensor:
    """(3, 256, 256) without a face, though up to four things on it may resemble one."""
    canvas = _background(photos, generator)
    for _ in range(int(_uniform(generator, 0, 5))):
        _distract(canvas, photos, generator)
    return canvas


def _uniform(generator: Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _canvas(photos: Photos, generator: Generator) -> tuple[Tensor, Similarity]:
    canvas = empty_canvas(photos, generator)
    kind = _uniform(generator)
    num_faces = 0 if kind < 0.12 else 1 if kind < 0.78 else 2 + int(_uniform(generator, 0, 3))
    frames: list[Similarity] = []
    for _ in range(num_faces):
        frame = _place(generator, largest=0.9 if num_faces == 1 else 0.4)
        apart = [(f.translation - frame.translation).norm() > 1.4 * (f.scale + frame.scale) for f in frames]
        if not all(apart):
            continue
        style = _uniform(generator) if num_faces == 1 else _uniform(generator, 0.5, 1)
        _paste(canvas, photos, frame, style, generator)
        frames.append(frame)
    return _maybe_flipped(canvas, _stacked(frames), generator)


def _stacked(frames: list[Similarity]) -> Similarity:
    return Similarity(
        torch.tensor([float(f.scale) for f in frames]),
        torch.tensor([float(f.rotation) for f in frames]),
        torch.stack([f.translation for f in frames]) if frames else torch.zeros(0, 2),
    )


def _maybe_flipped(canvas: Tensor, faces: Similarity, generator: Generator) -> tuple[Tensor, Similarity]:
    if _uniform(generator) < 0.5:
        return canvas, faces
    mirrored = torch.stack([FINDER_PX - 1 - faces.translation[:, 0], faces.translation[:, 1]], dim=-1)
    return canvas.flip(-1), Similarity(faces.scale, -faces.rotation, mirrored)


def _view(photos: Photos, generator: Generator) -> tuple[Tensor, Similarity]:
    """Any square of one photo, turned a little; every second one beside the face, if there is room.

    Squares that cut the face, or that it overfills, are drawn again: nobody could say what is right there.
    """
    index = torch.multinomial(photos.weights, 1, generator=generator).item()
    box, u = photos.boxes[index], (torch.arange(FINDER_PX) + 0.5) * 2 / FINDER_PX - 1
    wanted, tries, seen = _uniform(generator) < 0.5, 0, None
    while seen is None or (seen != wanted and tries < 40):
        side = math.exp(_uniform(generator, math.log(0.15), math.log(1.4)))
        centre = torch.tensor([_uniform(generator, 0.3 * side, 1 - 0.3 * side) for _ in range(2)])
        view = Similarity(torch.tensor(side / 2), torch.tensor(_uniform(generator, -0.35, 0.35)), centre)
        face = view.inverted().after(box)  # in the view's own square
        reach, seen = float(face.translation.abs().max()), None
        if reach + 0.6 * face.scale < 1 and 0.07 < face.scale < 1.0:
            seen = True
        elif reach - 0.8 * face.scale > 1:
            seen = False
        tries += 1
    level = 0
    while level + 1 < len(LEVELS_PX) and LEVELS_PX[level + 1] * side > 0.8 * FINDER_PX:
        level += 1
    positions = view.apply(torch.stack(torch.meshgrid(u, u, indexing="xy"), dim=-1).flatten(0, 1))
    grid = 2 * positions.view(1, FINDER_PX, FINDER_PX, 2) - 1
    photo = photos.levels[level][index].float()[None] / 255
    canvas = F.grid_sample(photo, grid, padding_mode="border", align_corners=False)[0]
    in_pixels = Similarity(face.scale * FINDER_PX / 2, face.rotation, (face.translation + 1) * FINDER_PX / 2 - 0.5)
    return _maybe_flipped(canvas, _stacked([in_pixels] if seen else []), generator)


def _place(generator: Generator, *, largest: float) -> Similarity:
    size = FINDER_PX * math.exp(_uniform(generator, math.log(0.08), math.log(largest)))
    turn = math.radians(60 if _uniform(generator) < 0.2 else 30)
    margin = min(0.42 * size, FINDER_PX / 2)  # at most a sliver of the face is cut off
    centre = [_uniform(generator, margin, FINDER_PX - margin) for _ in range(2)]
    return Similarity(torch.tensor(size / 2), torch.tensor(_uniform(generator, -turn, turn)), torch.tensor(centre))


def _paste(canvas: Tensor, photos: Photos, frame: Similarity, style: float, generator: Generator) -> None:
    """Put a random photo's face at `frame`.  style, in quarters: it fills the canvas, a print, a rectangle, an ellipse.

    canvas: (3, 256, 256), changed in place.
    """
    index = torch.multinomial(photos.weights, 1, generator=generator).item()
    level = 0
    while level + 1 < len(LEVELS_PX) and LEVELS_PX[level + 1] * photos.boxes.scale[index] > 0.8 * frame.scale:
        level += 1
    photo = photos.levels[level][index].float()[None] / 255

    reach = 4.0 if style < 0.5 else 1.9 if style < 0.75 else 1.5  # of the face's box, on the canvas
    low = (frame.translation - reach * frame.scale).clamp(0, FINDER_PX - 1).int().tolist()
    high = (frame.translation + reach * frame.scale).clamp(0, FINDER_PX - 1).int().tolist()
    if style < 0.25:
        low, high = [0, 0], [FINDER_PX - 1] * 2
    x, y = torch.arange(low[0], high[0] + 1.0), torch.arange(low[1], high[1] + 1.0)
    positions = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)
    local = frame.inverse(positions.flatten(0, 1)).unflatten(0, positions.shape[:2])  # in boxes
    unit = photos.boxes[index].apply(local.flatten(0, 1)).unflatten(0, positions.shape[:2])
    pixels = F.grid_sample(photo, 2 * unit[None] - 1, padding_mode="border", align_corners=False)[0]

    if style < 0.25:
        mask = torch.ones(positions.shape[:2])
    elif style < 0.5:
        mask = ((unit > 0) & (unit < 1)).all(dim=-1).float()
    elif style < 0.75:
        half = torch.tensor([_uniform(generator, 0.95, 1.3) for _ in range(2)])
        mask = (local.abs() < half).all(dim=-1).float()
    else:
        half = torch.tensor([_uniform(generator, 0.8, 1.05), _uniform(generator, 1.0, 1.3)])
        soft = _uniform(generator, 0.03, 0.3)
        mask = ((1 - (local / half).norm(dim=-1)) / soft).clamp(0, 1)
    region = canvas[:, low[1] : high[1] + 1, low[0] : high[0] + 1]
    region += mask * (pixels - region)


def _background(photos: Photos, generator: Generator) -> Tensor:
    kind = _uniform(generator)
    if kind < 0.2:
        return torch.rand(3, 1, 1, generator=generator).repeat(1, FINDER_PX, FINDER_PX)
    if kind < 0.5:
        n = 2 + int(_uniform(generator, 0, 24))
        noise = torch.rand(1, 3, n, n, generator=generator) * _uniform(generator, 0.3, 1)
        return F.interpolate(noise, size=(FINDER_PX, FINDER_PX), mode="bilinear")[0]
    strip = _strip(photos, generator)
    return F.interpolate(strip[None], size=(FINDER_PX, FINDER_PX), mode="bilinear")[0]


def _strip(photos: Photos, generator: Generator) -> Tensor:
    """A piece of a photo beside, above or below its face, (3, h, w); at least a few pixels of it."""
    index = int(_uniform(generator, 0, len(photos.weights)))
    size = LEVELS_PX[1]  # 256 px
    centre, half = photos.boxes.translation[index] * size, float(photos.boxes.scale[index]) * size * 1.1
    left, top = int(centre[0] - half), int(centre[1] - half)
    right, bottom = int(centre[0] + half), int(centre[1] + half)
    spans = [(0, left, 0, size), (right, size, 0, size), (0, size, 0, top), (0, size, bottom, size)]
    spans = [s for s in spans if s[1] - s[0] >= 6 and s[3] - s[2] >= 6]
    if not spans:
        return torch.rand(3, 1, 1, generator=generator)
    x0, x1, y0, y1 = spans[int(_uniform(generator, 0, len(spans)))]
    return photos.levels[1][index][:, y0:y1, x0:x1].float() / 255


def _distract(canvas: Tensor, photos: Photos, generator: Generator) -> None:
    """Something that is not a face: a flat shape, a background patch or a face in shuffled tiles."""
    w, h = (int(FINDER_PX * math.exp(_uniform(generator, math.log(0.06), math.log(0.6)))) for _ in range(2))
    x, y = int(_uniform(generator, 0, FINDER_PX - w)), int(_uniform(generator, 0, FINDER_PX - h))
    kind = _uniform(generator)
    if kind < 0.3:
        patch = torch.rand(3, 1, 1, generator=generator)
    elif kind < 0.6:
        patch = _strip(photos, generator)
    else:
        patch = _shuffled_face(photos, generator)
    pixels = F.interpolate(patch[None], size=(h, w), mode="bilinear", antialias=True)[0]
    u, v = torch.linspace(-1, 1, w), torch.linspace(-1, 1, h)[:, None]
    mask = (u.square() + v.square() < 1).float() if _uniform(generator) < 0.4 else 1.0
    region = canvas[:, y : y + h, x : x + w]
    region += mask * (pixels - region)


def _shuffled_face(photos: Photos, generator: Generator, tiles: int = 4) -> Tensor:
    index = torch.multinomial(photos.weights, 1, generator=generator).item()
    box = photos.boxes[index]
    u = (torch.arange(64) + 0.5) / 32 - 1
    positions = box.apply(torch.stack(torch.meshgrid(u, u, indexing="xy"), dim=-1).flatten(0, 1))
    face = F.grid_sample(
        photos.levels[1][index].float()[None] / 255, 2 * positions.view(1, 64, 64, 2) - 1, align_corners=False
    )[0]
    side = 64 // tiles
    pieces = face.unfold(1, side, side).unfold(2, side, side).flatten(1, 2)  # (3, tiles^2, side, side)
    pieces = pieces[:, torch.randperm(tiles * tiles, generator=generator)]
    return pieces.unflatten(1, (tiles, tiles)).permute(0, 1, 3, 2, 4).reshape(3, 64, 64)


def finder_error(answer: Tensor, frames: list[Similarity]) -> Tensor:
    """CenterNet's focal loss on the score; centre, log size and roll where a face is.  answer: (B, 6, n, n)."""
    n = answer.shape[-1]
    logits = answer[:, 0]
    stride = FINDER_PX / n
    cells = (torch.arange(n, device=answer.device) + 0.5) * stride - 0.5
    grid = torch.stack(torch.meshgrid(cells, cells, indexing="xy"), dim=-1)  # (n, n, 2)
    heat = torch.zeros_like(logits)
    target = answer.new_zeros(*logits.shape, 5)  # x, y, half size, roll, as of the nearest face
    for index, faces in enumerate(frames):
        if len(faces.scale) == 0:
            continue
        away = grid[:, :, None] - faces.translation  # (n, n, F, 2)
        sigma = (0.22 * faces.scale).clamp(min=7.0)
        near = torch.exp(-away.square().sum(dim=-1) / (2 * sigma.square()))
        near = torch.where((away.abs() <= stride / 2).all(dim=-1), near.new_ones(()), near)
        heat[index], which = near.max(dim=-1)
        roll = torch.stack([faces.rotation.cos(), faces.rotation.sin()], dim=-1)
        target[index] = torch.cat([faces.translation, faces.scale[:, None], roll], dim=-1)[which]

    is_face = heat == 1
    log_p, log_not_p = F.logsigmoid(logits), F.logsigmoid(-logits)
    hit = -(log_not_p.exp().square() * log_p)[is_face].sum()
    miss = -((1 - heat) ** 4 * log_p.exp().square() * log_not_p)[~is_face].sum()
    score = (hit + miss) / is_face.sum().clamp(min=1)

    near = heat > 0.5
    if not near.any():
        return score
    _, boxes = finder_boxes(answer)
    aim = target[near]
    centre = (boxes.translation[near] - aim[:, :2]).norm(dim=-1) / (2 * aim[:, 2])
    size = (boxes.scale[near].log() - aim[:, 2].log()).abs()
    roll = (answer[:, 4:].movedim(1, -1)[near] - aim[:, 3:]).abs().sum(dim=-1)
    return score + (6 * centre + 4 * size + 2 * roll).mean()
