"""Landmarks of portraits as training knows them: meshes, poses, and which of several faces is meant."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor


def load_landmarks(path: str) -> dict[str, Tensor]:
    """MediaPipe meshes of a portrait set: file name -> (478, 2) pixels, faces that were found only.

    Reads `face_avg` of a landmarks.npz: the answer averaged over mirrored, turned and reduced
    views, which halves MediaPipe's own noise. MediaPipe measures from the picture's edge, we
    measure from the centre of the first pixel: half a pixel less.
    """
    with np.load(path) as stored:
        files, meshes = stored["files"], torch.from_numpy(stored["face_avg"]).float()
    return {str(name): mesh - 0.5 for name, mesh in zip(files, meshes, strict=True) if mesh.isfinite().all()}


NUM_POSE = 33
# A second face this large beside the largest leaves open whose portrait it is.
RIVAL_SIZE = 0.8


@dataclass(frozen=True)
class Landmarks:
    """Of one person; pixels from the centre of the first pixel; what was not found is None.

    mesh: (478, 2) MediaPipe FaceMesh.  pose: (33, 4) MediaPipe Pose: x, y, z in pixels, visibility in [0, 1].
    """

    mesh: Tensor | None
    pose: Tensor | None


class SeveralFaces(ValueError):
    """Two faces of about one size: nobody can say whose portrait this is."""


class LandmarkSource(Protocol):
    """Can be sent to worker processes; the same picture gives the same landmarks in each of them."""

    name: str  # goes into manifests; tells apart sources that answer differently
    finds_mesh: bool  # False: never, so that operations on faces are pointless with this source
    finds_pose: bool

    def find(self, file: str, image: Tensor) -> Landmarks:
        """file: relative to the folder of pictures.  image: (1, 3, H, W) in [0, 1], upright.

        Raises SeveralFaces.
        """
        ...


def the_face(meshes: Iterable[Tensor]) -> Tensor | None:
    """The largest of several faces, each (478, 2); None of none.  Raises SeveralFaces if the next is about as large."""
    by_size = sorted(((float(np.ptp(m.numpy(), axis=0).max()), m) for m in meshes), key=lambda sized: -sized[0])
    if not by_size:
        return None
    if len(by_size) > 1 and by_size[1][0] >= RIVAL_SIZE * by_size[0][0]:
        raise SeveralFaces(f"faces of {by_size[0][0]:.0f} and {by_size[1][0]:.0f} px")
    return by_size[0][1]


def digest(path: Path) -> str:
    """Eight letters that tell the contents of files apart."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def load_poses(path: Path) -> dict[str, Tensor]:
    """File name -> (33, 4) pose in pixels from the centre of the first pixel, bodies that were found only."""
    with np.load(path) as stored:
        files, poses = stored["body_files"], torch.from_numpy(stored["pose"]).float()
    poses[..., :2] -= 0.5  # MediaPipe measures from the picture's edge
    return {str(name): pose for name, pose in zip(files, poses, strict=True) if pose.isfinite().all()}
