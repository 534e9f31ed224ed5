"""What of an album is done, on disk: a line for each photo, written after its result is in place.

    {"album": 1, "settings": {...}}                       the first line
    {"source": "IMG_1.jpg", "output": "IMG_1.png", ...}   then one for each photo, in the order of the work

A result stands under its name only when it is complete, and its line follows; so a run that is killed at any moment
has lost nothing, and the same command does what is missing. Lines are flushed to the disk one by one; a last line that
was cut is done again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..file_writing import append_line, write_file

_VERSION = 1


class Journal:
    """rows: of photos that are done, by the name of the result."""

    def __init__(self, path: Path, settings: dict[str, Any]):
        """Opens or begins the journal. Raises ValueError if it belongs to other settings or to something else."""
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        lines = _whole_lines(path)
        if not lines:
            write_file(path, json.dumps({"album": _VERSION, "settings": settings}) + "\n")
            return
        head = lines[0]
        if head.get("album") != _VERSION or not isinstance(head.get("settings"), dict):
            raise ValueError(f"{path} is not the journal of an album: choose another folder for the results")
        changed = sorted(
            k for k in settings.keys() | head["settings"].keys() if settings.get(k) != head["settings"].get(k)
        )
        if changed:
            raise ValueError(
                f"{path.parent} holds an album that was made with another {', '.join(changed)}: choose another folder "
                "for the results, or delete this one to begin anew"
            )
        self.rows = {row["output"]: row for row in lines[1:] if isinstance(row.get("output"), str)}
        _cut_to_whole_lines(path)

    def add(self, row: dict[str, Any]) -> None:
        """row: JSON values; `output` names it. On the disk when this returns."""
        append_line(self.path, json.dumps(row))
        self.rows[row["output"]] = row

    def is_done(self, name: str, source: Path, out: Path) -> bool:
        """Whether the result stands there and was made from this very file."""
        row = self.rows.get(name)
        return row is not None and (out / name).is_file() and row.get("state") == state_of(source)


def state_of(source: Path) -> list[int]:
    """Size and time of a file: another picture under the same name differs in one of them."""
    found = source.stat()
    return [found.st_size, found.st_mtime_ns]


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            lines.append(value)
    return lines


def _cut_to_whole_lines(path: Path) -> None:
    """A line that was cut must not swallow the next one."""
    text = path.read_bytes()
    if text and not text.endswith(b"\n"):
        write_file(path, text[: text.rfind(b"\n") + 1])
