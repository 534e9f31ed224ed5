"""What each choice of the joint stage is worth: the same short run, one thing changed at a time.

    python -m training.ablations --run RUN --portraits DIR --steps 300 [--only no-lora ...]
    python -m training.ablations --run RUN --config tiny --steps 2      a rehearsal, after training.train --config tiny

RUN holds the finished stages before `joint`. Every variant trains the joint stage from them for the same number of
steps and is scored on held-out identities: once with exemplar and query of different people (what users do), once
with the same person. Short runs rank choices; they do not reach the shipped weights' numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from mirrorppr_core.file_writing import write_file

from .mini import engine
from .presets import load_preset
from .program import Parser, run
from .runs.held_out import examine
from .runs.loop import LoopConfig, StageParts, run_stage
from .runs.preset import Preset
from .runs.stage import Stage
from .runs.stored import read_result

_VALIDATION_BATCHES = 8
_SCORED = {"other person": 0.0, "same person": 1.0}  # SampleConfig.same_identity of the two held-out scores


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One change. samples: of SampleConfig.  queries: 0 leaves the model's.  change: of the built module."""

    says: str
    samples: Mapping[str, object] = field(default_factory=dict)
    stage_one: bool = True  # False: the R-Former starts untrained
    queries: int = 0
    change: Callable[[nn.Module], None] = lambda module: None


def _no_lora(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if ".lora_" in name:
            parameter.requires_grad_(False)


VARIANTS: dict[str, Variant] = {
    "as-shipped": Variant(says="cross-identity with 15 % of self-augmentation, Stage I, LoRA, 8 queries"),
    "cross-identity": Variant(says="cross-identity pairs only", samples={"same_identity": 0.0}),
    "self-augmentation": Variant(says="self-augmentation only, as in the paper", samples={"same_identity": 1.0}),
    "no-stage-1": Variant(says="R-Former starts untrained", stage_one=False),
    "no-lora": Variant(says="backbone frozen, no LoRA", change=_no_lora),
    "queries-2": Variant(says="2 queries, R-Former starts untrained", stage_one=False, queries=2),
    "queries-16": Variant(says="16 queries, R-Former starts untrained", stage_one=False, queries=16),
}


def run_variant(name: str, preset: Preset, run: Path, *, steps: int) -> dict[str, dict[str, float]]:
    """Train one variant and score it. Returns numbers by kind of pair."""
    variant, accelerator = VARIANTS[name], Accelerator(cpu=True)
    stage = replace(_joint(preset), steps=steps, name=f"ablation-{name}", warmup=min(50, steps), data="both")
    if variant.queries:
        rformer = replace(preset.model.rformer, num_queries=variant.queries)
        preset = replace(preset, model=replace(preset.model, rformer=rformer))
    if not variant.stage_one:
        stage = replace(stage, starts={k: v for k, v in stage.starts.items() if k != "rformer"})
    stage = replace(stage, samples={**stage.samples, **variant.samples})
    torch.manual_seed(preset.loop.seed)
    parts = engine.build(stage, preset, run, accelerator.device)
    variant.change(parts.module)
    described = preset.described(stage) | {"precision": "no"}
    result = run_stage(stage, parts, preset.loop, run, accelerator, described)
    # What is judged is what would be shipped: the averaged weights. A variant that was finished before has only them.
    parts.module.load_state_dict(read_result(result).tensors, strict=False)
    return {kind: _score(parts, preset, stage, share) for kind, share in _SCORED.items()}


def _joint(preset: Preset) -> Stage:
    return next(stage for stage in preset.stages if stage.name == "joint")


def _score(parts: StageParts, preset: Preset, stage: Stage, share: float) -> dict[str, float]:
    sampler = parts.validation.sampler
    sampler.config = replace(sampler.config, same_identity=share)
    numbers, _ = examine(
        parts.module,
        engine.SamplerSource(sampler),
        parts.examiner,
        Accelerator(cpu=True),
        size=stage.batch,
        batches=_VALIDATION_BATCHES,
        with_sheet=False,
    )
    return numbers


def table(results: Mapping[str, Mapping[str, Mapping[str, float]]], steps: int) -> str:
    """Markdown. results: variant -> kind of pair -> numbers."""
    lines = [
        f"Held-out relEPE after {steps} steps of the joint stage (lower is better; copying the motion: last column).",
        "",
        "| variant | what | other person | same person | copy, other person |",
        "|---|---|---|---|---|",
    ]
    for name, by_kind in results.items():
        other, same = by_kind["other person"], by_kind["same person"]
        lines.append(
            f"| {name} | {VARIANTS[name].says} | {other['relEPE']:.3f} | {same['relEPE']:.3f} | {other['copy']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("ablations", __doc__)
    parser.add_argument("--run", type=Path, required=True, help="a run with encoder, backbone and extractor finished")
    parser.add_argument("--portraits", type=Path, help="the portraits of that run; none where it has drawn faces")
    parser.add_argument("--config", default="mini-face", help="preset of that run")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change one setting")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    portraits = [f"data.portraits={options.portraits}"] if options.portraits else []
    preset = load_preset(options.config, [*portraits, *options.set])
    engine.check(preset, options.run)
    quiet = LoopConfig(seed=preset.loop.seed, validate_steps=options.steps, preflight_steps=0, reporters=())
    preset, results = replace(preset, loop=quiet), {}
    for name in options.only:
        results[name] = run_variant(name, preset, options.run, steps=options.steps)
        write_file(options.run / "ablations.json", json.dumps({"steps": options.steps, "results": results}, indent=1))
    print(table(results, options.steps))


if __name__ == "__main__":
    sys.exit(main())
