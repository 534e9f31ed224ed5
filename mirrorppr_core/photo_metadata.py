"""What a photographer's file carries beside its pixels, read from one format and put into another.

EXIF, XMP, IPTC (as Photoshop's resource block), colour profile, resolution, comment and PNG's own texts. Pixels are
turned upright when a photo is read, so the orientation is set to upright wherever it is written down; the small preview
inside the EXIF shows the photo before its retouch and is left out. Everything else keeps its bytes.

EXIF is a small TIFF: a header, then directories of entries of 12 bytes (EXIF 2.32, section 4.6; TIFF 6.0, section 2).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

_HEAD = b"Exif\x00\x00"
_ORIENTATION, _EXIF, _GPS, _WIDTH, _HEIGHT = 0x112, 0x8769, 0x8825, 0xA002, 0xA003
_PHOTOSHOP_TAG, _LAYERS_TAG, _IPTC_TAG = 34377, 37724, 33723
_PHOTOSHOP_HEAD = b"Photoshop 3.0\x00"
# What of a TIFF's first directory tells of the photo; the rest tells how its pixels are stored.
_OF_THE_PHOTO = (269, 270, 271, 272, 285, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096), _EXIF, _GPS)
_XMP_ORIENTATION = re.compile(rb'(tiff:Orientation(?:="|>))[0-9]')


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """exif: a TIFF without the word Exif before it.  iptc: Photoshop's resource block (8BIM...).  dpi: x and y.

    texts: PNG's.  All empty where the file has none.  notes: what of the file cannot be carried over at all.
    """

    icc_profile: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    dpi: tuple[float, float] | None = None
    comment: bytes = b""
    texts: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()


def read_metadata(picture: Image.Image) -> Metadata:
    """Of an opened picture, as it stands in the file: see `upright`."""
    info, tags = picture.info, getattr(picture, "tag_v2", None)
    notes = []
    if tags is not None and _LAYERS_TAG in tags:
        notes.append("the file's Photoshop layers are not kept: the picture as it looks is")
    if tags is not None and _IPTC_TAG in tags and _PHOTOSHOP_TAG not in tags:
        notes.append("the file's IPTC record is not kept; what its EXIF and XMP say is")
    xmp = info.get("xmp") or b""
    dpi = info.get("dpi")
    texts = getattr(picture, "text", None) or {}
    return Metadata(
        icc_profile=info.get("icc_profile") or b"",
        exif=_exif_of(picture),
        xmp=xmp.encode() if isinstance(xmp, str) else bytes(xmp),
        iptc=_iptc_of(picture),
        dpi=None if not dpi or not all(0 < float(d) < 1e6 for d in dpi) else (float(dpi[0]), float(dpi[1])),
        comment=bytes(info["comment"]) if isinstance(info.get("comment"), bytes) else b"",
        texts=tuple((key, str(text)) for key, text in texts.items() if not key.startswith(("XML:", "Raw profile"))),
        notes=tuple(notes),
    )


def orientation(picture: Image.Image) -> int:
    """1 to 8, as in EXIF; 1 is upright."""
    value = picture.getexif().get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def upright(metadata: Metadata, was: int) -> Metadata:
    """For pixels that were turned.  was: the orientation they were turned by."""
    xmp = _XMP_ORIENTATION.sub(rb"\g<1>1", metadata.xmp)
    return replace(metadata, exif=_upright_exif(metadata.exif, swapped=was > 4), xmp=xmp)


def tags_for_tiff(exif: bytes) -> dict[int, Any]:
    """The entries of an EXIF that belong into a TIFF's first directory, sub-directories as dictionaries."""
    if not exif:
        return {}
    parsed = Image.Exif()
    parsed.load(_HEAD + exif)
    found = {tag: parsed[tag] for tag in _OF_THE_PHOTO if tag in parsed and tag not in (_EXIF, _GPS)}
    return found | {tag: inner for tag in (_EXIF, _GPS) if (inner := parsed.get_ifd(tag))}


def _exif_of(picture: Image.Image) -> bytes:
    if getattr(picture, "tag_v2", None) is None and picture.info.get("exif"):
        return bytes(picture.info["exif"]).removeprefix(_HEAD)
    found = picture.getexif()
    if not found:
        return b""
    wanted = Image.Exif()
    for tag in _OF_THE_PHOTO:
        if tag in (_EXIF, _GPS):
            if inner := found.get_ifd(tag):
                wanted.get_ifd(tag).update(inner)
                wanted[tag] = dict(inner)
        elif tag in found:
            wanted[tag] = found[tag]
    return wanted.tobytes().removeprefix(_HEAD) if wanted else b""


def _iptc_of(picture: Image.Image) -> bytes:
    tags = getattr(picture, "tag_v2", None)
    if tags is not None:
        block = tags.get(_PHOTOSHOP_TAG, b"")
        block = block[0] if isinstance(block, tuple) and block else block
        return bytes(block) if isinstance(block, bytes) else b""
    segments = [data for name, data in getattr(picture, "applist", []) if name == "APP13"]
    return b"".join(data.removeprefix(_PHOTOSHOP_HEAD) for data in segments if data.startswith(_PHOTOSHOP_HEAD))


def jpeg_segment(iptc: bytes) -> bytes:
    """The segment of a JPEG that holds the resource block; nothing where it is too long for one."""
    content = _PHOTOSHOP_HEAD + iptc
    if not iptc or len(content) > 0xFFFD:
        return b""
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


def _upright_exif(exif: bytes, *, swapped: bool) -> bytes:
    """Orientation 1, no preview, width and height exchanged if so asked; all other bytes stay where they are."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 8:
        return exif
    changed = bytearray(exif)
    places, end = _entries(changed, order, struct.unpack_from(order + "I", changed, 4)[0])
    if end and end + 4 <= len(changed):
        struct.pack_into(order + "I", changed, end, 0)  # where the next directory, the preview's, would begin
    if _ORIENTATION in places:
        struct.pack_into(order + "HIHH", changed, places[_ORIENTATION] + 2, 3, 1, 1, 0)
    if swapped and _EXIF in places:
        inner, _ = _entries(changed, order, struct.unpack_from(order + "I", changed, places[_EXIF] + 8)[0])
        if _WIDTH in inner and _HEIGHT in inner:
            wide, high = inner[_WIDTH] + 2, inner[_HEIGHT] + 2
            changed[wide : wide + 10], changed[high : high + 10] = changed[high : high + 10], changed[wide : wide + 10]
    return bytes(changed)


def _entries(content: bytearray, order: str, start: int) -> tuple[dict[int, int], int]:
    """Where each entry of a directory begins, by its tag, and where the directory ends; nothing where it leaves the
    content."""
    if start + 2 > len(content):
        return {}, 0
    count = struct.unpack_from(order + "H", content, start)[0]
    end = start + 2 + 12 * count
    if end > len(content):
        return {}, 0
    return {struct.unpack_from(order + "H", content, at)[0]: at for at in range(start + 2, end, 12)}, end
