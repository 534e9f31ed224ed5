"""Landmarks of portraits as training knows them: meshes, poses, and which of several faces is meant."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

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
