"""Write a finished Qwen run as one matched set, in the layout of the released files, and read it back.

    python -m training.qwen_export --run RUN --mae mae_pretrained.safetensors --out DIR

    DIR/mirrorppr_face/mae/mae_pretrained.safetensors    a copy of the frozen encoder's file
                      /rformer/rformer.safetensors       /connector/connector.safetensors    /lora/lora.safetensors

Two formats. `ours` carries the dimensions in its metadata, so sets of any size load, and names LoRA layers as
diffusers does (`transformer.K.lora_A.weight`), which ComfyUI's stock loader reads too. `released` is for the released
program and for readers made for it: its names and dimensions exactly, known by fingerprint, LoRA layers as
`K.lora_A.default.weight`. Either way alpha equals the rank and no alpha is written, so nobody can scale differently.
The metadata of every file but the MAE's names the set (a hash over all of them) and the run's configuration.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mirrorppr_core.file_writing import copy_file
from mirrorppr_core.qwen.config import QwenConfig
from mirrorppr_core.qwen.files import CONFIG_KEY, SLOTS, QwenSet, expected_tensors, require
from mirrorppr_core.qwen.fingerprints import KNOWN, fingerprint
from mirrorppr_core.qwen.lora_files import read_lora
from mirrorppr_core.weights_file import write_tensors

from .program import Parser, run
from .qwen.config import QwenTrainConfig
from .runs.stored import read_result, settings_in

FORMATS = ("ours", "released")
SET_KEY, HASH_KEY = "mirrorppr_set", "mirrorppr_config_hash"
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
_FACTOR = re.compile(r"^(?P<layer>.+)\.lora_(?P<half>[AB])\.default\.weight$")
_LORA_NAMES = {"ours": "transformer.{layer}.lora_{half}.weight", "released": "{layer}.lora_{half}.default.weight"}


@dataclass(frozen=True, kw_only=True)
class Exported:
    """folder: of the set, e.g. DIR/mirrorppr_face.  set_id: in the metadata of its files."""

    folder: Path
    set_id: str
    num_lora_layers: int


def export(
    result: Path,
    config: QwenTrainConfig,
    *,
    mae: Path,
    out: Path,
    form: str = "ours",
    dtype: torch.dtype = torch.bfloat16,
) -> Exported:
    """result: RUN/STAGE.safetensors of a joint stage.  Raises ValueError where the parts are not what the form needs.

    The set is loaded once and counted before this returns, so that a broken export fails here.
    """
    if form not in FORMATS:
        raise ValueError(f"format {form!r}: use one of {', '.join(FORMATS)}")
    parts = set_parts(read_result(result).tensors, config, form=form)
    encoder = require(mae, "mae")
    if form == "released":
        check_released({name: shapes(state) for name, state in parts.items()}, config.model)
        if encoder.md5 not in KNOWN:
            raise ValueError(
                f"{mae.name} is not the released MAE file (encoder and decoder, 526 tensors): the released program "
                "takes no other. Use that file, or --format ours."
            )
    parts = {slot: {k: v.to(dtype).contiguous() for k, v in state.items()} for slot, state in parts.items()}
    set_id = _set_id(parts, config, mae)
    metadata = {"format": "pt", SET_KEY: set_id, HASH_KEY: config.config_hash}
    if form == "ours":
        metadata[CONFIG_KEY] = config.model.to_json()
    folder = out / f"mirrorppr_{config.model.kind}"
    for slot, state in parts.items():
        path = folder / SLOTS[slot]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_tensors(path, state, metadata)
    copy = folder / SLOTS["mae"]
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy_file(mae, copy)
    return Exported(folder=folder, set_id=set_id, num_lora_layers=_read_back(folder, len(parts["lora"]) // 2))


def set_parts(state: dict[str, Tensor], config: QwenTrainConfig, *, form: str) -> dict[str, dict[str, Tensor]]:
    """A joint stage's trained tensors -> those of rformer, connector and lora, named as on disk.

    Raises ValueError for anything missing, foreign, unpaired or of another size.
    """
    parts: dict[str, dict[str, Tensor]] = {"rformer": {}, "connector": {}, "transformer": {}}
    for name, value in state.items():
        part, _, inner = name.partition(".")
        if part not in parts:
            raise ValueError(f"{name} is no part of a set: export the result of a joint stage, e.g. joint.safetensors")
        parts[part][inner] = value
    for part in ("rformer", "connector"):
        expected, found = expected_tensors(part, config.model), shapes(parts[part])
        if expected != found:
            odd = sorted(k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k))
            raise ValueError(
                f"the run's {part} does not fit its configuration: {len(odd)} of {len(expected)} tensors are missing, "
                f"unknown or of another size (first: {odd[0]}). Export with the configuration it was trained with."
            )
    lora = _named(parts["transformer"], config.lora.rank, _LORA_NAMES[form])
    return {"rformer": parts["rformer"], "connector": parts["connector"], "lora": lora}


def check_released(parts: dict[str, dict[str, tuple[int, ...]]], config: QwenConfig) -> None:
    """Raise ValueError unless R-Former and connector have exactly the released names and dimensions.

    parts: shape by name, of each part.
    """
    for part, kind in (("rformer", f"rformer-{config.kind}"), ("connector", "connector")):
        if KNOWN.get(fingerprint(parts[part])) != kind:
            raise ValueError(
                f"this run's {part} has other dimensions than the released one, and the released program knows files "
                "by their fingerprint: use --format ours"
            )


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _named(factors: dict[str, Tensor], rank: int, pattern: str) -> dict[str, Tensor]:
    """peft's names in the model -> names on disk. Every A has its B, both of the run's rank."""
    matches = {name: _FACTOR.match(name) for name in factors}
    foreign = sorted(name for name, match in matches.items() if match is None)
    if foreign or not factors:
        raise ValueError(f"the run holds no plain LoRA ({foreign[:2] or 'no tensors'}): export a joint stage's result")
    layers = {match["layer"] for match in matches.values()}
    if len(factors) != 2 * len(layers):
        raise ValueError(f"{2 * len(layers) - len(factors)} of {len(layers)} LoRA layers lack a factor: run damaged")
    wrong = [name for name, m in matches.items() if factors[name].shape["AB".index(m["half"])] != rank]
    if wrong:
        raise ValueError(f"LoRA: {wrong[0]} is {tuple(factors[wrong[0]].shape)}, but the configuration says {rank}")
    return {pattern.format(**match.groupdict()): factors[name] for name, match in matches.items()}


def _set_id(parts: dict[str, dict[str, Tensor]], config: QwenTrainConfig, mae: Path) -> str:
    digest = hashlib.sha256(config.to_json().encode())
    for slot in sorted(parts):
        for name in sorted(parts[slot]):
            digest.update(name.encode() + parts[slot][name].cpu().view(torch.uint8).numpy().tobytes())
    with mae.open("rb") as file:
        while block := file.read(1 << 24):
            digest.update(block)
    return digest.hexdigest()[:12]


def _read_back(folder: Path, num_lora_layers: int) -> int:
    """Load what was written, as users will. Returns the number of LoRA layers found."""
    files = QwenSet.from_folder(folder)
    files.load_mae(dtype=torch.float32)
    files.load_rformer(dtype=torch.float32)
    files.load_connector(dtype=torch.float32)
    lora = read_lora(files.lora.path)
    if len(lora.layers) != num_lora_layers or any(factors.scale != 1 for factors in lora.layers.values()):
        raise ValueError(f"{files.lora.path} reads back as {len(lora.layers)} layers, {num_lora_layers} were written")
    return num_lora_layers


def trained_config(result: Path) -> QwenTrainConfig:
    """The configuration that a result was trained with, from its metadata."""
    settings = settings_in(result)
    if settings.get("engine") != "qwen":
        raise ValueError(f"{result} was not trained by the Qwen engine: for Mini use python -m training.export")
    return QwenTrainConfig.from_json(json.dumps(settings["model"]))


def newest_joint(run: Path) -> Path:
    """The result of the run's last joint stage. Later stages of the curriculum finish later."""
    found = sorted(run.glob("joint*.safetensors"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"{run} holds no finished joint stage (joint*.safetensors): train one first")
    return found[-1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("qwen_export", __doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of training.train")
    parser.add_argument("--stage", default="", help="result to export, e.g. joint; default: the newest joint stage")
    parser.add_argument("--mae", type=Path, required=True, help="the MAE file that the run was trained with")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the set into")
    parser.add_argument("--format", choices=FORMATS, default="ours")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    result = options.run / f"{options.stage}.safetensors" if options.stage else newest_joint(options.run)
    if not result.is_file():
        raise FileNotFoundError(f"{result} does not exist: train that stage first")
    done = export(
        result,
        trained_config(result),
        mae=options.mae,
        out=options.out,
        form=options.format,
        dtype=DTYPES[options.dtype],
    )
    size = sum(file.stat().st_size for file in done.folder.rglob("*.safetensors"))
    print(f"set {done.set_id} in {done.folder}: {done.num_lora_layers} LoRA layers, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
