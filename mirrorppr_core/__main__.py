"""`python -m mirrorppr_core`: see commands/cli.py."""

import gc

from .commands.ending import ended, leave

try:
    from .commands.waiting import share_one_heap, wait_passively
except ImportError:  # the registry's archive is without it: no pack of ours changes the environment
    pass
else:
    wait_passively()
    share_one_heap()


def work() -> int:
    gc.disable()  # what is imported stays: looking through it for garbage, again and again, costs a tenth of a second
    try:
        from .commands.cli import main  # imports torch: seconds in which a stop is told like any other
    finally:
        gc.freeze()
        gc.enable()
    return main()


if __name__ == "__main__":
    leave(ended(work))
