"""Where files of one kind lie: a folder below the host's output, one below its input and one below its user folder.

Only the first is written to. A file is chosen by a listed name, "look_00001.safetensors [output]", never by a path. The
listing is read again whenever the page asks for the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..mirrorppr_core.mini.operation_file import check_name

_MOST = 99_999


@dataclass(frozen=True, kw_only=True)
class ListedFolder:
    name: str  # of the folder
    endings: tuple[str, ...]
    thing: str  # what a file holds, "operation"
    saver: str  # the node that writes them

    @property
    def none_yet(self) -> str:
        return f"no {self.thing} saved yet"

    @property
    def where(self) -> str:
        return f"output/{self.name}, input/{self.name} or user/default/{self.name}"

    def _places(self) -> dict[str, Path]:
        return {
            "output": Path(folder_paths.get_output_directory()) / self.name,
            "input": Path(folder_paths.get_input_directory()) / self.name,
            "user": Path(folder_paths.get_user_directory()) / "default" / self.name,
        }

    def files(self) -> list[str]:
        """What the loading node offers, the newest first; never empty, because the page needs a value."""
        found = [
            (path.stat().st_mtime_ns, f"{path.name} [{place}]")
            for place, folder in self._places().items()
            if folder.is_dir()
            for path in folder.iterdir()
            if path.suffix in self.endings and path.is_file() and not path.name.startswith(".")
        ]
        return [name for _, name in sorted(found, reverse=True)] or [self.none_yet]

    def path_of(self, name: str) -> Path:
        """The file behind a listed name. Anything else is refused, whatever it points at."""
        if not self.has(name):
            raise ValueError(self.missing(name))
        stem, _, place = name.rpartition(" [")
        return self._places()[place.removesuffix("]")] / stem

    def check_name(self, name: str) -> None:
        check_name(name, f"{'an' if self.thing[0] in 'aeio' else 'a'} {self.thing}")

    def name_input(self, default: str) -> io.Input:
        """Of a node that saves."""
        return io.String.Input(
            "name", default=default, tooltip="What to call it: letters, digits, spaces and - _ . ( ). No folders."
        )

    def accepts(self, name: str | None) -> bool | str:
        """For `validate_inputs` of such a node: True, or what is wrong. None is a name that comes over a connection."""
        try:
            self.check_name("name" if name is None else name)
        except ValueError as error:
            return str(error)
        return True

    def has(self, name: str) -> bool:
        return name != self.none_yet and name in self.files()

    def missing(self, name: str) -> str:
        if name == self.none_yet:
            return (
                f"there is no {self.thing} file yet: save one with {self.saver}, or put one into {self.where}, and "
                "refresh"
            )
        return f"there is no {self.thing} file {str(name)[:80]!r}: put it into {self.where} and refresh the node list"

    def state_of(self, name: str) -> tuple[str, int, int]:
        """Differs when the file was changed."""
        state = self.path_of(name).stat()
        return name, state.st_mtime_ns, state.st_size

    def new_path(self, name: str, ending: str = "") -> Path:
        """A file name that is not taken yet, counted up as the host counts pictures.  ending: the first by default."""
        self.check_name(name)
        ending = ending or self.endings[0]
        folder = self._places()["output"]
        taken = {path.name for path in folder.glob(f"*{ending}")} if folder.is_dir() else set()
        for number in range(1, _MOST + 1):
            if f"{name}_{number:05}{ending}" not in taken:
                return folder / f"{name}_{number:05}{ending}"
        raise ValueError(f"there are {_MOST} files called {name!r} already: choose another name")


OPERATIONS = ListedFolder(
    name="mirrorppr_operations", endings=(".safetensors",), thing="operation", saver="Save Operation"
)
FIELDS = ListedFolder(
    name="mirrorppr_fields", endings=(".exr", ".tiff", ".tif", ".png"), thing="field", saver="Save Field"
)
