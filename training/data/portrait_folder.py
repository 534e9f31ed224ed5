"""Any folder of portraits as a list of training portraits with landmarks.

    folder = PortraitFolder(path, landmark_source("mini"), needs="face")
    folder.files            sorted names; nothing was opened yet
    folder.read(index)   -> Portrait | Skipped

The folder may have subfolders. An optional portraits.csv in it decides which pictures belong (column file) and what
is known of each (columns identity, source, licence, split; other columns are not read). Without it every picture
counts: its identity is the stem of its name, its split the first subfolder ("train/x.jpg" -> "train"), its source
and licence "not stated". Links to files are followed, links to folders are not; names with a leading dot are ignored.

What is wrong with the folder as a whole is an error before any work. What is wrong with one picture is a Skipped with
one of REASONS, so that a run over a million pictures ends with counts and not with a traceback.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from torch import Tensor

from mirrorppr_core.images import MIN_SIDE, as_float
from mirrorppr_core.operations.professional import LEAST_VISIBILITY

from .landmark_sources import NpzLandmarks
from .landmarks import Landmarks, LandmarkSource, SeveralFaces
from .picture_files import REASONS as PICTURE_REASONS
from .picture_files import SUFFIXES, UnusablePicture, read_picture, read_pixels
from .tables import read_rows

TABLE = "portraits.csv"
NOT_STATED = "not stated"
NEEDS = ("face", "body", "both", "any")
# Every reason there is. The first ones are of the file (picture_files.py), the others of its landmarks.
REASONS = {
    **PICTURE_REASONS,
    "no-face": "no face was found, and the operations need one",
    "no-person": "no body was found, and the operations need one",
    "no-landmarks": "neither a face nor a body was found",
    "several-faces": "two faces of about the same size: whose portrait it is, is open",
    "landmarks-outside": "the middle of the face or body is outside: landmarks of another picture or size",
}


@dataclass(frozen=True)
class Portrait:
    """file: relative, forward slashes.  image: (1, 3, H, W) in [0, 1], or uint8 if that was asked for; upright.

    mesh: (478, 2) or None.  pose: (33, 4) x, y, z, visibility, or None.  Pixels; centre of the first pixel = (0, 0).
    """

    file: str
    image: Tensor
    mesh: Tensor | None
    pose: Tensor | None
    identity: str
    source: str
    licence: str
    split: str


@dataclass(frozen=True)
class Skipped:
    """reason: one of REASONS.  detail: what was found, for a person."""

    file: str
    reason: str
    detail: str

    def __post_init__(self):
        assert self.reason in REASONS, self.reason


class PortraitFolder:
    """Opens one picture at a time, on request; can be sent to worker processes.

    split: only portraits of this split.  min_side: shorter ones are skipped, pixels.
    needs: "face" or "body" skips portraits without it, "both" without either, "any" only those with neither.
    as_bytes: pictures of 8 bits stay bytes, which is faster; others are floats all the same.
    """

    def __init__(
        self,
        path: str | Path,
        landmarks: LandmarkSource,
        *,
        split: str | None = None,
        min_side: int = MIN_SIDE,
        needs: str = "any",
        as_bytes: bool = False,
    ):
        """Raises FileNotFoundError, NotADirectoryError or ValueError that names what is wrong with the folder."""
        if needs not in NEEDS:
            raise ValueError(f"needs={needs!r}: use one of {', '.join(NEEDS)}")
        if min_side < 1:
            raise ValueError(f"min_side={min_side}: use 1 or more, {MIN_SIDE} is what the nodes ask for")
        self.path, self.landmarks, self.min_side, self.needs = Path(path), landmarks, min_side, needs
        self.as_bytes = as_bytes
        found = _pictures(self.path)
        rows = portrait_rows(self.path)
        self._rows = {row["file"]: row for row in rows if split is None or row["split"] == split}
        missing = sorted(set(self._rows) - set(found))
        if missing:
            raise FileNotFoundError(
                f"{self.path / TABLE} names {len(missing)} pictures that are not in {self.path}: {_some(missing)}. "
                "Copy them there, or take their rows out."
            )
        if not self._rows:
            have = ", ".join(sorted({repr(row["split"]) for row in rows})) or "none"
            raise ValueError(f"{self.path} has no portraits of split {split!r}; its splits are: {have}")
        self.files: list[str] = sorted(self._rows)
        self.num_unlisted = len(found) - len(rows)  # pictures in the folder that portraits.csv does not name
        if isinstance(landmarks, NpzLandmarks) and not landmarks.files & set(self.files):
            raise ValueError(
                f"{landmarks.name} has landmarks of none of the {len(self.files)} pictures in {self.path}. It names "
                f"{_some(sorted(landmarks.files))}; here are {_some(self.files)}: names must be the same."
            )

    def __len__(self) -> int:
        return len(self.files)

    def known(self, index: int) -> dict[str, str]:
        """identity, source, licence and split of a portrait, without opening it."""
        row = self._rows[self.files[index]]
        return {name: row[name] for name in ("identity", "source", "licence", "split")}

    def read(self, index: int) -> Portrait | Skipped:
        """The portrait, or why it cannot be used. The same index gives the same answer in every process."""
        file = self.files[index]
        try:
            image = (read_pixels if self.as_bytes else read_picture)(self.path / file, min_side=self.min_side)
            # A file of landmarks does not look at the picture.
            seen = image if isinstance(self.landmarks, NpzLandmarks) else as_float(image)
            found = self.landmarks.find(file, seen)
        except UnusablePicture as error:
            return Skipped(file, error.reason, error.detail)
        except SeveralFaces as error:
            return Skipped(file, "several-faces", str(error))
        reason = _lacking(found, self.needs)
        if reason:
            return Skipped(file, reason, f"{self.landmarks.name} found none")
        if is_outside(found.mesh, image) or is_outside(found.pose, image):
            height, width = image.shape[-2:]
            return Skipped(file, "landmarks-outside", f"the picture has {width}x{height} pixels")
        return Portrait(file=file, image=image, mesh=found.mesh, pose=found.pose, **self.known(index))


def portrait_rows(folder: Path) -> list[dict[str, str]]:
    """file, identity, source, licence and split of each portrait: as portraits.csv tells them and in its order, or,
    without it, as the names do."""
    table = folder / TABLE
    return _table_rows(table) if table.is_file() else _untold(_pictures(folder))


def _pictures(folder: Path) -> list[str]:
    """Names of all pictures under the folder, relative, with forward slashes, sorted."""
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder. Check the path and its spelling.")
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give the folder of portraits")
    pictures, others = [], Counter()
    for place, subfolders, names in os.walk(folder, onerror=_raise):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        for name in names:
            suffix = PurePosixPath(name).suffix.lower()
            if name.startswith("."):
                continue
            if suffix in SUFFIXES:
                pictures.append((Path(place) / name).relative_to(folder).as_posix())
            else:
                others[suffix or name] += 1
    if not pictures:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common(3))
        holds = f"holds no pictures, only {kinds}" if others else "is empty"
        raise ValueError(f"{folder} {holds}: need portraits as {', '.join(SUFFIXES)}")
    return sorted(pictures)


def _raise(error: OSError) -> None:
    """os.walk passes over folders it may not list unless it is told not to."""
    raise error


def _table_rows(table: Path) -> list[dict[str, str]]:
    """The rows of portraits.csv with all columns that Portrait has."""
    listed = read_rows(table, ("file",))
    rows = []
    for line, row in enumerate(listed, start=2):
        file = PurePosixPath((row["file"] or "").strip().replace("\\", "/"))
        if file.is_absolute() or ".." in file.parts or not file.parts:
            raise ValueError(f"{table}, row {line}: file is {row['file']!r}, need a name relative to the folder")
        rows.append(
            {
                "file": file.as_posix(),
                "identity": (row.get("identity") or "").strip() or file.stem,
                "source": (row.get("source") or "").strip() or NOT_STATED,
                "licence": (row.get("licence") or "").strip() or NOT_STATED,
                "split": (row.get("split") or "").strip() or _first_folder(file),
            }
        )
    twice = [file for file, count in Counter(row["file"] for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f"{table} names {_some(sorted(twice))} more than once: keep one row for each picture")
    if not rows:
        raise ValueError(f"{table} has no rows: name the portraits in it, or delete it to use every picture")
    unnamed = {row["file"] for row, told in zip(rows, listed, strict=True) if not (told.get("identity") or "").strip()}
    _check_stems(sorted(unnamed))
    return rows


def _untold(files: list[str]) -> list[dict[str, str]]:
    """Rows for a folder without portraits.csv."""
    _check_stems(files)
    return [
        {
            "file": file,
            "identity": PurePosixPath(file).stem,
            "source": NOT_STATED,
            "licence": NOT_STATED,
            "split": _first_folder(PurePosixPath(file)),
        }
        for file in files
    ]


def _check_stems(files: list[str]) -> None:
    """Where the stem is the identity, two pictures of one stem would be one person, in training and validation."""
    by_stem: dict[str, str] = {}
    for file in files:
        other = by_stem.setdefault(PurePosixPath(file).stem, file)
        if other != file:
            raise ValueError(
                f"{other} and {file} have the same stem, which is their identity where {TABLE} gives none: "
                f"rename one, or write a {TABLE} with the columns file and identity"
            )


def _first_folder(file: PurePosixPath) -> str:
    return file.parts[0] if len(file.parts) > 1 else ""


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _lacking(found: Landmarks, needs: str) -> str | None:
    """The reason to skip, or None."""
    if needs in ("face", "both") and found.mesh is None:
        return "no-face"
    if needs in ("body", "both") and found.pose is None:
        return "no-person"
    if needs == "any" and found.mesh is None and found.pose is None:
        return "no-landmarks"
    return None


def is_outside(points: Tensor | None, image: Tensor) -> bool:
    """Parts may well leave the picture; the middle of all points may not, as far as they are seen."""
    if points is not None and points.shape[1] == 4:  # a pose guesses at what the picture does not show
        points = points[points[:, 3] >= LEAST_VISIBILITY]
    if points is None or not len(points):
        return False
    x, y = points[:, :2].mean(0).tolist()
    height, width = image.shape[-2:]
    return not (0 <= x < width and 0 <= y < height)
