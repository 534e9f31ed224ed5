"""Load MirrorPPR (Qwen) and Apply to Qwen: the released files, and their LoRA on the user's own Qwen-Image-Edit.

A set is a folder in the layout of the release, e.g. models/mirrorppr/mirrorppr_face/rformer/rformer.safetensors
(mirrorppr_core/qwen/files.py). Loading reads headers only: nodes further on read the weights when they need them, and
give the memory back. Nothing is ever downloaded here.
"""

from __future__ import annotations

from pathlib import Path, PurePath

import comfy.lora
import comfy.model_base
import folder_paths
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io

from ...mirrorppr_core.qwen.files import SLOTS, QwenSet
from ...mirrorppr_core.qwen.lora_files import LoRAFactors, comfy_state, read_lora
from ...mirrorppr_core.qwen.numerics import reference_forwards
from ..sets import FOLDER, Files, located, shown
from ..sockets import found_by
from .sockets import CATEGORY, QwenSetSocket

NO_SET = "no set found"
_RFORMERS = ("rformer", "rformer2d")  # only sets of the Qwen engine have such a folder
_INNER = "diffusion_model."  # the DiT inside the host's model


def set_names() -> list[str]:
    """Folders in models/mirrorppr that hold a set of the release's layout, or NO_SET. The host caches the listing."""
    files = [PurePath(name) for name in folder_paths.get_filename_list(FOLDER)]
    return shown({file.parent.parent for file in files if file.parent.name in _RFORMERS}) or [NO_SET]


def set_folder(name: str) -> Path:
    """Where a listed set lies."""
    if complaint := refusal(name):
        raise ValueError(complaint)
    return located(name, lambda folder: any((folder / part).is_dir() for part in _RFORMERS))


def refusal(name: str) -> str | None:
    """Why a name cannot be loaded. Names that are not listed are refused, whatever they point at."""
    if isinstance(name, str) and name != NO_SET and name in set_names():
        return None
    what = "models/mirrorppr holds no MirrorPPR-Face files" if name == NO_SET else f"there is no Qwen set {name!r:.80}"
    return (
        f"{what}. Expected: models/mirrorppr/mirrorppr_face/ with {', '.join(SLOTS.values())}. To download them, run "
        "`python -m mirrorppr_core fetch --out PATH-TO-ComfyUI/models/mirrorppr` in a clone of this pack: it shows "
        "sizes and licences first. Nodes never download. Then refresh the node list (R)."
    )


def state_of(folder: Path) -> Files:
    """Every safetensors file below the folder, as it is now."""
    found = [(path, path.stat()) for path in sorted(folder.rglob("*.safetensors"))]
    return tuple((str(path), state.st_mtime_ns, state.st_size) for path, state in found)


class LoadQwen(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = set_names()
        return io.Schema(
            node_id="MirrorPPR_LoadQwen",
            display_name="Load MirrorPPR (Qwen)",
            category=CATEGORY,
            **found_by("qwen image edit", "checkpoint", "portrait"),
            description="Finds and checks the released MirrorPPR files for Qwen-Image-Edit: MAE, R-Former, connector "
            "and LoRA of one set. Takes no memory; nodes further on read what they need.",
            inputs=[
                io.Combo.Input(
                    "set_name",
                    options=names,
                    default=names[0],
                    tooltip="A folder of models/mirrorppr in the layout of the release. Start with mirrorppr_face.",
                )
            ],
            outputs=[
                QwenSetSocket.Output("qwen_set", display_name="qwen_set", tooltip="The checked files, for Qwen nodes."),
                io.String.Output(
                    "notes", display_name="notes", tooltip="What the files are, and what their position tables tell."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, set_name: str | None = None) -> bool | str:
        return set_name is None or refusal(set_name) or True

    @classmethod
    def fingerprint_inputs(cls, set_name: str) -> Files:
        return state_of(set_folder(set_name))

    @classmethod
    def execute(cls, set_name: str) -> io.NodeOutput:
        files = QwenSet.from_folder(set_folder(set_name))
        parts = [getattr(files, slot) for slot in SLOTS]
        lines = [f"MirrorPPR-{files.config.kind.title()}, set {files.set_id}"]
        lines += [f"{part.path.name}: {part.what}, {'/'.join(sorted(part.stored_dtypes))}" for part in parts]
        return io.NodeOutput(files, "\n".join([*lines, str(files.judge_patch_order())]))


class ApplyQwen(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_ApplyQwen",
            display_name="Apply to Qwen (MirrorPPR)",
            category=CATEGORY,
            **found_by("lora", "qwen image edit", "patch model"),
            description="Puts the set's LoRA on a Qwen-Image-Edit model, full or quantised, beside other LoRAs. Every "
            "layer of the file must fit, otherwise nothing is applied.",
            inputs=[
                io.Model.Input("model", tooltip="Qwen-Image-Edit (the first, not 2509 or 2511), in any precision."),
                QwenSetSocket.Input("qwen_set", tooltip="From Load MirrorPPR (Qwen)."),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=-2.0,
                    max=2.0,
                    step=0.05,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="Start with 1, as trained. 0 leaves the model as it is.",
                ),
                io.Boolean.Input(
                    "reference_numerics",
                    default=False,
                    optional=True,
                    tooltip="Start with false. true: compute GELU and time as the authors' program does, for "
                    "comparisons with it. Not for quantised models, and untested on real pictures.",
                ),
            ],
            outputs=[
                io.Model.Output("patched", display_name="patched", tooltip="The model with the LoRA, for any sampler."),
                io.String.Output("notes", display_name="notes", tooltip="How many layers were patched."),
            ],
        )

    @classmethod
    def execute(cls, model, qwen_set, lora_strength, reference_numerics=False) -> io.NodeOutput:
        check_is_qwen(model)
        patched = model.clone()
        notes = [apply_lora(patched, qwen_set, lora_strength)]
        if reference_numerics:
            forwards = reference_forwards(patched.model.diffusion_model, round_time=True)
            for path, forward in forwards.items():
                patched.add_object_patch(_INNER + path, forward)
            notes.append(f"reference numerics: {len(forwards)} places")
        return io.NodeOutput(patched, "\n".join(notes))


def check_is_qwen(model: ModelPatcher) -> None:
    if not isinstance(model.model, comfy.model_base.QwenImage):
        raise ValueError(
            f"model is {type(model.model).__name__}, not Qwen-Image: MirrorPPR's Qwen engine works on Qwen-Image-Edit "
            "only. Load it with Load Diffusion Model (or its GGUF loader)."
        )


def apply_lora(model: ModelPatcher, files: QwenSet, strength: float) -> str:
    """Adds patches to this clone of a model. Returns what was done; raises ValueError unless all of it fits."""
    lora = read_lora(files.lora.path)
    weights = [name for name in model.model_state_dict(_INNER) if name.endswith(".weight")]
    matched = lora.matched_to(name.removesuffix(".weight") for name in weights)
    if strength == 0:
        return f"strength 0: none of the LoRA's {len(lora.layers)} layers applied"
    _check_shapes(model, matched, lora.name)
    patches = comfy.lora.load_lora(comfy_state(matched), {name.removesuffix(".weight"): name for name in weights})
    applied = model.add_patches(patches, strength)
    if not len(applied) == len(patches) == len(lora.layers):
        raise ValueError(
            f"LoRA {lora.name}: the host took {len(applied)} of {len(lora.layers)} layers. Report this with your "
            "ComfyUI version and how the model was loaded."
        )
    return f"{len(applied)} of {len(lora.layers)} LoRA layers applied at strength {strength:g}"


def _check_shapes(model: ModelPatcher, matched: dict[str, LoRAFactors], name: str) -> None:
    """The host only logs a patch that does not fit, in the middle of sampling. Packed weights cannot be checked."""
    state = model.model_state_dict(_INNER)
    for module, factors in matched.items():
        weight, update = state[f"{module}.weight"], (factors.up.shape[0], factors.down.shape[1])
        if weight.is_floating_point() and tuple(weight.shape) != update:
            raise ValueError(
                f"LoRA {name}: {module} is {tuple(weight.shape)} in this model and {update} in the file. It was made "
                "for another model: load Qwen-Image-Edit."
            )
