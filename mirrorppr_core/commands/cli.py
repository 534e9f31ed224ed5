"""The command line, for use without ComfyUI. One file for each command; this one finds them and reports failure.

    python -m mirrorppr_core retouch     photos after an exemplar pair
    python -m mirrorppr_core album       a whole shoot, resumable, with a report
    python -m mirrorppr_core extract     the retouch of a pair, kept as a file
    python -m mirrorppr_core refine      the same file made better by a result corrected by hand
    python -m mirrorppr_core reproject   what an editor did to a photo, with the photo's own pixels
    python -m mirrorppr_core check       try the Qwen engine's weights
    python -m mirrorppr_core fetch       download them (with a clone only)

Each prints one JSON object. Exit status 0: done, 1: partly, 2: nothing was done, and {"error": ...} says why.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from . import album, check, extract, refine, reproject, retouch

COMMANDS = [retouch, album, extract, refine, reproject, check]
try:
    from . import fetch

    COMMANDS.append(fetch)
except ImportError:  # the registry's archive is without it: no pack of ours reaches the network
    pass


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mirrorppr_core", description="Exemplar-based portrait retouching.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(subparsers)
    options = parser.parse_args(arguments)
    try:
        _check_device(getattr(options, "device", "cpu"))
        return options.run(options)
    except ImportError as error:
        problem = f"{error}. The Qwen engine outside ComfyUI needs: pip install diffusers peft 'transformers>=5'"
    except torch.OutOfMemoryError as error:
        problem = f"{error} The photos are too large for this device: reduce them, or use --device cpu."
    except BrokenPipeError:
        raise  # whoever read the answer is gone: ending.py
    except (ValueError, OSError) as error:
        problem = str(error)
    print(f"error: {problem}", file=sys.stderr)
    print(json.dumps({"error": problem}))
    return 2


def _check_device(name: str) -> None:
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {name} cannot be used here ({error}): use cpu, or install torch for it") from error
