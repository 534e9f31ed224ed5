"""The Mini engine of the trainer: faces to batches, stage rows to modules, results of earlier stages to later ones.

Validation identities never appear in training batches. `data.drawn` replaces portraits by drawn faces (rehearsals).
"""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import nn

from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.mini.field_dit import FieldDiT
from mirrorppr_core.mini.files import bundled_set, file_sha256
from mirrorppr_core.networks.config import ModelConfig
from mirrorppr_core.networks.mae import MAEEncoder
from mirrorppr_core.networks.rformer import RFormer

from ..body import stage as body_stage
from ..body.data import load_photos, split_photos
from ..body.device_squares import DeviceSource
from ..body.drawn_bodies import drawn_bodies
from ..data.body_labels import check_body_labels
from ..data.labelled import check_landmarks, labelled_portraits
from ..runs.batches import WholeSteps
from ..runs.calibration import CALIBRATION_BATCHES, Batches
from ..runs.checkpoints import read_part
from ..runs.loop import StageParts
from ..runs.preset import Preset
from ..runs.stage import Stage
from ..tools.family import ToolFaces, ToolSource
from ..tools.stage import CarryStage
from .config import MiniData, SampleConfig
from .drawn_faces import drawn_faces
from .examiner import MiniExaminer
from .face_set import FaceSet, load_faces, split_by_identity
from .samples import Sampler
from .stages import BackboneStage, EncoderStage, ExtractorStage, GeometryStage, JointStage

# Parts that a stage module cannot do without, and parts it may continue.
_NEEDS = {
    "encoder": (),
    "geometry": (),
    "backbone": ("mae",),
    "extractor": ("mae",),
    "joint": ("mae", "field_dit"),
    "body": (),
    "carry": (),
}
_CONTINUES = {
    "encoder": ("mae",),
    "geometry": ("adaptation", "names"),
    "backbone": ("adaptation", "field_dit", "names"),
    "extractor": ("rformer",),
    "joint": ("adaptation", "rformer", "connector", "lora"),
    "body": ("body",),
    "carry": ("carry",),
}
# Changes to the sample settings for a stage's subset of operations. Both: the settings' own shares.
_SUBSETS = {"simulated": {"professional_share": 0.0}, "both": {}, "professional": {"professional_share": 0.8}}
_CALIBRATION_OF_REHEARSALS = 1  # batches: drawn bodies are all alike
_VALIDATION_SEED = 10_000  # far from the training seeds


class SamplerSource(WholeSteps):
    """A Sampler as a batch source.  options: keyword arguments of every Sampler.batch call."""

    def __init__(self, sampler: Sampler, **options: object):
        super().__init__(partial(sampler.batch, **options))
        self.sampler = sampler


def check(preset: Preset, run: Path) -> None:
    """Raises ValueError when the data or the rows of the curriculum cannot work."""
    data = preset.data
    for stage in preset.stages:
        if stage.module not in _NEEDS:
            raise ValueError(f"stage {stage.name}: module {stage.module!r} is none of Mini's {', '.join(_NEEDS)}")
        missing = [part for part in _NEEDS[stage.module] if part not in stage.starts]
        foreign = [p for p in stage.starts if p not in _NEEDS[stage.module] + _CONTINUES[stage.module]]
        if missing or foreign:
            raise ValueError(f"stage {stage.name}: starts lacks {missing} and does not know {foreign}")
        if stage.module == "body":
            body_settings(stage)
            continue
        if stage.module == "carry":
            if stage.samples:
                raise ValueError(f"stage {stage.name}: random tools have no settings, got {sorted(stage.samples)}")
            continue
        known = set(preset.model.dit.operations) & set(sample_config(stage, data).leave_out)
        if known:
            raise ValueError(
                f"stage {stage.name} leaves out {', '.join(sorted(known))}, but the network's bank holds their "
                "motions: leave them out of model.dit.operations too"
            )
    if data.drawn:
        return
    if not data.portraits:
        raise ValueError("no portraits: give --portraits DIR, a folder of portraits with landmarks.npz")
    check_landmarks(Path(data.portraits))
    if any(stage.module == "body" for stage in preset.stages):
        check_body_labels(Path(data.portraits))
    if not _locator(data).exists():
        raise ValueError(f"{_locator(data)} does not exist: train one with python -m training.train_locator")


def build(stage: Stage, preset: Preset, run: Path, device: torch.device) -> StageParts:
    """The stage's module with the results of earlier stages in it, and its samples."""
    data, config, seed = preset.data, preset.model, preset.loop.seed
    if stage.module == "body":
        return _build_body(stage, data, run, device, seed=seed)
    if stage.module == "carry":
        return _build_carry(stage, data, config, run, seed=seed)
    faces, view, fingerprint = _faces(data, config, run)
    training, held_out = split_by_identity(faces, held_out=data.held_out, seed=0)
    module, starts_from = build_module(stage, config, run)
    samples, options = sample_config(stage, data), {"pixels": stage.module != "geometry"}
    if stage.module in ("geometry", "backbone") and not {"adaptation", "field_dit"} & stage.starts.keys():
        module.field_dit.start_from_faces(training.points)
    knows = {"operations": config.dit.operations}
    return StageParts(
        module=module,
        training=SamplerSource(Sampler(training, view, samples, seed=seed, **knows), **options),
        validation=SamplerSource(Sampler(held_out, view, samples, seed=_VALIDATION_SEED + seed, **knows), **options),
        examiner=MiniExaminer(),
        starts_from={**starts_from, "faces": fingerprint},
    )


def _build_body(stage: Stage, data: MiniData, run: Path, device: torch.device, *, seed: int) -> StageParts:
    settings = body_settings(stage)
    photos = drawn_bodies(data.drawn) if data.drawn else load_photos(Path(data.portraits), split="train")
    training, held_out = split_photos(photos, held_out=data.held_out, seed=0)
    source: Batches = body_stage.PoseSource(training, seed, settings)
    if device.type == "cuda":
        source = DeviceSource(training, seed, settings, device)
    batches = _CALIBRATION_OF_REHEARSALS if data.drawn else CALIBRATION_BATCHES
    module = body_stage.PoseStage(body_stage.usual_places(training), source, held_out, batches=batches)
    starts = _Starts(stage, run)
    starts.fill("body", module.body)
    return StageParts(
        module=module,
        training=source,
        validation=body_stage.PlainPoseSource(body_stage.real_bodies(held_out), settings.side_px),
        examiner=body_stage.PoseExaminer(),
        starts_from={**starts.used, "bodies": body_stage.fingerprint(photos)},
        completion=module.statistics,
    )


def _build_carry(stage: Stage, data: MiniData, config: ModelConfig, run: Path, *, seed: int) -> StageParts:
    if data.drawn:
        drawn, view = drawn_faces(data.drawn, config)
        faces = ToolFaces(drawn.points, drawn.weight, tuple(drawn.identity))
    else:
        view = CanonicalView(config.view, Locator.from_file(_locator(data)).mean_face)
        faces = ToolFaces.of(labelled_portraits(Path(data.portraits), split="train"), view)
    training, held_out = faces.divided(held_out=data.held_out, seed=0)
    module = CarryStage(view)
    starts = _Starts(stage, run)
    starts.fill("carry", module.carry)
    digest = hashlib.sha256(repr(faces.identity).encode() + faces.points.contiguous().numpy().tobytes()).hexdigest()
    return StageParts(
        module=module,
        training=ToolSource(training, view, seed=seed),
        validation=ToolSource(held_out, view, seed=_VALIDATION_SEED + seed),
        starts_from={**starts.used, "landmarks": digest[:12]},
    )


def body_settings(stage: Stage) -> body_stage.PoseSettings:
    """What a row of the curriculum says about the squares of the body network. Raises ValueError for other settings."""
    known = {f.name for f in fields(body_stage.PoseSettings)}
    unknown = sorted(set(stage.samples) - known)
    if unknown:
        raise ValueError(f"stage {stage.name}: the body has no setting {unknown}, only {sorted(known)}")
    return body_stage.PoseSettings(**stage.samples)


class _Starts:
    """Fills parts of a module from the results that the stage names. used: sha256 of each of them."""

    def __init__(self, stage: Stage, run: Path):
        self._stage, self._run = stage, run
        self.used: dict[str, str] = {}

    def fill(self, part: str, module: nn.Module) -> nn.Module:
        if part in self._stage.starts:
            path = self._run / f"{self._stage.starts[part]}.safetensors"
            _load_part(path, part, module)
            self.used[path.name] = file_sha256(path)
        return module


def build_module(stage: Stage, config: ModelConfig, run: Path) -> tuple[nn.Module, dict[str, str]]:
    """The module, and the sha256 of each result that was loaded into it."""
    starts = _Starts(stage, run)
    if stage.module == "encoder":
        module = EncoderStage(config)
        starts.fill("mae", module.mae)
        return module, starts.used
    if stage.module == "geometry":
        module = GeometryStage(config)
        starts.fill("adaptation", module.field_dit)
        starts.fill("names", module.names)
        return module, starts.used
    mae = starts.fill("mae", MAEEncoder(config.mae))
    if stage.module == "extractor":
        module = ExtractorStage(config, mae)
        starts.fill("rformer", module.rformer)
        return module, starts.used
    field_dit = starts.fill("field_dit", FieldDiT(config))
    starts.fill("adaptation", field_dit)  # a later one replaces that of the field network
    if stage.module == "backbone":
        module = BackboneStage(config, mae, field_dit)
        starts.fill("names", module.names)
    else:
        module = JointStage(config, mae, field_dit, starts.fill("rformer", RFormer(config)))
        starts.fill("connector", module.connector)
        starts.fill("lora", module.field_dit)
    return module, starts.used


def sample_config(stage: Stage, data: MiniData) -> SampleConfig:
    """The preset's sample settings with the stage's changes."""
    changes = {**_SUBSETS[stage.data], **stage.samples}
    known = {f.name for f in fields(SampleConfig)}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise ValueError(f"stage {stage.name}: Mini's samples have no setting {unknown}, only {sorted(known)}")
    return replace(data.samples, **changes)


def _load_part(path: Path, part: str, module: nn.Module) -> None:
    """Fill a part from an earlier stage's result. Strict: adapters are looked up among adapters only."""
    own, prefix, keep = module.state_dict(), f"{part}.", lambda name: True
    if part in ("lora", "adaptation"):
        prefix = "field_dit."
    if part == "lora":
        own = {name: value for name, value in own.items() if ".lora_" in name}
    if part == "adaptation":  # of a whole field network too
        names = module.adaptation_modules()
        keep = lambda name: name.split(".")[0] in names  # noqa: E731
        own = {name: value for name, value in own.items() if keep(name)}
    module.load_state_dict(read_part(path, part, own, prefix=prefix, keep=keep), strict=False)


def _locator(data: MiniData) -> Path:
    return Path(data.locator) if data.locator else bundled_set() / "locator.safetensors"


@lru_cache(maxsize=1)
def _faces(data: MiniData, config: ModelConfig, run: Path) -> tuple[FaceSet, CanonicalView, str]:
    """All training faces and their fingerprint. Kept, as every stage of a run uses the same."""
    if data.drawn:
        faces, view = drawn_faces(data.drawn, config)
        return faces, view, fingerprint(faces)
    locator = Locator.from_file(_locator(data))
    faces = load_faces(
        Path(data.portraits),
        split="train",
        locator=locator,
        view=config.view,
        cache=run / "cache",
        crop_size=config.mae.image_size,
    )
    return faces, CanonicalView(config.view, locator.mean_face), fingerprint(faces)


def fingerprint(faces: FaceSet) -> str:
    """Twelve digits that change with the people, their shapes, their order or what operations do to them."""
    digest = hashlib.sha256("\n".join(faces.identity).encode())
    tables = (faces.llw, faces.professional, faces.atoms, faces.errors)
    for tensor in (faces.shapes, faces.points, faces.weight, *tables):
        digest.update(tensor.contiguous().numpy())
    return digest.hexdigest()[:12]
