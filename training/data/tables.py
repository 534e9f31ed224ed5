"""Tables (csv) and arrays (npz) as they lie beside pictures: read, or one line that names the file and the fix."""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mirrorppr_core.wording import brief

_LARGEST = 32 * 2**30  # bytes of one array
_TIGHTEST = 2000  # times that deflate can shrink zeros, with some room
_KINDS = "biufUS"  # whole numbers, floats, text


def read_arrays(
    path: Path, names: Sequence[str] | None = None, *, remedy: str = "write it again"
) -> dict[str, np.ndarray]:
    """Arrays of an npz file by name: all, or those of `names` that it has. No pickles; sizes are checked first.

    Raises FileNotFoundError, and ValueError for whatever is wrong with it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Check the path.")
    try:
        with zipfile.ZipFile(path) as stored:
            members = {member.filename.removesuffix(".npy"): member for member in stored.infolist()}
            wanted = members if names is None else [name for name in names if name in members]
            return {name: _array(stored, members[name]) for name in wanted}
    except Exception as error:  # zip, deflate and NumPy raise whatever comes to them from damage
        raise ValueError(f"{path} is damaged or not an npz file ({_said(error)}): {remedy}") from error


def read_array(content: bytes, what: str) -> np.ndarray:
    """One npy file in memory.  what: how the user knows it.  Raises ValueError."""
    try:
        return _parsed(content)
    except Exception as error:
        raise ValueError(f"{what} is damaged or not an npy file ({_said(error)})") from error


def read_rows(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a csv file in UTF-8 with at least these columns. Raises FileNotFoundError or ValueError."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file. Check the path.")
    try:
        with open(path, newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            columns, rows = reader.fieldnames or [], list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no table in UTF-8 ({brief(error)}): save it as UTF-8 CSV with commas") from error
    lacking = [name for name in needed if name not in columns]
    if lacking:
        listed = brief(", ".join(columns) or "none")
        raise ValueError(f"{path} has columns {listed}: need at least a column `{lacking[0]}`")
    for line, row in enumerate(rows, start=2):
        if any(row[name] is None for name in needed):
            raise ValueError(f"{path}, row {line} is cut short: it needs {', '.join(needed)}")
    return rows


def _array(stored: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    if member.file_size > _LARGEST or member.file_size > _TIGHTEST * max(member.compress_size, 1000):
        raise ValueError(f"{member.filename} claims {member.file_size} bytes")
    return _parsed(stored.read(member))


def _parsed(content: bytes) -> np.ndarray:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
    shape, in_columns, dtype = read(stream)
    if dtype.kind not in _KINDS or dtype.hasobject:
        raise ValueError(f"it holds {brief(dtype, 40)}, not numbers or names")
    rest = content[stream.tell() :]
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(rest):
        raise ValueError(f"{len(rest)} bytes for a shape of {brief(shape, 60)}")
    # A copy: what comes from bytes may not be written to.
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if in_columns else "C").copy()


def _said(error: Exception) -> str:
    return brief(error) or type(error).__name__
