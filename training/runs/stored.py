"""Results of stages as files: their settings and a sha256 of both settings and numbers in the metadata.

    STAGE.safetensors    metadata "training": {"format": 1, "settings": {...}, "sha256": "..."}

A file that was changed in a single bit is refused where its numbers are used. Results of older versions carry no hash;
they are read without that check.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mirrorppr_core.settings_file import parsed_table
from mirrorppr_core.weights_file import read_tensors, write_tensors
from mirrorppr_core.wording import brief

FORMAT = 1  # raise it when a run continued across the change would not equal an unbroken one
_ENTRY = "training"
_REMEDY = "delete it to have the stage trained again, or copy it again"


@dataclass(frozen=True)
class Result:
    """tensors: by name.  settings: what the stage was trained with."""

    tensors: dict[str, Tensor]
    settings: dict


def write_result(path: Path, tensors: Mapping[str, Tensor], settings: dict) -> None:
    """Complete or absent; equal contents give equal bytes."""
    about = {"format": FORMAT, "settings": settings, "sha256": contents_sha256(tensors, settings)}
    # One entry: with several their order, and so the file's bytes, would change from run to run.
    write_tensors(path, tensors, {_ENTRY: json.dumps(about, sort_keys=True)})


def read_result(path: Path) -> Result:
    """Raises FileNotFoundError, and ValueError for a file that is damaged or of another version of this code."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: run python -m training.train --stage {path.stem} first")
    tensors, metadata = read_tensors(path)
    about = _about(path, metadata)
    if "sha256" in about and about["sha256"] != contents_sha256(tensors, about["settings"]):
        raise ValueError(f"{path} is damaged (its contents are not those its sha256 was made of): {_REMEDY}")
    return Result(tensors, about["settings"])


def settings_in(path: Path) -> dict:
    """What a result was trained with, from its header alone. Raises as `read_result`, but for changed numbers."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is damaged or not a result ({brief(error)}): {_REMEDY}") from error
    return _about(path, metadata)["settings"]


def contents_sha256(tensors: Mapping[str, Tensor], settings: object) -> str:
    """Of names, kinds, shapes and numbers, and of the settings."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy() if value.numel() else b"")
    return digest.hexdigest()


def _about(path: Path, metadata: Mapping[str, str]) -> dict:
    if not metadata:  # written by hand: numbers and nothing said of them
        return {"format": FORMAT, "settings": {}}
    if _ENTRY not in metadata:
        raise ValueError(f"{path} is no result of training.train: {_REMEDY}")
    try:
        about = parsed_table(metadata[_ENTRY], "its header")
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}, {_REMEDY}") from error
    if about.get("format") != FORMAT:
        raise ValueError(f"{path} was written by another version of this code. Use another --run folder.")
    if about.keys() - {"sha256"} != {"format", "settings"} or not isinstance(about["settings"], dict):
        raise ValueError(f"{path} is damaged (its header has other entries than a result's): {_REMEDY}")
    return about
