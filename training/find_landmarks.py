"""Find the landmarks of a folder of portraits once, and keep them in a file that every later run reads.

    python -m training.find_landmarks --portraits DIR --landmarks mini --out DIR/landmarks.npz
    python -m training.synthesize ... --landmarks npz:DIR/landmarks.npz

The file has the layout of `landmark_sources.py`. Portraits that cannot be used are counted by reason; they are not in
the file, and a later run skips them again.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from torch import Tensor

from mirrorppr_core.images import MIN_SIDE
from mirrorppr_core.landmarks import NUM_MESH
from mirrorppr_core.photo_files import prepare_folder

from .landmark_sources import KINDS, NUM_POSE, Landmarks, landmark_source
from .portrait_folder import TABLE, PortraitFolder, Skipped

REPORT_EVERY = 100  # pictures


def find_landmarks(folder: PortraitFolder) -> tuple[dict[str, Landmarks], dict[str, int]]:
    """Landmarks by file, and how many portraits were skipped for which reason."""
    found: dict[str, Landmarks] = {}
    skipped: Counter[str] = Counter()
    for index in range(len(folder)):
        portrait = folder.read(index)
        if isinstance(portrait, Skipped):
            skipped[portrait.reason] += 1
        else:
            found[portrait.file] = Landmarks(mesh=portrait.mesh, pose=portrait.pose)
        if (index + 1) % REPORT_EVERY == 0 or index + 1 == len(folder):
            print(f"{index + 1}/{len(folder)} portraits, {sum(skipped.values())} skipped", flush=True)
    return found, dict(sorted(skipped.items()))


def save_landmarks(path: Path, found: dict[str, Landmarks]) -> None:
    """Write the npz that NpzLandmarks reads; an existing file is replaced only by a complete one."""
    meshes = [_or_nan(marks.mesh, (NUM_MESH, 2)) for marks in found.values()]
    poses = [_or_nan(marks.pose, (NUM_POSE, 4)) for marks in found.values()]
    arrays = {"files": np.array(list(found)), "mesh": np.stack(meshes), "pose": np.stack(poses)}
    temporary = path.with_name(f".{path.name}.part")
    try:
        with open(temporary, "wb") as handle:
            np.savez_compressed(handle, **arrays)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _or_nan(points: Tensor | None, shape: tuple[int, int]) -> np.ndarray:
    """Measured from the picture's edge, as the file has it."""
    if points is None:
        return np.full(shape, np.nan, np.float32)
    from_edge = points.numpy().astype(np.float32)
    from_edge[:, :2] += 0.5
    return from_edge


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m training.find_landmarks", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--portraits", type=Path, required=True, help="folder of pictures, with or without portraits.csv"
    )
    parser.add_argument("--landmarks", default="mini", help=f"one of {', '.join(KINDS)}; default mini")
    parser.add_argument("--face-model", type=Path, help="face_landmarker.task, for mediapipe releases without models")
    parser.add_argument("--pose-model", type=Path, help="pose_landmarker_full.task, for the same")
    parser.add_argument("--split", help="only portraits of this split")
    parser.add_argument("--min-side", type=int, default=MIN_SIDE, help=f"skip smaller pictures; default {MIN_SIDE} px")
    parser.add_argument("--out", type=Path, required=True, help="the npz to write")
    options = parser.parse_args(arguments)
    try:
        if options.out.suffix != ".npz":
            raise ValueError(f"--out {options.out}: give it a name that ends in .npz")
        source = landmark_source(options.landmarks, face_model=options.face_model, pose_model=options.pose_model)
        folder = PortraitFolder(options.portraits, source, split=options.split, min_side=options.min_side)
        if folder.num_unlisted:
            print(f"{folder.num_unlisted} pictures are not in {TABLE} and are not read")
        prepare_folder(options.out.parent)
        found, skipped = find_landmarks(folder)
        if not found:
            raise ValueError(f"no portrait in {options.portraits} can be used: {_listed(skipped)}")
        save_landmarks(options.out, found)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.out}: landmarks of {len(found)} portraits from {source.name}; skipped: {_listed(skipped)}")
    return 0


def _listed(skipped: dict[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "none"


if __name__ == "__main__":
    sys.exit(main())
