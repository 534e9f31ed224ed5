"""`python -m mirrorppr_core`: see commands/cli.py."""

import sys

from .commands.ending import ended

try:
    from .commands.waiting import wait_passively
except ImportError:  # the registry's archive is without it: no pack of ours changes the environment
    pass
else:
    wait_passively()


def work() -> int:
    from .commands.cli import main  # imports torch: seconds in which a stop is told like any other

    return main()


if __name__ == "__main__":
    sys.exit(ended(work))
