"""Where the samples of a Qwen run come from, as batch sources of the training loop.

    data.source=online      portraits, retouched while training (quadruplets.py)
    data.source=shards      finished pairs of training.synthesize (qwen/shard_pairs.py)
    data.source=released    finished pairs in one of the released layouts (qwen/released_pairs.py)

    python -m training.qwen_sources --config qwen-face --set data.source=shards --set data.pairs=DIR
        tells how many pairs each stage would train on, and how many of them can be shown on another person

Whose identity is held out is decided by a hash of the name, so adding people moves nobody from one side to the other.
Samples come in one set for each query size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np

from .presets import load_preset
from .program import Parser, run
from .qwen.pairs import with_partner
from .qwen.sources import _stored, pairs_of
from .runs.preset import Preset


def described(preset: Preset) -> list[str]:
    """A line for each stage and side. Raises ValueError or FileNotFoundError as `check_pairs` does."""
    facts, lines = pairs_of(preset.data).facts, []
    for stage in preset.stages:
        for held_out in (False, True):
            buckets = _stored(stage, preset, 0, held_out)
            rows = buckets[0].partners
            lines.append(
                f"{stage.name}, {'held out' if held_out else 'training'}: {len(rows)} pairs of "
                f"{len(np.unique(facts.identity[rows]))} identities in {len(buckets)} query sizes; "
                f"{with_partner(facts, rows) / len(rows):.1%} have the same retouch on another person"
            )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("qwen_sources", __doc__)
    parser.add_argument("--config", required=True, help="a Qwen preset, or its YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as for training.train")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    preset = load_preset(options.config, options.set)
    if preset.engine != "qwen" or preset.data.source == "online" or not preset.data.pairs:
        raise ValueError("name a Qwen preset and set data.source to shards or released, and data.pairs to the folder")
    print("\n".join(described(preset)))


if __name__ == "__main__":
    sys.exit(main())
