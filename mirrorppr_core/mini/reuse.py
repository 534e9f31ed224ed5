"""Operations from files, fit for the set at hand.

An operation belongs to the set that extracted it. One of another set or engine is extracted again if its file holds
the exemplar; otherwise it is refused, with what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..exemplar import Exemplar
from .arithmetic import AnyOperation, Leaf, leaves, with_leaves
from .extractor import OperationExtractor
from .operation import Operation
from .operation_file import TYPES, opened

ENGINE = "mini"


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """operation: of the asked-for set.  name: the file's own.  notes: for the user."""

    operation: AnyOperation
    name: str
    notes: tuple[str, ...]


def load_operation(path: Path, extractor: OperationExtractor | None = None) -> Loaded:
    """Read an operation file.  extractor: of the set that will apply it; without one the file is taken as it is.

    Raises FileNotFoundError or ValueError with the remedy.
    """
    file = opened(path)
    if file.engine not in (ENGINE, "any"):
        exemplars = file.exemplars()
        if extractor is None or not exemplars:
            raise ValueError(
                f"{path.name} holds an operation of the engine {file.engine!r}, which Mini cannot apply: "
                + ("connect an extractor, which reads it again" if exemplars else "extract it again from the exemplar")
            )
        operation = _again(exemplars, extractor)
        note = f"extracted again from the exemplar in the file, which is of the engine {file.engine}"
        return Loaded(operation=operation, name=file.metadata["name"], notes=(note, *operation.notes))
    saved = file.read(TYPES)
    operation, notes = saved.operation, ()
    foreign = {one.set_id for one in leaves(operation) if isinstance(one, Operation)}
    if extractor is not None and foreign - {extractor.set_id}:
        operation = with_leaves(operation, lambda leaf: _fit(leaf, extractor, path.name))
        notes = (f"extracted again from the exemplar in the file, which is of set {', '.join(sorted(foreign))}",)
    return Loaded(operation=operation, name=saved.name, notes=(*notes, *operation.notes))


def _fit(leaf: Leaf, extractor: OperationExtractor, name: str) -> AnyOperation:
    if not isinstance(leaf, Operation) or leaf.set_id == extractor.set_id:
        return leaf
    if not leaf.exemplars:
        raise ValueError(
            f"{name} was extracted by set {leaf.set_id} but the extractor is of set {extractor.set_id}, and the "
            "file holds no exemplar to extract it again from: load that set, or extract the operation again and "
            "keep the exemplar in the file"
        )
    return _again(leaf.exemplars, extractor)


def _again(exemplars: tuple[Exemplar, ...], extractor: OperationExtractor) -> Operation:
    return extractor.extract_together(exemplars).operation
