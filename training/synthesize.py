"""Make training data: retouched pairs from any folder of portraits, as tar shards, on a laptop or a cluster.

    python -m training.synthesize --portraits DIR --landmarks mini --operations face --pairs 10000 --out DATA
        one machine: --workers 8
        Ray:         --engine ray [--address HOST:PORT]     (without an address Ray is started on this machine)
        SLURM:       sbatch --array=0-9 ... --shard-id $SLURM_ARRAY_TASK_ID

Whatever makes them, the shards are the same bytes. A run that was stopped in any way goes on where it was when the same
command is given again. DATA then holds pairs-*.tar, one json beside each, manifest.json and summary.json; WebDataset,
`tarfile` and training/shards/reader.py read it. The pairs show people: their portraits' licences are in every sample.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from mirrorppr_core.photo_files import prepare_folder

from .program import Parser, run
from .recipes.recipe import BODY_TOOLS, GROUPS, MODES, operations_named
from .shards.folder import check_manifest, is_complete, make_shard, missing_shards, write_manifest, write_summary
from .shards.pair_maker import PairMaker, Tally
from .shards.spec import PICTURES, DatasetSpec, manifest
from .shards.tar import remove_leftovers, sample_bytes, shard_name
from .shards.workers import WORKERS, require_ray, run_here, run_pool, run_ray

_PROBED = 4  # pairs made before the work begins, to see how large one is
_ROOM = 1.02  # free space asked for, over what the probed pairs predict


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    return run(_parser(), _work, arguments)


def _work(options: argparse.Namespace) -> None:
    spec, out, only = _spec(options), options.out.absolute(), options.shard_id
    if options.workers < 1:
        raise ValueError(f"--workers {options.workers}: use 1 or more")
    if only is not None and not 0 <= only < spec.num_shards:
        raise ValueError(f"--shard-id {only}: {spec.num_pairs} pairs make shards 0 to {spec.num_shards - 1}")
    if options.engine == "ray":
        if options.workers > 1:
            raise ValueError(
                "--workers counts processes of this machine, and Ray counts its own: leave one of them out"
            )
        require_ray()
    elif options.address:
        raise ValueError("--address is the address of a Ray cluster: add --engine ray")
    maker = PairMaker(spec)
    prepare_folder(out)
    expected = manifest(spec, maker.folder)
    begun = check_manifest(out, expected)
    # Tasks of an array run side by side: each may clear away only what an earlier try at its own shard left.
    remove_leftovers(out, "" if only is None else shard_name(only))
    numbers = missing_shards(spec, out, only=only)
    if numbers:
        _check_room(maker, numbers, out)
        if not begun:
            write_manifest(out, expected)
        try:
            _make(spec, out, numbers, _answers(options, partial(make_shard, spec, out), numbers))
        except KeyboardInterrupt:
            text = "stopped; the same command continues after the shards that are done"
            raise KeyboardInterrupt(text) from None
    else:
        print("nothing to make: done before" if only is None else f"shard {only} is done", flush=True)
    if only is None:
        remove_leftovers(out)  # of workers that died while the others went on
    if is_complete(spec, out):
        _tell(write_summary(spec, out), out)


def _answers(options: argparse.Namespace, task: partial, numbers: list[int]) -> Iterator[dict]:
    if options.engine == "ray":
        return run_ray(task, numbers, address=options.address)
    if options.workers > 1 and len(numbers) > 1:
        return run_pool(task, numbers, workers=options.workers)
    return run_here(task, numbers)


def _check_room(maker: PairMaker, numbers: list[int], out: Path) -> None:
    """Make a few pairs. Raises ValueError where the disk cannot hold all, and NothingUsable where none can be made."""
    spec = maker.spec
    pairs = sum(len(spec.indices(number)) for number in numbers)
    # Spread over all pairs: neighbours are of one portrait.
    places = sorted({count * pairs // _PROBED for count in range(_PROBED)})
    indices = [spec.indices(numbers[place // spec.shard_size])[place % spec.shard_size] for place in places]
    size = sum(len(sample_bytes(maker.make(index, Tally()))) for index in indices) / len(indices)
    free = shutil.disk_usage(out).free
    if pairs * size * _ROOM > free:
        raise ValueError(
            f"{pairs} pairs of about {size / 1e3:.0f} kB need {_amount(pairs * size * _ROOM)}, and the disk of {out} "
            f"has {_amount(free)} free: make fewer, choose another folder, a smaller --side or --picture jpg"
        )


def _make(spec: DatasetSpec, out: Path, numbers: list[int], answers: Iterator[dict]) -> None:
    pairs = sum(len(spec.indices(number)) for number in numbers)
    print(f"{out}: {len(numbers)} of {spec.num_shards} shards to make, {pairs} pairs", flush=True)
    began, made = time.monotonic(), 0
    for count, facts in enumerate(answers, start=1):
        made += facts["count"]
        pace = made / (time.monotonic() - began)
        left = (pairs - made) / pace
        print(
            f"{shard_name(facts['shard'])}  {count}/{len(numbers)} shards  {made}/{pairs} pairs  "
            f"{pace:.1f} pairs/s  {_duration(left)} left",
            flush=True,
        )


def _tell(summary: dict, out: Path) -> None:
    print(f"{summary['pairs']} pairs in {summary['shards']} shards, {_amount(summary['bytes'])}: {out}")
    for title, name in (("portraits passed over", "skipped"), ("recipes drawn again", "redrawn_recipes")):
        counts = ", ".join(f"{count} {reason}" for reason, count in summary[name].items())
        print(f"{title}: {counts or 'none'}")
    print("licences: " + ", ".join(f"{count} {licence}" for licence, count in summary["licences"].items()), flush=True)


def _spec(options: argparse.Namespace) -> DatasetSpec:
    # A JPEG would undo what the official mode is for: the published bytes.
    picture = options.picture or ("png" if options.mode == "official" else "jpg")
    return DatasetSpec(
        portraits=str(options.portraits.absolute()),
        landmarks=_absolute(options.landmarks),
        operations=operations_named(options.operations),
        num_pairs=options.pairs,
        shard_size=options.shard_size,
        seed=options.seed,
        mode=options.mode,
        side=options.side,
        max_steps=options.max_steps,
        split=options.split,
        picture=picture,
        quality=options.quality,
        fields=options.fields,
        pairs_per_portrait=options.pairs_per_portrait,
        body_tools=tuple(options.body_tools.split(",")),
    )


def _absolute(landmarks: str) -> str:
    """Workers may run in another folder."""
    return f"npz:{Path(landmarks[4:]).absolute()}" if landmarks.startswith("npz:") and landmarks[4:] else landmarks


def _amount(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _parser() -> Parser:
    defaults = DatasetSpec.__dataclass_fields__
    parser = Parser("synthesize", __doc__)
    add = parser.add_argument

    def add_number(flag: str, name: str, text: str) -> None:
        default = defaults[name].default
        add(flag, type=int, default=default, metavar="N", help=f"{text} (default {default})")

    add(
        "--portraits",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder of portraits, with or without portraits.csv",
    )
    add(
        "--landmarks",
        required=True,
        metavar="SOURCE",
        help="npz:PATH, mini (our own, faces only) or mediapipe (optional extra)",
    )
    add("--operations", required=True, metavar="NAMES", help=f"{', '.join(GROUPS)}, or names separated by commas")
    add("--pairs", type=int, required=True, metavar="N", help="how many to make")
    add("--out", type=Path, required=True, metavar="DIR", help="folder of the shards")
    add_number("--side", "side", "pixels of the shorter side; smaller portraits are passed over")
    add_number("--shard-size", "shard_size", "pairs in a shard")
    add_number("--seed", "seed", "another seed, other pairs")
    add("--mode", choices=MODES, default="exact", help="official: the published arithmetic, simulated operations only")
    add_number("--max-steps", "max_steps", "operations in one recipe, at most")
    add("--split", help="only portraits of this split of portraits.csv")
    add("--picture", choices=PICTURES, help="png keeps every bit; default: jpg, and png in official mode")
    add_number("--quality", "quality", "of jpg")
    add("--fields", action="store_true", help="store the true motion too, as float16 .npy")
    add_number("--pairs-per-portrait", "pairs_per_portrait", "in a row; more is faster, fewer mixes better")
    add(
        "--body-tools",
        default=",".join(defaults["body_tools"].default),
        metavar="NAMES",
        help=f"of {', '.join(BODY_TOOLS)}, separated by commas: whose windows the operations of the body have",
    )
    add("--workers", type=int, default=1, metavar="N", help="processes on this machine (default 1)")
    add("--engine", choices=WORKERS, default="pool", help="ray: a Ray cluster (optional extra)")
    add("--address", help="of a running Ray cluster, HOST:PORT or auto")
    add("--shard-id", type=int, metavar="I", help="make only this shard, for array jobs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
