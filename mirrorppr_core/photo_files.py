"""Photo files in and out, for use outside ComfyUI.

Reading turns the picture upright and keeps its 8 or 16 bits, alpha, grey, and what belongs to it (photo_metadata.py);
writing puts all of that back into a file of the same size in one of several formats (photo_saving.py), through a
temporary file, so that a crash leaves no half picture. What cannot be kept is refused or told, never dropped silently:
CMYK needs to be asked for, several frames or pages are no photo.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, JpegImagePlugin
from torch import Tensor

from .file_writing import prove_writable, replacing
from .photo_depth import INSTALL, check_depth, check_tiff, depth_of, read_deep
from .photo_metadata import Metadata, orientation, read_metadata, upright
from .photo_saving import Origin, Saving, check_fit, save
from .picture_guard import FORMATS, PictureError, open_picture
from .wording import file_name

CMYK = ("refuse", "convert")
HEIC = (".heic", ".heif")
_MOST_PIXELS = 100_000_000  # of a picture inside another file
_READABLE_MODES = {"RGB": "RGB", "RGBA": "RGBA", "L": "RGB", "LA": "RGBA", "P": "RGB", "1": "RGB"}
_FULL = {torch.uint8: 255, torch.float32: 65535}  # a float photo holds the steps of 16 bits
_HEADER = 64  # bytes
_ALPHA_TAG, _SUBFILE_TAG = 338, 254
_GAIN_MAP = "the file's second picture (a gain map or preview) is not kept"


@dataclass(frozen=True)
class Photo:
    """pixels: (1, 3 or 4, H, W), upright: uint8, or where the file has 16 bits float32, multiples of 1 / 65535.

    metadata: what else the file holds.  origin: how it was stored.
    """

    pixels: Tensor
    metadata: Metadata = field(default_factory=Metadata)
    origin: Origin = field(default_factory=Origin)

    def with_pixels(self, pixels: Tensor) -> Photo:
        """The retouched photo: everything else stays."""
        return replace(self, pixels=pixels)


def read_photo(path: Path, *, cmyk: str = "refuse", frame: int | None = None) -> Photo:
    """cmyk: "convert" turns print colours into sRGB; else they are refused.  frame: which one of a file that holds
    several, from 0 (count_frames); without, such a file is refused.

    Raises FileNotFoundError or PictureError that names the file and the remedy.
    """
    if cmyk not in CMYK:
        raise ValueError(f"cmyk={cmyk!r}: use {' or '.join(CMYK)}")
    name, formats = file_name(path.name), FORMATS
    if path.is_file():
        formats = _formats(path)
        check_tiff(path, name)
    with open_picture(path, formats=formats) as picture:
        if frame is not None:
            picture.seek(frame)
        metadata, was = read_metadata(picture), orientation(picture)
        several = _check_frames(picture, name) if frame is None else ()
        with open(path, "rb") as stream:
            depth = depth_of(picture, stream.read(_HEADER))
        check_depth(depth, name)
        deep = depth.bits == 16
        if deep and frame is not None:
            raise PictureError(f"{name} holds frames of 16 bits, which are not read: save them as single pictures")
        if deep:
            array = read_deep(path, picture, name)
            grey = array.shape[2] < 3
        else:
            if picture.mode == "CMYK":
                picture, metadata = _from_cmyk(picture, metadata, name, cmyk)
            array, grey = _eight_bits(picture, name)
        origin = _origin(picture, grey=grey)
    pixels = torch.from_numpy(_turned(array, was).astype(np.float32 if deep else np.uint8)).permute(2, 0, 1)[None]
    pixels = pixels / 65535 if deep else pixels
    if grey:
        pixels = torch.cat([pixels[:, :1].expand(-1, 3, -1, -1), pixels[:, 1:]], dim=1)
    metadata = replace(upright(metadata, was), notes=metadata.notes + several)
    return Photo(pixels.contiguous(), metadata, origin)


def count_frames(path: Path) -> int:
    """How many pictures meant to be seen a file holds; 1 for photos, with previews and gain maps or without.

    Raises as read_photo does.
    """
    with open_picture(path, formats=_formats(path) if path.is_file() else FORMATS) as picture:
        return 1 if _belongs_to_one(picture) is not None else picture.n_frames


def write_photo(path: Path, photo: Photo, saving: Saving | None = None) -> tuple[str, ...]:
    """An existing file is replaced only by a complete one. Returns what could not be kept, in words.

    Pixels that were not changed have the bits of the file that they came from, but in a JPEG or where a quality is
    asked. Raises ValueError where the format cannot hold the photo.
    """
    full = _FULL[photo.pixels.dtype]
    planes = photo.pixels[0]
    grey = photo.origin.grey and bool((planes[:1] == planes[1:3]).all())
    metadata = photo.metadata if grey == photo.origin.grey else replace(photo.metadata, icc_profile=b"")
    planes = torch.cat([planes[:1], planes[3:]]) if grey else planes
    if full == 65535:
        array = (planes.double() * full).round().clamp(0, full).permute(1, 2, 0).numpy().astype(np.uint16)
    else:
        array = planes.permute(1, 2, 0).contiguous().numpy()
    with replacing(path) as stream:
        return save(stream, array, metadata, saving or Saving(), photo.origin, file_name(path.name))


def check_saving(photo: Photo, saving: Saving, name: str) -> None:
    """Raise ValueError where the format that is asked for cannot hold the photo, before any work on it."""
    check_fit(saving.kind_for(photo.origin), photo.pixels.shape[1] == 4, file_name(name))


def _formats(path: Path) -> tuple[str, ...]:
    """What may be opened: HEIC too where its reader is installed and the file is one."""
    with open(path, "rb") as stream:
        begin = stream.read(12)
    if begin[4:8] != b"ftyp" or begin[8:12] not in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
        return FORMATS
    try:
        import pillow_heif
    except ImportError as error:
        raise PictureError(
            f"{file_name(path.name)} is a HEIC picture, which needs a reader: {INSTALL}. Or export it as JPEG or TIFF.",
            "kind",
        ) from error
    pillow_heif.register_heif_opener()
    return (*FORMATS, "HEIF")


def _check_frames(picture: Image.Image, name: str) -> tuple[str, ...]:
    """Notes. Raises PictureError where a file holds more pictures than one that are meant to be seen."""
    notes = _belongs_to_one(picture)
    if notes is not None:
        return notes
    kind = "pages" if picture.format == "TIFF" else "frames"
    raise PictureError(
        f"{name} holds {picture.n_frames} {kind}, and one photo is meant: save them as single pictures, or have each "
        "retouched by itself with `retouch --frames each` (`album --sequence` for the single frames of one shot)"
    )


def _belongs_to_one(picture: Image.Image) -> tuple[str, ...] | None:
    """Notes on what else a file of one photo holds; None where it holds several."""
    count = getattr(picture, "n_frames", 1)
    if count == 1:
        return ()
    if picture.format in ("MPO", "JPEG", "HEIF"):
        return (_GAIN_MAP,)
    if picture.format == "TIFF":
        reduced = []
        for page in range(1, count):
            picture.seek(page)
            reduced.append(bool(picture.tag_v2.get(_SUBFILE_TAG, 0) & 1))
        picture.seek(0)
        if all(reduced):
            return ("the TIFF's smaller copies of itself are not kept",)
    return None


def _eight_bits(picture: Image.Image, name: str) -> tuple[np.ndarray, bool]:
    """(H, W, C) uint8, as it lies in the file, and whether it is grey."""
    if picture.mode not in _READABLE_MODES:
        raise PictureError(
            f"{name} has colour mode {picture.mode}, which cannot be kept: save it as RGB or grey (PNG, JPEG or TIFF) "
            "and try again"
        )
    # A transparent colour becomes alpha.
    transparent = "transparency" in picture.info and picture.mode in ("P", "RGB", "L", "1")
    grey = picture.mode in ("L", "LA")
    mode = ("LA" if grey else "RGBA") if transparent else picture.mode if grey else _READABLE_MODES[picture.mode]
    array = np.array(picture if picture.mode == mode else picture.convert(mode))
    return array if array.ndim == 3 else array[..., None], grey


def _from_cmyk(picture: Image.Image, metadata: Metadata, name: str, cmyk: str) -> tuple[Image.Image, Metadata]:
    """In sRGB."""
    if cmyk != "convert":
        raise PictureError(
            f"{name} has colour mode CMYK, print colours, which cannot be kept: save it as an RGB picture, or have it "
            "turned into sRGB here with --cmyk convert"
        )
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    note = "print colours (CMYK) were turned into sRGB, as asked"
    if metadata.icc_profile:
        own = ImageCms.ImageCmsProfile(io.BytesIO(metadata.icc_profile))
        converted = ImageCms.profileToProfile(picture, own, srgb, outputMode="RGB")
    else:
        converted, note = picture.convert("RGB"), f"{note}; the file has no profile, so by plain arithmetic"
    converted.format = picture.format
    return converted, replace(metadata, icc_profile=srgb.tobytes(), notes=(*metadata.notes, note))


def _origin(picture: Image.Image, *, grey: bool) -> Origin:
    kind = {"MPO": "jpeg", "HEIF": "heic"}.get(picture.format, picture.format.lower())
    tables = getattr(picture, "quantization", None) or None
    sampling = JpegImagePlugin.get_sampling(picture) if tables else -1
    alpha = getattr(picture, "tag_v2", {}).get(_ALPHA_TAG, (2,))
    alpha = alpha[0] if isinstance(alpha, tuple) else alpha
    return Origin(format=kind, grey=grey, tables=tables, sampling=sampling, alpha=1 if alpha == 1 else 2)


def _turned(array: np.ndarray, was: int) -> np.ndarray:
    """(H, W, C) upright, from the orientation that EXIF calls `was`."""
    if was in (5, 6, 7, 8):
        array = array.transpose(1, 0, 2)
    if was in (2, 3, 6, 7):
        array = array[:, ::-1]
    if was in (3, 4, 7, 8):
        array = array[::-1]
    return array


def prepare_folder(folder: Path) -> None:
    """Make the folder and prove that it can be written to. Raises OSError that names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prove_writable(folder)
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}): choose another folder") from error


def encode_png(pixels: Tensor) -> Tensor:
    """A picture (1, 3 or 4, H, W), uint8 or float in [0, 1], as the bytes of a PNG file: uint8 (N,)."""
    whole = pixels if pixels.dtype == torch.uint8 else (pixels.clamp(0, 1) * 255).round().to(torch.uint8)
    content = io.BytesIO()
    Image.fromarray(whole[0].permute(1, 2, 0).contiguous().cpu().numpy()).save(content, format="PNG", compress_level=6)
    return torch.frombuffer(bytearray(content.getvalue()), dtype=torch.uint8)


def decode_png(content: Tensor) -> Tensor:
    """The picture (1, 3 or 4, H, W) uint8 in these bytes (N,). Raises ValueError if they are none, or too large."""
    if content.dtype != torch.uint8 or content.ndim != 1:
        raise ValueError("a picture in it is not one: export or save it again")
    stream = io.BytesIO(content.numpy().tobytes())
    with open_picture(stream, "a picture in it", formats=("PNG",), most_pixels=_MOST_PIXELS) as picture:
        if picture.mode not in ("RGB", "RGBA"):
            raise PictureError(f"a picture in it is {picture.mode}, {picture.width}x{picture.height}: not one of ours")
        array = np.array(picture)
    return torch.from_numpy(array).permute(2, 0, 1)[None].contiguous()
