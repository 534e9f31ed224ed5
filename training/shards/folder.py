"""The folder of a data set: its manifest, the shards that are done, and one task per shard.

    manifest.json       written first; a run that would make anything else is refused
    pairs-000000.tar    and pairs-000000.json, which says that it is done (tar.py)
    summary.json        when all shards are done: counts of pairs, operations, licences, portraits passed over

A shard depends on the specification and its number alone, so it does not matter who makes it, in what order, or
whether two do at once: the last one replaces the file by equal bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from mirrorppr_core.settings_file import parsed_table

from .pair_maker import PairMaker, Tally
from .spec import DatasetSpec, differences, manifest
from .tar import Sample, finished, shard_name, write_json, write_shard

MANIFEST, SUMMARY = "manifest.json", "summary.json"
_COUNTED = ("skipped", "redrawn_recipes", "operations", "licences", "sources")


def check_manifest(out: Path, expected: dict) -> bool:
    """Whether there is a manifest yet. Raises ValueError if it is another data set's."""
    path = out / MANIFEST
    if not path.exists():
        if any(out.glob("*.tar")):
            raise ValueError(f"{out} holds shards and no {MANIFEST}: nobody can say what they are. Use another folder")
        return False
    try:
        stored = parsed_table(path.read_bytes(), "its text")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): restore it, or begin in another folder") from error
    lines = differences(expected, stored)
    if lines:
        raise ValueError(
            f"{out} holds another data set:\n  " + "\n  ".join(lines) + "\nGive the arguments and the software that "
            "it was begun with, or another --out folder"
        )
    return True


def write_manifest(out: Path, expected: dict) -> None:
    write_json(out / MANIFEST, expected)
    check_manifest(out, expected)  # another run with other arguments may have begun at the same moment


def make_shard(spec: DatasetSpec, out: Path, shard_id: int) -> dict:
    """The task of every engine. Returns shard, count and bytes; a shard that is done is not made again."""
    name = shard_name(shard_id)
    facts = finished(out, name)
    if facts is None:
        maker, about = _maker(spec, out), {"shard": shard_id}
        facts = write_shard(out, name, _samples(maker, spec.indices(shard_id), about), about)
    return {"shard": shard_id, "count": facts["count"], "bytes": facts["bytes"]}


def missing_shards(spec: DatasetSpec, out: Path, *, only: int | None = None) -> list[int]:
    numbers = range(spec.num_shards) if only is None else [only]
    return [number for number in numbers if finished(out, shard_name(number)) is None]


def is_complete(spec: DatasetSpec, out: Path) -> bool:
    """By one listing of the folder: array tasks that each opened every json would hurt a file server."""
    return sum(1 for _ in out.glob("pairs-*.json")) == spec.num_shards


def write_summary(spec: DatasetSpec, out: Path) -> dict:
    """Counts of all shards, which must be done. The same whoever made them."""
    total = {name: Counter() for name in _COUNTED}
    pairs, size, skipped_files = 0, 0, {}
    for number in range(spec.num_shards):
        facts = finished(out, shard_name(number))
        pairs, size = pairs + facts["count"], size + facts["bytes"]
        for name in _COUNTED:
            total[name].update(facts[name])
        skipped_files.update({entry["file"]: entry for entry in facts["skipped_files"]})
    # A portrait that many shards passed over is one portrait.
    total["skipped"] = Counter(entry["reason"] for entry in skipped_files.values())
    summary = {
        "pairs": pairs,
        "shards": spec.num_shards,
        "bytes": size,
        **{name: dict(sorted(counts.items())) for name, counts in total.items()},
        "skipped_files": [skipped_files[file] for file in sorted(skipped_files)],
    }
    write_json(out / SUMMARY, summary)
    return summary


def _samples(maker: PairMaker, indices: range, about: dict) -> Iterator[Sample]:
    """The pairs of one shard; fills `about` when the last one is out."""
    tally = Tally()
    for index in indices:
        yield maker.make(index, tally)
    about.update(tally.to_json())


@lru_cache(maxsize=1)
def _maker(spec: DatasetSpec, out: Path) -> PairMaker:
    """Opened once in each process, which may run on a machine with other software or another copy of the portraits."""
    maker = PairMaker(spec)
    check_manifest(out, manifest(spec, maker.folder))
    return maker
