"""What the frozen language model and VAE say about pictures: asked once, kept in safetensors shards, or asked online.

    python -m training.qwen_cache --config qwen-face --set data.base=DIR --set data.portraits=DIR --set data.cache=CACHE

    CACHE/encoded-000-000000.safetensors    KEY.text (L, D), KEY.latent (16, h, w) of a few hundred pictures
                                            KEY is the SHA-256 of the picture's 8-bit pixels and size

Keys made of the pixels themselves cannot go stale: a picture that was cropped or warped otherwise is another key. The
set is finite (data.samples) and comes round every epoch. A sample at 1024 px takes 9.9 MB for the query's text (1376 x
3584 in bfloat16) and 1 MB for each float32 latent of query and target. Encoding can be stopped, continued and split.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mirrorppr_core.qwen.files import choose_dtype
from mirrorppr_core.qwen.latents import encode
from mirrorppr_core.qwen.standalone import QwenComponents, encode_text

from .aligned import aligned

PICTURES_PER_SHARD = 256
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


def encode_missing(
    encoder: Encoder,
    pictures: Iterable[tuple[Tensor, bool]],
    folder: Path,
    *,
    base: str,
    part: int = 0,
    per_shard: int = PICTURES_PER_SHARD,
) -> int:
    """Encode what the cache lacks. pictures: (picture, whether its text is wanted too). Returns how many were new.

    part: of the process, when several fill one cache; each writes files of its own. A killed one loses at most
    `per_shard` pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cache = CachedEncoder(folder)
    if cache.base not in (None, base):
        raise ValueError(f"{folder} was filled from base model {cache.base}, not {base}: use another cache folder")
    number = sum(1 for _ in folder.glob(f"encoded-{part:03d}-*.safetensors"))
    pending: dict[str, Tensor] = {}
    done: set[tuple[str, bool]] = set()
    for picture, wants_text in pictures:
        key = picture_key(picture)
        if (key, wants_text) in done or cache.has(picture, text=wants_text):
            continue
        done |= {(key, wants_text), (key, False)}
        pending[f"{key}.latent"] = encoder.latent(picture).contiguous()
        if wants_text:
            pending[f"{key}.text"] = encoder.text(picture).contiguous()
        if sum(name.endswith(".latent") for name in pending) >= per_shard:
            number = _write(pending, folder, part, number, base)
    if pending:
        _write(pending, folder, part, number, base)
    return len({key for key, _ in done})


def _write(pending: dict[str, Tensor], folder: Path, part: int, number: int, base: str) -> int:
    """Empties `pending`. A file appears under its name only when it is complete. Returns the next number."""
    path = folder / f"encoded-{part:03d}-{number:06d}.safetensors"
    temporary = path.with_suffix(".part")
    save_file(pending, str(temporary), metadata={_BASE_KEY: base})
    os.replace(temporary, path)
    pending.clear()
    return number + 1


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.qwen_cache", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True, help="the preset that will train from this cache, or its YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as for training.train")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--part", type=int, default=0, help="which part of the samples, from 0")
    parser.add_argument("--parts", type=int, default=1, help="processes or machines that fill the cache together")
    arguments = parser.parse_args()
    from .presets import load_preset
    from .qwen_sources import pictures_to_encode

    try:
        preset = load_preset(arguments.config, arguments.set)
        if not preset.data.cache or not preset.data.base:
            raise ValueError("set data.base (the model) and data.cache (the folder to fill)")
        base = Path(preset.data.base)
        new = encode_missing(
            load_encoder(base, device=arguments.device),
            pictures_to_encode(preset, part=arguments.part, parts=arguments.parts),
            Path(preset.data.cache),
            base=base_identity(base),
            part=arguments.part,
        )
    except (ValueError, OSError) as error:
        parser.exit(2, f"{type(error).__name__}: {error}\n")
    print(f"{new} pictures encoded, {len(CachedEncoder(Path(preset.data.cache)))} in {preset.data.cache}")


if __name__ == "__main__":
    main()
