"""Landmarks from MediaPipe: the optional extra `detect`.

    pip install 'mediapipe==0.10.21'      # Python 3.10-3.12; on 3.13 'mediapipe>=1.2'; both are the extra `detect`

Releases up to 0.10.21 bring their models ("solutions": FaceMesh with irises, Pose of middle complexity); they end with
Python 3.12. Later ones run on 3.13 too but bring no model: pass the files face_landmarker.task and
pose_landmarker_full.task that Google publishes for them ("tasks"). We download nothing. Either file may be left out,
and its landmarks are then not found.

The largest face counts, unless another is about as large. MediaPipe's pose is one body of its own choice: where its
nose is not in the chosen face it is somebody else's, and is dropped.
"""

from __future__ import annotations

import os
import weakref
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mirrorppr_core.faces.landmarks import NUM_MESH

from .landmarks import NUM_POSE, Landmarks, digest, the_face

INSTALL = "pip install 'mediapipe==0.10.21' (Python 3.10-3.12) or 'mediapipe>=1.2' (3.13)"
MAX_FACES = 5
_NOSE = 0  # of the pose


class MediaPipeLandmarks:
    """face_model, pose_model: .task files; with either, MediaPipe's tasks are used instead of its solutions."""

    def __init__(self, *, face_model: str | Path | None = None, pose_model: str | Path | None = None):
        """Raises ImportError, FileNotFoundError or ValueError before any picture is read."""
        mediapipe = _mediapipe()
        self._models = {"face": face_model and Path(face_model), "pose": pose_model and Path(pose_model)}
        given = [path for path in self._models.values() if path]
        for path in given:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such model file. Check the path, or leave it out.")
            if not zipfile.is_zipfile(path):  # opening it for good would start threads
                raise ValueError(f"{path.name} is no .task file, which is a zip archive: download it again")
        if not given and not hasattr(mediapipe, "solutions"):
            raise ValueError(
                f"mediapipe {mediapipe.__version__} brings no models: give it face_landmarker.task and "
                "pose_landmarker_full.task, or use mediapipe 0.10.21 (Python 3.10-3.12), or the landmarks of `mini`"
            )
        self.finds_mesh, self.finds_pose = bool(face_model or not given), bool(pose_model or not given)
        self.name = ":".join([f"mediapipe-{mediapipe.__version__}", *(f"{path.name}@{digest(path)}" for path in given)])
        self._detectors: _Solutions | _Tasks | None = None
        self._process = 0  # that opened them

    def find(self, file: str, image: Tensor) -> Landmarks:
        pixels = (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
        meshes, pose = self._open().detect(pixels)
        mesh = the_face(meshes)
        return Landmarks(mesh=mesh, pose=pose if mesh is None or pose is None or _same_person(mesh, pose) else None)

    def _open(self) -> _Solutions | _Tasks:
        """Each process for itself and at its first picture: MediaPipe's threads do not live on in a forked one."""
        if self._detectors is None:
            self._detectors = _Tasks(**self._models) if any(self._models.values()) else _Solutions()
            self._process = os.getpid()
        elif self._process != os.getpid():
            raise RuntimeError(
                "mediapipe was used before this worker was forked, and would crash here: start workers by spawn or "
                "forkserver, or find the landmarks first with `python -m training.find_landmarks`"
            )
        return self._detectors

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_detectors": None}


class _Solutions:
    """The interface up to 0.10.21; models are part of the package."""

    def __init__(self):
        solutions = _mediapipe().solutions
        self._face = solutions.face_mesh.FaceMesh(
            static_image_mode=True, refine_landmarks=True, max_num_faces=MAX_FACES
        )
        # Complexity 0 and 2 would be downloaded.
        self._pose = solutions.pose.Pose(static_image_mode=True, model_complexity=1)

    def detect(self, pixels: np.ndarray) -> tuple[list[Tensor], Tensor | None]:
        """pixels: (H, W, 3) uint8.  Returns every face's mesh, and one pose or None."""
        faces, body = self._face.process(pixels).multi_face_landmarks, self._pose.process(pixels).pose_landmarks
        size = pixels.shape[:2]
        return [_mesh(f.landmark, size) for f in faces or []], _pose(body.landmark, size) if body else None


class _Tasks:
    """The interface of later releases; models are the user's."""

    def __init__(self, *, face: Path | None, pose: Path | None):
        self._mediapipe, self._face, self._pose = _mediapipe(), None, None
        self._names = " and ".join(path.name for path in (face, pose) if path)
        tasks = self._mediapipe.tasks
        vision = tasks.vision
        try:
            if face:
                options = vision.FaceLandmarkerOptions(_base_options(tasks, face), num_faces=MAX_FACES)
                self._face = vision.FaceLandmarker.create_from_options(options)
                weakref.finalize(self, self._face.close)  # at exit, before MediaPipe has taken itself apart
            if pose:
                options = vision.PoseLandmarkerOptions(_base_options(tasks, pose), num_poses=1)
                self._pose = vision.PoseLandmarker.create_from_options(options)
                weakref.finalize(self, self._pose.close)
        except (RuntimeError, ValueError, OSError) as error:
            raise self._unusable(error) from error

    def detect(self, pixels: np.ndarray) -> tuple[list[Tensor], Tensor | None]:
        """As _Solutions.detect."""
        picture = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=pixels)
        size = pixels.shape[:2]
        try:
            faces = self._face.detect(picture).face_landmarks if self._face else []
            bodies = self._pose.detect(picture).pose_landmarks if self._pose else []
        except RuntimeError as error:
            raise self._unusable(error) from error
        return [_mesh(face, size) for face in faces], _pose(bodies[0], size) if bodies else None

    def _unusable(self, error: Exception) -> ValueError:
        return ValueError(f"mediapipe cannot use {self._names} ({error}): get the .task files again, of its release")


def _mediapipe():
    try:
        import mediapipe
    except ImportError as error:
        raise ImportError(f"landmarks from mediapipe need it installed ({error}): {INSTALL}, or use `mini`") from error
    return mediapipe


def _base_options(tasks, path: Path):
    return tasks.BaseOptions(model_asset_buffer=path.read_bytes())  # a path would be taken relative to the package


def _mesh(points, size: tuple[int, int]) -> Tensor:
    """MediaPipe's fractions of width and height -> (478, 2) pixels, centre of the first pixel at 0."""
    height, width = size
    mesh = torch.tensor([(point.x * width, point.y * height) for point in points]) - 0.5
    assert mesh.shape == (NUM_MESH, 2)
    return mesh


def _pose(points, size: tuple[int, int]) -> Tensor:
    """(33, 4): x, y, z in pixels (z has the scale of x), visibility."""
    height, width = size
    rows = [(p.x * width - 0.5, p.y * height - 0.5, p.z * width, p.visibility) for p in points]
    pose = torch.tensor(rows)
    assert pose.shape == (NUM_POSE, 4)
    return pose


def _same_person(mesh: Tensor, pose: Tensor) -> bool:
    """Does the pose's nose lie in the face's box, grown by a quarter of its size on each side?"""
    low, high = mesh.amin(0), mesh.amax(0)
    margin = (high - low) / 4
    return bool(((pose[_NOSE, :2] >= low - margin) & (pose[_NOSE, :2] <= high + margin)).all())
