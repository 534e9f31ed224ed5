"""How many bits a channel a picture file has, read from its header, and pixels of 16 bits.

Pillow turns 16-bit colour into 8 bits without a word, and what it calls its modes does not tell. So the depth is read
from where each format writes it, and deep pixels by libraries that keep them: imagecodecs for PNG, tifffile for TIFF.
Neither is needed for pictures of 8 bits, nor for writing (photo_saving.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, TiffImagePlugin

from .picture_guard import PictureError

INSTALL = "pip install tifffile imagecodecs pillow-heif"  # the extra `photos` of pyproject.toml
_TAG_BITS, _TAG_PHOTOMETRIC, _TAG_CHANNELS, _TAG_KIND = 258, 262, 277, 339
_TAG_SUBFILE, _TAG_DNG, _RAW_SENSOR = 254, 50706, 32803
_RAW = (  # as cameras name them; all of these are TIFFs inside
    ".dng", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".pef", ".srw", ".3fr", ".fff", ".iiq", ".erf", ".mef", ".mos",
)  # fmt: skip
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_PHOTOMETRICS = {3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "Lab", 9: "Lab", 10: "Lab", 32803: "raw sensor"}


@dataclass(frozen=True, kw_only=True)
class Depth:
    """bits: a channel.  kind: what else than whole numbers they are, "float" for example; mostly empty."""

    bits: int
    kind: str = ""

    @property
    def words(self) -> str:
        return f"{self.bits} bits a channel" + (f" ({self.kind})" if self.kind else "")


def check_tiff(path: Path, name: str) -> None:
    """Raise PictureError where the file is a camera's raw file, which Pillow would open at its thumbnail, or a TIFF
    whose depth cannot be kept: Pillow takes many of them for damaged."""
    try:
        with open(path, "rb") as stream:
            head = stream.read(8)
            if head[:4] not in (b"II*\0", b"MM\0*"):
                return
            directory = TiffImagePlugin.ImageFileDirectory_v2(head)
            stream.seek(directory.next)
            directory.load(stream)
            depth, channels = _depth_of_tags(directory), directory.get(_TAG_CHANNELS, 1)
    except Exception:  # damaged in earnest: whoever opens it says how
        return
    raw = _TAG_DNG in directory or directory.get(_TAG_PHOTOMETRIC) == _RAW_SENSOR
    if raw or path.suffix.lower() in _RAW:
        raise PictureError(
            f"{name} is a camera's raw file, which is not read here: develop it, and save it as a 16-bit TIFF", "kind"
        )
    if directory.get(_TAG_SUBFILE, 0) & 1:
        raise PictureError(f"{name} begins with a smaller copy of its picture: save it as one flat picture")
    if depth.bits == 16 and not depth.kind and channels == 2:
        raise PictureError(f"{name} is a 16-bit grey TIFF with alpha, which cannot be kept: save it as PNG or RGB")
    check_depth(depth, name)


def check_depth(depth: Depth, name: str) -> None:
    """Raise PictureError unless it can be kept."""
    if depth.bits not in (1, 2, 4, 8, 16) or depth.kind:
        raise PictureError(f"{name} has {depth.words}, which cannot be kept: save it with 8 or 16 bits")


def depth_of(picture: Image.Image, content: bytes) -> Depth:
    """content: the file's first bytes, 64 are enough."""
    if picture.format == "PNG":
        return Depth(bits=content[24])
    if picture.format == "TIFF":
        return _depth_of_tags(picture.tag_v2)
    return Depth(bits=int(picture.info.get("bit_depth", 8)))  # HEIC says it; JPEG, WebP and BMP have 8 as we read them


def _depth_of_tags(tags: Mapping) -> Depth:
    bits, kinds = tags.get(_TAG_BITS, (1,)), tags.get(_TAG_KIND, (1,))
    bits, kinds = (one if isinstance(one, tuple) else (one,) for one in (bits, kinds))
    kind = {1: "", 2: "signed", 3: "float", 4: ""}.get(kinds[0], "complex")
    return Depth(bits=max(bits), kind="of different depths" if len({*bits}) > 1 else kind)


def read_deep(path: Path, picture: Image.Image, name: str) -> np.ndarray:
    """The pixels of a 16-bit picture, (H, W, C) uint16 as they lie in the file; C is 1 or 2 where it is grey.

    Raises PictureError where they cannot be kept or no library is there that does.
    """
    if picture.format == "PNG":
        pixels = _png(path, name)
    elif picture.format == "TIFF":
        pixels = _tiff(path, picture, name)
    else:
        raise PictureError(
            f"{name} is a {picture.format} of 16 bits, which cannot be kept: save it as a 16-bit TIFF or PNG"
        )
    if pixels.dtype != np.uint16 or pixels.ndim != 3 or pixels.shape[2] > 4:
        raise PictureError(f"{name} holds {pixels.shape[2:]} channels of {pixels.dtype}: save it as 16-bit RGB")
    return pixels


def _png(path: Path, name: str) -> np.ndarray:
    try:
        from imagecodecs import png_decode
    except ImportError as error:
        raise PictureError(f"{name} has 16 bits a channel, which needs a reader that keeps them: {INSTALL}") from error
    pixels = png_decode(path.read_bytes())
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _tiff(path: Path, picture: Image.Image, name: str) -> np.ndarray:
    photometric = picture.tag_v2.get(_TAG_PHOTOMETRIC, _RGB)
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        kind = _PHOTOMETRICS.get(photometric, f"photometric {photometric}")
        raise PictureError(f"{name} is a 16-bit {kind} TIFF, which cannot be kept: save it as 16-bit RGB or grey")
    try:
        from tifffile import TiffFile
    except ImportError as error:
        raise PictureError(f"{name} has 16 bits a channel, which needs a reader that keeps them: {INSTALL}") from error
    try:
        with TiffFile(path) as file:
            page = file.pages[0]
            pixels, axes = page.asarray(), page.axes
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise PictureError(f"{name} is compressed in a way that needs one more library: {INSTALL}") from error
    if axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    elif axes == "YX":
        pixels = pixels[..., None]
    elif axes != "YXS":
        raise PictureError(f"{name} is stored as {axes}: save it as one flat 16-bit RGB picture")
    return np.invert(pixels) if photometric == _WHITE_IS_ZERO else pixels
