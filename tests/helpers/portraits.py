"""The real portraits, where this machine has them. Tests that need them are marked, and skipped elsewhere."""

import os
from functools import lru_cache
from pathlib import Path

import pytest
from host import ROOT
from torch import Tensor

from training.data.landmark_sources import NpzLandmarks

SHARED = Path(os.environ.get("MIRRORPPR_SHARED", ROOT.parent / "shared"))
PORTRAITS = Path(os.environ.get("MIRRORPPR_PORTRAITS", SHARED / "portraits"))
LANDMARKS = PORTRAITS / "landmarks.npz"
needs_portraits = pytest.mark.skipif(
    not LANDMARKS.exists(), reason=f"{PORTRAITS} has no landmarks.npz: set MIRRORPPR_PORTRAITS to a folder of portraits"
)


@lru_cache
def real_meshes() -> dict[str, Tensor]:
    """File under eval/ -> (478, 2) pixels."""
    known = NpzLandmarks(LANDMARKS)
    found = {file: known.find(file).mesh for file in sorted(known.files) if file.startswith("eval/")}
    return {file: mesh for file, mesh in found.items() if mesh is not None}


@lru_cache
def real_poses() -> dict[str, Tensor]:
    """File -> (33, 4) pose of the half and full bodies."""
    known = NpzLandmarks(LANDMARKS)
    found = {file: known.find(file).pose for file in sorted(known.files)}
    return {file: pose for file, pose in found.items() if pose is not None}
