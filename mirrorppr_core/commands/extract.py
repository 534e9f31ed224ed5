"""`extract`: the retouch of a before/after pair, kept as a file.

    python -m mirrorppr_core extract --before B --after A --out LOOK.safetensors [--pictures exemplar]
    python -m mirrorppr_core retouch --operation LOOK.safetensors --query Q [Q ...] --out DIR

The file is what Save Operation writes and Load Operation reads. It shows a person, unless --pictures is none; what it
shows is said in the answer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..mini.files import bundled_set
from ..mini.pipeline import MirrorPPR
from .kept import add_kept, check_kept, keep
from .source import add_joints, add_pairs, exemplar_poses, read_pairs


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("extract", help="keep the retouch shown by a before/after pair as a file")
    add_pairs(parser, required=True)
    add_joints(parser)
    add_kept(parser)
    parser.add_argument(
        "--exemplar-face", default="only", help="whose retouch to read, where the exemplar shows several"
    )
    parser.add_argument("--weights", type=Path, help="folder of a matched set (default: the bundled Mini)")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Returns the exit status, 0. Raises OSError or ValueError before anything is written."""
    check_kept(options)
    pairs = read_pairs(options)
    poses = exemplar_poses(options, pairs)
    model = MirrorPPR.from_folder(options.weights or bundled_set())
    operation = model.extract(pairs, face=options.exemplar_face, poses=poses)
    print(json.dumps(keep(options, operation, model), indent=1))
    return 0
