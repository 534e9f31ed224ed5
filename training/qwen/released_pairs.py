"""The released layouts as pairs for the Qwen stages (pairs.py). Which one a folder is, its files tell.

    dataset.json                                SimFace-100, and what training.make_cases writes: exemplars and queries
    professional/metadata/single_ops_all.json   professional subset: edited tiles of a photo, put together on demand
    FOLDER/aligned_source.png ...               what the published scripts write: a folder for each picture or person

Professional pairs are choices of edits of one photo: every edit alone, and mixtures of up to max_steps, drawn once for
the whole set so that other people have the same ones. In folders of the published scripts the exemplar is the pair that
they make for the extractor (extractor_2k, else full_resolution, aligned or wild) and the queries are their
augmentations, or the exemplar itself under an A of ours where there are none; the operation is not told.

Identities: of SimFace-100 the file's stem, of the professional subset the group of the photo (PPR10K's "1443" of
"1443:3"), of folders the outermost one below the root. Nothing is flipped: no layout tells one-sided operations.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.picture_files import read_picture
from ..recipes.recipe import ALL_OPERATIONS
from ..released.compose import compose
from ..released.formats import ProfessionalEdit, read_pairs, read_professional, read_simface
from ..released.rows import Released
from .pairs import LoadedPair, PairFacts, UnusablePair, bits_of, changed_box, number_of

SIMFACE, PROFESSIONAL = "dataset.json", "single_ops_all.json"
_METADATA = ("professional/metadata", "metadata", ".")  # where the latter may lie
MIXTURES = 400  # of several edits, in the whole set
_EXEMPLARS = ("exemplar", "full_resolution", "aligned", "wild")  # the first that a folder has
_UNKNOWN = 0


@dataclass(frozen=True, slots=True)
class _Files:
    """A pair as two picture files."""

    before: Path
    after: Path

    def read(self) -> tuple[Tensor, Tensor]:
        return _bytes(self.before), _bytes(self.after)


@dataclass(frozen=True, slots=True)
class _Edits:
    """A pair as some of the edits of one photo, which are by name."""

    edits: dict[str, ProfessionalEdit]
    choice: tuple[str, ...]

    def read(self) -> tuple[Tensor, Tensor]:
        made = compose([self.edits[name] for name in self.choice])
        return made.source[None], made.target[None]


@dataclass(frozen=True, slots=True)
class _Known:
    """One pair before it is opened; see PairFacts. exemplar: None is itself, -1 is for others only."""

    pair: _Files | _Edits
    identity: str
    retouch: str = ""
    operations: int = _UNKNOWN
    exemplar: int | None = None


class ReleasedPairs:
    """Raises FileNotFoundError or ValueError for a folder that is none of the layouts, or has no usable pair."""

    def __init__(self, folder: Path, *, max_steps: int = 3):
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: no such folder. Give the one that a released data set was unpacked into"
            )
        professional = [
            folder / place / PROFESSIONAL for place in _METADATA if (folder / place / PROFESSIONAL).is_file()
        ]
        if (folder / SIMFACE).is_file():
            known = _simface(folder)
        elif professional:
            known = _professional(professional[0], folder, max_steps)
        else:
            known = _folders(folder)
        self.folder, self._pairs = folder, tuple(row.pair for row in known)
        self.facts = PairFacts(
            identity=np.array([number_of(row.identity) for row in known], np.uint64),
            retouch=np.array([number_of(row.retouch) if row.retouch else 0 for row in known], np.uint64),
            operations=np.array([row.operations for row in known], np.uint64),
            exemplar=np.array([n if row.exemplar is None else row.exemplar for n, row in enumerate(known)], np.int64),
        )
        self.digest = self.facts.digest

    def load(self, number: int) -> LoadedPair:
        """Raises UnusablePair that says what is wrong."""
        try:
            before, after = self._pairs[number].read()
        except ValueError as error:  # also from compose
            raise UnusablePair(
                f"pair {number} of {self.folder} cannot be read: {error}. Repair it or take it out"
            ) from error
        if before.shape != after.shape:
            raise UnusablePair(
                f"pair {number} of {self.folder}: before is {before.shape[-1]}x{before.shape[-2]} and after "
                f"{after.shape[-1]}x{after.shape[-2]} pixels. A pair has one size: copy it again, or take it out"
            )
        keep = changed_box(before, after)
        if keep is None:
            raise UnusablePair(f"pair {number} of {self.folder}: before and after do not visibly differ. Take it out")
        return LoadedPair(before=before, after=after, keep=keep, may_flip=False)


def _simface(folder: Path) -> list[_Known]:
    known = []
    for row in _usable(read_simface(folder / SIMFACE, folder), folder / SIMFACE):
        shown = len(known)
        known += [
            _Known(_Files(row.exemplar_before, row.exemplar_after), row.exemplar_before.stem, exemplar=-1),
            _Known(_Files(row.query, row.target), row.query.stem, exemplar=shown),
        ]
    return known


def _professional(metadata: Path, root: Path, max_steps: int) -> list[_Known]:
    photos: dict[str, dict[str, ProfessionalEdit]] = defaultdict(dict)
    for edit in _usable(read_professional(metadata, root), metadata):
        if edit.photo is not None and edit.photo.is_file():
            photos[edit.image_id][f"{edit.operation}:{edit.level}"] = edit
    if not photos:
        raise ValueError(f"{metadata}: no edit names a photo that is in {root}. Unpack the photos there too")
    names = sorted({name for edits in photos.values() for name in edits})
    choices = {choice: ("+".join(choice), _bits(choice)) for choice in _choices(names, max_steps)}
    return [
        _Known(_Edits(edits, choice), image_id.partition(":")[0], retouch, operations)
        for image_id, edits in sorted(photos.items())
        for choice, (retouch, operations) in choices.items()
        if all(name in edits for name in choice)
    ]


def _choices(names: list[str], max_steps: int) -> list[tuple[str, ...]]:
    """Every edit alone, and mixtures of different operations: all if they are few, else MIXTURES drawn from them."""
    generator, found = torch.Generator().manual_seed(0), {(name,) for name in names}
    for size in range(2, min(max_steps, len(names)) + 1):
        if len(names) <= 12:
            drawn = list(combinations(names, size))
        else:
            orders = (torch.randperm(len(names), generator=generator) for _ in range(MIXTURES // (max_steps - 1)))
            drawn = [tuple(names[i] for i in sorted(order[:size].tolist())) for order in orders]
        found |= {choice for choice in drawn if len({name.rpartition(":")[0] for name in choice}) == size}
    return sorted(found)


def _bits(choice: tuple[str, ...]) -> int:
    operations = [name.rpartition(":")[0] for name in choice]
    return bits_of(name for name in operations if name in ALL_OPERATIONS)


def _folders(root: Path) -> list[_Known]:
    homes: dict[Path, None] = {}
    for path in sorted(root.rglob("*source.png")):
        nested = path.parent.name in ("augmentations", "qwen_augmentations", "extractor_2k", "full_resolution")
        homes[path.parent.parent if nested else path.parent] = None
    known: list[_Known] = []
    for home in sorted(homes):
        found = read_pairs(home).records
        shown = next((pair for kind in _EXEMPLARS for pair in found if pair.kind == kind), None)
        augmented = [pair for pair in found if pair.kind == "augmentation"]
        if shown is None:
            continue
        inside = home.relative_to(root).parts
        identity, first = inside[0] if inside else home.name, len(known)
        known.append(_Known(_Files(shown.source, shown.target), identity, exemplar=-1 if augmented else None))
        known += [_Known(_Files(pair.source, pair.target), identity, exemplar=first) for pair in augmented]
    if not known:
        raise ValueError(
            f"{root} is none of the released layouts: it has no {SIMFACE}, no {_METADATA[0]}/{PROFESSIONAL} and no "
            "folder with aligned_source.png or extractor_2k/. Shards of training.synthesize are data.source=shards"
        )
    return known


def _usable(released: Released, metadata: Path) -> tuple:
    """The records; what cannot be used is said."""
    if released.unusable:
        print(f"{metadata}: rows that cannot be used, by reason: {released.counts()}", flush=True)
    if not released.records:
        raise ValueError(f"{metadata} has no usable row: {released.counts() or 'it is empty'}")
    return released.records


def _bytes(path: Path) -> Tensor:
    """(1, 3, H, W) uint8."""
    return (read_picture(path) * 255).round().byte()
