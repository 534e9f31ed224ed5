"""What a data set is made of: all that decides its bytes, and the manifest by which two runs recognise each other.

Two runs of one specification, on the same portraits, landmarks and software, make the same shards; a run that differs
in any of these must not continue what another began. Equal bytes are promised on one kind of processor: another one
may round the last bit of a motion differently, which a JPEG can show.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np
import PIL
import torch

from ..data.portrait_folder import PortraitFolder
from ..recipes.recipe import BODY_TOOLS, WEAKEST, draw_recipe, operations_named
from .code_version import code_version

FORMAT_VERSION = 1
PICTURES = ("jpg", "png")


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """portraits, landmarks: as in training/data/portrait_folder.py and training/data/landmark_sources.py."""

    portraits: str
    landmarks: str
    operations: tuple[str, ...]
    num_pairs: int
    shard_size: int = 1000
    seed: int = 0
    mode: str = "exact"
    side: int = 512  # px of the shorter side; larger portraits are reduced, smaller ones passed over
    max_steps: int = 3  # operations in one recipe
    split: str | None = None  # of portraits.csv; None: all
    picture: str = "jpg"  # png is lossless, and several times as large
    quality: int = 95  # of jpg, which is stored without chroma subsampling
    fields: bool = False  # store the true motion as well
    pairs_per_portrait: int = 4  # in a row
    body_tools: tuple[str, ...] = BODY_TOOLS[:1]  # whose windows the operations of the body have, each as often

    def __post_init__(self) -> None:
        for name in ("num_pairs", "shard_size", "max_steps", "pairs_per_portrait"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: use 1 or more")
        if self.seed < 0:
            raise ValueError(f"seed={self.seed}: use 0 or more")
        # Says what is wrong with unknown operations and modes, and with operations that a mode does not know.
        operations_named(",".join(self.operations))
        draw_recipe(torch.Generator(), self.operations, max_steps=self.max_steps, mode=self.mode)
        if not self.body_tools or not set(self.body_tools) <= set(BODY_TOOLS):
            raise ValueError(f"body_tools={self.body_tools}: use one or more of {', '.join(BODY_TOOLS)}")
        if self.side < 64:
            raise ValueError(f"side={self.side}: use 64 pixels or more, 512 or 1024 is usual")
        if self.picture not in PICTURES:
            raise ValueError(f"picture={self.picture!r}: use one of {', '.join(PICTURES)}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality={self.quality}: use 1 to 100, 95 hides the compression")

    @property
    def num_shards(self) -> int:
        return -(-self.num_pairs // self.shard_size)

    def indices(self, shard_id: int) -> range:
        """The pairs of one shard."""
        first = shard_id * self.shard_size
        return range(first, min(first + self.shard_size, self.num_pairs))


def manifest(spec: DatasetSpec, folder: PortraitFolder) -> dict:
    """What must be equal for two runs to make parts of one data set. Names no folder: machines differ in those."""
    told = {name: value for name, value in asdict(spec).items() if name not in ("portraits", "landmarks")}
    known = [folder.known(index) for index in range(len(folder))]
    return {
        "format": FORMAT_VERSION,
        "dataset": {
            **told,
            "operations": list(spec.operations),
            "body_tools": list(spec.body_tools),
            "strengths": [WEAKEST, 100],
        },
        "portraits": {
            "count": len(folder),
            "digest": _portraits_digest(folder),
            "licences": _counts(known, "licence"),
            "sources": _counts(known, "source"),
        },
        "landmarks": folder.landmarks.name,
        "software": {
            "code": code_version(),
            "torch": torch.__version__,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
        },
    }


def differences(ours: dict, theirs: dict, path: str = "") -> list[str]:
    """What is not equal in two manifests, one readable line each."""
    lines = []
    for key in sorted({*ours, *theirs}):
        a, b, name = ours.get(key), theirs.get(key), f"{path}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{name}.")
        elif a != b:
            lines.append(f"{name}: {_short(a)} now, {_short(b)} there")
    return lines


def _portraits_digest(folder: PortraitFolder) -> str:
    """Of names, sizes in bytes and what is known of each. Contents are not read: a folder may hold millions."""
    digest = hashlib.sha256()
    for index, file in enumerate(folder.files):
        size = (folder.path / file).stat().st_size
        digest.update(json.dumps([file, size, folder.known(index)], sort_keys=True).encode())
    return digest.hexdigest()[:16]


def _counts(known: list[dict[str, str]], name: str) -> dict[str, int]:
    return dict(sorted(Counter(row[name] for row in known).items()))


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
