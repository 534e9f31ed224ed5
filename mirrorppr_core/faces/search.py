"""All faces of a photo of any size: small ones at the photo's own scale, turned ones with the head on the side.

The locator looks at a photo as a whole and at tiles of half of it, so the smallest face it sees is a share of the
picture. Larger photos are therefore also cut into tiles of a fixed number of pixels, from the photo's own scale up to
where the locator begins. Where nobody clearly stands upright, the photo is looked at turned. What is found is read at
the photo's own scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..geometry.crop import pixel_box, widened
from ..geometry.similarity import Similarity
from ..images import reduce
from ..one_thread import one_thread
from ..side_by_side import side_by_side
from .locator import Candidate, Face, Locator, distinct_candidates, distinct_faces

SMALLEST_FACE_PX = 50  # in photos up to MAX_TILES tiles, about 80 megapixels
_SMALLEST_ALONE_PX = 36  # where nobody else is found
MAX_TILES = 400  # at the finest scale; larger photos are cut into larger tiles
_LOCATE_SIDE = 2048  # the locator gets a reduced copy of larger photos
_TILE = 16.0  # smallest faces across the finest tile: the finder sees them with 16 pixels
_TILE_STEP = 0.75  # tiles overlap by the largest face that the next coarser ones do not see better
_SHARP_FACE_PX = 160  # a face at least this large in the copy loses nothing by the reduction
_SMALL, _STEADY = 0.4, 3.5  # of the largest face's size; per cent (locator.Face.disagreement)
_READ_PX = 256  # a face is read from a part reduced to about this
_NEAR_SIDES = (1.3, 2.6)  # half sides of the squares looked at around a told head, in its sizes
_NEAR, _LIKE, _SMALLEST_NEAR_PX = 0.8, 2.5, 18  # how far off in its sizes and how much larger the face may be; width
_TURNS = (90, -90, 180, 45, -45, 135, -135)  # degrees, tried in this order


@one_thread()
def locate(locator: Locator, image: Tensor) -> list[Face]:
    """All faces of a photo (1, C, H, W) of any size, largest first, in photo pixels."""
    factor = -(-max(image.shape[-2:]) // _LOCATE_SIDE)
    copy = reduce(image, factor)
    faces = [_read_closely(locator, image, face, factor) for face in locator.find(copy)]
    faces = distinct_faces(faces + _in_tiles(locator, image, faces, SMALLEST_FACE_PX))
    faces = faces or distinct_faces(_in_tiles(locator, image, [], _SMALLEST_ALONE_PX))
    if all(face.disagreement >= _STEADY for face in faces):  # nobody, or what an upside-down face looks like
        faces = [_read_closely(locator, image, face, factor) for face in _turned(locator, copy)] or faces
    # The rare false face (a wheel, a buckle) is small and unsteady; a bystander's real face is steady.
    return [f for f in faces if f.size_px > _SMALL * faces[0].size_px or f.disagreement < _STEADY]


def face_near(locator: Locator, image: Tensor, spots: Sequence[tuple[float, float, float]]) -> list[Face]:
    """Faces where something else tells of a head, though `locate` saw none, largest first: small ones, magnified.

    image: (1, C, H, W).  spots: centre x, y and about the longest side of each face, photo pixels.
    """
    faces = []
    for x, y, size in spots:
        middle = torch.tensor([x, y])
        views = [Similarity(torch.tensor(side * size), torch.tensor(0.0), middle) for side in _NEAR_SIDES]
        wide = views[-1].scale
        box = pixel_box(middle - wide, middle + wide, image)
        part = _Part(image, box, max(1, int(2 * float(wide) // 512)))
        to_part = part.to_photo.inverted()
        seen = [found for looks in locator.seen(part.planes, [to_part.after(v) for v in views]) for found in looks]
        for again in locator.seen_again(part.planes, distinct_candidates(seen)):
            face = locator.face_at(part.planes, again)
            if face is not None and face.disagreement < _STEADY:
                faces += [found for found in [_moved(face, part.to_photo)] if _is_at(found, x, y, size)]
    return distinct_faces(faces)


def _is_at(face: Face, x: float, y: float, size: float) -> bool:
    away = math.hypot((face.box[0] + face.box[2]) / 2 - x, (face.box[1] + face.box[3]) / 2 - y)
    return (
        away < _NEAR * max(size, face.size_px)
        and size / _LIKE < face.size_px < size * _LIKE
        and face.size_px >= _SMALLEST_NEAR_PX
    )


def smallest_face_px(height: int, width: int) -> int:
    """How large a face must be to be found in a photo of that size, in pixels."""
    return round(_finest_tile(height, width, SMALLEST_FACE_PX) / _TILE)


def search_notes(height: int, width: int) -> tuple[str, ...]:
    """What to know about a search in a photo of that size."""
    smallest = smallest_face_px(height, width)
    if smallest <= SMALLEST_FACE_PX:
        return ()
    return (f"in so large a photo faces narrower than about {smallest} px may have been missed: crop closer to them",)


def _turned(locator: Locator, copy: Tensor) -> list[Face]:
    for degrees in _TURNS:
        faces = locator.find(copy, turn=math.radians(degrees))
        # Turned views are many chances for a false face, so only a steady one counts.
        faces = [face for face in faces if face.disagreement < _STEADY]
        if faces:
            return faces
    return []


def _in_tiles(locator: Locator, image: Tensor, known: list[Face], smallest: float) -> list[Face]:
    """Faces too small for the locator's own look at the photo.  smallest: pixels."""
    height, width = image.shape[-2:]
    tile, coarsest = _finest_tile(height, width, smallest), max(height, width) / 2
    seen: list[Candidate] = []
    while tile < 0.9 * coarsest:
        looks = (partial(_seen_in, locator, image, left, top, tile) for left, top in _corners(height, width, tile))
        seen += sum(side_by_side(*looks), [])
        tile *= 2
    faces = []
    for candidate in distinct_candidates(seen):
        if 2 * float(candidate.box.scale) < 0.7 * smallest or _is_known(candidate, known):
            continue
        part = _around(image, candidate.box)
        at = Candidate(candidate.score, part.to_photo.inverted().after(candidate.box))
        for again in locator.seen_again(part.planes, [at]):
            face = locator.face_at(part.planes, again)
            # Tiles are many chances for a false face as well.
            faces += [_moved(face, part.to_photo)] if face is not None and face.disagreement < _STEADY else []
    return faces


@torch.no_grad()
def _seen_in(locator: Locator, image: Tensor, left: int, top: int, tile: float) -> list[Candidate]:
    """What the finder sees in one tile, in the photo."""
    part, frame = _part(image, left, top, tile)
    found = locator.seen(part.planes, [frame])[0]
    return [Candidate(candidate.score, part.to_photo.after(candidate.box)) for candidate in found]


def _finest_tile(height: int, width: int, smallest: float) -> float:
    tile = _TILE * smallest
    while len(_corners(height, width, tile)) > MAX_TILES:
        tile *= 1.1
    return tile


def _corners(height: int, width: int, tile: float) -> list[tuple[int, int]]:
    """Left and top of tiles that cover the photo evenly."""

    def starts(length: int) -> list[int]:
        if length <= tile:
            return [0]
        count = math.ceil((length - tile) / (tile * _TILE_STEP)) + 1
        return [round((length - tile) * k / (count - 1)) for k in range(count)]

    return [(left, top) for top in starts(height) for left in starts(width)]


class _Part:
    """A reduced part of a photo: planes (1, 3, h, w), and where its pixels are in the photo."""

    def __init__(self, image: Tensor, box: tuple[int, int, int, int], factor: int):
        left, top, right, bottom = box
        self.planes = reduce(image[..., top:bottom, left:right], factor)
        corner = torch.tensor([left, top], dtype=torch.float32) + (factor - 1) / 2
        self.to_photo = Similarity(torch.tensor(float(factor)), torch.tensor(0.0), corner)


def _part(image: Tensor, left: int, top: int, tile: float) -> tuple[_Part, Similarity]:
    """A tile, and the square in it that the finder is to look at."""
    side = round(tile)
    box = (left, top, min(image.shape[-1], left + side), min(image.shape[-2], top + side))
    part = _Part(image, box, max(1, int(tile // 512)))
    centre = torch.tensor([(left + tile / 2 - 0.5), (top + tile / 2 - 0.5)])
    square = Similarity(torch.tensor(tile / 2), torch.tensor(0.0), centre)
    return part, part.to_photo.inverted().after(square)


def _around(image: Tensor, box: Similarity) -> _Part:
    """A face with what is around it, as large as it is read."""
    wide = widened(box, 2.8)
    place = pixel_box(wide.translation - wide.scale, wide.translation + wide.scale, image)
    return _Part(image, place, max(1, int(2 * float(box.scale) // _READ_PX)))


def _is_known(candidate: Candidate, faces: list[Face]) -> bool:
    x, y = candidate.box.translation.tolist()
    return any(f.box[0] <= x <= f.box[2] and f.box[1] <= y <= f.box[3] for f in faces)


def face_again(locator: Locator, image: Tensor, near: Face) -> Face | None:
    """The face that a photo (1, C, H, W) shows where this one is, or about there; None where none can be read."""
    box = locator.box_of(near)
    part = _around(image, box)
    again = locator.face_at(part.planes, Candidate(near.score, part.to_photo.inverted().after(box)))
    if again is None:
        return None
    again = _moved(again, part.to_photo)
    away = (again.landmarks.mean(0) - near.landmarks.mean(0)).norm()
    return again if float(away) < 0.25 * near.size_px else None


def _read_closely(locator: Locator, image: Tensor, face: Face, factor: int) -> Face:
    """A face of the reduced copy, read again from native pixels where the copy was too coarse for it."""
    placed = _moved(
        face, Similarity(torch.tensor(float(factor)), torch.tensor(0.0), torch.full((2,), (factor - 1) / 2))
    )
    if factor == 1 or face.size_px >= _SHARP_FACE_PX:
        return placed
    return face_again(locator, image, placed) or placed


def _moved(face: Face, to_photo: Similarity) -> Face:
    landmarks, mesh = to_photo.apply(face.landmarks), to_photo.apply(face.mesh)
    box = (*landmarks.amin(dim=0).tolist(), *landmarks.amax(dim=0).tolist())
    strays = None if face.strays is None else face.strays * to_photo.scale  # tiles and copies are not turned
    return replace(face, landmarks=landmarks, mesh=mesh, box=box, strays=strays)
