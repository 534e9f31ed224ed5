"""The frame of every program here: arguments in, exit status out, and one way to fail.

    def main(arguments: Sequence[str] | None = None) -> int:
        parser = Parser("NAME", __doc__)
        parser.add_argument("--out", type=Path, required=True)
        return run(parser, work, arguments)     # work(options) does it, and returns a status or nothing

A mistake, in the arguments or in what they name, is one line on stderr and status 2. Ctrl-C is one line and status
130, SIGTERM one and 143; whoever closed the pipe hears nothing, and the status is 141. Anything else is a fault of
ours and keeps its traceback.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from mirrorppr_core.commands.ending import pipe_closed, status_when_stopped, stops_noted

# What a user can cause: wrong values and damaged files (also CheckpointError and PreflightError), what cannot be read
# or written, an optional package that is not installed, a training run whose numbers became infinite.
MISTAKES = (ValueError, OSError, ImportError, FloatingPointError)
MISTAKE = 2


class Parser(argparse.ArgumentParser):
    """Of `python -m training.NAME`; --help prints the module's docstring as it stands."""

    def __init__(self, name: str, about: str):
        super().__init__(
            prog=f"python -m training.{name}",
            description=about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def error(self, message: str) -> NoReturn:
        """argparse would print the usage and end the process here."""
        raise ValueError(f"{message}. {self.prog} --help tells more")


def run(
    parser: Parser, work: Callable[[argparse.Namespace], int | None], arguments: Sequence[str] | None = None
) -> int:
    """Read the arguments (the process's own by default) and do the work. Returns the exit status."""
    with stops_noted():
        try:
            status = work(parser.parse_args(arguments)) or 0
            sys.stdout.flush()
            return status
        except BrokenPipeError:
            return pipe_closed()
        except MISTAKES as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            return MISTAKE
        except KeyboardInterrupt as stop:
            print(str(stop) or "stopped", file=sys.stderr)
            return status_when_stopped()
