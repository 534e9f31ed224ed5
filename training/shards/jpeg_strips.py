"""JPEGs in strips: a retouched picture shares most of its bytes with the one before the retouch.

Every row of 8 x 8 blocks is a strip of its own (a restart marker ends it, and nothing is predicted across one), so
rows of blocks that did not change need not be encoded again: their bytes are copied. The file is the one that encoding
the whole picture would give, to the byte, and any decoder reads it; the markers cost 0.3 % of its size. Pixels that
did not move are equal in both files, which they would not be if the quality or the tables differed.

No chroma subsampling. Pictures are packed, (H, W) uint32 (packed_pixels.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL

from ..data.packed_pixels import as_jpeg

_BLOCK = 8  # px
_MARKER, _SCAN, _RESTART, _END = 0xFF, 0xDA, 0xD0, b"\xff\xd9"  # restart markers are FF D0 .. FF D7, in turn


@dataclass(frozen=True)
class JpegStrips:
    """One encoded picture. header: all bytes before the first strip.  strips: without their markers."""

    header: bytes
    strips: tuple[bytes, ...]
    quality: int

    @classmethod
    def of(cls, picture: np.ndarray, quality: int) -> JpegStrips:
        """Raises ImportError where Pillow is too old for it."""
        content = as_jpeg(picture, quality=quality, subsampling=0, restart_marker_rows=1)
        start, scan = 2, False  # behind the marker that begins every JPEG; then come segments with their lengths
        while not scan:
            scan = content[start + 1] == _SCAN
            start += 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        coded = np.frombuffer(content, np.uint8, offset=start)
        # A marker's first byte within coded data is followed by a zero, so what looks like a restart marker is one.
        marks = np.flatnonzero(coded[:-1] == _MARKER)
        marks = start + marks[(coded[marks + 1] & 0xF8) == _RESTART]
        ends = [*marks.tolist(), len(content) - len(_END)]
        starts = [start, *(end + 2 for end in ends[:-1])]
        strips = tuple(content[first:last] for first, last in zip(starts, ends, strict=True))
        if len(strips) != -(-len(picture) // _BLOCK):
            raise ImportError(
                f"Pillow {PIL.__version__} writes JPEGs without restart markers: install Pillow 10.2 or newer"
            )
        return cls(content[:start], strips, quality)

    def with_rows(self, picture: np.ndarray, top: int, bottom: int) -> JpegStrips:
        """The same for a picture that differs from this one in the rows top .. bottom at most."""
        if top >= bottom:
            return self
        first, last = top // _BLOCK, -(-bottom // _BLOCK)
        changed = JpegStrips.of(picture[first * _BLOCK : last * _BLOCK], self.quality)
        return JpegStrips(self.header, self.strips[:first] + changed.strips + self.strips[last:], self.quality)

    def to_bytes(self) -> bytes:
        parts = [self.header, self.strips[0]]
        for number, strip in enumerate(self.strips[1:]):
            parts += (bytes((_MARKER, _RESTART + number % 8)), strip)
        return b"".join((*parts, _END))
