"""Operation files of the Qwen engine: the same format as Mini's (mini/operation_file.py), with this engine's tokens.

An operation of another set, or of Mini, is extracted again where the file holds the exemplar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..exemplar import Exemplar
from ..mini.operation_file import SavedOperation, opened, write_file
from .extractor import QwenOperation
from .patch_order import PatchOrder

ENGINE = "qwen"
PICTURES = ("none", "exemplar")  # thumbnails would need a face locator
TYPES: dict[str, type] = {"qwen": QwenOperation, "patch_order": PatchOrder}


def save_qwen_operation(path: Path, operation: QwenOperation, *, name: str = "", pictures: str = "none") -> None:
    """Raises ValueError or OSError with the remedy, and leaves nothing half-written."""
    if pictures not in PICTURES:
        raise ValueError(f"pictures={pictures!r}: use one of {', '.join(PICTURES)}")
    if pictures == "exemplar" and not operation.exemplars:
        raise ValueError("the exemplar of this operation is no longer known, so it cannot be kept: extract again")
    saved = SavedOperation(operation=operation, name=name or path.stem, engine=ENGINE, set_id=operation.set_id)
    write_file(path, saved, TYPES, pictures=pictures)


def load_qwen_operation(
    path: Path, set_id: str | None = None, again: Callable[[Exemplar], QwenOperation] | None = None
) -> QwenOperation:
    """Read an operation file.  set_id: the set that will apply it; None takes the file as it is.  again: extracts an
    exemplar with that set.

    Raises FileNotFoundError or ValueError with the remedy.
    """
    file = opened(path)
    if file.engine == ENGINE:
        operation = file.read(TYPES).operation
        if set_id in (None, operation.set_id):
            return operation
        exemplars, whose = operation.exemplars, f"set {operation.set_id}"
    else:
        exemplars, whose = file.exemplars(), f"the engine {file.engine}"
    if len(exemplars) != 1 or again is None:
        what = "no set is connected to extract it again with" if exemplars else "holds no exemplar to extract it from"
        raise ValueError(f"{path.name} is of {whose}, and {what}: load its own set, or extract the operation again")
    made = again(exemplars[0])
    note = f"extracted again from the exemplar in the file, which is of {whose}"
    return replace(made, notes=(note, *made.notes))
