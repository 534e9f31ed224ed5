"""`check`: are these Qwen-engine weights what they should be, and do they run here?

    python -m mirrorppr_core check --weights MirrorPPR-Face [--base Qwen-Image-Edit] [--device cuda]

Prints one JSON object: what each file is and its precision, rank and targets of the LoRA, the verdict of the
patch-order test, and how the networks answer. With --base the whole engine takes two steps as well.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser("check", help="say what a set of Qwen-engine weights is, and try it")
    parser.add_argument("--weights", type=Path, required=True, help="folder of the set, as `fetch` makes it")
    parser.add_argument("--base", type=Path, help="diffusers folder of Qwen-Image-Edit, to try the whole engine")
    parser.add_argument("--device", default="cpu", help="where to compute: cpu or cuda (default: cpu)")
    parser.set_defaults(run=run)


def run(options: Any) -> int:
    """Returns the exit status. Raises ValueError or OSError with the remedy."""
    from ..qwen.files import QwenSet
    from ..qwen.report import describe, exercise, retouch_once

    files = QwenSet.from_folder(options.weights)
    report = describe(files)
    operation, report["networks"] = exercise(files, device=options.device)
    if options.base is not None:
        report["engine"] = retouch_once(files, options.base, operation, device=options.device)
    print(json.dumps(report, indent=1))
    return 0
