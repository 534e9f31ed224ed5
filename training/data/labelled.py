"""The portraits of a folder whose faces are known, as training and benchmarks read them: a list, pictures on request.

    for portrait in labelled_portraits(DIR, split="train"):    # reads portraits.csv and landmarks.npz
        portrait.mesh, portrait.picture()                      # both upright, in the same pixels

portrait_folder.py says what portraits.csv holds and what counts without it, landmark_sources.py what an npz of
landmarks holds. Half and full bodies lie under body/: their faces are small, and not everything uses them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import FACE_POINTS

from .landmark_sources import NpzLandmarks
from .picture_files import UnusablePicture, read_picture, read_pixels, upright_size
from .portrait_folder import is_outside, portrait_rows

LANDMARKS = "landmarks.npz"
_BODIES = "body/"


@dataclass(frozen=True, kw_only=True)
class LabelledPortrait:
    """mesh: (478, 2).  pose: (33, 4) x, y, z, visibility, or None.  Pixels; centre of the first pixel = (0, 0)."""

    folder: Path
    file: str  # relative to the folder, with forward slashes
    identity: str
    source: str
    mesh: Tensor = field(repr=False)
    pose: Tensor | None = field(repr=False)

    @property
    def points(self) -> Tensor:
        """(130, 2)."""
        return self.mesh[list(FACE_POINTS)]

    @property
    def is_body(self) -> bool:
        return self.file.startswith(_BODIES)

    def picture(self) -> Tensor:
        """(1, 3, H, W) in [0, 1], upright.  Raises ValueError where it is damaged, or another one than was labelled."""
        return self._checked(read_picture)

    def pixels(self) -> Tensor:
        """The same as bytes, or as floats where bytes would lose some (a 16-bit file)."""
        return self._checked(read_pixels)

    def size(self) -> tuple[int, int]:
        """Height and width of the upright picture, without reading its pixels."""
        try:
            return upright_size(self.folder / self.file)
        except UnusablePicture as error:
            raise ValueError(f"{self.folder / self.file} is {error}") from error

    def _checked(self, read) -> Tensor:
        path = self.folder / self.file
        try:
            image = read(path)
        except UnusablePicture as error:
            raise ValueError(f"{path} is {error}: mend it, or take it out of the folder's landmarks") from error
        if is_outside(self.mesh, image):
            height, width = image.shape[-2:]
            raise ValueError(
                f"{path} has {width}x{height} pixels and its face lies outside: {LANDMARKS} is of another picture or "
                "size. Find the landmarks again: python -m training.find_landmarks"
            )
        return image


def labelled_portraits(folder: Path, *, split: str, bodies: bool = False) -> list[LabelledPortrait]:
    """The portraits of a split with a known face, in the order of portraits.csv; half and full bodies if `bodies`.

    Raises FileNotFoundError or ValueError that says what the folder lacks.
    """
    known = NpzLandmarks(Path(folder) / LANDMARKS)
    rows = portrait_rows(Path(folder))
    chosen = [row for row in rows if row["split"] == split]
    found = [(row, known.find(row["file"])) for row in chosen]
    portraits = [
        LabelledPortrait(
            folder=Path(folder),
            file=row["file"],
            identity=row["identity"],
            source=row["source"],
            mesh=marks.mesh,
            pose=marks.pose,
        )
        for row, marks in found
        if marks.mesh is not None and (bodies or not row["file"].startswith(_BODIES))
    ]
    if not portraits:
        splits = ", ".join(sorted({repr(row["split"]) for row in rows}))
        raise ValueError(
            f"{folder}: {LANDMARKS} has no face of split {split!r}, which has {len(chosen)} portraits (splits are "
            f"{splits}). Name the split in portraits.csv, or find the landmarks: python -m training.find_landmarks"
        )
    return portraits


def check_landmarks(folder: Path) -> None:
    """Raises ValueError for a folder without landmarks, before anything is read."""
    if not (folder / LANDMARKS).is_file():
        raise ValueError(
            f"{folder} has no {LANDMARKS}: give the folder of portraits that holds it, or find them with "
            f"python -m training.find_landmarks --portraits {folder} --out {folder / LANDMARKS}"
        )


def source_weights(portraits: Sequence[LabelledPortrait]) -> Tensor:
    """(F,) how often to draw each: a source counts by the square root of its share, so that none drowns the others."""
    sources = [portrait.source for portrait in portraits]
    return torch.tensor([sources.count(source) ** -0.5 for source in sources])
