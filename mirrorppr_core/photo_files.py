"""Photo files in and out, for use outside ComfyUI.

Reading applies the EXIF orientation and keeps 8 bits, alpha and the colour profile; writing gives an 8-bit PNG of
exactly the same size with that profile, through a temporary file, so that a crash leaves no half picture.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from .file_writing import prove_writable, replacing
from .picture_guard import PictureError, open_picture
from .wording import file_name

_MOST_PIXELS = 100_000_000  # of a picture inside another file
_READABLE_MODES = {"RGB": "RGB", "RGBA": "RGBA", "L": "RGB", "LA": "RGBA", "P": "RGB", "1": "RGB"}


@dataclass(frozen=True)
class Photo:
    """pixels: (1, 3 or 4, H, W) uint8, upright.  icc_profile: raw bytes or None."""

    pixels: Tensor
    icc_profile: bytes | None


def read_photo(path: Path) -> Photo:
    """Raises FileNotFoundError or PictureError that names the file and the remedy."""
    with open_picture(path) as picture:
        # Pillow would cut 16-bit colour down to 8 without a word.
        deep = any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ()))
        if picture.mode not in _READABLE_MODES or deep:
            raise PictureError(
                f"{file_name(path.name)} has colour mode {picture.mode}{', 16 bits' if deep else ''}, which cannot be "
                "kept: save it as an 8-bit RGB picture (PNG, JPEG or TIFF) and try again"
            )
        mode = _READABLE_MODES[picture.mode]
        if picture.mode in ("P", "RGB", "L", "1"):  # alpha, if any, is a transparent colour
            mode = "RGBA" if "transparency" in picture.info else "RGB"
        icc_profile = picture.info.get("icc_profile")
        if icc_profile and icc_profile[16:20] != b"RGB ":
            icc_profile = None  # a grey picture's profile means nothing on the RGB it becomes
        ImageOps.exif_transpose(picture, in_place=True)
        array = np.array(picture if picture.mode == mode else picture.convert(mode))
    return Photo(torch.from_numpy(array).permute(2, 0, 1)[None].contiguous(), icc_profile)


def prepare_folder(folder: Path) -> None:
    """Make the folder and prove that it can be written to. Raises OSError that names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prove_writable(folder)
    except OSError as error:
        raise OSError(f"cannot write to {folder} ({error.strerror}): choose another folder") from error


def write_png(path: Path, photo: Photo) -> None:
    """8-bit PNG; an existing file is replaced only by a complete one."""
    array = photo.pixels[0].permute(1, 2, 0).contiguous().numpy()
    with replacing(path) as stream:
        # Level 1: portraits hardly shrink further, and a 24-megapixel photo is written in one second, not eight.
        Image.fromarray(array).save(stream, format="PNG", compress_level=1, icc_profile=photo.icc_profile)


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
