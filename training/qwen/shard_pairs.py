"""Shards of training.synthesize as pairs for the Qwen stages (pairs.py).

    pairs-*.tar, pairs-*.json, manifest.json    as training.synthesize leaves them, all of them
    pairs-index.npz                             who and what is in them, written here once where the folder allows it

Pictures are read one pair at a time from their place in the tar, by whichever process wants them; what decides who is
held out and which pairs show the same retouch is read once. Two pairs show the same where all steps of their recipes
agree in operation, strength, side and mode.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from mirrorppr_core.file_writing import replacing
from mirrorppr_core.settings_file import parsed_table

from ..data.tables import read_arrays
from ..recipes.recipe import ALL_OPERATIONS, Recipe
from ..shards.folder import MANIFEST
from ..shards.reader import ShardSet
from ..shards.spec import FORMAT_VERSION
from .pairs import LoadedPair, PairFacts, bits_of, number_of

INDEX = "pairs-index.npz"
_ARRAYS = ("identity", "retouch", "operations")


class ShardPairs:
    """Raises FileNotFoundError or ValueError for a folder that is not one finished, undamaged set."""

    def __init__(self, folder: Path, *, min_side: int = 1):
        manifest = read_manifest(folder)
        side = manifest["dataset"]["side"]
        if side < min_side:
            raise ValueError(
                f"{folder} holds pairs of {side} px and data.min_side is {min_side}: make them with python -m "
                f"training.synthesize --side {min_side} or more, or lower data.min_side"
            )
        self.shards = ShardSet(folder)
        self.digest = self.shards.digest
        wanted = manifest["dataset"]["num_pairs"]
        if len(self.shards) != wanted:
            raise ValueError(
                f"{folder} holds {len(self.shards)} of {wanted} pairs: give the command of training.synthesize again "
                "to finish it, or copy all of its files"
            )
        identity, retouch, operations = _index(self.shards)
        self.facts = PairFacts(identity, retouch, operations, exemplar=np.arange(len(identity)))

    def load(self, number: int) -> LoadedPair:
        stored = self.shards[number]
        left, top, right, bottom = stored.about["displacement"]["box"]
        return LoadedPair(
            before=stored.before[None],
            after=stored.after[None],
            keep=(left, top, right - 1, bottom - 1),
            may_flip=not Recipe.from_json(stored.about["recipe"]).one_sided,
        )


def read_manifest(folder: Path) -> dict:
    """What training.synthesize says of its folder."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of shards. Make one with python -m training.synthesize")
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} has no {MANIFEST}: give the folder that python -m training.synthesize wrote, with all its files"
        )
    try:
        stored = parsed_table(path.read_bytes(), "its text")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): copy it again") from error
    found = stored.get("format")
    if found != FORMAT_VERSION:
        raise ValueError(
            f"{path} is of format {found} and this code reads {FORMAT_VERSION}: make the shards anew with this version"
        )
    return stored


def _index(shards: ShardSet) -> tuple[np.ndarray, ...]:
    """identity, retouch and operations of every pair, from the index where it is of these shards and this table."""
    path = shards.folder / INDEX
    if path.is_file():
        stored = read_arrays(path, ("digest", "table", *_ARRAYS), remedy="delete it, it is made anew")
        # Bits of operations mean what the table meant when they were written: a row put into it moves them.
        same_table = "table" in stored and tuple(stored["table"]) == ALL_OPERATIONS
        if same_table and "digest" in stored and str(stored["digest"]) == shards.digest:
            if all(name in stored and stored[name].shape == (len(shards),) for name in _ARRAYS):
                return tuple(stored[name] for name in _ARRAYS)
    arrays = tuple(np.zeros(len(shards), np.uint64) for _ in _ARRAYS)
    for number, about in enumerate(shards.abouts()):
        steps = about["recipe"]["steps"]
        arrays[0][number] = number_of(about["identity"])
        arrays[1][number] = number_of(json.dumps(about["recipe"], sort_keys=True))
        arrays[2][number] = bits_of(step["operation"] for step in steps)
    try:
        with replacing(path) as stream:
            told = {"digest": np.array(shards.digest), "table": np.array(ALL_OPERATIONS)}
            np.savez(stream, **told, **dict(zip(_ARRAYS, arrays, strict=True)))
    except OSError as error:
        print(f"{path} could not be written ({error}): the shards are looked through at every start", file=sys.stderr)
    return arrays
