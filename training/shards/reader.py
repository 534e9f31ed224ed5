"""Shards for training: every sample once, whatever the number of processes, and a start at any place.

    ShardSet      map-style: sample i of all shards, one read and one decoding, nothing before it is touched
    ShardStream   iterable: (rank, world, worker, workers) each get their own samples, in an order of its own per epoch

The stream is one endless sequence of positions, the same for every machine: position p is sample
`place_of(p % N, N, seed + p // N)` of N. It is dealt out in blocks of one batch: of each `world` blocks, one goes to
each rank, and within a rank the blocks go round its workers, which is the order in which a DataLoader asks them. So
after s steps exactly the first s * world * batch positions are used up, and a run can go on from there with another
number of processes or workers: `start=` that many.
"""

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
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from ..data.order import place_of
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


class ShardStream(IterableDataset):
    """This process's share of the endless sequence, from position `start` on, for `epochs` passes (None: for ever).

    Give the DataLoader the same batch size. Its workers find their own numbers; rank and world come from the trainer.
    shuffle=False reads the shards from front to back, which suits slow network disks; pairs of one portrait are then
    neighbours.
    """

    def __init__(
        self,
        samples: Dataset,
        *,
        batch_size: int,
        seed: int,
        start: int = 0,
        epochs: int | None = None,
        rank: int = 0,
        world: int = 1,
        shuffle: bool = True,
    ):
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of world {world}: ranks count from 0 to world - 1")
        if batch_size < 1 or start < 0:
            raise ValueError(f"batch_size={batch_size}, start={start}: use at least 1 and 0")
        self.samples, self.batch_size, self.seed, self.start = samples, batch_size, seed, start
        self.stop = None if epochs is None else epochs * len(samples)
        self.rank, self.world, self.shuffle = rank, world, shuffle

    def __iter__(self) -> Iterator[object]:
        worker = get_worker_info()
        mine, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for position in self.positions(mine, workers):
            yield self.samples[self.index_at(position)]

    def positions(self, worker: int, workers: int) -> Iterator[int]:
        """Positions of one worker of this rank."""
        stride = self.batch_size * self.world
        begin = self.start + self.batch_size * self.rank + stride * worker
        while self.stop is None or begin < self.stop:
            end = begin + self.batch_size
            yield from range(begin, end if self.stop is None else min(end, self.stop))
            begin += stride * workers

    def index_at(self, position: int) -> int:
        epoch, place = divmod(position, len(self.samples))
        return place_of(place, len(self.samples), self.seed + epoch) if self.shuffle else place


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
