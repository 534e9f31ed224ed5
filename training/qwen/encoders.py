"""The frozen readers of Qwen-Image-Edit (text encoder, VAE), online or from a cache of what they said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mirrorppr_core.qwen.files import choose_dtype
from mirrorppr_core.qwen.latents import encode
from mirrorppr_core.qwen.standalone import QwenComponents, encode_text

from ..runs.aligned import aligned

_BASE_KEY = "mirrorppr_base"
READERS = ("text_encoder", "vae")


class Encoder(Protocol):
    """picture: (3, H, W) in [0, 1] with sides that are multiples of 16."""

    def text(self, picture: Tensor) -> Tensor:
        """(L, D)"""

    def latent(self, picture: Tensor) -> Tensor:
        """(16, H / 8, W / 8)"""


class OnlineEncoder:
    """Asks the models themselves. They stay where they are: keep it in the main process (workers 0) on a GPU."""

    def __init__(self, components: QwenComponents):
        self.components = components

    def text(self, picture: Tensor) -> Tensor:
        return encode_text(self.components, picture[None])[0]

    def latent(self, picture: Tensor) -> Tensor:
        return encode(self.components.vae, picture[None])[0].cpu()


class CachedEncoder:
    """Answers from a cache folder. Holds no file open, so that it can be handed to worker processes."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._file_of: dict[str, str] = {}
        bases = set()
        for path in sorted(folder.glob("encoded-*.safetensors")):
            try:
                with safe_open(str(path), framework="pt") as file:
                    bases.add((file.metadata() or {}).get(_BASE_KEY))
                    self._file_of |= dict.fromkeys(file.keys(), path.name)
            except (SafetensorError, OSError) as error:
                raise ValueError(f"{path} is damaged ({error}): delete it and run training.qwen_cache again") from error
        if len(bases) > 1:
            raise ValueError(f"{folder} was filled from {len(bases)} different base models: make a cache for each")
        self.base = next(iter(bases), None)

    def __len__(self) -> int:
        """Number of pictures."""
        return sum(name.endswith(".latent") for name in self._file_of)

    def has(self, picture: Tensor, *, text: bool) -> bool:
        key = picture_key(picture)
        return f"{key}.latent" in self._file_of and (not text or f"{key}.text" in self._file_of)

    def text(self, picture: Tensor) -> Tensor:
        return self._read(picture, "text")

    def latent(self, picture: Tensor) -> Tensor:
        return self._read(picture, "latent")

    def _read(self, picture: Tensor, what: str) -> Tensor:
        name = f"{picture_key(picture)}.{what}"
        if name not in self._file_of:
            raise KeyError(
                f"{self.folder} holds no {what} of this {picture.shape[-1]}x{picture.shape[-2]} picture: run "
                "python -m training.qwen_cache for the same data and seed, or set data.cache to nothing to encode "
                "while training"
            )
        with safe_open(str(self.folder / self._file_of[name]), framework="pt") as file:
            return file.get_tensor(name)


def picture_key(picture: Tensor) -> str:
    """32 hex digits. (3, H, W) in [0, 1]; differences below half of one 8-bit level do not count."""
    pixels = (picture.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous()
    return hashlib.sha256(f"{tuple(pixels.shape)}".encode() + pixels.numpy().tobytes()).hexdigest()[:32]


def base_identity(folder: Path, parts: tuple[str, ...] = READERS) -> str:
    """Twelve hex digits for parts of a base model: their configurations, and the names and sizes of their files."""
    files = sorted(path for part in parts for path in (folder / part).glob("*") if path.is_file())
    if not files:
        raise FileNotFoundError(f"{folder} has no {' or '.join(parts)}: name a diffusers folder of Qwen-Image-Edit")
    about = [
        path.read_text() if path.name == "config.json" else f"{path.parent.name}/{path.name} {path.stat().st_size}"
        for path in files
    ]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:12]


def load_encoder(base: Path, *, device: torch.device | str, dtype: torch.dtype | None = None) -> OnlineEncoder:
    """Language model and VAE of a diffusers folder on the device, frozen; the DiT is not read."""
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    missing = [part for part in (*READERS, "processor") if not (base / part).is_dir()]
    if missing:
        raise FileNotFoundError(f"{base} lacks {', '.join(missing)}: name a diffusers folder of Qwen-Image-Edit")
    dtype, local = dtype or choose_dtype(device), {"local_files_only": True}
    text_encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(base / "text_encoder", dtype=dtype, **local)
    return OnlineEncoder(
        QwenComponents(
            transformer=_NoTransformer(),
            text_encoder=aligned(text_encoder.to(device)).eval().requires_grad_(False),
            tokenizer=AutoTokenizer.from_pretrained(base / "processor", **local),
            vae=load_vae(base, device=device, dtype=dtype),
            device=torch.device(device),
        )
    )


def load_vae(base: Path, *, device: torch.device | str, dtype: torch.dtype | None = None) -> nn.Module:
    """The VAE of a diffusers folder on the device, frozen."""
    from diffusers import AutoencoderKLQwenImage

    dtype = dtype or choose_dtype(device)
    vae = AutoencoderKLQwenImage.from_pretrained(base / "vae", torch_dtype=dtype, local_files_only=True)
    return aligned(vae.to(device)).eval().requires_grad_(False)


class _NoTransformer(nn.Module):
    """Takes the DiT's place where only language model and VAE are asked."""

    config = None
