"""Write a finished run as one matched set.

    python -m training.export --run RUN --locator FILE --out mirrorppr_core/weights/mini

The body network is the result of the run's stages `body` (mini-pro), or the file that --body names; a run with neither
makes a set that carries retouches of faces only. Without a result of the stage `carry` what has no name is copied.
Every file gets the same set id, made from the configuration and the trained numbers themselves, so two runs can
never be taken for each other.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from mirrorppr_core.bodies.pose import load_pose_net
from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.file_writing import copy_file
from mirrorppr_core.mini.files import (
    bundled_set,
    file_sha256,
    load_connector,
    load_editor,
    load_extractor,
    load_sight,
    save_part,
)
from mirrorppr_core.mini.set_list import write_list
from mirrorppr_core.networks.config import ModelConfig, set_id_of
from mirrorppr_core.settings_file import parsed_table

from .body.stage import save_trained
from .curriculum import BODY, CARRY, CARRY_LONG
from .program import Parser, run
from .runs.stored import read_result
from .tools import stage as tools

_SOURCES = {  # part -> (stages that trained it, later ones replace earlier ones; prefix of its tensors there)
    "mae": (("encoder",), "mae."),
    "dit": (("backbone",), "field_dit."),
    "rformer": (("joint-pro",), "rformer."),
    "connector": (("joint-pro",), "connector."),
    "lora": (("joint-pro",), "field_dit."),
}


def export(run: Path, locator: Path, out: Path, config: ModelConfig, body: Path | None = None) -> str:
    """Returns the set's id. body: the body network's file, instead of the run's own; the set insists on it then.

    Loads the result once, so that a broken export fails here.
    """
    with TemporaryDirectory() as scratch:
        beside = {
            "locator": locator,
            "body": body or _own_body(run, Path(scratch)),
            "carry": _own_carry(run, Path(scratch), CanonicalView(config.view, Locator.from_file(locator).mean_face)),
        }
        return _export(run, out, config, {name: file for name, file in beside.items() if file})


def _own_body(run: Path, scratch: Path) -> Path | None:
    trained = run / f"{BODY[-1].name}.safetensors"
    if not trained.exists():
        return None
    save_trained(read_result(trained).tensors, scratch / "body.safetensors")
    return scratch / "body.safetensors"


def _own_carry(run: Path, scratch: Path, view: CanonicalView) -> Path | None:
    results = [run / f"{stage.name}.safetensors" for stage in (CARRY, CARRY_LONG)]
    trained = [result for result in results if result.exists()]
    if not trained:
        return None
    tools.save_trained(read_result(trained[-1]).tensors, view, scratch / "carry.safetensors")
    return scratch / "carry.safetensors"


def _export(run: Path, out: Path, config: ModelConfig, beside: dict[str, Path]) -> str:
    """beside: the files of the set that know nothing of the others, by their parts."""
    parts = {name: _part(run, *source) for name, source in _SOURCES.items()}
    parts["lora"] = {disk_name(k): v for k, v in parts["lora"].items()}
    digest = hashlib.sha256()
    for name in sorted(parts):
        for key in sorted(parts[name]):
            digest.update(key.encode() + parts[name][key].half().numpy().tobytes())
    for file in beside.values():
        digest.update(file.read_bytes())
    set_id = set_id_of(config, digest.hexdigest())
    out.mkdir(parents=True, exist_ok=True)
    for name, state in parts.items():
        seen_by = (file_sha256(beside["locator"]), file_sha256(beside["body"]) if "body" in beside else "")
        save_part(out / f"{name}.safetensors", name, state, config, set_id, *seen_by)
    for name, file in beside.items():
        copy_file(file, out / f"{name}.safetensors")
    write_list(out, set_id)
    sight = load_sight(out)
    load_extractor(out / "rformer.safetensors", sight)
    load_connector(out / "connector.safetensors")
    load_editor(out / "dit.safetensors", sight)
    if "body" in beside:
        load_pose_net(out / "body.safetensors")
    return set_id


def _part(run: Path, stages: tuple[str, ...], prefix: str) -> dict[str, Tensor]:
    state = {}
    for stage in stages:
        path = run / f"{stage}.safetensors"
        state |= {k.removeprefix(prefix): v for k, v in read_result(path).tensors.items() if k.startswith(prefix)}
    return state


def disk_name(key: str) -> str:
    """Module path inside the injected model -> name on disk: the adapter's own name is dropped, as peft does."""
    return key.replace(".lora_A.default.", ".lora_A.").replace(".lora_B.default.", ".lora_B.")


def config_of(run: Path) -> ModelConfig:
    """The model that the run trained."""
    stored = run / "config.json"
    if not stored.exists():
        raise FileNotFoundError(f"{stored} is missing: {run} is no folder of python -m training.train")
    model = parsed_table(stored.read_bytes(), str(stored)).get("model")
    try:
        return ModelConfig.from_json(json.dumps(model))
    except ValueError as error:
        raise ValueError(f"{stored}: {error} Give the folder of a finished Mini run.") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("export", __doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--locator", type=Path, default=bundled_set() / "locator.safetensors")
    parser.add_argument("--body", type=Path, help="a body network's file, instead of the run's own")
    parser.add_argument("--out", type=Path, required=True)
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    set_id = export(options.run, options.locator, options.out, config_of(options.run), options.body)
    total = sum(f.stat().st_size for f in options.out.glob("*.safetensors"))
    print(f"set {set_id} in {options.out}, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
