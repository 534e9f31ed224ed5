"""Shards: many small files in one plain tar, in the layout that WebDataset readers expect.

    pairs-000012.tar    000012000.before.jpg  000012000.after.jpg  000012000.json    one sample
                        000012001.before.jpg  ...                                    the next
    pairs-000012.json   done, and this is what is in it: count, bytes, sha256, where each sample begins

USTAR headers with fixed owner, mode and time, members in a fixed order: equal samples give equal bytes on any
machine. A shard appears under its name only when it is complete and on the disk, and counts as done when the json
beside it is there too; whatever a killed process leaves behind is a hidden `.part` file. The offsets in the json let
a reader start at any sample without touching the ones before it (`reader.py`).
"""

from __future__ import annotations

import errno
import hashlib
import json
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mirrorppr_core.file_writing import replacing, write_file
from mirrorppr_core.settings_file import parsed_table

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

BLOCK = 512  # bytes; tar pads everything to it
_DIGITS = 32  # of a sample's sha256: damage has no other chance than 2^-128
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(OSError):
    """The target has no room left. Finished shards are whole; the unfinished one is gone."""


@dataclass(frozen=True)
class Sample:
    """key: no dot and no slash in it.  files: extension -> content, in the order in which they are stored."""

    key: str
    files: dict[str, bytes]

    def __post_init__(self) -> None:
        if not self.key or "." in self.key or "/" in self.key:
            raise ValueError(f"sample key {self.key!r}: readers cut names at the first dot, so use neither dot nor /")


def shard_name(shard_id: int) -> str:
    """Without extension."""
    return f"pairs-{shard_id:06d}"


def write_shard(folder: Path, name: str, samples: Iterable[Sample], about: dict) -> dict:
    """Write name.tar and name.json. Returns what the json holds: `about`, count, bytes, sha256, offsets and, to check
    one sample without the others, the begin of the sha256 of each (`samples`).

    `about` may be filled while the samples are drawn. Raises DiskFull where the target has no room; then, and on any
    other error, no part of the shard stays behind.
    """
    archive = folder / f"{name}.tar"
    offsets: list[int] = []
    digests: list[str] = []
    try:
        with replacing(archive) as stream:
            _lock(stream)
            digest, size = hashlib.sha256(), 0
            for sample in samples:
                block = sample_bytes(sample)
                offsets.append(size)
                digests.append(sample_digest(block))
                size += _put(stream, block, digest)
            size += _put(stream, bytes(2 * BLOCK), digest)  # two empty blocks end an archive
        facts = {**about, "count": len(offsets), "bytes": size, "sha256": digest.hexdigest(), "offsets": offsets}
        facts["samples"] = digests
        write_json(folder / f"{name}.json", facts)
    except OSError as error:
        if error.errno in _DISK_FULL:
            archive.unlink(missing_ok=True)  # it may be there already, if the json was what did not fit
            raise DiskFull(
                error.errno,
                f"no room left on the disk of {folder} while writing {archive.name}; its unfinished part was removed. "
                "Free some space and give the same command again: it continues after the shards that are done",
            ) from error
        raise
    return facts


def finished(folder: Path, name: str) -> dict | None:
    """The json of a finished shard, or None: not begun, or cut off between the tar and its json."""
    try:
        content = (folder / f"{name}.json").read_bytes()
        size = (folder / f"{name}.tar").stat().st_size
    except FileNotFoundError:
        return None
    try:
        facts = parsed_table(content, "its text")
        _check_facts(facts)
    except ValueError as error:
        raise ValueError(f"{folder / name}.json is damaged ({error}): delete it to have the shard made anew") from error
    if size != facts["bytes"]:
        raise ValueError(
            f"{folder / name}.tar has {size} bytes and its json says {facts['bytes']}: it was changed or copied in "
            "part. Copy it again, or delete both files to have the shard made anew"
        )
    return facts


def _check_facts(facts: dict) -> None:
    """Raise ValueError unless this can be the json of a shard: its samples follow one another and end in the file."""
    count, size, offsets = facts.get("count"), facts.get("bytes"), facts.get("offsets")
    samples = facts.get("samples")
    if not all(type(one) is int and one >= 0 for one in (count, size)) or not isinstance(offsets, list):
        raise ValueError("no count, bytes and offsets in it")
    if not all(type(one) is int and one % BLOCK == 0 for one in offsets) or len(offsets) != count:
        raise ValueError(f"{len(offsets)} offsets for {count} samples, or wrong ones")
    if any(first >= second for first, second in zip([-1, *offsets], [*offsets, size - BLOCK], strict=True)):
        raise ValueError("offsets that do not follow one another")
    if not isinstance(facts.get("sha256"), str) or len(facts["sha256"]) != 64:
        raise ValueError("no sha256 in it")
    if samples is not None:
        told = isinstance(samples, list) and all(isinstance(one, str) and len(one) == _DIGITS for one in samples)
        if not told or len(samples) != count:
            raise ValueError("other digests than samples in it")


def sample_digest(block: bytes) -> str:
    """The begin of the sha256 of one sample's bytes, headers and padding included."""
    return hashlib.sha256(block).hexdigest()[:_DIGITS]


def remove_leftovers(folder: Path, name: str = "") -> list[str]:
    """Delete what killed processes left of one shard, or of everything; not what others are writing now.

    Returns the names.
    """
    removed = []
    for path in sorted(folder.glob(f".{name}.*.part" if name else ".*.part")):
        try:
            with open(path, "r+b") as stream:
                abandoned = _lock(stream)
            if abandoned:  # closed by now: Windows deletes no open files
                path.unlink()
                removed.append(path.name)
        except FileNotFoundError:
            pass  # took its place, or was removed by another run
    return removed


def write_json(path: Path, content: dict) -> None:
    """An existing file is replaced only by a complete one."""
    write_file(path, json.dumps(content, indent=1) + "\n")


def _put(stream: BinaryIO, block: bytes, digest) -> int:
    digest.update(block)
    stream.write(block)
    return len(block)


def sample_bytes(sample: Sample) -> bytes:
    """The members of one sample, headers and padding included."""
    parts = []
    for extension, content in sample.files.items():
        header = tarfile.TarInfo(f"{sample.key}.{extension}")  # owner 0, mtime 0, mode 0o644
        header.size = len(content)
        parts += [header.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % BLOCK)]
    return b"".join(parts)


def _lock(stream: BinaryIO) -> bool:
    """Mark a file as being written; False where another open file has done so. A process that dies leaves no mark.

    Windows and some network disks know no such locks; nothing is marked there.
    """
    try:
        if fcntl is not None:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True
