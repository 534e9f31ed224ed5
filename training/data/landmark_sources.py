"""Where the landmarks of a training portrait come from: a file, our own locator, or MediaPipe.

    source = landmark_source("npz:landmarks.npz" | "mini" | "mediapipe")
    source.find(file, image) -> Landmarks(mesh, pose)      # None where no face or no body was found

    npz        read from a file that anybody can write (layout below); face and body
    mini       the bundled face locator, nothing to install; faces only
    mediapipe  optional extra `detect` (mediapipe_landmarks.py); face and body

An npz of landmarks holds, for the upright picture (EXIF orientation applied), in its pixels:

    files                    (n,) names relative to the folder of pictures, with forward slashes
    mesh | face_avg | face   (n, 478, 2 or 3) MediaPipe FaceMesh points; NaN where there is no face
    pose                     (m, 33, 4) MediaPipe Pose: x, y, z, visibility; NaN where there is no body
    body_files               (m,) the names of pose's rows; without it they are those of `files`

Either of the face and the pose may be missing; of several face arrays the first named above is read. These files
measure from the picture's left and top edge, as MediaPipe does (x * width). Everything we compute with measures from
the centre of the first pixel, so `find` gives half a pixel less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import NUM_MESH
from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.mini.files import bundled_set

from .landmarks import NUM_POSE, Landmarks, LandmarkSource, digest, the_face
from .tables import read_arrays

KINDS = ("npz:PATH", "mini", "mediapipe")
_FACE_ARRAYS = ("mesh", "face_avg", "face")


class NpzLandmarks:
    """Landmarks from a file; the layout is told at the top of this module."""

    def __init__(self, path: str | Path):
        """Raises FileNotFoundError or ValueError that says what the file lacks."""
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such landmarks. Check the path, or find them with `mini`.")
        arrays = read_arrays(path, ("files", "body_files", "pose", *_FACE_ARRAYS))
        face = next((key for key in _FACE_ARRAYS if key in arrays), None)
        meshes = arrays[face] if face else None
        if meshes is None and "pose" not in arrays:
            raise ValueError(f"{path.name} has neither of {', '.join(_FACE_ARRAYS)} nor pose: nothing to read from it")
        self.name = f"npz:{path.name}@{digest(path)}"
        # NumPy, not tensors: a thousand small tensors sent to a worker are a thousand open files.
        self._meshes, self._poses = np.zeros((0, NUM_MESH, 2), np.float32), np.zeros((0, NUM_POSE, 4), np.float32)
        self._mesh_row: dict[str, int] = {}
        self._pose_row: dict[str, int] = {}
        if meshes is not None:
            if meshes.ndim != 3 or meshes.shape[1] != NUM_MESH or meshes.shape[2] not in (2, 3):
                raise ValueError(f"{path.name}: {face} is {meshes.shape}, need (n, {NUM_MESH}, 2 or 3)")
            self._meshes = meshes[..., :2].astype(np.float32) - np.float32(0.5)
            self._mesh_row = _rows(path.name, "files", arrays.get("files"), len(meshes))
        if "pose" in arrays:
            if arrays["pose"].shape[1:] != (NUM_POSE, 4):
                raise ValueError(f"{path.name}: pose is {arrays['pose'].shape}, need (m, {NUM_POSE}, 4)")
            self._poses = arrays["pose"].astype(np.float32)
            self._poses[..., :2] -= 0.5
            names = "body_files" if "body_files" in arrays else "files"
            self._pose_row = _rows(path.name, names, arrays.get(names), len(self._poses))

        self.finds_mesh = bool(np.isfinite(self._meshes).all((1, 2)).any())
        self.finds_pose = bool(np.isfinite(self._poses).all((1, 2)).any())

    @property
    def files(self) -> set[str]:
        """The pictures that this file speaks of."""
        return set(self._mesh_row) | set(self._pose_row)

    def find(self, file: str, image: Tensor | None = None) -> Landmarks:
        """The picture itself is not looked at."""
        return Landmarks(
            mesh=_finite_row(self._meshes, self._mesh_row.get(file)),
            pose=_finite_row(self._poses, self._pose_row.get(file)),
        )


class LocatorLandmarks:
    """The bundled face locator. The largest face counts; see RIVAL_SIZE."""

    finds_mesh, finds_pose = True, False

    def __init__(self, path: str | Path | None = None):
        """path: another locator.safetensors.  Raises FileNotFoundError or ValueError."""
        self._path = Path(path) if path else bundled_set() / "locator.safetensors"
        self._locator: Locator | None = Locator.from_file(self._path)
        self.name = f"mini@{digest(self._path)}"

    def find(self, file: str, image: Tensor) -> Landmarks:
        if self._locator is None:  # in a worker, for which the weights were left behind
            self._locator = Locator.from_file(self._path)
        return Landmarks(mesh=the_face([face.mesh for face in self._locator.find(image)]), pose=None)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_locator": None}


def landmark_source(
    kind: str, *, face_model: str | Path | None = None, pose_model: str | Path | None = None
) -> LandmarkSource:
    """The source that a command line names: npz:PATH, mini or mediapipe.

    face_model, pose_model: model files for mediapipe releases that bring none; refused with other sources.
    Raises ValueError, FileNotFoundError, or ImportError where the extra is missing.
    """
    if (face_model or pose_model) and kind != "mediapipe":
        raise ValueError(f"model files were given, but landmarks come from {kind!r}: leave them out or use mediapipe")
    if kind == "mini":
        return LocatorLandmarks()
    if kind == "mediapipe":
        from .mediapipe_landmarks import MediaPipeLandmarks

        return MediaPipeLandmarks(face_model=face_model, pose_model=pose_model)
    if kind.startswith("npz:") and len(kind) > 4:
        return NpzLandmarks(kind[4:])
    raise ValueError(f"unknown source of landmarks {kind!r}: use one of {', '.join(KINDS)}")


def landmark_arrays(found: Mapping[str, Landmarks]) -> dict[str, np.ndarray]:
    """files, mesh and pose of an npz as NpzLandmarks reads it, measured from the picture's edge; NaN for None."""
    return {
        "files": np.array(list(found), dtype=str),
        "mesh": _table([marks.mesh for marks in found.values()], (NUM_MESH, 2)),
        "pose": _table([marks.pose for marks in found.values()], (NUM_POSE, 4)),
    }


def _table(rows: Sequence[Tensor | None], shape: tuple[int, int]) -> np.ndarray:
    table = np.full((len(rows), *shape), np.nan, np.float32)
    for row, points in enumerate(rows):
        if points is not None:
            table[row] = points.numpy()
    table[..., :2] += 0.5
    return table


def _rows(archive: str, key: str, names: np.ndarray | None, length: int) -> dict[str, int]:
    """Row of each file name."""
    if names is None or names.shape != (length,):
        got = "missing" if names is None else f"{names.shape}"
        raise ValueError(f"{archive}: {key} is {got}, need one name for each of {length} rows of landmarks")
    rows = {str(name): row for row, name in enumerate(names)}
    if len(rows) != length:
        twice = sorted(name for name in rows if (names == name).sum() > 1)
        raise ValueError(f"{archive}: {key} names {', '.join(twice[:3])} more than once: keep one row for each picture")
    return rows


def _finite_row(table: np.ndarray, row: int | None) -> Tensor | None:
    if row is None or not np.isfinite(table[row]).all():
        return None
    return torch.from_numpy(table[row].copy())
