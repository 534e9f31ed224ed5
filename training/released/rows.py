"""Rows of a released data set's JSON: checked values, or the reason why a row cannot be used.

Metadata of millions of pictures has holes. A reader (formats.py) turns each row into a record or raises
BadRow; `read_rows` keeps both, so that no row disappears without a word.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from mirrorppr_core.settings_file import parsed

Point = tuple[float, float]
Record = TypeVar("Record")

# Why a row cannot be used.
REASONS = {
    "not-a-record": "the row is no JSON object",
    "no-identity": "no image_id, nor group and index_in_group",
    "no-operation": "no operation_id, nor edit_param and edit_value_level",
    "no-box": "no crop_bbox_in_original: nobody knows where the tile belongs",
    "no-quad": "no face_quad",
    "no-path": "a path that the row needs is not given",
    "bad-value": "a value is not what the format says",
    "bad-path": "a path leads outside the data set",
    "no-file": "a file that the row names is not there",
    "no-partner": "a source without its target, or the reverse",
}


@dataclass(frozen=True)
class Unusable:
    """row: its key or number in the file.  reason: one of REASONS.  detail: for a person."""

    row: str
    reason: str
    detail: str


@dataclass(frozen=True)
class Released(Generic[Record]):
    records: tuple[Record, ...]
    unusable: tuple[Unusable, ...]

    def counts(self) -> dict[str, int]:
        """Unusable rows by reason."""
        return dict(sorted(Counter(row.reason for row in self.unusable).items()))


class BadRow(ValueError):
    """Raised by a reader for a row that it cannot use."""

    def __init__(self, reason: str, detail: str):
        assert reason in REASONS, reason
        super().__init__(detail)
        self.reason, self.detail = reason, detail


def load_json(path: Path, kinds: tuple[type, ...]) -> Any:
    """The JSON in a file, one of the kinds."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Give the metadata file of the data set.")
    try:
        stored = parsed(path.read_bytes(), "its text")
    except ValueError as error:
        raise ValueError(f"{path} is damaged or not JSON ({error}): download it again") from error
    if not isinstance(stored, kinds):
        wanted = " or ".join("a list" if kind is list else "an object" for kind in kinds)
        raise ValueError(f"{path} holds {type(stored).__name__}, need {wanted}: is this the right file?")
    return stored


def dataset_root(folder: Path) -> Path:
    """The absolute folder that the paths of the metadata are relative to."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder. Give the folder that the data set was unpacked into.")
    return folder.resolve()


def read_rows(rows: Iterable[tuple[str, Any]], record: Callable[[str, dict], Record]) -> Released[Record]:
    """rows: pairs of the row's key and the row.  record: makes one row a record, or raises BadRow."""
    records, unusable = [], []
    for key, row in rows:
        try:
            if not isinstance(row, dict):
                raise BadRow("not-a-record", f"{type(row).__name__}")
            records.append(record(key, row))
        except BadRow as error:
            unusable.append(Unusable(key, error.reason, error.detail))
    return Released(tuple(records), tuple(unusable))


def as_object(value: Any, name: str) -> dict:
    if not isinstance(value, dict):
        raise BadRow("bad-value", f"{name} is {value!r}, need an object")
    return value


def as_number(value: Any, name: str) -> float:
    """Numbers in quotes count."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRow("bad-value", f"{name} is {value!r}, need a number")
    return number


def as_numbers(value: Any, count: int, name: str) -> tuple[float, ...]:
    if not isinstance(value, list) or len(value) != count:
        raise BadRow("bad-value", f"{name} is {value!r}, need {count} numbers")
    return tuple(as_number(v, name) for v in value)


def as_points(value: Any, name: str) -> tuple[Point, Point, Point, Point]:
    """Four corners, as pairs or as eight numbers in a row."""
    if isinstance(value, list) and len(value) == 8:
        value = [value[n : n + 2] for n in range(0, 8, 2)]
    if not isinstance(value, list) or len(value) != 4:
        raise BadRow("bad-value", f"{name} is {value!r}, need 4 points")
    return tuple(as_numbers(point, 2, name) for point in value)


def path_inside(root: Path, path: Any, name: str) -> Path | None:
    """A path of the metadata as an absolute one; None if it is not given."""
    if not path:
        return None
    if not isinstance(path, str):
        raise BadRow("bad-value", f"{name} is {path!r}, need a path")
    relative = PurePosixPath(path)
    if relative.is_absolute() or ".." in relative.parts:
        raise BadRow("bad-path", f"{name} is {path!r}, need a path inside the data set")
    return root / relative


def need_files(paths: list[Path | None]) -> None:
    """BadRow unless all of them are given and there."""
    for path in paths:
        if path is None:
            raise BadRow("no-path", "the row does not name all of its pictures")
        if not path.is_file():
            raise BadRow("no-file", f"{path}")
