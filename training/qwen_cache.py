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
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.weights_file import write_tensors

from .presets import load_preset
from .program import Parser, run
from .qwen.encoders import _BASE_KEY, CachedEncoder, Encoder, base_identity, load_encoder, picture_key
from .qwen.sources import pictures_to_encode

PICTURES_PER_SHARD = 256


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
    write_tensors(path, pending, {_BASE_KEY: base})
    pending.clear()
    return number + 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("qwen_cache", __doc__)
    parser.add_argument("--config", required=True, help="the preset that will train from this cache, or its YAML file")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as for training.train")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--part", type=int, default=0, help="which part of the samples, from 0")
    parser.add_argument("--parts", type=int, default=1, help="processes or machines that fill the cache together")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    preset = load_preset(options.config, options.set)
    if preset.engine != "qwen" or not preset.data.cache or not preset.data.base:
        raise ValueError("name a Qwen preset, and set data.base (the model) and data.cache (the folder to fill)")
    base = Path(preset.data.base)
    new = encode_missing(
        load_encoder(base, device=options.device),
        pictures_to_encode(preset, part=options.part, parts=options.parts),
        Path(preset.data.cache),
        base=base_identity(base),
        part=options.part,
    )
    print(f"{new} pictures encoded, {len(CachedEncoder(Path(preset.data.cache)))} in {preset.data.cache}")


if __name__ == "__main__":
    sys.exit(main())
