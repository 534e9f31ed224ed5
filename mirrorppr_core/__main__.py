"""`python -m mirrorppr_core`: see cli.py."""

import sys

from .commands.cli import main

if __name__ == "__main__":
    sys.exit(main())
