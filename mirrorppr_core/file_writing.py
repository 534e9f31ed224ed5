"""Files that are complete or absent: written under a temporary name beside their place, then put there in one step.

Whoever is killed, or finds the disk full, leaves what stood there before. The temporary name is random and made anew,
so two writers never share a file and no link laid there is followed; at the end the content is on the disk.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_file(path: str | Path, content: bytes | str, *, new: bool = False) -> None:
    """Text is written as UTF-8.  new: see `replacing`."""
    with replacing(path, new=new) as stream:
        stream.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: str | Path, *, new: bool = False) -> Iterator[BinaryIO]:
    """A stream whose content takes this place when the block ends well, and vanishes when it does not.

    new: never in the place of a file that is there already; then FileExistsError.
    Raises OSError that names the file and the remedy where it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")  # a long name has no room for more
    kept_name, stream, folder = False, None, None
    try:
        folder = _opened_folder(path.parent)  # first: whoever lacks a handle for it later has written and fails
        if new:
            _keep_name(path)
            kept_name = True
        stream = open(temporary, "xb")
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
        stream.close()
        os.replace(temporary, path)
        kept_name = False
        if folder is not None:
            os.fsync(folder)  # the new name is on the disk as well
    except OSError as error:
        if isinstance(error, FileExistsError) or (stream is not None and error.errno not in _FULL):
            raise  # the latter of whoever made the content
        told = OSError(
            f"cannot write {path.name} into {path.parent.name}/ ({error.strerror or error}): free some space, or "
            "choose a folder that can be written to"
        )
        told.errno = error.errno
        raise told from error
    finally:
        if folder is not None:
            os.close(folder)
        if stream is not None:
            with suppress(OSError):  # closing flushes, which fails once more on a full disk
                stream.close()
            temporary.unlink(missing_ok=True)
        if kept_name:
            path.unlink(missing_ok=True)


def copy_file(source: Path, path: Path) -> None:
    """A copy, complete or absent; the same file is left as it is."""
    if path.exists() and source.samefile(path):
        return
    with open(source, "rb") as content, replacing(path) as stream:
        shutil.copyfileobj(content, stream, 2**20)


def append_line(path: Path, line: str) -> None:
    """Add a line to a log, on the disk when this returns. A link in its place is not followed: OSError."""
    with open(path, "ab", opener=_not_through_links) as stream:
        stream.write(line.encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def prove_writable(folder: Path) -> None:
    """Raise OSError unless a file can be made in the folder; none is left."""
    probe = folder / f".{secrets.token_hex(8)}.part"
    open(probe, "xb").close()
    probe.unlink()


def _not_through_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _keep_name(path: Path) -> None:
    try:
        open(path, "xb").close()  # refused where somebody was faster
    except FileExistsError:
        raise FileExistsError(f"{path.name} exists already and is not overwritten: choose another name") from None


def _opened_folder(folder: Path) -> int | None:
    """A handle by which the folder's names are put on the disk, where the system can (not on Windows)."""
    return os.open(folder, os.O_RDONLY) if os.name == "posix" else None
