"""Batches of the Qwen stages: quadruplets, sorted by shape, turned into what the stage reads.

    quadruplet = exemplar before, exemplar after, query, target      pictures in [0, 1]
    Stage I      -> PictureBatch      the pictures themselves
    Stage II     -> LatentBatch       target and query through the VAE, the query through the language model

Pictures of one batch share their shapes: Face squeezes exemplars to one square, Pro keeps theirs, and the DiT takes
one query size a call. So samples come in buckets of one shape each (the resolution pool of the published data has 6
for faces, 28 for bodies), and a step is filled from one bucket. A bucket is one endless sequence, its samples in an
order of their own in each pass; what does not fill a batch at the end of a pass begins the next one, so every sample is
given equally often. Which step takes what is a function of (seed, step) alone, and its rows are dealt to processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from mirrorppr_core.qwen.config import QwenConfig
from mirrorppr_core.qwen.extractor import to_face_input, to_pro_input
from mirrorppr_core.qwen.sizes import MULTIPLE

from ..data.order import place_of
from .encoders import Encoder
from .flow import edited_region
from .stages import LatentBatch, PictureBatch

# (width, height) of the published professional data: sides are multiples of 32. Faces keep to 0.6 .. 2.0 of aspect;
# bodies add longer shapes and a second area. Transposes included.
_FACE_SIDES = ((1152, 1920), (1280, 1728), (1440, 1536))
_BODY_SIDES = (*_FACE_SIDES, (768, 2880), (864, 2560), (960, 2304), (832, 2880), (960, 2496), (1152, 2080),
               (1248, 1920), (1440, 1664))  # fmt: skip
FACE_POOL: tuple[tuple[int, int], ...] = tuple(size for a, b in _FACE_SIDES for size in ((a, b), (b, a)))
BODY_POOL: tuple[tuple[int, int], ...] = tuple(size for a, b in _BODY_SIDES for size in ((a, b), (b, a)))


class Quadruplet(Protocol):
    """One sample. Pictures (1, 3, H, W) in [0, 1]; before and after of one size, query and target of one size."""

    before: Tensor
    after: Tensor
    query: Tensor
    target: Tensor


class Bucket(Protocol):
    """Samples of one shape. Sample i is a function of i; picklable. Sizes are (H, W) in pixels."""

    exemplar_size: tuple[int, int]
    query_size: tuple[int, int]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Quadruplet: ...


@dataclass(frozen=True, kw_only=True)
class QwenSource:
    """A batch source of the training loop. encoder: what Stage II needs; None makes batches for Stage I."""

    buckets: tuple[Bucket, ...]
    model: QwenConfig
    seed: int
    encoder: Encoder | None = None

    def __post_init__(self) -> None:
        if not self.buckets or not all(len(bucket) for bucket in self.buckets):
            raise ValueError("the data holds no samples, or a bucket without any: see its folder and filters")
        for bucket in self.buckets:
            if any(side % MULTIPLE for side in bucket.query_size):
                raise ValueError(
                    f"queries of {bucket.query_size[1]}x{bucket.query_size[0]}: sides must be multiples of {MULTIPLE}, "
                    "as at inference. Crop or resize the data to such a size."
                )
            if self.model.kind == "pro" and max(bucket.exemplar_size) > self.model.side_px:
                raise ValueError(
                    f"exemplars of {bucket.exemplar_size[1]}x{bucket.exemplar_size[0]}: Pro reads at most "
                    f"{self.model.side_px} pixels a side"
                )

    def plan(self, step: int, size: int) -> tuple[int, list[int]]:
        """Which bucket fills this step, and with which of its samples."""
        lengths = [len(bucket) for bucket in self.buckets]

        def begun(epoch: int) -> list[int]:
            """Whole batches that each bucket has given before an epoch."""
            return [epoch * length // size for length in lengths]

        low, high = 0, (step + 1 + len(lengths)) * size // sum(lengths) + 1
        while high - low > 1:  # the last epoch that begins at this step or before
            middle = (low + high) // 2
            low, high = (middle, high) if sum(begun(middle)) <= step else (low, middle)
        before, after = begun(low), begun(low + 1)
        batches = [last - first for first, last in zip(before, after, strict=True)]
        place = step - sum(before)
        # Shuffled so that shapes alternate; one bucket alone is in random order already, pass after pass.
        number = place if len(lengths) == 1 else place_of(place, sum(batches), self._order(low, 0))
        chosen = 0
        while number >= batches[chosen]:
            number -= batches[chosen]
            chosen += 1
        first, length = (before[chosen] + number) * size, lengths[chosen]
        passes = [divmod(position, length) for position in range(first, first + size)]
        return chosen, [place_of(place, length, self._order(epoch, chosen + 1)) for epoch, place in passes]

    def batch(self, step: int, size: int, part: int, parts: int) -> PictureBatch | LatentBatch:
        """Rows part * size / parts and following of the step's `size` samples."""
        chosen, samples = self.plan(step, size)
        bucket = self.buckets[chosen]
        rows = [self._row(bucket, index) for index in samples[part * size // parts : (part + 1) * size // parts]]
        kind = PictureBatch if self.encoder is None else LatentBatch
        return kind(**{name: stacked(name, [row[name] for row in rows]) for name in rows[0]})

    def _row(self, bucket: Bucket, index: int) -> dict[str, Tensor]:
        """Tensors of one sample, without the batch axis."""
        sample = bucket[index]
        for name, wanted in (("before", bucket.exemplar_size), ("after", bucket.exemplar_size),
                             ("query", bucket.query_size), ("target", bucket.query_size)):  # fmt: skip
            found = tuple(getattr(sample, name).shape[-2:])
            if found != tuple(wanted):
                raise ValueError(f"sample {index}: {name} is {found} (height, width), its bucket promises {wanted}")
        row = {name: self._exemplar(getattr(sample, name))[0] for name in ("before", "after")}
        query, target = sample.query[0], sample.target[0]
        if self.encoder is None:
            return {**row, "query": query, "target": target}
        return {
            **row,
            "text": self.encoder.text(query),
            "query": self.encoder.latent(query).float(),
            "target": self.encoder.latent(target).float(),
            "region": edited_region(sample.query, sample.target)[0],
        }

    def _exemplar(self, picture: Tensor) -> Tensor:
        side = self.model.side_px
        return to_face_input(picture, side) if self.model.kind == "face" else to_pro_input(picture, side)

    def _order(self, epoch: int, what: int) -> int:
        return (self.seed * 1_000_003 + epoch) * 1_009 + what


def stacked(name: str, tensors: Sequence[Any]) -> Tensor:
    """(B, ...). Raises ValueError when shapes differ: padding would change positions, resizing the truth."""
    shapes = sorted({tuple(tensor.shape) for tensor in tensors})
    if len(shapes) > 1:
        raise ValueError(f"{name} of one batch has shapes {shapes}: samples of one bucket must agree")
    return torch.stack(list(tensors))
