"""Ten thousand damaged files: no traceback, no hang, no damage accepted, nothing written elsewhere, no long message.

300 of them are workflows (workflows.py).

    python tests/fuzz/fuzz.py                                 all of them
    python tests/fuzz/fuzz.py --subject weights --count 500   a part;  --first 1234 --count 1  one case again

A case is told by its subject and number alone. Prints a line for each subject and every fault; exit status 1 with any.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
for _folder in (HERE, HERE.parent / "helpers", HERE.parents[1]):
    sys.path.insert(0, str(_folder))

import torch  # noqa: E402
from subjects import SUBJECTS  # noqa: E402
from watched import watched  # noqa: E402

COUNTS = {"weights": 2400, "pictures": 2500, "operations": 1200, "shards": 1300, "checkpoints": 1300, "tables": 1000}


@dataclass(frozen=True)
class Found:
    """number: of the case.  refused: with a sentence.  faults: of what must not be."""

    number: int
    about: str
    refused: str
    faults: tuple[str, ...]
    seconds: float


def fuzz(subject: str, count: int, folder: Path, *, first: int = 0) -> Iterator[Found]:
    """One Found for each case."""
    torch.set_num_threads(1)
    made = SUBJECTS[subject](folder)
    for number in range(first, first + count):
        case = made.case(random.Random(f"{subject} {number}"))
        ending = watched(case.read, folder)
        faults = ending.faults
        if not ending.refused and not faults and case.is_wrong(ending.value):
            faults = ("damage was accepted",)
        yield Found(number, case.about, ending.refused, faults, ending.seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subject", choices=SUBJECTS, help="one alone")
    parser.add_argument("--count", type=int, help="cases of each subject")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--show", action="store_true", help="print every sentence")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # Pillow's, of every damaged tag
    total = faulty = 0
    for subject in [options.subject] if options.subject else SUBJECTS:
        refused, longest, words, bad = 0, 0.0, 0, []
        with tempfile.TemporaryDirectory() as folder:
            count = options.count or COUNTS[subject]
            for found in fuzz(subject, count, Path(folder), first=options.first):
                refused, total = refused + bool(found.refused), total + 1
                longest, words = max(longest, found.seconds), max(words, len(found.refused))
                if options.show:
                    print(f"{subject} {found.number} {found.about}: {found.refused or 'accepted'}")
                if found.faults:
                    bad.append(found)
                    print(f"FAULT {subject} {found.number}, {found.about}: {'; '.join(found.faults)}", flush=True)
        faulty += len(bad)
        print(
            f"{subject}: {count} cases, {refused} refused, {len(bad)} faults, at most {longest:.2f} s of processor "
            f"time and {words} characters",
            flush=True,
        )
    print(f"{total} cases, {faulty} faults")
    return 1 if faulty else 0


if __name__ == "__main__":
    sys.exit(main())
