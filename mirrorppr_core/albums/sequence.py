"""A folder of numbered frames of one person (mini/sequence.py): every frame is read twice, so that memory hardly grows
with their number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..bodies.sources import AUTO, PoseChoice
from ..mini.sequence import FrameSequence
from ..photo_files import Photo
from .photos import Album, AlbumPhoto
from .run import Retouch


def look_through(
    album: Album, sequence: FrameSequence, read: Callable[[Path], Photo], pose: PoseChoice = AUTO
) -> Callable[[AlbumPhoto], Retouch]:
    """Look at all frames; returns how each is retouched, for `run_album`.  pose: where their joints come from.

    Frames that cannot be read are passed over here, and `run_album` says why. Raises ValueError where the frames differ
    in size.
    """
    places = {}
    for index, photo in enumerate(album.photos):
        places[photo] = index
        try:
            pixels = read(photo.source).pixels
        except (ValueError, OSError):
            pixels = None
        sequence.look(pixels, photo.source.name, pose)
    return lambda photo: lambda pixels: sequence.retouch(places[photo], pixels, pose)
