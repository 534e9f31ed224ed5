"""The one way in which picture files are opened: formats we mean to read, of a size that fits, or one sentence.

    with open_picture(path) as picture:      the header is read and found good; pixels are decoded inside the block
        array = np.array(picture)

Pillow would try any of its forty formats, whatever a file is called: an EPS named .jpg starts Ghostscript. Here a
format that is not asked for is named and refused from its first bytes. The size stands in the header, so a picture too
large is refused before it is decoded: 700 kB of PNG can unfold to gigabytes. Decoders that meet damage raise whatever
comes to them; all of it becomes a PictureError.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from .wording import brief, file_name

FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "BMP")  # a camera's MPO opens as a JPEG
MOST_PIXELS = 120_000_000  # medium-format cameras have 102 million; decoded, each takes up to 8 bytes for a moment
_READ_AS = {"JPEG": "JPEG", "PNG": "PNG", "TIFF": "TIFF", "WEBP": "WebP", "BMP": "BMP", "GIF": "GIF", "HEIF": "HEIC"}
_SNIFFED = 32

# What people have on their disks beside photos, by how it begins.
_KINDS = (
    (0, b"%!PS", "PostScript"), (0, b"\xc5\xd0\xd3\xc6", "EPS"), (0, b"%PDF", "PDF"), (0, b"GIF8", "GIF"),
    (0, b"8BPS", "Photoshop"), (0, b"<svg", "SVG"), (0, b"<?xml", "SVG or XML"), (0, b"\xd7\xcd\xc6\x9a", "WMF"),
    (0, b"\x01\x00\x00\x00\x6c\x00", "EMF"), (0, b"/* XPM", "XPM"), (0, b"#define", "XBM"),
    (0, b"\x00\x00\x01\x00", "ICO"), (0, b"DDS ", "DDS"), (0, b"#?RADIANCE", "HDR"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"), (0, b"\x00\x00\x00\x0cjP", "JPEG 2000"), (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"\xff\x0a", "JPEG XL"), (0, b"\x00\x00\x00\x0cJXL", "JPEG XL"),
    (4, b"ftypheic", "HEIC"), (4, b"ftypheix", "HEIC"), (4, b"ftypmif1", "HEIC"), (4, b"ftypavif", "AVIF"),
    (4, b"ftypcrx", "Canon raw"), (4, b"ftyp", "video"), (0, b"FUJIFILM", "Fujifilm raw"), (8, b"CR", "Canon raw"),
    (0, b"P5", "PGM"), (0, b"P6", "PPM"), (0, b"IIRO", "Olympus raw"), (0, b"FOVb", "Sigma raw"),
    (0, b"IIU\x00", "Panasonic raw"), (0, b"PK\x03\x04", "ZIP"),
    (0, b"<!DOC", "HTML"), (0, b"<html", "HTML"),
)  # fmt: skip


class PictureError(ValueError):
    """One sentence: which file, what is wrong with it, what to do.

    reason: unreadable (the system's refusal), empty, kind (no picture of these formats), size, memory, damaged, or
    unfit (a sound picture that the caller cannot use).
    """

    def __init__(self, sentence: str, reason: str = "unfit"):
        super().__init__(sentence)
        self.reason = reason


@contextmanager
def open_picture(
    source: Path | BinaryIO, name: str = "", *, formats: Sequence[str] = FORMATS, most_pixels: int = MOST_PIXELS
) -> Iterator[Image.Image]:
    """A picture whose header is good, to be decoded inside the block.

    name: how the user knows it; a path knows its own.  formats: of Pillow's names, those meant to be read.
    Raises PictureError for all that goes wrong here or inside the block, FileNotFoundError if nothing is there.
    """
    name = file_name(name or (source.name if isinstance(source, Path) else "the picture"))
    try:
        if isinstance(source, Path):
            _check_is_file(source, name)
            with open(source, "rb") as stream, _opened(stream, name, formats, most_pixels) as picture:
                yield picture
        else:
            with _opened(source, name, formats, most_pixels) as picture:
                yield picture
    except (PictureError, FileNotFoundError):
        raise
    except MemoryError as error:
        raise PictureError(
            f"{name} needs more memory than there is: reduce it, or close other programs", "memory"
        ) from error
    except OSError as error:
        if error.errno is not None:  # the system's, not a decoder's
            raise PictureError(
                f"{name} cannot be read ({error.strerror}): check its permissions and disk", "unreadable"
            ) from error
        raise _damaged(name, error) from error
    except Exception as error:
        raise _damaged(name, error) from error


def _check_is_file(path: Path, name: str) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file. Check the path and its spelling.")
    if not path.is_file():  # a pipe would be waited for
        raise PictureError(f"{name} is no file but a folder or a device: name the picture itself", "unreadable")


def check_size(width: int, height: int, name: str, most_pixels: int = MOST_PIXELS) -> None:
    """Raise PictureError if a picture of this size is not to be decoded."""
    if width < 1 or height < 1:
        raise PictureError(f"{name} says that it is {width}x{height} pixels: it is damaged, export it again", "damaged")
    if width * height > most_pixels:
        raise PictureError(
            f"{name} is too large: {width}x{height} is {width * height / 1e6:.0f} million pixels, at most "
            f"{most_pixels / 1e6:.0f} million are read. Reduce it or cut out the part with the person.",
            "size",
        )


def _opened(stream: BinaryIO, name: str, formats: Sequence[str], most_pixels: int) -> Image.Image:
    begin = stream.read(_SNIFFED)
    stream.seek(0)
    kind = next((kind for offset, magic, kind in _KINDS if begin[offset:].startswith(magic)), "")
    wanted = ", ".join(dict.fromkeys(_READ_AS.get(one, one) for one in formats))
    if not begin:
        raise PictureError(f"{name} is empty (0 bytes): copy or export it again", "empty")
    if kind and kind not in (_READ_AS.get(one, one) for one in formats):
        raise PictureError(f"{name} is a {kind} file, which is not read here: save it as one of {wanted}", "kind")
    try:
        picture = Image.open(stream, formats=list(formats))
    except Image.DecompressionBombError as error:
        raise PictureError(
            f"{name} is too large ({brief(error)}): {most_pixels / 1e6:.0f} million pixels are read. Reduce it.",
            "size",
        ) from error
    except UnidentifiedImageError as error:
        said = f"a damaged {kind} file" if kind else "damaged or not a picture"
        raise PictureError(f"{name} is {said}: export it again as one of {wanted}", "kind") from error
    check_size(*picture.size, name, most_pixels)
    _check_tiles(picture, name)
    return picture


def _check_tiles(picture: Image.Image, name: str) -> None:
    """A TIFF is stored in tiles, and each is unpacked whole: one larger than the picture is a lie."""
    tags = getattr(picture, "tag_v2", None)
    for tag, extent in ((322, picture.width), (323, picture.height)):
        side = 0 if tags is None else tags.get(tag, 0)
        if isinstance(side, int) and side > extent + 4096:
            raise PictureError(f"{name} is damaged (tiles of {side} pixels): export it again", "damaged")


def _damaged(name: str, error: Exception) -> PictureError:
    said = brief(error) or type(error).__name__
    if isinstance(error, struct.error | KeyError | IndexError):  # their words mean nothing to anybody
        said = "its data end or point astray"
    return PictureError(f"{name} is damaged or not a picture ({said}): export it again", "damaged")
