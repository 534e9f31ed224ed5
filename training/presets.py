"""Presets: everything one training run needs, under a name, and how a person changes it.

    tiny        all of Mini's stages on drawn faces and bodies, in seconds: tests and rehearsals
    mini-face   the bundled Mini but for bodies: LLW and professional operations of the face
    mini-pro    face and body: the same, joint-pro longer and mostly on professional operations, and the body stages
    locator     the face locator that all of them look through (python -m training.train_locator)
    qwen-face, qwen-pro    the paper's stages on Qwen-Image-Edit with LoRA

A preset is a function that returns a frozen Preset. `--set stages.joint.steps=500` and a YAML file with `base: NAME`
change single values; unknown names are refused with the ones that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mirrorppr_core.wording import brief

from .curriculum import BODY, LOCATOR, MINI_FACE, MINI_PRO, QWEN_FACE, QWEN_PRO, shortened
from .runs.loop import LoopConfig
from .runs.preset import Preset, changed
from .runs.settings_file import line_of, read_settings, value_of


def tiny() -> Preset:
    from mirrorppr_core.faces.view import ViewConfig
    from mirrorppr_core.networks.config import (
        ConnectorConfig,
        DiTConfig,
        LoRAConfig,
        MAEConfig,
        ModelConfig,
        RFormerConfig,
    )

    from .mini.config import MiniData, SampleConfig

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
        stages=shortened((*MINI_FACE, *BODY), steps=6, batch=4, learning_rate=3e-3),
        data=MiniData(drawn=48, held_out=0.15, samples=SampleConfig(eye_distance_cells=8.0)),
        model=model,
        loop=LoopConfig(log_steps=1, validate_steps=3, validation_batches=1, sheet_steps=6, save_steps=2, reporters=()),
    )


def mini_face() -> Preset:
    from mirrorppr_core.networks.config import ModelConfig

    from .mini.config import MiniData

    return Preset(name="mini-face", engine="mini", stages=MINI_FACE, data=MiniData(), model=ModelConfig())


def mini_pro() -> Preset:
    return replace(mini_face(), name="mini-pro", stages=MINI_PRO)


def locator() -> Preset:
    from mirrorppr_core.faces.locator import LocatorConfig

    from .locator.engine import LocatorData

    return Preset(name="locator", engine="locator", stages=LOCATOR, data=LocatorData(), model=LocatorConfig())


def qwen_face() -> Preset:
    from .qwen.config import QWEN_FACE as MODEL
    from .qwen.config import QwenDataConfig

    return Preset(name="qwen-face", engine="qwen", stages=QWEN_FACE, data=QwenDataConfig(), model=MODEL, loop=_AT_SCALE)


def qwen_pro() -> Preset:
    from .qwen.config import QWEN_PRO as MODEL

    return replace(qwen_face(), name="qwen-pro", stages=QWEN_PRO, model=MODEL)


_AT_SCALE = LoopConfig(
    precision="bf16", log_steps=20, validate_steps=500, save_steps=250, keep=3, workers=4, validation_batches=16
)

PRESETS: dict[str, Callable[[], Preset]] = {
    "tiny": tiny,
    "mini-face": mini_face,
    "mini-pro": mini_pro,
    "locator": locator,
    "qwen-face": qwen_face,
    "qwen-pro": qwen_pro,
}


def load_preset(config: str, changes: list[str] | tuple[str, ...] = ()) -> Preset:
    """A preset by name or from a YAML file, with `a.b=value` changes. Raises ValueError naming what is wrong."""
    tree: dict = {}
    lines: dict[str, int] = {}
    base = config
    if config.endswith((".yaml", ".yml")):
        if not Path(config).exists():
            raise ValueError(f"{config} does not exist. --config takes a YAML file or one of {', '.join(PRESETS)}")
        file = read_settings(Path(config))
        tree, lines = file.tree, file.lines
        if "base" not in tree:
            raise ValueError(f"{config} must say which preset it changes: a line `base: mini-face`")
        base = tree.pop("base")
    if not isinstance(base, str) or base not in PRESETS:
        raise ValueError(f"there is no preset {brief(repr(base), 60)}. Use a YAML file or one of {', '.join(PRESETS)}")
    for change in changes:
        path, equals, value = change.partition("=")
        if not equals:
            raise ValueError(f"--set {change}: write it as name=value, for example stages.joint.steps=500")
        branch = tree
        *above, last = path.split(".")
        for name in above:
            branch = branch.setdefault(name, {})
            if not isinstance(branch, dict):
                raise ValueError(f"--set {change}: {name} is a value in {config} and has no parts")
        branch[last] = value_of(value, f"--set {change}")
    try:
        return changed(PRESETS[base](), tree, "")
    except ValueError as error:
        line = line_of(str(error), lines)
        if not line:
            raise
        raise ValueError(f"{config}, line {line}: {error}") from error
