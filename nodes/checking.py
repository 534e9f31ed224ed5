"""What comes over a node's inputs is what its schema says, or one sentence names the input and the remedy.

The host checks widgets, and neither what other nodes send into them nor constants in the place of a connection. So
every node of ours is looked at once more, right before it works: kinds, ranges, shapes, and numbers that are none.
"""

from __future__ import annotations

import functools
from math import isfinite
from typing import Any, get_args

from comfy_api.latest import io
from torch import Tensor

from ..mirrorppr_core.geometry.field import Field
from ..mirrorppr_core.mini.arithmetic import AnyOperation
from ..mirrorppr_core.mini.editor import FieldEditor
from ..mirrorppr_core.mini.extractor import OperationExtractor
from ..mirrorppr_core.mini.files import LoadedConnector
from ..mirrorppr_core.wording import brief

# Our connections: what must come, and whose output it is.
_SOCKETS = {
    "MIRRORPPR_EXTRACTOR": ((OperationExtractor,), "the extractor of Load MirrorPPR"),
    "MIRRORPPR_CONNECTOR": ((LoadedConnector,), "the connector of Load MirrorPPR"),
    "MIRRORPPR_DIT": ((FieldEditor,), "the dit of Load MirrorPPR"),
    "MIRRORPPR_OPERATION": (get_args(AnyOperation), "the operation of Extract Operation"),
}


def checked(node: type[io.ComfyNode]) -> type[io.ComfyNode]:
    """The same node; from now on it looks at its inputs before it works."""
    inner = node.__dict__["execute"].__func__
    if hasattr(inner, "__wrapped__"):
        return node
    inputs = {one.id: one for one in node.define_schema().inputs}

    @functools.wraps(inner)
    def execute(cls: type, **given: Any) -> io.NodeOutput:
        for name, value in given.items():
            if name in inputs and not (value is None and inputs[name].optional):
                check_value(inputs[name], value)
        return inner(cls, **given)

    node.execute = classmethod(execute)
    return node


def check_value(expected: io.Input, value: Any) -> None:
    """Raise ValueError unless this value may come over this input."""
    name, kind = expected.id, expected.get_io_type()
    if kind == "IMAGE":
        _check_image(name, value)
    elif kind == "MASK":
        _check_mask(name, value)
    elif kind == "MIRRORPPR_FIELD":
        _check_fields(name, value)
    elif kind in _SOCKETS:
        kinds, whose = _SOCKETS[kind]
        if not isinstance(value, kinds):
            raise ValueError(f"{name} is {_told(value)}: connect {whose}")
    elif kind in ("INT", "FLOAT"):
        _check_number(expected, value)
    elif kind in ("STRING", "COMBO") and not isinstance(value, str):
        raise ValueError(f"{name} is {_told(value)}: need a text, as the node offers it")


def _check_image(name: str, value: Any) -> None:
    if not isinstance(value, Tensor) or value.ndim != 4 or not value.is_floating_point():
        raise ValueError(f"{name} is {_told(value)}: connect pictures (IMAGE)")
    if not len(value):
        raise ValueError(f"{name} is an empty batch: no picture reached this node. Look at the nodes before it.")
    if value.shape[-1] not in (3, 4):
        raise ValueError(
            f"{name} has {value.shape[-1]} channels: need pictures in colour, RGB or RGBA. Convert it first (a mask: "
            "MaskToImage)."
        )
    if not value.numel():
        raise ValueError(f"{name} is {value.shape[2]}x{value.shape[1]} pixels: connect pictures that are not empty")


def _check_mask(name: str, value: Any) -> None:
    if not isinstance(value, Tensor) or value.ndim not in (2, 3) or not value.numel():
        raise ValueError(f"{name} is {_told(value)}: connect a MASK of the picture, (batch, height, width)")
    if not bool(value.isfinite().all()):
        raise ValueError(f"{name} contains NaN or infinite values: look at the node that made it")


def _check_fields(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple) or not value or not all(isinstance(one, Field) for one in value):
        raise ValueError(f"{name} is {_told(value)}: connect the field of Retouch Sampler or Simulate Retouch")
    if not all(bool(one.displacement.isfinite().all()) for one in value):
        raise ValueError(f"{name} contains NaN or infinite motion: look at the node that made it")


def _check_number(expected: io.Input, value: Any) -> None:
    name, whole = expected.id, expected.get_io_type() == "INT"
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ValueError(f"{name} is {_told(value)}: need a {'whole ' if whole else ''}number")
    low, high = expected.min, expected.max
    too_far = (low is not None and value < low) or (high is not None and value > high)
    if too_far or (isinstance(value, float) and not isfinite(value)):
        raise ValueError(f"{name}={brief(value, 30)}: use a number from {brief(low, 30)} to {brief(high, 30)}")


def _told(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"numbers of the shape {tuple(value.shape)} and the kind {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if value is None or isinstance(value, bool | int | float | str):
        return brief(repr(value), 40)
    return f"something of the kind {type(value).__name__}"
