"""A picture file as training data: upright RGB in [0, 1], or the reason why not.

Whoever retouches one photo wants it refused unless it can be kept exactly (mirrorppr_core/photo_files.py). Whoever
trains on a million wants all that can be read without a change of meaning, and a count of the rest. So converted are:

    EXIF orientation      applied
    CMYK                  to sRGB through the embedded profile; without one as Pillow does it
    16 bits               to [0, 1] by the full range; Pillow keeps the upper 8 bits of 16-bit colour, all of grey
    palette, grey, 1 bit  to RGB
    alpha                 dropped where it is opaque everywhere

The numbers of RGB pictures stay as they are: their profile is not applied, because the nodes do not apply it either.

    read_picture     float32 in [0, 1], whatever the file holds
    read_pixels      the bytes themselves where that is all there is: a third of the time, a quarter of the memory
    upright_size     height and width of the same, from the header alone
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageCms, ImageOps
from torch import Tensor

from mirrorppr_core import picture_guard as guard
from mirrorppr_core.images import as_float
from mirrorppr_core.picture_guard import PictureError, open_picture

FORMATS = (*guard.FORMATS, "GIF")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

# Why a file is not used; the words of counts in manifests.
REASONS = {
    "missing": "the file was there when the folder was listed, and is gone",
    "unreadable": "the system refuses to read it: permissions, a broken disk or network drive",
    "empty-file": "zero bytes",
    "not-a-picture": "none of the formats that are read",
    "damaged": "begins like a picture, but is truncated or broken",
    "too-small": "the shorter side is below the least allowed",
    "too-large": "more pixels than are read (a guard against decompression bombs)",
    "animated": "several frames or pages",
    "transparent": "not opaque everywhere; what lies behind is unknown",
    "colour-mode": "a colour mode that has no plain meaning in RGB (32-bit numbers, LAB, HSV)",
    "colour-profile": "the CMYK profile is broken",
}
_OF_GUARD = {
    "unreadable": "unreadable",
    "empty": "empty-file",
    "kind": "not-a-picture",
    "size": "too-large",
    "memory": "too-large",
    "damaged": "damaged",
}
_LYING = 5  # EXIF orientations from here on exchange width and height
_PLAIN = {"1", "L", "P", "RGB", "RGBX", "YCbCr"}
_WITH_ALPHA = {"LA", "La", "PA", "RGBA", "RGBa"}


class UnusablePicture(PictureError):
    """reason: one of REASONS.  detail: what was found, for a person."""

    def __init__(self, reason: str, detail: str):
        assert reason in REASONS, reason
        super().__init__(f"{reason}: {detail}", reason)
        self.detail = detail


def read_picture(path: Path, *, min_side: int = 1) -> Tensor:
    """(1, 3, H, W) float32 in [0, 1], upright.  Raises UnusablePicture, whatever the file holds."""
    return as_float(read_pixels(path, min_side=min_side)).contiguous()


def read_pixels(path: Path, *, min_side: int = 1) -> Tensor:
    """(1, 3, H, W) uint8, the channels of a pixel side by side in memory; float32 in [0, 1] of a 16-bit file."""
    try:
        with open_picture(path, formats=FORMATS) as picture:
            if min(picture.size) < min_side:
                raise UnusablePicture("too-small", f"{picture.width}x{picture.height}, need {min_side} or more")
            # A camera's MPO is a JPEG with previews behind it; its first frame is the photo.
            num_frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
            if num_frames > 1:
                raise UnusablePicture("animated", f"{num_frames} frames")
            array = _rgb(picture)
    except FileNotFoundError as error:
        raise UnusablePicture("missing", str(error)) from error
    except PictureError as error:
        raise _unusable(error) from error
    return torch.from_numpy(array).permute(2, 0, 1)[None]


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of the upright picture; reads the header alone.  Raises UnusablePicture."""
    try:
        with open_picture(path, formats=FORMATS) as picture:
            # Pillow gives the upright size of a TIFF itself.
            turned = picture.format != "TIFF" and picture.getexif().get(ExifTags.Base.Orientation, 1) >= _LYING
            return picture.size if turned else picture.size[::-1]
    except FileNotFoundError as error:
        raise UnusablePicture("missing", str(error)) from error
    except PictureError as error:
        raise _unusable(error) from error


def _unusable(error: PictureError) -> UnusablePicture:
    return error if isinstance(error, UnusablePicture) else UnusablePicture(_OF_GUARD[error.reason], str(error))


def _rgb(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8, or float32 in [0, 1] where 8 bits would lose some."""
    mode, profile = picture.mode, picture.info.get("icc_profile")
    sixteen_bits = mode.startswith("I") and any("16" in str(tile[3]) for tile in picture.tile)
    alpha = mode in _WITH_ALPHA or "transparency" in picture.info
    ImageOps.exif_transpose(picture, in_place=True)
    if sixteen_bits:
        grey = np.asarray(picture).astype(np.float32) / 65535
        return np.repeat(grey[..., None], 3, axis=2)
    if mode == "CMYK":
        return np.array(_cmyk_to_rgb(picture, profile))
    if alpha and mode in _PLAIN | _WITH_ALPHA:
        rgba = np.asarray(picture.convert("LA" if mode == "La" else "RGBA").convert("RGBA"))
        if rgba[..., 3].min() < 255:
            share = float((rgba[..., 3] < 255).mean())
            raise UnusablePicture("transparent", f"{share:.1%} of the pixels are not opaque")
        return rgba[..., :3].copy()
    if mode not in _PLAIN:
        raise UnusablePicture("colour-mode", f"mode {mode}")
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _cmyk_to_rgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    if not profile:
        return picture.convert("RGB")
    try:
        embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(picture, embedded, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError) as error:
        raise UnusablePicture("colour-profile", f"{error}") from error
