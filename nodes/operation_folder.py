"""Where operation files lie: one folder below the host's output, one below its input and one below its user folder.

Save Operation writes into the first only. A file is chosen by a listed name, "look_00001.safetensors [output]", never
by a path. The listing is read again whenever the page asks for the nodes.
"""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ..mirrorppr_core.mini.operation_file import check_name

FOLDER = "mirrorppr_operations"
NONE_YET = "no operation saved yet"
_ENDING = ".safetensors"
_MOST = 99_999


def _places() -> dict[str, Path]:
    return {
        "output": Path(folder_paths.get_output_directory()) / FOLDER,
        "input": Path(folder_paths.get_input_directory()) / FOLDER,
        "user": Path(folder_paths.get_user_directory()) / "default" / FOLDER,
    }


def listed_files() -> list[str]:
    """What Load Operation offers, the newest first; never empty, because the page needs a value."""
    found = [
        (path.stat().st_mtime_ns, f"{path.name} [{place}]")
        for place, folder in _places().items()
        if folder.is_dir()
        for path in folder.glob(f"*{_ENDING}")
        if path.is_file() and not path.name.startswith(".")
    ]
    return [name for _, name in sorted(found, reverse=True)] or [NONE_YET]


def path_of(name: str) -> Path:
    """The file behind a listed name. Anything else is refused, whatever it points at."""
    if not is_listed(name):
        raise ValueError(not_listed(name))
    stem, _, place = name.rpartition(" [")
    return _places()[place.removesuffix("]")] / stem


def is_listed(name: str) -> bool:
    return name != NONE_YET and name in listed_files()


def not_listed(name: str) -> str:
    where = f"output/{FOLDER}, input/{FOLDER} or user/default/{FOLDER}"
    if name == NONE_YET:
        return f"there is no operation file yet: save one with Save Operation, or put one into {where}, and refresh"
    return f"there is no operation file {name[:80]!r}: put it into {where} and refresh the node list"


def new_path(name: str) -> Path:
    """A file name that is not taken yet, counted up as the host counts pictures."""
    check_name(name)
    folder = _places()["output"]
    taken = {path.name for path in folder.glob(f"*{_ENDING}")} if folder.is_dir() else set()
    for number in range(1, _MOST + 1):
        if f"{name}_{number:05}{_ENDING}" not in taken:
            return folder / f"{name}_{number:05}{_ENDING}"
    raise ValueError(f"there are {_MOST} files called {name!r} already: choose another name")
