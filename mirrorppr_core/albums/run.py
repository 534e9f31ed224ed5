"""An album, photo after photo: read ahead, retouch, write behind; memory for three photos, however many there are.

Reading and writing pictures takes as long as retouching them, so both run in a thread each beside the work. A result
is in place before its line in the journal, and the order of lines is the order of photos.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..mini.arithmetic import AnyOperation
from ..mini.editor import RetouchConfig, Retouched
from ..mini.operation_file import digest_of
from ..photo_files import Photo, check_saving, read_photo, write_photo
from ..photo_saving import Saving
from .doubt import doubt_of
from .journal import Journal, state_of
from .photos import Album, AlbumPhoto
from .sheet import write_thumbnail

ON_ERROR = ("skip", "stop")
Retouch = Callable[[torch.Tensor], Retouched]


class AlbumStopped(ValueError):
    """A photo could not be retouched and the album was to stop there. All before it are done."""


@dataclass(frozen=True)
class Step:
    """One photo is done.  row: its line.  result: None where it was done before or could not be retouched."""

    number: int
    total: int
    row: dict[str, Any]
    result: Retouched | None
    repeated: bool = False


@dataclass(frozen=True)
class _Made:
    row: dict[str, Any]
    result: Retouched | None


def run_album(
    album: Album,
    retouch: Retouch,
    *,
    out: Path,
    journal: Journal,
    on_error: str = "skip",
    operation_notes: tuple[str, ...] = (),
    saving: Saving | None = None,
    read: Callable[[Path], Photo] = read_photo,
    of_frame: Callable[[AlbumPhoto], Retouch] | None = None,
) -> Iterator[Step]:
    """Yields a Step for each photo, in order, when its result is on the disk.

    on_error: "skip" writes a photo that cannot be retouched unchanged and says why in its row; "stop" raises
    AlbumStopped. A file that is no readable picture has no result, only a row.
    saving: how results are written.  read: how photos are read.  of_frame: how each photo of a sequence is retouched
    (sequence.py), in place of `retouch`.
    """
    if on_error not in ON_ERROR:
        raise ValueError(f"on_error={on_error!r}: use {' or '.join(ON_ERROR)}")
    total, saving = len(album.photos), saving or Saving()

    def fit_for_saving(path: Path) -> Photo:
        photo = read(path)
        check_saving(photo, saving, path.name)
        return photo

    todo = [photo for photo in album.photos if not journal.is_done(photo.name, photo.source, out)]
    ahead = iter(todo)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading = _next_read(reader, ahead, fit_for_saving)
        writing: tuple[int, Future[_Made]] | None = None
        for number, photo in enumerate(album.photos, start=1):
            if reading is None or photo is not reading[0]:
                if writing is not None:
                    yield _finish(writing, total, journal)
                    writing = None
                yield Step(number, total, journal.rows[photo.name], None, repeated=True)
                continue
            opened, reading = reading[1], _next_read(reader, ahead, fit_for_saving)
            try:
                act = retouch if of_frame is None else of_frame(photo)
                draft = _retouched(photo, opened, act, on_error, f"photo {number} of {total}", operation_notes)
            finally:  # the one before is done, whatever becomes of this one
                last = None if writing is None else _finish(writing, total, journal)
                writing = None
            if last is not None:
                yield last
            writing = number, writer.submit(_written, draft, out, photo, saving)
        if writing is not None:
            yield _finish(writing, total, journal)


def described(result: Retouched, photo: Photo, seconds: float, operation_notes: tuple[str, ...]) -> dict[str, Any]:
    """What is told of a retouched photo."""
    changed = (result.image != photo.pixels).any(dim=1).float().mean()
    size = max((face.size_px for face in result.faces), default=0.0)
    return {
        "seconds": round(seconds, 3),
        "faces": min(len(result.faces), result.num_found),
        "faces_found": result.num_found,
        "largest_displacement_px": round(result.field.max_px, 3),
        "relative_motion": round(result.field.max_px / size, 5) if size else 0.0,
        "changed_share": round(float(changed), 6),
        "confidence": result.confidence,
        "doubt": doubt_of(result, operation_notes),
        "notes": [note for note in result.notes if note not in operation_notes],
    }


def settings_of(
    operation: AnyOperation, config: RetouchConfig, saving: Saving, *, sequence: bool = False, joints: str = "auto"
) -> dict[str, Any]:
    """What decides the results, for the journal: an album of other settings is not continued."""
    return {
        "operation": digest_of(operation),
        "strength": config.strength,
        "steps": config.num_steps,
        "seed": config.seed,
        "face": config.face,
        "format": saving.format,
        "quality": saving.quality,
        "sequence": sequence,
        **({} if joints == "auto" else {"joints": joints}),  # journals of before there was a choice go on
    }


@dataclass(frozen=True)
class _Draft:
    """What the writer shall put on the disk: photo is None where nothing can be."""

    row: dict[str, Any]
    original: Photo | None
    photo: Photo | None
    result: Retouched | None


def _retouched(
    photo: AlbumPhoto,
    read: Future[Photo],
    retouch: Retouch,
    on_error: str,
    where: str,
    operation_notes: tuple[str, ...],
) -> _Draft:
    began = time.perf_counter()
    original = None
    try:
        original = read.result()
        result = retouch(original.pixels)
    except (ValueError, OSError) as error:
        if on_error == "stop":
            raise AlbumStopped(
                f"{where}, {photo.source.name}: {error} All before it are done, and the same command goes on after "
                "them; to pass such photos over, use skip for on_error."
            ) from error
        return _Draft({"doubt": 1.0, "error": str(error), "unchanged": True}, original, original, None)
    row = described(result, original, time.perf_counter() - began, operation_notes)
    return _Draft(row, original, original.with_pixels(result.image), result)


def _written(draft: _Draft, out: Path, photo: AlbumPhoto, saving: Saving) -> _Made:
    row = draft.row
    if draft.photo is not None:
        write_thumbnail(out, photo.name, draft.original, None if draft.result is None else draft.photo)
        lost = write_photo(out / photo.name, draft.photo, saving)
        row = {**row, "notes": [*row.get("notes", ()), *lost]}
    named = {"source": str(photo.source), "output": photo.name, "state": state_of(photo.source)}
    return _Made({**named, "written": draft.photo is not None, **row}, draft.result)


def _finish(writing: tuple[int, Future[_Made]], total: int, journal: Journal) -> Step:
    number, future = writing
    made = future.result()
    journal.add(made.row)
    return Step(number, total, made.row, made.result)


def _next_read(
    reader: ThreadPoolExecutor, ahead: Iterator[AlbumPhoto], read: Callable[[Path], Photo]
) -> tuple[AlbumPhoto, Future[Photo]] | None:
    photo = next(ahead, None)
    return None if photo is None else (photo, reader.submit(read, photo.source))
