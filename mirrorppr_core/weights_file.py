"""Files of weights: written complete or not at all, opened with a reason where they cannot be, filled in strictly.

Mini's networks are half precision on disk, float32 in memory. What is not exactly the asked-for network is refused,
with the way out.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from .file_writing import write_file


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
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path.name} is damaged or not a safetensors file ({error}): download or copy it again"
        ) from error


def check_numbers(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raise ValueError if a weight is NaN or infinite."""
    for name, value in state.items():
        if not value.isfinite().all():
            raise ValueError(
                f"{path.name} contains NaN or infinite weights ({name}): the file is damaged, download or copy it again"
            )


def read_network(path: str | Path, part: str, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights in float32 and metadata. part: as the file's metadata says.  what: the part in a user's words.

    Raises FileNotFoundError, and ValueError for a file that is damaged, of another part, or holds NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing from {path.parent.name}/: copy the complete set")
    weights, metadata = read_tensors(path)
    if metadata.get("part") != part:
        raise ValueError(f"{path.name} holds no {what}: choose the {part}.safetensors of a MirrorPPR set")
    weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    check_numbers(path, weights)
    return weights, metadata


def filled(network: nn.Module, weights: dict[str, Tensor], path: str | Path) -> nn.Module:
    """The network with these weights, for use: evaluation mode, frozen. ValueError when names or shapes differ."""
    expected = network.state_dict()
    missing, foreign = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    wrong = [k for k in expected.keys() & weights.keys() if expected[k].shape != weights[k].shape]
    if missing or foreign or wrong:
        raise ValueError(
            f"{Path(path).name} does not fit: {len(missing)} tensors missing {missing[:2]}, {len(foreign)} unknown "
            f"{foreign[:2]}, {len(wrong)} of another shape {wrong[:2]}. It belongs to another model or release."
        )
    network.load_state_dict(weights)
    return network.train(False).requires_grad_(False)
