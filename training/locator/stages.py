"""The three networks of the face locator as stages of the curriculum.

    finder    canvases with none to four faces -> where they are, how large and how turned (finder_data.py)
    rough     crops that stray -> 130 points; starts from the mean face
    aligned   crops as the rough network leaves them -> the points again; continues the rough network's weights

The loss of the points is the error we report: mean distance in per cent of the eye distance (NME). With the averaged
weights of `aligned` comes what completes the locator: the mean mesh, and the ridge regression from 130 points to 478.

Shapes: B batch, K = 130 landmarks. The body network is trained in the same way (training/body).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

from mirrorppr_core.faces.landmarks import FACE_POINTS, MIRROR_130, eye_distance
from mirrorppr_core.faces.networks import Finder, LandmarkNet
from mirrorppr_core.geometry.similarity import fit_similarity

from ..data.order import seed_of
from ..runs.batches import WholeSteps
from ..runs.calibration import Batches, CalibratedStage
from .data import CROP_PX, STAGE_2, FaceCrops, Jitter, LandmarkBatch, landmark_batch
from .finder_data import FinderBatch, Photos, finder_batch, finder_error
from .mesh_mirror import MIRROR_MESH

Batch = TypeVar("Batch", LandmarkBatch, FinderBatch)
RIDGE_BATCH, RIDGE_STRENGTH = 32, 1e-3
_SOFT_PX = 0.15  # of the crop: nearer than this, errors are squared
_HOPELESS = 60.0  # per cent; a point that is further off does not pull


def crop_source(faces: FaceCrops, mean_face: Tensor, jitter: Jitter, *, seed: int) -> WholeSteps:
    return WholeSteps(partial(_drawn, partial(landmark_batch, faces, mean_face, jitter), seed))


def canvas_source(photos: Photos, *, seed: int) -> WholeSteps:
    return WholeSteps(partial(_drawn, partial(finder_batch, photos), seed))


def _drawn(draw: Callable[[int, Generator], Batch], seed: int, step: int, size: int) -> Batch:
    return draw(size, Generator().manual_seed(seed_of("locator", seed, step)))


class FinderStage(CalibratedStage):
    def __init__(self, calibration: Batches, *, batches: int):
        super().__init__(calibration, batches=batches)
        self.finder = Finder()

    @property
    def network(self) -> nn.Module:
        return self.finder

    def forward(self, batch: FinderBatch, generator: Generator) -> tuple[Tensor, dict[str, float]]:
        """Nothing is drawn here: augmentations belong to the data."""
        return finder_error(self.finder(batch.pixels), batch.frames), {}


class PointsStage(CalibratedStage):
    """start: (K, 2) places in the crop's frame where the points are expected at first."""

    def __init__(self, start: Tensor, calibration: Batches, *, batches: int):
        super().__init__(calibration, batches=batches)
        self.net = LandmarkNet(CROP_PX)
        self.net.start_at(start)

    @property
    def network(self) -> nn.Module:
        return self.net

    def forward(self, batch: LandmarkBatch, generator: Generator) -> tuple[Tensor, dict[str, float]]:
        return landmark_error(self.net(batch.pixels), batch.points), {}


def landmark_error(answer: Tensor, target: Tensor) -> Tensor:
    """NME in per cent, smooth within _SOFT_PX of the crop and deaf to hopeless points.  (B, K, 2) frames."""
    distance = ((answer - target).square().sum(dim=-1) + (_SOFT_PX * 2 / CROP_PX) ** 2).sqrt()
    return (100 * distance / eye_distance(target)[:, None]).clamp(max=_HOPELESS).mean()


@torch.no_grad()
def fit_ridge(net: nn.Module, faces: FaceCrops, meshes: Tensor, mean: Tensor, *, samples: int, seed: int) -> Tensor:
    """Ridge regression from the network's 130 answers to the labelled mesh, both as offsets from the mean. (260, 956).

    Fitted on what the network says of augmented training crops, not on the labels: it then also smooths the
    network's own noise. Every face counts once more mirrored, so the mesh treats left and right alike.
    meshes: (N, 478, 2) in the pixels of `faces`.  mean: (478, 2).  samples: crops, a multiple of RIDGE_BATCH is used.
    """
    generator = Generator().manual_seed(seed_of("ridge", seed))
    mean_face, mirror, device = mean[list(FACE_POINTS)], list(MIRROR_MESH), next(net.parameters()).device
    said, true = [], []
    for _ in range(max(1, samples // RIDGE_BATCH)):
        sample = landmark_batch(faces, mean_face, STAGE_2, RIDGE_BATCH, generator, meshes=meshes)
        points = net(sample.pixels.to(device)).cpu()
        align = fit_similarity(points, mean_face)
        offsets, mesh_offsets = align.apply(points) - mean_face, align.apply(sample.meshes) - mean
        flip = torch.tensor([-1.0, 1.0])
        said += [offsets.flatten(1), (offsets[:, MIRROR_130] * flip).flatten(1)]
        true += [mesh_offsets.flatten(1), (mesh_offsets[:, mirror] * flip).flatten(1)]
    x, y = torch.cat(said).double(), torch.cat(true).double()
    gram = x.T @ x
    penalty = RIDGE_STRENGTH * gram.diagonal().mean()
    return torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=gram.dtype), x.T @ y).float()
