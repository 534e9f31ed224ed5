"""Loading a matched set: the bundled Mini weights, or folders of the user's under models/mirrorppr.

A set is a folder of safetensors files that were trained together (mirrorppr_core/checkpoint.py). Nothing is ever
downloaded. Files are chosen by name from a list, never by a free path.

Mini runs on the CPU in about a second, so its models stay there: they take no GPU memory from the user's other
models, and results are the same on every machine. Loaded models are kept until their files change or others come.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path, PurePath

import folder_paths
from comfy_api.latest import io

from ..mirrorppr_core.checkpoint import LoadedConnector, bundled_set, load_connector, load_editor, load_extractor
from ..mirrorppr_core.editor import FieldEditor
from ..mirrorppr_core.extractor import OperationExtractor
from ..mirrorppr_core.pipeline import MirrorPPR
from .sockets import CATEGORY, Connector, DiT, Extractor

BUNDLED = "mini-face (bundled)"
FOLDER = "mirrorppr"  # models/mirrorppr; also the key in extra_model_paths.yaml
FOLDER_ITSELF = "models/mirrorppr"  # a set whose files lie in no folder of their own

# What each output is made of: the file that is chosen, then those that lie beside it.
EXTRACTOR_PARTS = ("rformer", "mae", "locator", "body")
CONNECTOR_PARTS = ("connector",)
DIT_PARTS = ("dit", "lora", "mae", "locator", "body")
CHOSEN = ("rformer", "connector", "dit")
_KEPT = 4  # models of each kind; one takes about 30 MB

Files = tuple[tuple[str, int, int], ...]  # path, mtime_ns, size: other contents, another key


def register_folder() -> None:
    """Make models/mirrorppr known to the host, beside folders named in extra_model_paths.yaml."""
    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


def set_names(*parts: str) -> list[str]:
    """The bundled set, then every folder with one of these parts. Cheap: the host caches the listing."""
    files = [PurePath(name) for name in folder_paths.get_filename_list(FOLDER)]
    # The Qwen engine's released layout has a folder for each file, named like it (qwen_load.py): not sets of ours.
    folders = {file.parent.as_posix() for file in files if file.stem in parts and file.parent.name != file.stem}
    return [BUNDLED, *sorted(FOLDER_ITSELF if name == "." else name for name in folders)]


def set_folder(name: str) -> Path:
    """Where a set lies. A name that is not listed is refused, whatever it points at."""
    if name == BUNDLED:
        return bundled_set()
    if name not in set_names(*CHOSEN):
        raise ValueError(_no_such_set(name))
    inner = "." if name == FOLDER_ITSELF else name
    bases = [Path(base) for base in folder_paths.get_folder_paths(FOLDER)]
    return next(base / inner for base in bases if (base / inner).is_dir())


def files_of(name: str, parts: tuple[str, ...]) -> Files:
    """State of a set's files on disk. A missing one has size -1; loading it says what is missing."""
    paths = [set_folder(name) / f"{part}.safetensors" for part in parts]
    states = [path.stat() if path.is_file() else None for path in paths]
    return tuple(
        (str(path), state.st_mtime_ns, state.st_size) if state else (str(path), 0, -1)
        for path, state in zip(paths, states, strict=True)
    )


def extractor_of(set_name: str) -> OperationExtractor:
    return _extractor(files_of(set_name, EXTRACTOR_PARTS))


def connector_of(set_name: str) -> LoadedConnector:
    return _connector(files_of(set_name, CONNECTOR_PARTS))


def dit_of(set_name: str, lora_strength: float = 1.0) -> FieldEditor:
    return _dit(files_of(set_name, DIT_PARTS), lora_strength)


@lru_cache(maxsize=_KEPT)
def _extractor(files: Files) -> OperationExtractor:
    return load_extractor(Path(files[0][0]))


@lru_cache(maxsize=_KEPT)
def _connector(files: Files) -> LoadedConnector:
    return load_connector(Path(files[0][0]))


@lru_cache(maxsize=_KEPT)
def _dit(files: Files, lora_strength: float) -> FieldEditor:
    return load_editor(Path(files[0][0]), lora_strength=lora_strength)


def listed(name: str | None, *parts: str) -> bool | str:
    """For validate_inputs, because host 0.3.75 does not check V3 combos itself. None: another node will say."""
    return name is None or name in set_names(*parts) or _no_such_set(name)


def _no_such_set(name: str) -> str:
    return f"there is no set {name!r}: put its folder into models/mirrorppr and refresh the node list"


def _set_input(*parts: str) -> io.Combo.Input:
    return io.Combo.Input(
        "set_name",
        options=set_names(*parts),
        default=BUNDLED,
        tooltip=f"The matched set to load. Start with {BUNDLED}. Sets of your own: a folder each in models/mirrorppr.",
    )


class Load(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_Load",
            display_name="Load MirrorPPR",
            category=CATEGORY,
            description="Loads extractor, connector and DiT of one matched set: all that retouching by example needs.",
            inputs=[_set_input(*CHOSEN)],
            outputs=[
                Extractor.Output(
                    "extractor", display_name="extractor", tooltip="Reads before/after pairs. For Extract Operation."
                ),
                Connector.Output(
                    "connector",
                    display_name="connector",
                    tooltip="Translates operations for the DiT. For Retouch Sampler.",
                ),
                DiT.Output("dit", display_name="dit", tooltip="Applies operations to photos. For Retouch Sampler."),
            ],
        )

    @classmethod
    def validate_inputs(cls, set_name: str | None = None) -> bool | str:
        return listed(set_name, *CHOSEN)

    @classmethod
    def fingerprint_inputs(cls, set_name: str) -> Files:
        return files_of(set_name, EXTRACTOR_PARTS + CONNECTOR_PARTS + DIT_PARTS)

    @classmethod
    def execute(cls, set_name: str) -> io.NodeOutput:
        model = MirrorPPR(  # checks that the three belong together
            extractor=extractor_of(set_name), connector=connector_of(set_name), editor=dit_of(set_name)
        )
        return io.NodeOutput(model.extractor, model.connector, model.editor)


class LoadExtractor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LoadExtractor",
            display_name="Load Extractor (MirrorPPR)",
            category=CATEGORY,
            description="Loads what reads a before/after pair: face locator, MAE encoder and R-Former.",
            inputs=[_set_input("rformer")],
            outputs=[
                Extractor.Output(
                    "extractor", display_name="extractor", tooltip="Reads before/after pairs. For Extract Operation."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, set_name: str | None = None) -> bool | str:
        return listed(set_name, "rformer")

    @classmethod
    def fingerprint_inputs(cls, set_name: str) -> Files:
        return files_of(set_name, EXTRACTOR_PARTS)

    @classmethod
    def execute(cls, set_name: str) -> io.NodeOutput:
        return io.NodeOutput(extractor_of(set_name))


class LoadConnector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LoadConnector",
            display_name="Load Connector (MirrorPPR)",
            category=CATEGORY,
            description="Loads what translates an operation for the DiT. Take it from the extractor's own set.",
            inputs=[_set_input("connector")],
            outputs=[
                Connector.Output(
                    "connector",
                    display_name="connector",
                    tooltip="Translates operations for the DiT. For Retouch Sampler.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, set_name: str | None = None) -> bool | str:
        return listed(set_name, "connector")

    @classmethod
    def fingerprint_inputs(cls, set_name: str) -> Files:
        return files_of(set_name, CONNECTOR_PARTS)

    @classmethod
    def execute(cls, set_name: str) -> io.NodeOutput:
        return io.NodeOutput(connector_of(set_name))


class LoadDiT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LoadDiT",
            display_name="Load DiT (MirrorPPR)",
            category=CATEGORY,
            description="Loads what applies an operation to a photo: the field DiT with its LoRA.",
            inputs=[
                _set_input("dit"),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much of the set's LoRA is merged in. Leave at 1: that is what it was trained with. "
                    "0 shows the backbone alone. To weaken a retouch, use the sampler's strength instead.",
                ),
            ],
            outputs=[
                DiT.Output("dit", display_name="dit", tooltip="Applies operations to photos. For Retouch Sampler.")
            ],
        )

    @classmethod
    def validate_inputs(cls, set_name: str | None = None) -> bool | str:
        return listed(set_name, "dit")

    @classmethod
    def fingerprint_inputs(cls, set_name: str, lora_strength: float) -> Files:
        return files_of(set_name, DIT_PARTS)

    @classmethod
    def execute(cls, set_name: str, lora_strength: float) -> io.NodeOutput:
        return io.NodeOutput(dit_of(set_name, lora_strength))
