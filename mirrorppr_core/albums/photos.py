"""The photos of an album, in the order in which people see them, each with the name of its result."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..photo_saving import Saving

# What is tried. Files of other endings in a folder are counted and passed over: raw files lie beside their JPEGs.
SUFFIXES = (".bmp", ".heic", ".heif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class AlbumPhoto:
    """source: the file.  name: of its result, below the folder of results."""

    source: Path
    name: str


@dataclass(frozen=True)
class Album:
    """photos: in order.  passed_over: how many files of each ending that is no picture we read."""

    photos: tuple[AlbumPhoto, ...]
    passed_over: dict[str, int]


def find_photos(sources: Iterable[Path], *, saving: Saving | None = None) -> Album:
    """Files as they are named, folders as the pictures in them (not in their subfolders), 2 before 10.

    saving: how results are written, which decides their names. Two sources whose results would share one keep their
    endings: a.jpg.png, a.webp.png.
    Raises FileNotFoundError or ValueError when there is nothing to do.
    """
    files: list[Path] = []
    passed_over: Counter[str] = Counter()
    for source in sources:
        if source.is_dir():
            inside = sorted((path for path in source.iterdir() if path.is_file()), key=_as_people_count)
            visible = [path for path in inside if not path.name.startswith(".")]
            files += [path for path in visible if path.suffix.lower() in SUFFIXES]
            passed_over.update(path.suffix.lower() for path in visible if path.suffix.lower() not in SUFFIXES)
        elif source.is_file():
            files.append(source)
        else:
            raise FileNotFoundError(f"{source}: no such file or folder. Check the path; nothing was written.")
    files = list(dict.fromkeys(files))
    if not files:
        found = ", ".join(f"{count} {suffix or 'without ending'}" for suffix, count in sorted(passed_over.items()))
        raise ValueError(
            f"no pictures there ({found or 'empty'}): an album is a folder with {', '.join(SUFFIXES)} files"
        )
    names = [(saving or Saving()).name_for(path) for path in files]
    shared = {name for name, count in Counter(names).items() if count > 1}
    names = [path.name + Path(name).suffix if name in shared else name for name, path in zip(names, files, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(
            f"{len(twice)} photos of one name lie in several folders, first {twice[0]}: run them into two folders"
        )
    photos = tuple(AlbumPhoto(source, name) for source, name in zip(files, names, strict=True))
    return Album(photos, dict(sorted(passed_over.items())))


def check_apart(album: Album, out: Path, *, keep: Iterable[Path] = ()) -> None:
    """Raise ValueError if a result would replace one of the inputs."""
    inputs = {path.resolve() for path in (*(photo.source for photo in album.photos), *keep)}
    for photo in album.photos:
        if (out / photo.name).resolve() in inputs:
            raise ValueError(f"the result for {photo.source} would replace {out / photo.name}: choose another folder")


def _as_people_count(path: Path) -> list[tuple[int, str]]:
    """IMG_2 before IMG_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name.lower()) if part]
