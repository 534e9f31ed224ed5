"""Where matched sets lie, which there are, and the models kept of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path, PurePath

import folder_paths

from ..mirrorppr_core.mini.editor import FieldEditor
from ..mirrorppr_core.mini.extractor import OperationExtractor
from ..mirrorppr_core.mini.files import (
    LoadedConnector,
    bundled_set,
    load_connector,
    load_editor,
    load_extractor,
    load_sight,
)
from ..mirrorppr_core.mini.sight import Sight
from ..mirrorppr_core.wording import brief

BUNDLED = "mini-face (bundled)"
FOLDER = "mirrorppr"  # models/mirrorppr; also the key in extra_model_paths.yaml
FOLDER_ITSELF = "models/mirrorppr"  # a set whose files lie in no folder of their own
# What each output is made of: the file that is chosen, then those that lie beside it.
SIGHT_PARTS = ("mae", "locator", "body")
EXTRACTOR_PARTS = ("rformer", *SIGHT_PARTS)
CONNECTOR_PARTS = ("connector",)
DIT_PARTS = ("dit", "lora", *SIGHT_PARTS)
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
    # The Qwen engine's released layout has a folder for each file, named like it (qwen/loaders.py): not sets of ours.
    return [BUNDLED, *shown({file.parent for file in files if file.stem in parts and file.parent.name != file.stem})]


def shown(folders: Iterable[PurePath]) -> list[str]:
    """Folders below models/mirrorppr, as a list offers them."""
    return sorted(FOLDER_ITSELF if folder == PurePath() else folder.as_posix() for folder in folders)


def located(shown_name: str, is_set: Callable[[Path], bool]) -> Path:
    """Where a folder that a list offers lies, in whichever of the host's model folders has a set under that name.

    is_set: whether a folder holds what was listed; one of the same name may hold something else.
    """
    inner = "." if shown_name == FOLDER_ITSELF else shown_name
    places = [Path(base) / inner for base in folder_paths.get_folder_paths(FOLDER)]
    return next((place for place in places if is_set(place)), places[0])


def set_folder(name: str, part: str) -> Path:
    """Where the set with this part lies. A name that is not listed is refused, whatever it points at."""
    if name == BUNDLED:
        return bundled_set()
    if name not in set_names(*CHOSEN):
        raise ValueError(_no_such_set(name))
    return located(name, lambda folder: (folder / f"{part}.safetensors").is_file())


def files_of(name: str, parts: tuple[str, ...]) -> Files:
    """State of a set's files on disk. A missing one has size -1; loading it says what is missing."""
    folder = set_folder(name, parts[0])
    paths = [folder / f"{part}.safetensors" for part in parts]
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
def _sight(files: Files) -> Sight:
    sight = load_sight(Path(files[0][0]).parent)
    for note in sight.notes:
        logging.warning("MirrorPPR: %s", note)
    return sight


@lru_cache(maxsize=_KEPT)
def _extractor(files: Files) -> OperationExtractor:
    return load_extractor(Path(files[0][0]), _sight(files[-len(SIGHT_PARTS) :]))


@lru_cache(maxsize=_KEPT)
def _connector(files: Files) -> LoadedConnector:
    return load_connector(Path(files[0][0]))


@lru_cache(maxsize=_KEPT)
def _dit(files: Files, lora_strength: float) -> FieldEditor:
    return load_editor(Path(files[0][0]), _sight(files[-len(SIGHT_PARTS) :]), lora_strength=lora_strength)


def listed(name: str | None, *parts: str) -> bool | str:
    """For validate_inputs, because host 0.3.75 does not check V3 combos itself. None: another node will say."""
    return name is None or (isinstance(name, str) and name in set_names(*parts)) or _no_such_set(name)


def _no_such_set(name: str) -> str:
    return f"there is no set {brief(repr(name), 80)}: put its folder into models/mirrorppr and refresh the node list"
