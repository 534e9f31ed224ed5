"""Operation files: a retouch to keep, to send and to use again.

    NAME.safetensors    tensors, and in the metadata
        format          "mirrorppr-operation"
        version         "1"
        engine          "mini", "qwen", or "any" where there are only sliders
        set             id of the matched set that extracted it; empty for sliders
        name            as the user called it
        privacy         what the file shows of a person, in words
        operation       JSON: the operation as records.py writes it, its tensors by name

An operation made of others is saved as it was made. Whatever a type of operation holds is carried along, so a new part
of an operation (a dataclass of tensors and plain values) needs its name in TYPES and nothing else here.

Pictures are kept on request only: thumbnails of the face before and after, or the exemplar itself, from which another
set or engine can extract the operation again. The shape of the exemplar's face is in every file, as numbers.

Reading is strict and refuses with one sentence. Nothing in a file is ever run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..bodies.families import Fitted
from ..bodies.motion import BodyMotion
from ..bodies.named import NamedBodyOperation
from ..bodies.part_map import MapPart, PartMap
from ..exemplar import Exemplar
from ..file_writing import replacing
from ..operations.sliders import Amount, Sliders
from ..records import Record, from_record, to_record
from .arithmetic import AnyOperation, Blended, Combined, Limited, Scaled, Undone, leaves
from .operation import Evidence, Operation

FORMAT, VERSION = "mirrorppr-operation", "1"
TYPES: dict[str, type] = {
    "extracted": Operation,
    "evidence": Evidence,
    "body": BodyMotion,
    "fitted": Fitted,
    "part_map": PartMap,
    "map_part": MapPart,
    "named_body": NamedBodyOperation,
    "sliders": Sliders,
    "amount": Amount,
    "scaled": Scaled,
    "undone": Undone,
    "combined": Combined,
    "blended": Blended,
    "limited": Limited,
}
# Parts of operations, none by themselves.
INNER = ("evidence", "body", "fitted", "part_map", "map_part", "named_body", "amount", "patch_order")
PICTURES = ("none", "thumbnails", "exemplar")
MAX_BYTES = 512 * 1024**2  # a few large exemplars; one operation alone takes 2 MB
_MAX_NAME = 120
_AGAIN = "save it again, or copy the file once more"


@dataclass(frozen=True, kw_only=True)
class SavedOperation:
    """operation: any type that the reader knows.  set_id: empty for sliders alone.  engine: mini, qwen or any."""

    operation: Any
    name: str
    engine: str
    set_id: str


def save_operation(path: Path, operation: AnyOperation, *, name: str = "", pictures: str = "thumbnails") -> None:
    """Write an operation of this engine to a file that does not exist yet.  pictures: see PICTURES.

    Raises OSError where it cannot be written, and leaves nothing half-written.
    """
    extracted = [one for one in leaves(operation) if isinstance(one, Operation)]
    if pictures == "exemplar" and any(not one.exemplars for one in extracted):
        raise ValueError(
            "the exemplar of this operation is no longer known, so it cannot go into the file: extract again"
        )
    saved = SavedOperation(
        operation=operation,
        name=name or path.stem,
        engine="mini" if extracted else "any",
        set_id=extracted[0].set_id if extracted else "",
    )
    write_file(path, saved, TYPES, pictures=pictures)


def write_file(path: Path, saved: SavedOperation, types: dict[str, type], *, pictures: str) -> None:
    """The same for any engine's operations.  types: by the names under which the file knows them."""
    if pictures not in PICTURES:
        raise ValueError(f"pictures={pictures!r}: use one of {', '.join(PICTURES)}")
    check_name(saved.name)
    record = to_record(_showing(saved.operation, pictures), types)
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "engine": saved.engine,
        "set": saved.set_id,
        "name": saved.name,
        "privacy": privacy_note(record.tree),
        "operation": json.dumps(record.tree),
    }
    content = save(record.tensors, metadata=metadata)
    if len(content) > MAX_BYTES:
        raise ValueError(
            f"the file would have {len(content) >> 20} MB, {MAX_BYTES >> 20} is the most: crop the exemplar to the "
            "person and extract again, or save without it"
        )
    write_new(path, content)


def read_file(path: Path, types: dict[str, type] = TYPES) -> SavedOperation:
    """Raises FileNotFoundError or ValueError: one sentence that says what the file is and what to do."""
    return opened(path).read(types)


@dataclass(frozen=True)
class OpenedFile:
    """A file whose header is in order; what it holds is not made yet."""

    path: Path
    metadata: dict[str, str]
    tensors: dict[str, Tensor]

    @property
    def engine(self) -> str:
        return self.metadata["engine"]

    def read(self, types: dict[str, type]) -> SavedOperation:
        """Raises ValueError where the record is none of an operation of these types."""
        with _refusing(self.path):
            operation = from_record(Record(json.loads(self.metadata["operation"]), self.tensors), types)
            _check_whole(operation, types)
        own = self.metadata
        return SavedOperation(operation=operation, name=own["name"], engine=own["engine"], set_id=own["set"])

    def exemplars(self) -> tuple[Exemplar, ...]:
        """The pairs that the file holds beside an operation of whichever engine, at its outermost level."""
        with _refusing(self.path):
            tree = json.loads(self.metadata["operation"])
            pairs = tree.get("exemplars", []) if isinstance(tree, dict) else []
            named = json.dumps(pairs)
            own = {name: value for name, value in self.tensors.items() if json.dumps(name) in named}
            found = from_record(Record(pairs, own), {})
        return tuple(one for one in found if isinstance(one, Exemplar))


def opened(path: Path) -> OpenedFile:
    """Raises as `read_file` does."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no operation file {path.name}: check its name, or save the operation again")
    size = path.stat().st_size
    if size == 0 or size > MAX_BYTES:
        what = "empty" if size == 0 else f"{size >> 20} MB large, more than any operation"
        raise ValueError(f"{path.name} is {what}: {_AGAIN}")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path.name} is damaged or no safetensors file ({_one_line(error)}): {_AGAIN}") from error
    _check_header(path.name, metadata)
    return OpenedFile(path, metadata, tensors)


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, RecursionError, KeyError) as error:
        raise ValueError(
            f"{path.name} cannot be read as an operation: {_one_line(error)}. {_AGAIN.capitalize()}."
        ) from error


def check_name(name: str, of: str = "an operation") -> None:
    """Raise ValueError unless a file may be called so: a name and not a path.  of: what it is the name of."""
    if not isinstance(name, str):
        raise ValueError(f"the name of {of} is {str(name)[:40]}: need a text of letters, digits and spaces")
    bad = sorted({one for one in name if one in '/\\:*?"<>|' or ord(one) < 32})
    if bad or name.startswith(".") or name != name.strip() or not name or len(name) > _MAX_NAME:
        why = f"with {' '.join(bad)} in it" if bad else "of this kind"
        raise ValueError(
            f"{name[:60]!r} cannot be the name of {of}, {why}: use letters, digits, spaces and - _ . ( ), at "
            f"most {_MAX_NAME}, without a folder; files go into one folder of their own"
        )


def privacy_note(tree: Any) -> str:
    """What a file with this record shows of a person, in one or two sentences."""
    text = json.dumps(tree)
    shape = "It holds the shape of the exemplar's face as numbers." if '"extracted"' in text else ""
    if '"png"' in text:
        shown = "This file shows a person: it holds the exemplar's photos, before and after."
    elif '.thumbnails"' in text or '"thumbnails": {' in text:
        shown = "This file shows a person: it holds small pictures of the exemplar's face, before and after."
    else:
        shown = "This file holds no pictures."
    return f"{shown} {shape}".strip()


def write_new(path: Path, content: bytes) -> None:
    """A file appears whole or not at all, and never in another one's place. Raises OSError with the remedy."""
    if path.exists():
        raise FileExistsError(f"{path.name} exists already and is not overwritten: choose another name")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write {path.name} into {path.parent.name}/ ({error.strerror}): use another") from error
    with replacing(path, new=True) as stream:
        stream.write(content)


def _showing(value: Any, pictures: str) -> Any:
    """The same operation with the pictures that may be kept, everywhere in it."""
    if isinstance(value, tuple):
        return tuple(_showing(one, pictures) for one in value)
    if not is_dataclass(value):
        return value
    changes = {f.name: _showing(getattr(value, f.name), pictures) for f in fields(value)}
    if pictures != "exemplar" and "exemplars" in changes:
        changes["exemplars"] = ()
    if pictures == "none" and "thumbnails" in changes:
        changes["thumbnails"] = None
    return replace(value, **changes)


def _check_header(name: str, metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        what = (
            f"holds the {metadata['part']} of a set of weights" if "part" in metadata else "is another program's file"
        )
        raise ValueError(f"{name} {what} and no operation: choose a file that Save Operation or `extract` wrote")
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"{name} is an operation file of version {metadata.get('version', '')[:20]}, and this release reads "
            f"{VERSION}: update the node pack"
        )
    missing = {"engine", "set", "name", "operation"} - metadata.keys()
    if missing:
        raise ValueError(f"{name} has no {sorted(missing)[0]} in its header: {_AGAIN}")


def _check_whole(operation: Any, types: dict[str, type]) -> None:
    """Raise ValueError unless this is an operation, and its tensors have the shapes that they must have."""
    kinds = tuple(kind for name, kind in types.items() if name not in INNER)
    if not isinstance(operation, kinds):
        raise ValueError("what it holds is only a part of one")
    extracted = [one for one in leaves(operation) if isinstance(one, Operation)]
    for one in extracted + [one.undoes for one in extracted if one.undoes is not None]:
        n = one.motion.shape[-1]
        fits = one.motion.shape == one.shape.shape == (1, 2, n, n) and one.tokens.ndim == 3
        if not fits or one.atoms.ndim != 5 or one.atoms.shape[2:] != (2, n, n) or len(one.atoms) != 1:
            raise ValueError("its tensors do not fit together")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def digest_of(operation: AnyOperation) -> str:
    """The same for operations that do the same, whatever pictures they keep: 16 hexadecimal digits."""
    record = to_record(_showing(operation, "none"), TYPES)
    digest = hashlib.sha256(json.dumps(record.tree).encode())
    for tensor in record.tensors.values():
        digest.update(tensor.numpy())
    return digest.hexdigest()[:16]


def thumbnails_of(operation: AnyOperation) -> Tensor | None:
    """Face before and after (2, 3, S, S) uint8 of the first extracted operation that has them."""
    return next((one.thumbnails for one in leaves(operation) if getattr(one, "thumbnails", None) is not None), None)
