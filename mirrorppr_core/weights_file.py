"""Reading the file of a network that a set sees with: the face locator and the body network.

Half precision on disk, float32 in memory. What is not exactly the asked-for network is refused, with the way out.
"""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn


def read_network(path: str | Path, part: str, what: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights in float32 and metadata. part: as the file's metadata says.  what: the part in a user's words.

    Raises FileNotFoundError, and ValueError for a file that is damaged, of another part, or holds NaN.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing from {path.parent.name}/: copy the complete set")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path.name} is damaged or not a safetensors file ({error}): download or copy it again"
        ) from error
    if metadata.get("part") != part:
        raise ValueError(f"{path.name} holds no {what}: choose the {part}.safetensors of a MirrorPPR set")
    weights = {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}
    if not all(value.isfinite().all() for value in weights.values()):
        raise ValueError(f"{path.name} contains NaN or infinite weights: download or copy it again")
    return weights, metadata


def filled(network: nn.Module, weights: dict[str, Tensor], path: str | Path) -> nn.Module:
    """The network with these weights, for use. Strict: ValueError when names or shapes differ."""
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{Path(path).name} belongs to another release: {error}. Use the file of this one.") from error
    return network.eval().requires_grad_(False)
