"""How doubtful a result is, as one number: the order in which a person looks at an album.

0 is nothing to look at, 1 is not retouched at all. What counts: how sure the retouch is (mini/confidence.py) or, where
that cannot be told, how far several looks at a face disagree about its landmarks; what the editor had to say about this
photo (softened motion, something left out); and a motion much larger than the album's usual one, which is mostly a face
read wrongly. It ranks; the confidence beside it is the probability.
"""

from __future__ import annotations

from statistics import median

from ..mini.editor import Retouched

_UNREADABLE = 6.0  # per cent of the eye distance; the locator refuses beyond
_NOTE = 0.25
_ODD = 2.0  # times the usual motion, either way


def doubt_of(result: Retouched, operation_notes: tuple[str, ...]) -> float:
    """Of one photo by itself, in [0, 0.95]."""
    strayed = max((face.disagreement for face in result.faces), default=0.0) / _UNREADABLE
    unsure = 0.7 * min(1.0, strayed) if result.confidence is None else 1 - result.confidence
    own_notes = [note for note in result.notes if note not in operation_notes and not note.startswith("confidence ")]
    return round(min(0.95, unsure + _NOTE * bool(own_notes)), 3)


def ranked(rows: list[dict]) -> list[dict]:
    """Rows of a journal, the most doubtful first; those whose motion is unlike the others' count as doubtful too."""
    relative = [row["relative_motion"] for row in rows if row.get("relative_motion")]
    usual = median(relative) if relative else 0.0

    def doubt(row: dict) -> float:
        share = row.get("relative_motion") or 0.0
        odd = usual > 0 and share > 0 and not 1 / _ODD < share / usual < _ODD
        return row["doubt"] + 0.3 * odd

    return sorted(rows, key=lambda row: (-doubt(row), row["output"]))
