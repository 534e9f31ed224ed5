"""Pixels as one number each: red + 256 green + 65536 blue in an (H, W) uint32.

That is how Pillow holds a colour picture, so it reads these in place, where (H, W, 3) bytes are copied around one by
one. Copying, comparing and choosing pixels is one operation instead of three; floats are made of what is looked at.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_GREEN, _BLUE = np.float32(2**8), np.float32(2**16)  # their sum with red is exact in 32-bit floats


def to_pixels(planes: np.ndarray) -> np.ndarray:
    """(3, ...) whole floats of 0..255 -> (...) uint32."""
    red, green, blue = planes
    return (red + green * _GREEN + blue * _BLUE).astype(np.uint32)


def to_planes(pixels: np.ndarray) -> Tensor:
    """(h, w) uint32 -> (1, 3, h, w) float32 of 0..255."""
    planes = np.empty((3, *pixels.shape), np.float32)
    for channel in range(3):
        planes[channel] = (pixels >> (8 * channel)) & 255
    return torch.from_numpy(planes)[None]


def as_jpeg(pixels: np.ndarray, **settings) -> bytes:
    """(H, W) uint32 as a JPEG file.  settings: as Pillow's JPEG writer takes them."""
    stream = io.BytesIO()
    height, width = pixels.shape
    Image.frombuffer("RGBX", (width, height), _little_endian(pixels), "raw", "RGBX", 0, 1).save(
        stream, "JPEG", **settings
    )
    return stream.getvalue()


def as_png(pixels: np.ndarray) -> bytes:
    """(H, W) uint32 as a file without loss."""
    stream = io.BytesIO()
    rgb = _little_endian(pixels).view(np.uint8).reshape(*pixels.shape, 4)[..., :3]
    Image.fromarray(np.ascontiguousarray(rgb)).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def decoded(file: bytes) -> np.ndarray:
    """(H, W) uint32 of an RGB picture file."""
    with Image.open(io.BytesIO(file)) as picture:
        return np.frombuffer(picture.tobytes("raw", "RGBX"), "<u4").reshape(picture.height, picture.width) & 0xFFFFFF


def _little_endian(pixels: np.ndarray) -> np.ndarray:
    """Red first in memory, whatever the processor."""
    return np.ascontiguousarray(pixels, "<u4")
