"""People in pictures and where their joints are, as bodies/ and portraits_pose.npz say: a list of labels, no pixels.

    PORTRAITS/bodies/bodies.csv, bodies.npz          renders, figures, photos and paintings of single people
    PORTRAITS/portraits.csv, bodies/portraits_pose.npz    the face and body portraits beside them

Poses are MediaPipe's 33 points. `votes` says how many of several looks of the teacher agree on a point; for renders,
whose joints are exact, how many of the teacher's looks agree with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .tables import read_arrays, read_rows

# Kinds of pictures: computer-made with exact joints, other computer-made, real photos, paintings; the older body
# portraits (most of them generated) and face portraits.
GROUPS = ("render", "figure", "photo", "painting", "body", "portrait")
_ARRAYS = ("files", "pose", "point_votes", "views", "exact", "face")
_COLUMNS = ("file", "split", "identity")
_TABLES = (("bodies", "bodies/bodies.csv", "bodies/bodies.npz"), ("", "portraits.csv", "bodies/portraits_pose.npz"))


@dataclass(frozen=True)
class BodyLabel:
    """file: the picture.  name: relative to its table.  pose: (33, 4) x, y from the picture's edge, z, visibility.

    votes: (33,) looks out of `views` that agree.  exact: joints of a render; their visibility is 1 seen, 0.25 hidden,
    0.02 outside the picture.  face: (4,) box x0, y0, x1, y1, NaN where there is none.
    """

    file: Path
    name: str
    identity: str
    group: str
    pose: np.ndarray
    votes: np.ndarray
    views: int
    exact: bool
    face: np.ndarray


def check_body_labels(root: Path) -> None:
    """Raises ValueError for a folder without labels of bodies."""
    for _, table, arrays in _TABLES:
        missing = [name for name in (table, arrays) if not (root / name).is_file()]
        if missing:
            raise ValueError(
                f"{root} has no {' and no '.join(missing)}, which the stage `body` learns from: use a folder with "
                "pictures of bodies and their poses, or mini-face"
            )
        stored = read_arrays(root / arrays, _ARRAYS)
        lacking = [name for name in _ARRAYS if name not in stored]
        if lacking:
            raise ValueError(f"{root / arrays} has no {' and '.join(lacking)}: it needs {', '.join(_ARRAYS)}")


def read_body_labels(root: Path, *, split: str, groups: Sequence[str] = GROUPS) -> list[BodyLabel]:
    """The labels of one split.  root: the folder of portraits.csv, with bodies/ in it.  Raises ValueError if empty."""
    check_body_labels(root)
    found = []
    for folder, table, arrays in _TABLES:
        rows = {row["file"]: row for row in read_rows(root / table, _COLUMNS) if row["split"] == split}
        known = read_arrays(root / arrays, _ARRAYS)
        for i, name in enumerate(map(str, known["files"])):
            if name in rows and _group(rows[name]) in groups:
                found.append(
                    BodyLabel(
                        file=root / folder / name,
                        name=name,
                        identity=rows[name]["identity"],
                        group=_group(rows[name]),
                        pose=known["pose"][i],
                        votes=known["point_votes"][i],
                        views=int(known["views"][i]),
                        exact=bool(known["exact"][i]),
                        face=known["face"][i],
                    )
                )
    if not found:
        raise ValueError(f"{root}: no pictures of split {split!r} of the kinds {', '.join(groups)}")
    return found


def _group(row: dict[str, str]) -> str:
    if "label" not in row:  # portraits.csv
        return "body" if row["file"].startswith("body/") else "portrait"
    if row["label"] == "exact":
        return "render"
    if row["synthetic"] == "1":
        return "figure"
    return "painting" if "painting" in row["source"] else "photo"
