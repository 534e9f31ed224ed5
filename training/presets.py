"""Presets: everything one training run needs, under a name, and how a person changes it.

    tiny        all of Mini's stages on drawn faces and bodies, in seconds: tests and rehearsals
    mini-face   the bundled Mini but for bodies: LLW and professional operations of the face
    mini-pro    face and body: the same, joint-pro longer and mostly on professional operations, and the stage body
    qwen-face, qwen-pro    the paper's stages on Qwen-Image-Edit with LoRA

A preset is a function that returns a frozen Preset. `--set stages.joint.steps=500` and a YAML file with `base: NAME`
change single values; unknown names are refused with the ones that exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from .curriculum import BODY, MINI_FACE, MINI_PRO, QWEN_FACE, QWEN_PRO, Stage, check_order, shortened

ENGINES = {"mini": "training.mini", "qwen": "training.qwen_engine"}
REPORTERS = ("tensorboard", "wandb")


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How a run is driven. Only seed and precision change what is learned."""

    seed: int = 0
    precision: str = ""  # "no" or "bf16"; empty: what `accelerate launch` says, else "no"
    log_steps: int = 50
    validate_steps: int = 500
    validation_batches: int = 8
    sheet_steps: int = 1000
    save_steps: int = 200
    keep: int = 2  # checkpoints of a stage
    workers: int = 0  # loader processes; 0 draws batches in the loop
    preflight_steps: int = 12  # of the one-batch test before a stage begins; 0 leaves it out
    reporters: tuple[str, ...] = ("tensorboard",)

    def __post_init__(self) -> None:
        if self.precision not in ("", "no", "bf16"):
            raise ValueError(f"precision={self.precision!r}: use no or bf16")
        every = ("log_steps", "validate_steps", "validation_batches", "sheet_steps", "save_steps", "keep")
        for name in every:
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: use 1 or more")
        unknown = set(self.reporters) - set(REPORTERS)
        if unknown:
            raise ValueError(f"reporters {sorted(unknown)} are unknown: use some of {', '.join(REPORTERS)}")


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One run. data and model are the engine's own dataclasses."""

    name: str
    engine: str
    stages: tuple[Stage, ...]
    data: Any
    model: Any
    loop: LoopConfig = LoopConfig()

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"preset {self.name}: engine {self.engine!r} is none of {', '.join(ENGINES)}")
        check_order(self.stages)

    def described(self, stage: Stage) -> dict:
        """The settings that make a stage's result what it is. A checkpoint of others is refused."""
        named = {"engine": self.engine, "stage": stage, "data": self.data, "model": self.model}
        return plain({**named, "seed": self.loop.seed, "precision": self.loop.precision}, compared_only=True)


def tiny() -> Preset:
    from mirrorppr_core.config import (
        ConnectorConfig,
        DiTConfig,
        LoRAConfig,
        MAEConfig,
        ModelConfig,
        RFormerConfig,
        ViewConfig,
    )

    from .mini import MiniData
    from .samples import SampleConfig

    model = ModelConfig(
        name="tiny",
        view=ViewConfig(size=32),
        mae=MAEConfig(image_size=64, width=16, depth=1, heads=2),
        rformer=RFormerConfig(num_queries=4, width=16, depth=1, heads=2),
        connector=ConnectorConfig(width=16, depth=1, heads=2, output=16),
        dit=DiTConfig(depth=1, heads=2, head_dim=12, text_width=16, rope_axes=(4, 4, 4), grid=4, stem_channels=4,
                      geometry_codes=8, adaptation_width=16, bank_width=16),
        lora=LoRAConfig(rank=2, alpha=2),
    )  # fmt: skip
    return Preset(
        name="tiny",
        engine="mini",
        stages=shortened((*MINI_FACE, BODY), steps=6, batch=4, learning_rate=3e-3),
        data=MiniData(drawn=48, held_out=0.15, samples=SampleConfig(eye_distance_cells=8.0)),
        model=model,
        loop=LoopConfig(log_steps=1, validate_steps=3, validation_batches=1, sheet_steps=6, save_steps=2, reporters=()),
    )


def mini_face() -> Preset:
    from mirrorppr_core.config import ModelConfig

    from .mini import MiniData

    return Preset(name="mini-face", engine="mini", stages=MINI_FACE, data=MiniData(), model=ModelConfig())


def mini_pro() -> Preset:
    return replace(mini_face(), name="mini-pro", stages=MINI_PRO)


def qwen_face() -> Preset:
    from .qwen_config import QWEN_FACE as MODEL
    from .qwen_config import QwenDataConfig

    return Preset(name="qwen-face", engine="qwen", stages=QWEN_FACE, data=QwenDataConfig(), model=MODEL, loop=_AT_SCALE)


def qwen_pro() -> Preset:
    from .qwen_config import QWEN_PRO as MODEL

    return replace(qwen_face(), name="qwen-pro", stages=QWEN_PRO, model=MODEL)


_AT_SCALE = LoopConfig(
    precision="bf16", log_steps=20, validate_steps=500, save_steps=250, keep=3, workers=4, validation_batches=16
)

PRESETS: dict[str, Callable[[], Preset]] = {
    "tiny": tiny,
    "mini-face": mini_face,
    "mini-pro": mini_pro,
    "qwen-face": qwen_face,
    "qwen-pro": qwen_pro,
}


def load_preset(config: str, changes: list[str] | tuple[str, ...] = ()) -> Preset:
    """A preset by name or from a YAML file, with `a.b=value` changes. Raises ValueError naming what is wrong."""
    import yaml  # comes with accelerate

    tree: dict = {}
    base = config
    if config.endswith((".yaml", ".yml")):
        if not Path(config).exists():
            raise ValueError(f"{config} does not exist. --config takes a YAML file or one of {', '.join(PRESETS)}")
        tree = yaml.safe_load(Path(config).read_text()) or {}
        if not isinstance(tree, dict) or "base" not in tree:
            raise ValueError(f"{config} must say which preset it changes: a line `base: mini-face`")
        base = tree.pop("base")
    if base not in PRESETS:
        raise ValueError(f"there is no preset {base!r}. Use a YAML file or one of {', '.join(PRESETS)}")
    for change in changes:
        path, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set {change}: write it as name=value, for example stages.joint.steps=500")
        branch = tree
        *above, last = path.split(".")
        for name in above:
            branch = branch.setdefault(name, {})
        branch[last] = yaml.safe_load(value)
    return _changed(PRESETS[base](), tree, "")


def plain(value: Any, *, compared_only: bool = False) -> Any:
    """Dataclasses as JSON values. compared_only leaves out fields such as paths, which may change between runs."""
    if is_dataclass(value):
        kept = [f for f in fields(value) if not compared_only or f.metadata.get("compared", True)]
        return {f.name: plain(getattr(value, f.name), compared_only=compared_only) for f in kept}
    if isinstance(value, Mapping):
        return {str(k): plain(v, compared_only=compared_only) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v, compared_only=compared_only) for v in value]
    return json.loads(json.dumps(value))


def _changed(value: Any, change: Any, where: str) -> Any:
    """The value with a tree of changes applied, all of a dataclass's at once, as they may only fit together."""
    if is_dataclass(value):
        known = {f.name: getattr(value, f.name) for f in fields(value)}
        return replace(value, **_each(known, change, where))
    if isinstance(value, tuple) and value and isinstance(value[0], Stage):
        new = _each({stage.name: stage for stage in value}, change, where)
        return tuple(new.get(stage.name, stage) for stage in value)
    if isinstance(value, Mapping):
        if not isinstance(change, Mapping):
            raise ValueError(f"{where} is a table: set its entries, {where}.NAME=value")
        return {**value, **change}
    return _typed(value, change, where)


def _each(known: dict[str, Any], change: Any, where: str) -> dict[str, Any]:
    if not isinstance(change, Mapping):
        raise ValueError(f"{where} has parts {', '.join(known)}: set one of them, {where}.NAME=value")
    unknown = sorted(set(change) - set(known))
    if unknown:
        raise ValueError(f"{where or 'a preset'} has no {unknown[0]!r}, only {', '.join(known)}")
    return {name: _changed(known[name], new, f"{where}.{name}".lstrip(".")) for name, new in change.items()}


def _typed(value: Any, change: Any, where: str) -> Any:
    """The new value in the old one's type. YAML reads 1e-3 as text, so text that is a number counts as one."""
    try:
        if isinstance(value, bool):
            fits = isinstance(change, bool)
        elif isinstance(value, int):
            fits = isinstance(change, int) and not isinstance(change, bool)
        elif isinstance(value, float):
            change, fits = float(change), not isinstance(change, bool)
        elif isinstance(value, tuple):
            items = change if isinstance(change, list) else [change]
            return tuple(items)
        else:
            change, fits = str(change), not isinstance(change, Mapping | list)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(f"{where}={change!r}: needs {type(value).__name__}, as in {where}={value!r}")
    return change
