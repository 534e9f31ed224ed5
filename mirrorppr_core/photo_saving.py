"""Pixels and what belongs to them as the bytes of a picture file: PNG, TIFF, JPEG, WebP, BMP.

Pillow writes everything but 16-bit colour, which it does not have. So a deep PNG is the chunks that Pillow would write
around pixels of our own, and a TIFF is Pillow's directory before strips of our own; both need no other library.
PNG, TIFF and WebP without a quality keep every bit. A JPEG is encoded anew, with its own tables where none are asked.
PNG: W3C PNG 3, sections 5 and 9. TIFF 6.0, sections 8 and 14 (the predictor).
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, PngImagePlugin, TiffImagePlugin

from .photo_metadata import Metadata, jpeg_segment, tags_for_tiff

SAME = "same"
FORMATS = (SAME, "png", "tiff", "jpeg", "webp")
_SUFFIXES = {"png": ".png", "tiff": ".tif", "jpeg": ".jpg", "webp": ".webp"}
_LOSSY = ("jpeg", "webp")
_JPEG_QUALITY = 95
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
_STRIP_BYTES = 1 << 20
_DEFLATE, _DIFFERENCES = 8, 2  # TIFF's numbers for zlib and for the predictor
_MOST_EXIF = 65_000  # bytes of a JPEG's segment


@dataclass(frozen=True, kw_only=True)
class Saving:
    """format: of FORMATS; same is the photo's own.  quality: 1 to 100 of JPEG and WebP; None keeps a JPEG's own
    tables (95 where it has none) and every bit of a WebP."""

    format: str = "png"
    quality: int | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"format={self.format!r}: use {', '.join(FORMATS)}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality}: use 1 to 100, 90 to 98 is usual")
        if self.quality is not None and self.format not in (SAME, *_LOSSY):
            raise ValueError(
                f"quality={self.quality} is of JPEG and WebP: a {self.format} keeps every bit, leave it out"
            )

    def name_for(self, source: Path, frame: int | None = None) -> str:
        """The result's file name; that of a frame, from 0, counts from 1."""
        stem = source.stem if frame is None else f"{source.stem}_{frame + 1:04d}"
        return f"{stem}{source.suffix if self.format == SAME else _SUFFIXES[self.format]}"

    def kind_for(self, origin: Origin) -> str:
        """The format of the file that is written."""
        return origin.format if self.format == SAME else self.format


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How a photo was stored.  format: "jpeg", "png", "tiff", "webp", "bmp" or "heic".  grey: one plane of colour.

    tables, sampling: of a JPEG, with which it can be encoded as it was.  alpha: a TIFF's number for what its fourth
    plane is (1 multiplied in, 2 not).
    """

    format: str = "png"
    grey: bool = False
    tables: dict[int, list[int]] | None = None
    sampling: int = -1
    alpha: int = 2


def save(
    stream: BinaryIO, pixels: np.ndarray, metadata: Metadata, saving: Saving, origin: Origin, name: str
) -> tuple[str, ...]:
    """Write one picture. pixels: (H, W, C) uint8 or uint16.  name: as the user knows the photo.

    Returns what could not be kept, in words. Raises ValueError where the format cannot hold the picture.
    """
    kind = saving.kind_for(origin)
    notes = list(metadata.notes)
    check_fit(kind, pixels.shape[2] in (2, 4), name)
    if kind not in ("png", "tiff") and pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
        notes.append(f"the photo's 16 bits were rounded to the 8 of a {kind.upper()}: PNG and TIFF keep them")
    if kind == "tiff":
        notes += _save_tiff(stream, pixels, metadata, origin)
    elif kind == "png":
        notes += _save_png(stream, pixels, metadata)
    else:
        notes += _save_by_pillow(stream, pixels, metadata, kind, saving, origin)
    return tuple(notes)


def check_fit(kind: str, transparent: bool, name: str) -> None:
    """Raise ValueError where a file of this kind cannot hold the picture."""
    if kind not in ("png", "tiff", "jpeg", "webp", "bmp"):
        raise ValueError(f"{name} is {kind.upper()}, which cannot be written here: choose --format jpeg, tiff or png")
    if kind in ("jpeg", "bmp") and transparent:
        raise ValueError(f"{name} has transparency, which a {kind.upper()} cannot hold: choose --format png or tiff")


def _save_png(stream: BinaryIO, pixels: np.ndarray, metadata: Metadata) -> list[str]:
    texts = PngImagePlugin.PngInfo()
    for key, text in metadata.texts:
        texts.add_itxt(key, text)
    if metadata.xmp:
        texts.add_itxt("XML:com.adobe.xmp", metadata.xmp.decode("utf-8", errors="replace"))
    if metadata.comment and "Comment" not in dict(metadata.texts):
        texts.add_itxt("Comment", metadata.comment.decode("utf-8", errors="replace"))
    deep = pixels.dtype == np.uint16
    shown = np.zeros((1, 1, pixels.shape[2]), np.uint8) if deep else pixels
    options: dict[str, Any] = {"pnginfo": texts, "icc_profile": metadata.icc_profile or None}
    if metadata.exif:
        options["exif"] = metadata.exif
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    target = io.BytesIO() if deep else stream
    # Level 1: portraits hardly shrink further, and a 24-megapixel photo is written in one second, not eight.
    _picture(shown).save(target, format="PNG", compress_level=1, **options)
    if deep:
        stream.write(_png_of_16_bits(pixels, target.getvalue()))
    return ["the file's IPTC record is not kept: a PNG has no place for it"] if metadata.iptc else []


def _save_by_pillow(
    stream: BinaryIO, pixels: np.ndarray, metadata: Metadata, kind: str, saving: Saving, origin: Origin
) -> list[str]:
    notes, options = [], {}
    if kind == "bmp":
        if metadata.dpi:
            options["dpi"] = metadata.dpi
        _picture(pixels).save(stream, format="BMP", **options)
        return notes
    if metadata.icc_profile and not (kind == "webp" and pixels.shape[2] < 3):
        options["icc_profile"] = metadata.icc_profile
    if metadata.exif and len(metadata.exif) > _MOST_EXIF and kind == "jpeg":
        notes.append("the file's EXIF is not kept: it is longer than a JPEG can hold")
    elif metadata.exif:
        options["exif"] = b"Exif\x00\x00" + metadata.exif
    if metadata.xmp and len(metadata.xmp) > _MOST_EXIF and kind == "jpeg":
        notes.append("the file's XMP is not kept: it is longer than a JPEG can hold")
    elif metadata.xmp:
        options["xmp"] = metadata.xmp
    if kind == "webp":
        lossless = saving.quality is None
        options |= {"lossless": lossless, "exact": True, "quality": 50 if lossless else saving.quality}
        if metadata.iptc:
            notes.append("the file's IPTC record is not kept: a WebP has no place for it")
    else:
        options |= {"dpi": metadata.dpi} if metadata.dpi else {}
        options |= {"comment": metadata.comment} if metadata.comment else {}
        options["extra"] = jpeg_segment(metadata.iptc)
        if metadata.iptc and not options["extra"]:
            notes.append("the file's IPTC record is not kept: it is longer than a JPEG can hold")
        if saving.quality is None and origin.tables and origin.grey == (pixels.shape[2] == 1):
            options |= {"qtables": origin.tables, "subsampling": origin.sampling}
        else:
            options |= {"quality": saving.quality or _JPEG_QUALITY, "subsampling": 0}
    if metadata.texts:
        notes.append(f"the PNG's texts ({', '.join(key for key, _ in metadata.texts)}) are not kept: only PNG has them")
    _picture(pixels).save(stream, format=kind.upper(), **options)
    return notes


def _save_tiff(stream: BinaryIO, pixels: np.ndarray, metadata: Metadata, origin: Origin) -> list[str]:
    height, width, channels = pixels.shape
    notes = []
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    try:
        for tag, value in tags_for_tiff(metadata.exif).items():
            directory[tag] = value
        directory.tobytes()
    except Exception as error:  # Pillow writes what it can read, but for tags that break the rules
        notes.append(f"the file's EXIF is not kept: it holds what a TIFF cannot ({type(error).__name__})")
        directory = TiffImagePlugin.ImageFileDirectory_v2()
    directory.update({256: width, 257: height, 258: (pixels.dtype.itemsize * 8,) * channels, 259: _DEFLATE})
    directory.update({262: 1 if channels < 3 else 2, 277: channels, 284: 1, 317: _DIFFERENCES, 274: 1})
    if channels in (2, 4):
        directory[338] = origin.alpha
    if metadata.dpi:
        directory.update({282: metadata.dpi[0], 283: metadata.dpi[1], 296: 2})
    for tag, value in ((700, metadata.xmp), (34377, metadata.iptc), (34675, metadata.icc_profile)):
        if value:
            directory.tagtype[tag] = 7  # undefined: bytes
            directory[tag] = value
    rows = max(1, _STRIP_BYTES // (width * channels * pixels.dtype.itemsize))
    strips = [zlib.compress(_differences(pixels[y : y + rows]), 1) for y in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]
    directory.update({278: rows, 279: tuple(sizes), 273: tuple(sum(sizes[:i]) for i in range(len(sizes)))})
    stream.seek(directory.save(stream))
    for strip in strips:
        stream.write(strip)
    return notes


def _differences(rows: np.ndarray) -> bytes:
    """Each value as the difference to the one a pixel before, little-endian.  rows: (h, W, C)."""
    result = rows.copy()
    np.subtract(rows[:, 1:], rows[:, :-1], out=result[:, 1:])
    return result.astype(rows.dtype.newbyteorder("<")).tobytes()


def _png_of_16_bits(pixels: np.ndarray, written_by_pillow: bytes) -> bytes:
    """pixels: (H, W, C) uint16.  written_by_pillow: a PNG with the chunks that the photo shall carry."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    rows = np.ascontiguousarray(pixels.astype(">u2")).view(np.uint8).reshape(height, -1)
    step = 2 * channels
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = 1  # Sub: each byte as the difference to the one a pixel before
    filtered[:, 1 : step + 1] = rows[:, :step]
    np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, step + 1 :])
    kept = [(name, data) for name, data in _chunks(written_by_pillow) if name not in (b"IHDR", b"IDAT", b"IEND")]
    chunks = [(b"IHDR", header), *kept, (b"IDAT", zlib.compress(filtered, 1)), (b"IEND", b"")]
    return written_by_pillow[:8] + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(png):
        (size,) = struct.unpack_from(">I", png, at)
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _picture(pixels: np.ndarray) -> Image.Image:
    """(H, W, C) uint8."""
    shaped = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(np.ascontiguousarray(shaped), _MODES[pixels.shape[2]])
