"""Fields as picture files for other programs, and back.

    exr     ST map, 32-bit float, R = u, G = v                    OpenEXR
    tiff    the same in an uncompressed RGB TIFF                  tifffile
    png     offsets: 16 bits, R = dx, G = dy, B is empty          pypng

    dx = (R - 32768) / 32767 * range_px        range_px is in the file's text, "mirrorppr-field"; 32768 is exactly 0

What an ST map is says st_map.py. It keeps 0.0001 px at 1024 px; a PNG keeps range_px / 65534, where range_px is the
longest motion along an axis: 0.0002 px at 10 px. An ST map is never written as 16 bits, where rounding alone would move
every pixel by up to W / 131072.

The three packages are not needed otherwise and are imported where they are used: `pip install OpenEXR tifffile pypng`.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..file_writing import replacing
from ..picture_guard import PictureError, open_picture
from .field import Field
from .st_map import from_st_map, to_st_map

FORMATS = ("exr", "tiff", "png")
ENDINGS = (".exr", ".tiff", ".tif", ".png")
ABOUT = "ST map, absolute, inverse: out(p) = in(map(p)); u right, v up, at pixel centres. MirrorPPR."
ZERO, STEPS = 32768, 32767  # of 16 bits
_TEXT = "mirrorppr-field"
_MOST_PIXELS = 100_000_000
_PACKAGES = {"exr": "OpenEXR", "tiff": "tifffile", "png": "pypng"}


@dataclass(frozen=True, kw_only=True)
class LoadedField:
    field: Field
    notes: tuple[str, ...]


class _Unfit(ValueError):
    """What we find wrong with a file ourselves; all else that its reader raises means damage."""


@dataclass(frozen=True)
class _Offsets:
    """values: (H, W, 2), 0 to 65535.  text: what the file says of itself."""

    values: np.ndarray
    text: str | None


def check_new_field(path: Path) -> None:
    """Raise before any work where a field could not be written to this file: its ending, its place, its package."""
    kind = _kind(path)
    if path.exists():
        raise FileExistsError(f"{path.name} exists already and is not overwritten: choose another name")
    with _package(kind):
        if kind == "exr":
            import OpenEXR  # noqa: F401
        elif kind == "tiff":
            import tifffile  # noqa: F401
        else:
            import png  # noqa: F401


def write_field(path: Path, field: Field) -> str:
    """Write a field to a file that does not exist yet; its ending says in which format.  Returns what was written.

    Raises OSError where it cannot be written, and leaves nothing half-written.
    """
    kind = _kind(path)
    with _package(kind):
        content, about = {"exr": _exr, "tiff": _tiff, "png": _png}[kind](field)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, new=True) as stream:
        stream.write(content)
    return about


def read_field(path: Path, *, range_px: float = 0.0) -> LoadedField:
    """The field in a file that this or another program wrote.

    range_px: of a PNG whose text was lost on the way; 0: as the file says.
    Raises FileNotFoundError or ValueError that names the file and the remedy.
    """
    kind = _kind(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name}: no such file. Check the name and its spelling.")
    if range_px < 0:
        raise ValueError(f"range_px is {range_px:g}: give the motion in pixels of the value 65535, or 0 as in the file")
    with _package(kind), _naming(path):
        content = {"exr": _from_exr, "tiff": _from_tiff, "png": _from_png}[kind](path)
        if kind == "png":
            range_px = range_px or _range(content.text)
            shift = torch.from_numpy((content.values - ZERO) / STEPS * range_px).float().movedim(-1, 0)[None]
            field, about = Field.from_dense(shift), f"offsets, 65535 is {range_px:.6g} px,"
        else:
            field, about = _from_map(content), "ST map"
    notes = f"{about} of {field.width}x{field.height}, largest motion {field.max_px:.1f} px"
    return LoadedField(field=field, notes=(notes,))


def _from_map(st_map: Tensor) -> Field:
    try:
        return from_st_map(st_map)
    except ValueError as error:
        raise _Unfit(str(error)) from error


def _exr(field: Field) -> tuple[bytes, str]:
    import OpenEXR

    u, v, empty = to_st_map(field)[0].numpy()
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, "comments": ABOUT}
    stream = io.BytesIO()
    OpenEXR.File(header, {"R": u, "G": v, "B": empty}).write(stream)
    return stream.getvalue(), "ST map, 32-bit EXR"


def _tiff(field: Field) -> tuple[bytes, str]:
    import tifffile

    pixels = to_st_map(field)[0].movedim(0, -1).contiguous().numpy()
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, photometric="rgb", description=ABOUT, metadata=None)
    return stream.getvalue(), "ST map, 32-bit TIFF"


def _png(field: Field) -> tuple[bytes, str]:
    import png

    range_px = max(float(field.displacement.abs().max()) if field.displacement.numel() else 0.0, 1.0)
    values = torch.full((field.height, field.width, 3), ZERO, dtype=torch.int32)
    left, top, right, bottom = field.box
    steps = (field.displacement[0].double() / range_px * STEPS).round().int() + ZERO
    values[top:bottom, left:right, :2] = steps.movedim(0, -1)
    rows = values.numpy().astype(">u2").reshape(field.height, -1)
    plain = io.BytesIO()
    writer = png.Writer(width=field.width, height=field.height, greyscale=False, bitdepth=16, compression=1)
    writer.write_packed(plain, (row.tobytes() for row in rows))
    first, *others = png.Reader(bytes=plain.getvalue()).chunks()
    text = {"version": 1, "range_px": range_px, "zero": ZERO, "steps": STEPS}
    stream = io.BytesIO()
    png.write_chunks(stream, [first, (b"tEXt", f"{_TEXT}\0{json.dumps(text)}".encode("latin-1")), *others])
    accuracy = range_px / STEPS / 2
    return stream.getvalue(), f"offsets, 16-bit PNG: 65535 is {range_px:.6g} px, exact to {accuracy:.2g} px"


def _from_exr(path: Path) -> Tensor:
    import OpenEXR

    with OpenEXR.File(str(path), header_only=True) as file:
        header = file.header()  # empties itself when the file closes
        window, whole = (np.array(header[name], dtype=np.int64) for name in ("dataWindow", "displayWindow"))
    width, height = (window[1] - window[0] + 1).tolist()
    _check_size(width, height)
    if (window != whole).any():
        raise _Unfit("its picture is only a part of its frame: write it with the whole frame as bounding box")
    with OpenEXR.File(str(path), separate_channels=True) as file:
        channels = file.channels()
        missing = [name for name in ("R", "G") if name not in channels]
        if missing:
            raise _Unfit(
                f"it has the channels {', '.join(sorted(channels))[:80]}: an ST map has u in R and v in G; "
                "shuffle them there"
            )
        planes = [np.array(channels[name].pixels) for name in ("R", "G")]
    return _as_map(np.stack(planes))


def _from_tiff(path: Path) -> Tensor:
    import tifffile

    with tifffile.TiffFile(path) as file:
        if len(file.pages) != 1:
            raise _Unfit(f"it has {len(file.pages)} pages: save one picture")
        page = file.pages[0]
        _check_size(page.imagewidth, page.imagelength)
        if page.samplesperpixel < 2:
            raise _Unfit("it has one channel: an ST map has u in red and v in green")
        pixels = page.asarray()
    if page.planarconfig == 1:
        pixels = np.moveaxis(pixels, -1, 0)
    return _as_map(pixels)


def _as_map(planes: np.ndarray) -> Tensor:
    """Channels (C, H, W) of a file -> (1, C, H, W), where their numbers are fine enough for positions."""
    if planes.dtype != np.float32:
        raise _Unfit(
            f"its values are {planes.dtype}: positions of a large picture need 32-bit floats; write the ST map again "
            "with 32 bits float"
        )
    return torch.from_numpy(np.ascontiguousarray(planes[:2]))[None]


def _from_png(path: Path) -> _Offsets:
    import png

    with open_picture(path, formats=("PNG",), most_pixels=_MOST_PIXELS) as picture:
        text = picture.info.get(_TEXT)
    with path.open("rb") as stream:
        width, height, rows, info = png.Reader(file=stream).read()
        if info["bitdepth"] != 16 or info["greyscale"] or "palette" in info:
            raise _Unfit(
                "it is no 16-bit RGB picture: 8 bits are too coarse for motion; save it again with 16 bits a channel"
            )
        values = np.stack([np.asarray(row, dtype=np.uint16) for row in rows]).reshape(height, width, -1)[..., :2]
    return _Offsets(values.astype(np.float64), text)


def _range(text: str | None) -> float:
    """The motion at full value, from the file's own text."""
    try:
        about = json.loads(text or "")
        version, range_px, scale = about["version"], float(about["range_px"]), (about["zero"], about["steps"])
    except (ValueError, KeyError, TypeError):
        raise _Unfit(
            "it does not say how far its values reach (that text is lost when a program saves the picture again): give "
            "range_px, the motion in pixels of the value 65535"
        ) from None
    if version != 1 or scale != (ZERO, STEPS) or not 0 < range_px < 1e5:
        raise _Unfit(f"it is a field of version {version!r}, reach {range_px:g} px: this pack reads version 1; update")
    return range_px


def _check_size(width: int, height: int) -> None:
    if not 0 < width * height <= _MOST_PIXELS:
        raise _Unfit(f"it has {width}x{height} pixels: at most {_MOST_PIXELS // 10**6} million are read")


def _kind(path: Path) -> str:
    kind = {".exr": "exr", ".tiff": "tiff", ".tif": "tiff", ".png": "png"}.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path.name} ends in {path.suffix or 'nothing'}: a field is a file .exr, .tiff or .png")
    return kind


@contextmanager
def _package(kind: str) -> Iterator[None]:
    """Says which package is missing, and the command that brings it."""
    try:
        yield
    except ImportError as error:
        name = _PACKAGES[kind]
        raise ValueError(
            f"{kind} files of fields need the package {name}, which is not installed here ({error}): "
            f"pip install {name}, with the Python that runs this, and start again"
        ) from error


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever a reader meets in a damaged file, the file is named and one kind of error comes out."""
    try:
        yield
    except _Unfit as error:
        raise ValueError(f"{path.name}: {error}") from error
    except (ImportError, MemoryError, PictureError):
        raise
    except Exception as error:  # readers of other packages raise whatever they like
        raise ValueError(
            f"{path.name} is damaged, cut short or not what its ending says ({type(error).__name__}): export it again"
        ) from error
