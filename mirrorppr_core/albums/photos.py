"""The photos of an album, in the order in which people see them, each with the name of its result."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

# What is tried. Files of other endings in a folder are counted and passed over: raw files lie beside their JPEGs.
SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


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


def find_photos(sources: Iterable[Path], *, result_suffix: str = ".png") -> Album:
    """Files as they are named, folders as the pictures in them (not in their subfolders), 2 before 10.

    Two sources of one stem keep their endings in the names of their results: a.jpg.png, a.webp.png.
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
    stems = Counter(path.stem for path in files)
    names = [(path.stem if stems[path.stem] == 1 else path.name) + result_suffix for path in files]
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
