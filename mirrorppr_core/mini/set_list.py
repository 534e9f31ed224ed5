"""The list of a set's files with their sha256: `set.json` beside them. A bit that flipped on a disk is found by it.

    {"format": "mirrorppr-set", "version": 1, "set": SET_ID, "sha256": {"dit.safetensors": "...", ...}}

It guards against damage, not against people: whoever can change a file can change the list. `training.export` writes
it. A set without one, an older or somebody else's, is loaded, and said to be unchecked.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from ..file_writing import write_file
from ..settings_file import parsed_table

LIST = "set.json"
_FORMAT = {"format": "mirrorppr-set", "version": 1}
_REMEDY = "copy the complete set again"
_CHUNK = 2**20


def write_list(folder: Path, set_id: str) -> None:
    """List every safetensors file that lies in the folder now."""
    found = {path.name: file_sha256(path) for path in sorted(folder.glob("*.safetensors"))}
    write_file(folder / LIST, json.dumps({**_FORMAT, "set": set_id, "sha256": found}, indent=1) + "\n")


def check_listed(path: Path, sha256: str = "") -> None:
    """Raise ValueError if the set's list knows this file with other contents, or is damaged. Nothing without a list.

    sha256: the file's, if known already.
    """
    listed = _listed(path.parent)
    if listed is None:
        return
    expected = listed["sha256"].get(path.name)
    if expected is None:
        raise ValueError(f"{path.name} does not belong to the set in {path.parent.name}/ by its {LIST}: {_REMEDY}")
    if (sha256 or file_sha256(path)) != expected:
        raise ValueError(
            f"{path.name} is not the file the set in {path.parent.name}/ was made with (its sha256 differs from the "
            f"one in {LIST}): it was damaged or exchanged, {_REMEDY}"
        )


def check_present(path: Path) -> None:
    """Raise FileNotFoundError if the set's list knows this file and it is not there."""
    listed = _listed(path.parent)
    if listed is not None and path.name in listed["sha256"] and not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing from {path.parent.name}/, whose {LIST} names it: {_REMEDY}")


def check_owner(folder: Path, set_id: str) -> None:
    """Raise ValueError if the list in the folder is of another set."""
    listed = _listed(folder)
    if listed is not None and listed["set"] != set_id:
        raise ValueError(f"the set in {folder.name}/ is mixed: its {LIST} belongs to another set, {_REMEDY}")


def unchecked_note(folder: Path) -> str:
    """One sentence where a set comes without a list, else empty."""
    if (folder / LIST).is_file():
        return ""
    return f"the set in {folder.name}/ comes without {LIST}: whether its weights are undamaged could not be checked"


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _listed(folder: Path) -> dict | None:
    path = folder / LIST
    if not path.is_file():
        return None
    what = f"{LIST} of the set in {folder.name}/"
    try:
        found = parsed_table(path.read_bytes(), what)
    except ValueError as error:
        raise ValueError(f"{error}: {_REMEDY}") from None
    hashes = found.get("sha256")
    sound = (
        found.keys() == {*_FORMAT, "set", "sha256"}
        and all(found[name] == value for name, value in _FORMAT.items())
        and isinstance(found["set"], str)
        and isinstance(hashes, dict)
        and all(isinstance(one, str) and re.fullmatch("[0-9a-f]{64}", one) for one in hashes.values())
    )
    if not sound:
        raise ValueError(f"{what} is damaged or of another release: {_REMEDY}, or update")
    return found
