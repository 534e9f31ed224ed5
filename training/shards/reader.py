"""Finished shards by number: sample i of a folder, one read and one decoding, nothing before it is touched."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from .tar import BLOCK, Sample, finished


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
    about = json.loads(sample.files["json"])
    before, after = (_picture(sample, name) for name in ("before", "after"))
    displacement = None
    if "field.npy" in sample.files:
        part = torch.from_numpy(np.load(io.BytesIO(sample.files["field.npy"]), allow_pickle=False))
        left, top, right, bottom = about["displacement"]["box"]
        displacement = torch.zeros(2, *before.shape[-2:])
        displacement[:, top:bottom, left:right] = part.float()
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
        ends, contents = [0], hashlib.sha256()
        for path in sorted(self.folder.glob("*.tar")):
            facts = finished(self.folder, path.stem)
            if facts is None:
                raise ValueError(
                    f"{path} has no {path.stem}.json beside it: it is not finished or not ours. Give the command that "
                    "made it again, or copy the json files too"
                )
            self.names.append(path.stem)
            self._offsets.append(np.array([*facts["offsets"], facts["bytes"]]))
            ends.append(ends[-1] + facts["count"])
            contents.update(f"{path.stem} {facts['sha256']}\n".encode())
        if not self.names:
            raise ValueError(f"{self.folder}: no shards (*.tar) here. Make some with python -m training.synthesize")
        self._ends = np.array(ends)
        self.digest = contents.hexdigest()[:16]  # of all contents, by what the json files say of them

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> object:
        return self.decode(self.sample(index))

    def abouts(self) -> Iterator[dict]:
        """The json of every sample in order. Pictures are passed over, so it takes a few reads of a block each."""
        for name, offsets in zip(self.names, self._offsets, strict=True):
            with open(self.folder / f"{name}.tar", "rb") as archive:
                for begin in offsets[:-1].tolist():
                    yield _about(archive, begin, name)

    def sample(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        shard = int(np.searchsorted(self._ends, index, side="right")) - 1
        begin, end = self._offsets[shard][index - self._ends[shard] :][:2].tolist()
        with open(self.folder / f"{self.names[shard]}.tar", "rb") as archive:
            archive.seek(begin)
            return _parse(archive.read(end - begin), self.names[shard])


def _about(archive: BinaryIO, place: int, name: str) -> dict:
    """The json of the sample that begins at `place`."""
    try:
        while True:
            archive.seek(place)
            member = tarfile.TarInfo.frombuf(archive.read(BLOCK), "utf-8", "strict")
            if member.name.endswith(".json"):
                return json.loads(archive.read(member.size))
            place += BLOCK + -(-member.size // BLOCK) * BLOCK
    except (tarfile.TarError, ValueError) as error:
        raise _damaged(name, error) from error


def _parse(block: bytes, name: str) -> Sample:
    """One sample's members, headers included."""
    key, files = "", {}
    try:
        with tarfile.open(fileobj=io.BytesIO(block)) as members:
            for member in members:
                key, _, extension = member.name.partition(".")
                files[extension] = members.extractfile(member).read()
    except tarfile.TarError as error:
        raise _damaged(name, error) from error
    return Sample(key, files)


def _damaged(name: str, error: Exception) -> ValueError:
    return ValueError(f"{name}.tar is damaged ({error}): copy it again, or delete it and have it made anew")


def _picture(sample: Sample, name: str) -> Tensor:
    """(3, H, W) uint8."""
    (content,) = [files for extension, files in sample.files.items() if extension.startswith(f"{name}.")]
    with Image.open(io.BytesIO(content)) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)
