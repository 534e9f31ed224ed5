"""Find the landmarks of a folder of portraits once, and keep them in a file that every later run reads.

    python -m training.find_landmarks --portraits DIR --landmarks mini --out DIR/landmarks.npz
    python -m training.synthesize ... --landmarks npz:DIR/landmarks.npz

The file has the layout of `landmark_sources.py`. Portraits that cannot be used are counted by reason; they are not in
the file, and a later run skips them again. What was found so far lies in a hidden folder beside the file: the same
command continues there after it was stopped or killed, and at most SAVE_EVERY portraits are looked at twice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mirrorppr_core.file_writing import replacing, write_file
from mirrorppr_core.images import MIN_SIDE
from mirrorppr_core.photo_files import prepare_folder

from .data.landmark_sources import KINDS, landmark_arrays, landmark_source
from .data.landmarks import Landmarks
from .data.portrait_folder import TABLE, PortraitFolder, Skipped
from .data.tables import read_arrays
from .program import Parser, run

SAVE_EVERY = 100  # pictures
_ABOUT = "about.json"


@dataclass(frozen=True)
class Found:
    """files: (n,) names.  mesh: (n, 478, 2) and pose: (n, 33, 4) from the picture's edge, NaN where there is none.

    skipped: (m,) reason of each portrait that cannot be used.
    """

    files: np.ndarray
    mesh: np.ndarray
    pose: np.ndarray
    skipped: np.ndarray

    @classmethod
    def of(cls, found: dict[str, Landmarks], skipped: Sequence[str] = ()) -> Found:
        return cls(**landmark_arrays(found), skipped=np.array(list(skipped), dtype=str))

    @classmethod
    def joined(cls, parts: Sequence[Found]) -> Found:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))


def find_landmarks(folder: PortraitFolder, scratch: Path) -> Found:
    """All of a folder, from where an earlier call with the same scratch folder stopped.

    Raises ValueError where the scratch folder was begun with other portraits or settings.
    """
    about = {
        "landmarks": folder.landmarks.name,
        "min_side": folder.min_side,
        "portraits": hashlib.sha256("\n".join(folder.files).encode()).hexdigest()[:16],
    }
    parts = _begun(scratch, about)
    done = sum(len(part.files) + len(part.skipped) for part in parts)
    if done:
        print(f"goes on after {done} of {len(folder)} portraits ({scratch})", flush=True)
    for first in range(done, len(folder), SAVE_EVERY):
        found: dict[str, Landmarks] = {}
        skipped: list[str] = []
        for index in range(first, min(first + SAVE_EVERY, len(folder))):
            portrait = folder.read(index)
            if isinstance(portrait, Skipped):
                skipped.append(portrait.reason)
            else:
                found[portrait.file] = Landmarks(mesh=portrait.mesh, pose=portrait.pose)
        parts.append(Found.of(found, skipped))
        _write(scratch / f"{first:09d}.npz", vars(parts[-1]))
        passed = sum(len(part.skipped) for part in parts)
        print(f"{first + len(found) + len(skipped)}/{len(folder)} portraits, {passed} skipped", flush=True)
    return Found.joined(parts)


def save_landmarks(path: Path, found: Found) -> None:
    """Write the npz that NpzLandmarks reads; an existing file is replaced only by a complete one."""
    _write(path, {name: value for name, value in vars(found).items() if name != "skipped"})


def _begun(scratch: Path, about: dict) -> list[Found]:
    """The parts that are there."""
    told = scratch / _ABOUT
    if not told.is_file():
        scratch.mkdir(parents=True, exist_ok=True)
        write_file(told, json.dumps(about))
        return []
    if told.read_text() != json.dumps(about):
        raise ValueError(
            f"{scratch} was begun with other portraits, landmarks or --min-side: give the command that it was begun "
            "with, or delete it to start anew"
        )
    parts = []
    for path in sorted(scratch.glob("*.npz")):
        try:
            stored = read_arrays(path, tuple(Found.__dataclass_fields__), remedy=f"delete {scratch} to start anew")
            parts.append(Found(**stored))
        except TypeError as error:
            raise ValueError(f"{path} is not complete: delete {scratch} to start anew") from error
    return parts


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as stream:
        np.savez_compressed(stream, **arrays)


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("find_landmarks", __doc__)
    parser.add_argument(
        "--portraits", type=Path, required=True, help="folder of pictures, with or without portraits.csv"
    )
    parser.add_argument("--landmarks", default="mini", help=f"one of {', '.join(KINDS)}; default mini")
    parser.add_argument("--face-model", type=Path, help="face_landmarker.task, for mediapipe releases without models")
    parser.add_argument("--pose-model", type=Path, help="pose_landmarker_full.task, for the same")
    parser.add_argument("--split", help="only portraits of this split")
    parser.add_argument("--min-side", type=int, default=MIN_SIDE, help=f"skip smaller pictures; default {MIN_SIDE} px")
    parser.add_argument("--out", type=Path, required=True, help="the npz to write")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    if options.out.suffix != ".npz":
        raise ValueError(f"--out {options.out}: give it a name that ends in .npz")
    source = landmark_source(options.landmarks, face_model=options.face_model, pose_model=options.pose_model)
    folder = PortraitFolder(options.portraits, source, split=options.split, min_side=options.min_side)
    if folder.num_unlisted:
        print(f"{folder.num_unlisted} pictures are not in {TABLE} and are not read")
    prepare_folder(options.out.parent)
    scratch = options.out.with_name(f".{options.out.stem}.begun")
    try:
        found = find_landmarks(folder, scratch)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped; the same command continues") from None
    if len(found.files):
        save_landmarks(options.out, found)
    shutil.rmtree(scratch)
    skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(found.skipped.tolist()).items()))
    if not len(found.files):
        raise ValueError(f"no portrait in {options.portraits} can be used: {skipped}")
    print(f"{options.out}: landmarks of {len(found.files)} portraits from {source.name}; skipped: {skipped or 'none'}")


if __name__ == "__main__":
    sys.exit(main())
