"""Finished shards by number: sample i of a folder, one read and one decoding, nothing before it is touched."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mirrorppr_core.picture_guard import open_picture
from mirrorppr_core.settings_file import parsed_table
from mirrorppr_core.wording import brief

from ..data.tables import read_array
from .tar import BLOCK, Sample, finished, sample_digest

_CHUNK = 2**20


@dataclass(frozen=True)
class StoredPair:
    """One sample, decoded.  before, after: (3, H, W) uint8.  about: its json, with the recipe.

    displacement: (2, H, W) float32 pixels, out(p) = in(p + d(p)); None unless the shards were made with fields.
    """

    key: str
    before: Tensor
    after: Tensor
    about: dict
    displacement: Tensor | None


def decode_pair(sample: Sample) -> StoredPair:
    """Raises ValueError for a sample that is none of ours."""
    about = parsed_table(_member(sample, "json"), "its json")
    before, after = (_picture(sample, name) for name in ("before", "after"))
    displacement = None
    if "field.npy" in sample.files:
        displacement = _displacement(sample.files["field.npy"], about, (before.shape[-2], before.shape[-1]))
    return StoredPair(sample.key, before, after, about, displacement)


class ShardSet(Dataset):
    """All samples of a folder's finished shards by number, in the order of their keys.

    decode: what to make of a `Sample`. Files are opened for one sample at a time: it can be handed to worker processes,
    and tens of thousands of shards do not exhaust the file handles.
    """

    def __init__(self, folder: Path | str, *, decode: Callable[[Sample], object] = decode_pair):
        self.folder, self.decode = Path(folder), decode
        self.names: list[str] = []
        self._offsets: list[np.ndarray] = []
        self._samples: list[list[str] | None] = []  # digests; older shards have but the one of the whole file ...
        self._sha256: list[str] = []
        self._whole: set[int] = set()  # ... and those that were checked by it
        ends, contents = [0], hashlib.sha256()
        for path in sorted(self.folder.glob("*.tar")):
            facts = finished(self.folder, path.stem)
            if facts is None:
                raise ValueError(
                    f"{path} has no {path.stem}.json beside it: it is not finished or not ours. Give the command that "
                    "made it again, or copy the json files too"
                )
            self.names.append(path.stem)
            self._offsets.append(np.array([*facts["offsets"], facts["bytes"] - 2 * BLOCK]))  # two empty blocks end it
            self._samples.append(facts.get("samples"))
            self._sha256.append(facts["sha256"])
            ends.append(ends[-1] + facts["count"])
            contents.update(f"{path.stem} {facts['sha256']}\n".encode())
        if not self.names:
            raise ValueError(f"{self.folder}: no shards (*.tar) here. Make some with python -m training.synthesize")
        self._ends = np.array(ends)
        self.digest = contents.hexdigest()[:16]  # of all contents, by what the json files say of them

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> object:
        sample = self.sample(index)
        try:
            return self.decode(sample)
        except ValueError as error:
            name = self.names[int(np.searchsorted(self._ends, index, side="right")) - 1]
            raise _damaged(name, f"sample {brief(sample.key, 60)}: {brief(error)}") from error

    def abouts(self) -> Iterator[dict]:
        """The json of every sample in order. Pictures are passed over, so it takes a few reads of a block each."""
        for name, offsets in zip(self.names, self._offsets, strict=True):
            with open(self.folder / f"{name}.tar", "rb") as archive:
                for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
                    yield _about(archive, begin, end, name)

    def sample(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard = int(np.searchsorted(self._ends, index, side="right")) - 1
        number = index - int(self._ends[shard])
        begin, end = self._offsets[shard][number:][:2].tolist()
        with open(self.folder / f"{self.names[shard]}.tar", "rb") as archive:
            self._check_whole(shard, archive)
            archive.seek(begin)
            block = archive.read(end - begin)
        digests = self._samples[shard]
        if digests is not None and sample_digest(block) != digests[number]:
            raise _damaged(self.names[shard], f"sample {number} is not what its json was written of")
        return _parse(block, self.names[shard])

    def _check_whole(self, shard: int, archive: BinaryIO) -> None:
        """An older shard is checked as a whole, once in each process."""
        if self._samples[shard] is not None or shard in self._whole:
            return
        digest = hashlib.sha256()
        while block := archive.read(_CHUNK):
            digest.update(block)
        if digest.hexdigest() != self._sha256[shard]:
            raise _damaged(self.names[shard], "its sha256 is not the one in its json")
        self._whole.add(shard)


def _about(archive: BinaryIO, begin: int, end: int, name: str) -> dict:
    """The json of the sample that lies between these places."""
    place = begin
    try:
        while place < end:
            archive.seek(place)
            member = _header(archive.read(BLOCK), end - place - BLOCK)
            if member.name.endswith(".json"):
                return parsed_table(archive.read(member.size), "its json")
            place += BLOCK + -(-member.size // BLOCK) * BLOCK
        raise ValueError("a sample without json")
    except (tarfile.TarError, ValueError) as error:
        raise _damaged(name, error) from error


def _parse(block: bytes, name: str) -> Sample:
    """One sample's members, headers included. No member is unpacked by a rule other than ours: plain files alone."""
    key, files, place = "", {}, 0
    try:
        while place < len(block) and any(block[place : place + BLOCK]):  # the last sample ends in empty blocks
            member = _header(block[place : place + BLOCK], len(block) - place - BLOCK)
            key, _, extension = member.name.partition(".")
            place += BLOCK
            files[extension] = block[place : place + member.size]
            place += -(-member.size // BLOCK) * BLOCK
        return Sample(key, files)
    except (tarfile.TarError, ValueError) as error:
        raise _damaged(name, error) from error


def _header(block: bytes, room: int) -> tarfile.TarInfo:
    """What stands before a member. Raises ValueError for links, folders, sparse files and sizes beyond the sample."""
    member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    if member.type != tarfile.REGTYPE or member.size < 0 or member.size > room:
        raise ValueError(f"member {brief(member.name, 40)} is no plain file of a size that fits")
    return member


def _damaged(name: str, error: object) -> ValueError:
    return ValueError(f"{name}.tar is damaged ({brief(error, 250)}): copy it again, or delete it and have it made anew")


def _member(sample: Sample, extension: str) -> bytes:
    if extension not in sample.files:
        raise ValueError(f"no {extension} in it")
    return sample.files[extension]


def _picture(sample: Sample, name: str) -> Tensor:
    """(3, H, W) uint8."""
    contents = [files for extension, files in sample.files.items() if extension.startswith(f"{name}.")]
    if len(contents) != 1:
        raise ValueError(f"{len(contents)} pictures {name} in it")
    with open_picture(io.BytesIO(contents[0]), f"the picture {name}", formats=("JPEG", "PNG")) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)


def _displacement(content: bytes, about: dict, size: tuple[int, int]) -> Tensor:
    """(2, H, W) pixels; zero outside the stored box."""
    part, told = read_array(content, "its field"), about.get("displacement")
    box = told.get("box") if isinstance(told, dict) else None
    if not isinstance(box, list) or len(box) != 4 or not all(type(one) is int for one in box):
        raise ValueError("a field without its box in it")
    left, top, right, bottom = box
    fits = 0 <= left <= right <= size[1] and 0 <= top <= bottom <= size[0]
    if not fits or part.shape != (2, bottom - top, right - left) or part.dtype.kind != "f":
        raise ValueError(f"a field of {part.shape} for the box {box}")
    displacement = torch.zeros(2, *size)
    displacement[:, top:bottom, left:right] = torch.from_numpy(part).float()
    return displacement
