"""Files of weights: written complete or not at all, opened with a reason where they cannot be, filled in strictly.

Mini's networks are half precision on disk, float32 in memory. What is not exactly the asked-for network is refused,
with the way out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from math import isfinite
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .file_writing import write_file
from .wording import brief, file_name

_LARGEST_HALF = 65504.0
_SPARE = 20_000_000  # numbers that a network may make beside its weights


def write_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """A safetensors file, complete or absent; equal contents give equal bytes."""
    content = save(dict(tensors), dict(metadata) if metadata else None)
    write_file(path, _in_order(content) if metadata and len(metadata) > 1 else content)


def _in_order(content: bytes) -> bytes:
    """Metadata in the order of its names: safetensors writes it in any."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) <= length, "the same header in another order is no longer"
    return content[:8] + text.ljust(length) + content[8 + length :]


def halved(state: Mapping[str, Tensor], *, whole: Collection[str] = ()) -> dict[str, Tensor]:
    """The state in half precision; whole: tensors that stay as they are, as those do that are no floats."""
    return {
        name: value.detach().half().contiguous() if value.is_floating_point() and name not in whole else value
        for name, value in state.items()
    }


def read_tensors(path: Path, names: Iterable[str] | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """These tensors of a safetensors file, or all, and its metadata. ValueError if it is none or is damaged."""
    try:
        with safe_open(str(path), framework="pt") as file:
            wanted = file.keys() if names is None else names
            return {name: file.get_tensor(name) for name in wanted}, file.metadata() or {}
    except MemoryError as error:
        raise ValueError(f"{file_name(path.name)} needs more memory than there is: close other programs") from error
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{file_name(path.name)} is damaged or not a safetensors file ({brief(error)}): download or copy it again"
        ) from error


def check_numbers(path: Path, state: Mapping[str, Tensor], *, saturated: bool = False) -> None:
    """Raise ValueError if a weight is NaN or infinite.  saturated: or at the very end of half precision's range."""
    for name, value in state.items():
        if not value.is_floating_point() or not value.numel():
            continue
        low, high = (float(one) for one in value.aminmax())  # NaN shows in both
        if not (isfinite(low) and isfinite(high)):
            told = "NaN or infinite weights"
        elif saturated and value.dtype == torch.float16 and max(-low, high) >= _LARGEST_HALF:
            told = f"weights of {_LARGEST_HALF:g}, where half precision ends"
        else:
            continue
        raise ValueError(
            f"{file_name(path.name)} contains {told} ({brief(name, 60)}): the file is damaged, download or copy it "
            "again"
        )


def check_stored(path: Path, state: Mapping[str, Tensor], *, whole: Collection[str] = ()) -> None:
    """Raise ValueError unless all is stored as `halved` stores it: floats in half precision but for `whole`."""
    for name, value in state.items():
        expected = torch.float32 if name in whole else torch.float16
        if value.is_floating_point() and value.dtype != expected:
            raise ValueError(
                f"{file_name(path.name)} stores {brief(name, 60)} as {value.dtype}, a set stores it as {expected}: "
                "it was converted or damaged, copy the complete set again"
            )
    check_numbers(path, state, saturated=True)


def read_network(
    path: str | Path, part: str, what: str, *, whole: Collection[str] = ()
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights in float32 and metadata. part: as the file's metadata says.  what: the part in a user's words.

    Raises FileNotFoundError, and ValueError for a file that is damaged, of another part, or holds NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing from {path.parent.name}/: copy the complete set")
    weights, metadata = read_tensors(path)
    if metadata.get("part") != part:
        raise ValueError(f"{path.name} holds no {what}: choose the {part}.safetensors of a MirrorPPR set")
    check_stored(path, weights, whole=whole)
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}, metadata


def filled(make: Callable[[], nn.Module], weights: dict[str, Tensor], path: str | Path) -> nn.Module:
    """The network that `make` makes, with these weights, for use: evaluation mode, frozen.

    Settings that ask for gigabytes do not get them unless the file holds as much.
    Raises ValueError when names, shapes or kinds of number differ.
    """
    name = file_name(Path(path).name)
    try:
        with _Unfilled(most=2 * sum(value.numel() for value in weights.values()) + _SPARE):
            network = make()
    except _TooLarge:
        raise ValueError(
            f"{name} does not fit: its settings ask for far more numbers than the file holds. It belongs to another "
            "model or release."
        ) from None
    except (RuntimeError, ValueError, TypeError, OverflowError, ZeroDivisionError) as error:
        raise ValueError(
            f"{name} holds settings of which no network can be made ({brief(error)}): copy it again"
        ) from error
    expected = network.state_dict()
    missing, foreign = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    shared = sorted(expected.keys() & weights.keys())
    wrong = [k for k in shared if expected[k].shape != weights[k].shape or expected[k].dtype != weights[k].dtype]
    if missing or foreign or wrong:
        raise ValueError(
            f"{name} does not fit: {len(missing)} tensors missing {_first(missing)}, {len(foreign)} unknown "
            f"{_first(foreign)}, {len(wrong)} of another shape or kind {_first(wrong)}. It belongs to another model or "
            "release."
        )
    network.load_state_dict(weights)
    return network.train(False).requires_grad_(False)


class _TooLarge(Exception):
    """A network asks for more than the file can fill."""


class _Unfilled(TorchFunctionMode):
    """Networks made inside are not initialised: their numbers come from a file. Memory that nobody writes to is not
    taken. (On the "meta" device nothing would be taken either, but its first use imports torch's compiler: 4 s.)

    most: numbers that may be asked for; _TooLarge beyond.
    """

    def __init__(self, most: int):
        super().__init__()
        self.left = most

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        made = func(*args, **kwargs)
        if func in _MAKERS:
            self.left -= made.numel()
            if self.left < 0:
                raise _TooLarge
        return made


_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)


def _first(names: list[str]) -> str:
    return str([brief(name, 50) for name in names[:2]])
