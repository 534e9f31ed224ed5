"""The locator engine of the trainer: portraits to crops and canvases, stage rows to modules, results to one locator.

People who are held out never appear in training batches; they are all of the split train, `eval` is for measuring.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from mirrorppr_core.faces.landmarks import FACE_POINTS
from mirrorppr_core.faces.locator import Locator, LocatorConfig, face_box
from mirrorppr_core.geometry.crop import widened
from mirrorppr_core.geometry.similarity import fit_similarity
from mirrorppr_core.mini.files import file_sha256

from ..data.labelled import LabelledPortrait, check_landmarks, labelled_portraits
from ..data.order import seed_of
from ..runs.calibration import CALIBRATION_BATCHES
from ..runs.checkpoints import read_part
from ..runs.loop import StageParts
from ..runs.preset import Preset
from ..runs.stage import Stage
from ..runs.stored import read_result
from .data import STAGE_1, STAGE_2, FaceCrops, cut_faces, mean_mesh
from .finder_data import load_photos
from .mesh_mirror import MIRROR_MESH
from .stages import FinderStage, PointsStage, canvas_source, crop_source, fit_ridge

_STARTS = {"finder": (), "rough": (), "aligned": ("net",)}


@dataclass(frozen=True, kw_only=True)
class LocatorData:
    portraits: str = field(default="", metadata={"compared": False})  # a folder of portraits with landmarks.npz
    held_out: float = 0.03  # share of identities kept for validation
    ridge_samples: int = 6144  # crops on which the ridge regression is fitted
    calibration_batches: int = CALIBRATION_BATCHES  # for the statistics of batch norm

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1 or self.ridge_samples < 1 or self.calibration_batches < 1:
            raise ValueError(
                f"held_out={self.held_out}, ridge_samples={self.ridge_samples}, calibration_batches="
                f"{self.calibration_batches}: need 0 < held_out < 1 and the others 1 or more"
            )


def check(preset: Preset, run: Path) -> None:
    """Raises ValueError when the data or the rows of the curriculum cannot work."""
    for stage in preset.stages:
        if stage.module not in _STARTS:
            raise ValueError(
                f"stage {stage.name}: module {stage.module!r} is none of the locator's {', '.join(_STARTS)}"
            )
        if tuple(stage.starts) != _STARTS[stage.module] or stage.samples:
            raise ValueError(f"stage {stage.name}: starts must be {_STARTS[stage.module]}, and samples empty")
    if not preset.data.portraits:
        raise ValueError("no portraits: give --portraits DIR, a folder of portraits with landmarks.npz")
    check_landmarks(Path(preset.data.portraits))


def build(stage: Stage, preset: Preset, run: Path, device: torch.device) -> StageParts:
    """The stage's module with the results of earlier stages in it, and its samples."""
    data, seed = preset.data, preset.loop.seed
    training, held_out = _people(Path(data.portraits), data.held_out)
    mean = mean_mesh(torch.stack([p.mesh for p in training if not p.is_body]), torch.tensor(MIRROR_MESH))
    mean_face = mean[list(FACE_POINTS)]
    starts_from = {"faces": _fingerprint(training)}
    seeds = [seed_of(stage.name, which, seed) for which in ("training", "held out")]
    if stage.module == "finder":
        photos = (load_photos(people, mean_face) for people in (training, held_out))
        sources = [canvas_source(seen, seed=place) for seen, place in zip(photos, seeds, strict=True)]
        module = FinderStage(sources[0], batches=data.calibration_batches)
        return StageParts(module, *sources, starts_from=starts_from, completion=module.statistics)
    jitter = STAGE_1 if stage.module == "rough" else STAGE_2
    faces, others = (_faces(people, mean_face) for people in (training, held_out))
    source, validation = (
        crop_source(seen, mean_face, jitter, seed=place) for seen, place in zip((faces, others), seeds, strict=True)
    )
    start = widened(face_box(mean_face, mean_face), STAGE_1.side).inverse(mean_face)
    module = PointsStage(start, source, batches=data.calibration_batches)
    completion = module.statistics
    if stage.module == "aligned":
        earlier = run / f"{stage.starts['net']}.safetensors"
        _fill(earlier, "net", module.net)
        starts_from[earlier.name] = file_sha256(earlier)
        meshes = torch.stack([p.mesh for p in training if not p.is_body])
        to_crop = fit_similarity(meshes[:, list(FACE_POINTS)], faces.points)

        def completion() -> dict[str, Tensor]:
            statistics = module.statistics()
            ridge = fit_ridge(module.net, faces, to_crop.apply(meshes), mean, samples=data.ridge_samples, seed=seed)
            return {**statistics, "ridge": ridge, "mean_mesh": mean}

    return StageParts(module, source, validation, starts_from=starts_from, completion=completion)


def trained_locator(stages: tuple[Stage, ...], config: LocatorConfig, run: Path) -> Locator:
    """The results of a finished run as one locator. Raises FileNotFoundError or ValueError."""
    result = {stage.module: run / f"{stage.name}.safetensors" for stage in stages}
    locator = Locator(config)
    _fill(result["finder"], "finder", locator.finder)
    _fill(result["rough"], "net", locator.stage_1)
    _fill(result["aligned"], "net", locator.stage_2)
    completed = read_result(result["aligned"]).tensors
    locator.mean_mesh.copy_(completed["mean_mesh"])
    locator.ridge.copy_(completed["ridge"])
    return locator.eval()


def _fill(path: Path, part: str, module: nn.Module) -> None:
    module.load_state_dict(read_part(path, part, module.state_dict(), prefix=f"{part}."))


def _fingerprint(people: list[LabelledPortrait]) -> str:
    """Twelve digits that change with the faces or their order."""
    digest = hashlib.sha256()
    for portrait in people:
        digest.update(portrait.mesh.numpy())
    return digest.hexdigest()[:12]


@lru_cache(maxsize=1)
def _people(folder: Path, held_out: float) -> tuple[list[LabelledPortrait], list[LabelledPortrait]]:
    """Portraits and bodies for training, and those of other people. Raises ValueError where either has no face."""
    everyone = labelled_portraits(folder, split="train", bodies=True)
    names = sorted({portrait.identity for portrait in everyone})
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
    held = {names[i] for i in order[: max(1, int(len(names) * held_out))]}
    groups = [p for p in everyone if p.identity not in held], [p for p in everyone if p.identity in held]
    if not all(any(not portrait.is_body for portrait in group) for group in groups):
        raise ValueError(
            f"{folder}: {len(names)} people of split 'train' cannot be divided into training and held-out ones with "
            "face portraits in both: add portraits of other people, or name their identities in portraits.csv"
        )
    return groups


def _faces(people: list[LabelledPortrait], mean_face: Tensor) -> FaceCrops:
    return cut_faces([portrait for portrait in people if not portrait.is_body], mean_face)
