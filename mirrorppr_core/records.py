"""Frozen dataclasses as plain JSON with named tensors beside it, and back: what operation files are made of.

    Scaled(of=Operation(motion=M, ...), factor=0.5)
        {"type": "scaled", "factor": 0.5, "of": {"type": "extracted", "motion": {"tensor": "of.motion"}, ...}}
        and the tensor "of.motion"

A type is written under a name from a table that the caller gives; no other type is ever made. Reading is strict: an
unknown type or field is of a newer release, a missing or ill-typed one is damage, and whatever a dataclass checks when
it is made is checked here too. A field that has a default may be missing, so a type may grow such fields without a new
version of the format.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from .exemplar import Exemplar
from .photo_files import decode_png, encode_png

Types = Mapping[str, type]
_DEEPEST = 40  # levels; operations made of operations by hand have a few
_LARGEST = 1e5  # of any number but a seed: cells, pixels and tokens stay far below
_DTYPES = (torch.float32, torch.uint8, torch.bool)


@dataclass(frozen=True)
class Record:
    """tree: dictionaries, lists, numbers, strings, None.  tensors: by the names that the tree uses."""

    tree: Any
    tensors: dict[str, Tensor]


def to_record(value: Any, types_by_name: Types) -> Record:
    """Raises TypeError for anything that `from_record` would not make: that is our mistake."""
    tensors: dict[str, Tensor] = {}
    return Record(_written(value, {one: name for name, one in types_by_name.items()}, tensors, ""), tensors)


def from_record(record: Record, types_by_name: Types) -> Any:
    """Raises ValueError with the reason for whatever `to_record` would not have made."""
    left = dict(record.tensors)
    value = _read(record.tree, types_by_name, left, 0)
    if left:
        raise ValueError(f"it holds tensors that nothing in it names ({', '.join(sorted(left)[:2])})")
    return value


def _written(value: Any, names: dict[type, str], tensors: dict[str, Tensor], place: str) -> Any:
    if isinstance(value, Exemplar):
        pair = {"before": encode_png(value.before), "after": encode_png(value.after)}
        tensors.update({f"{place}.{side}": content for side, content in pair.items()})
        return {"type": "exemplar", **{side: {"png": f"{place}.{side}"} for side in pair}}
    if isinstance(value, Tensor):
        dense = value.detach().cpu().clone().contiguous()  # an operation may stand in several places
        tensors[place] = dense if dense.dtype in _DTYPES else dense.float()
        return {"tensor": place}
    if is_dataclass(value):
        inner = f"{place}." if place else ""
        own = {f.name: _written(getattr(value, f.name), names, tensors, inner + f.name) for f in fields(value)}
        return {"type": names[type(value)], **own}
    if isinstance(value, tuple):
        return [_written(one, names, tensors, f"{place}.{number}") for number, one in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{place} is a {type(value).__name__}: a record holds dataclasses, tensors and plain values")


def _read(tree: Any, types_by_name: Types, tensors: dict[str, Tensor], depth: int) -> Any:
    if depth > _DEEPEST:
        raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
    if isinstance(tree, list):
        return tuple(_read(one, types_by_name, tensors, depth + 1) for one in tree)
    if not isinstance(tree, dict):
        if isinstance(tree, int | float) and not abs(tree) <= (_LARGEST if isinstance(tree, float) else 2**64):
            raise ValueError(f"it holds the number {tree}")
        return tree
    if set(tree) == {"tensor"}:
        return _checked(_taken(tree["tensor"], tensors), tree["tensor"])
    if set(tree) == {"png"}:
        return decode_png(_taken(tree["png"], tensors))
    return _made(tree, types_by_name, tensors, depth)


def _made(tree: dict[str, Any], types_by_name: Types, tensors: dict[str, Tensor], depth: int) -> Any:
    name = tree.get("type")
    known = {**types_by_name, "exemplar": Exemplar}
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"it holds something of the type {str(name)[:40]!r}, which this release does not know")
    kind, hints = known[name], typing.get_type_hints(known[name])
    wanted = {f.name: f for f in fields(kind)}
    unknown = [key for key in tree if key != "type" and key not in wanted]
    if unknown:
        raise ValueError(f"{name} has a field {unknown[0][:40]!r}, which this release does not know")
    found = {key: _read(part, types_by_name, tensors, depth + 1) for key, part in tree.items() if key != "type"}
    for key, one in wanted.items():
        if key not in found and one.default is MISSING and one.default_factory is MISSING:
            raise ValueError(f"{name} has no {key}")
        if key in found and not _fits(found[key], hints[key]):
            raise ValueError(f"{key} of {name} is not what it should be")
    return kind(**found)


def _taken(name: Any, tensors: dict[str, Tensor]) -> Tensor:
    if not isinstance(name, str) or name not in tensors:
        raise ValueError(f"the tensor {str(name)[:40]!r} is missing, or named twice")
    return tensors.pop(name)


def _checked(tensor: Tensor, name: str) -> Tensor:
    if tensor.dtype not in _DTYPES:
        raise ValueError(f"{name} holds numbers of the kind {tensor.dtype}")
    if tensor.is_floating_point() and tensor.numel() and not float(tensor.abs().amax()) <= _LARGEST:
        raise ValueError(f"{name} contains NaN, infinite or absurdly large numbers")
    return tensor


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a type as annotated: classes, unions, tuple[X, ...] and None."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in typing.get_args(hint))
    if origin is tuple:
        inner = typing.get_args(hint)
        if len(inner) == 2 and inner[1] is Ellipsis:
            return isinstance(value, tuple) and all(_fits(one, inner[0]) for one in value)
        return isinstance(value, tuple) and len(value) == len(inner) and all(map(_fits, value, inner))
    if hint is type(None) or hint is None:
        return value is None
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
