"""How photos are read and results are written: the options that `retouch` and `album` share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..photo_files import CMYK, Photo, read_photo
from ..photo_saving import FORMATS, Saving


def add_results(parser: Any) -> None:
    files = parser.add_argument_group("files")
    files.add_argument(
        "--format",
        choices=FORMATS,
        default=Saving.format,
        help="of the results (default: png, 8 or 16 bits as the photo); same is each photo's own format and name",
    )
    files.add_argument(
        "--quality", type=int, help="1 to 100 of JPEG and WebP (default: a JPEG's own tables, a lossless WebP)"
    )
    files.add_argument(
        "--cmyk", choices=CMYK, default=CMYK[0], help="photos in print colours: refuse them, or convert them to sRGB"
    )


def saving_of(options: Any) -> Saving:
    """Raises ValueError where format and quality do not fit each other."""
    return Saving(format=options.format, quality=options.quality)


def read_query(path: Path, options: Any, frame: int | None = None) -> Photo:
    """frame: of a file that holds several, from 0."""
    return read_photo(path, cmyk=options.cmyk, frame=frame)
