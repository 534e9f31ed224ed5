"""Train Mini, stage by stage, on any folder of portraits with landmarks.

    python -m training.train --stage encoder   --portraits DIR --locator FILE --run RUN
    python -m training.train --stage backbone  ...
    python -m training.train --stage extractor ...
    python -m training.train --stage joint     ...      then   python -m training.export --run RUN --out DIR

RUN collects checkpoints (`STAGE.pt`, rewritten every few minutes; the same command continues), results
(`STAGE.safetensors`, averaged weights) and `log.jsonl`. Validation identities never appear in training batches.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mirrorppr_core.config import ModelConfig
from mirrorppr_core.field_dit import FieldDiT
from mirrorppr_core.locator import Locator
from mirrorppr_core.mae import MAEEncoder
from mirrorppr_core.rformer import RFormer
from mirrorppr_core.views import CanonicalView

from .curriculum import STAGES, Stage
from .portraits import load_faces, split_by_identity
from .samples import SampleConfig, Sampler
from .stages import BackboneStage, EncoderStage, ExtractorStage, JointStage

_SAVE_SECONDS = 180
_LOG_STEPS = 50
_VALIDATION_BATCHES = 8
_HELD_OUT = 0.06


def build_stage(name: str, config: ModelConfig, run: Path) -> nn.Module:
    """The stage's module, with the results of earlier stages loaded into it."""
    if name == "encoder":
        return EncoderStage(config)
    mae = MAEEncoder(config.mae)
    _load_part(mae, run, "encoder", "mae.")
    if name == "backbone":
        return BackboneStage(config, mae)
    if name == "extractor":
        return ExtractorStage(config, mae)
    field_dit, rformer = FieldDiT(config), RFormer(config)
    _load_part(field_dit, run, "backbone", "field_dit.")
    _load_part(rformer, run, "extractor", "rformer.")
    return JointStage(config, mae, field_dit, rformer)


def train(stage: Stage, module: nn.Module, training: Sampler, validation: Sampler, run: Path) -> None:
    """Run one stage to its end, from its checkpoint where there is one, and write its result."""
    trainable = {n: p for n, p in module.named_parameters() if p.requires_grad}
    decayed = [p for p in trainable.values() if p.ndim > 1]
    plain = [p for p in trainable.values() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": stage.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=stage.learning_rate,
        betas=(0.9, 0.98),
    )
    average = {n: p.detach().clone() for n, p in trainable.items()}
    checkpoint, start = run / f"{stage.name}.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        if state["steps"] != stage.steps or set(state["average"]) != set(average):
            raise ValueError(
                f"{checkpoint} belongs to another configuration (steps {state['steps']}, not {stage.steps}). "
                "Use another --run folder or delete the checkpoint."
            )
        for n, p in trainable.items():
            p.data.copy_(state["model"][n])
        optimizer.load_state_dict(state["optimizer"])
        average, start = state["average"], state["step"]
    print(f"{stage.name}: {sum(p.numel() for p in trainable.values()):,} trainable, from step {start}", flush=True)
    module.train()
    began = saved = time.monotonic()
    recent: list[dict[str, float]] = []
    for step in range(start, stage.steps):
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate * rate(step, stage)
        # Far from the Sampler's seeds: equal seeds would make noise and times echo the choice of faces.
        generator = torch.Generator().manual_seed(2**31 + training.seed * 7919 + step)
        loss, numbers = module(training.batch(step, stage.batch), generator)
        if not loss.isfinite():
            raise FloatingPointError(f"{stage.name}: loss is {loss.item()} at step {step}. Lower the learning rate.")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(trainable.values(), stage.clip)
        optimizer.step()
        keep = min(stage.ema, (step + 1) / (step + 20))
        with torch.no_grad():
            for n, p in trainable.items():
                average[n].lerp_(p, 1 - keep)
        recent.append({"loss": loss.item(), **numbers})
        if (step + 1) % _LOG_STEPS == 0:
            means = {k: sum(r[k] for r in recent) / len(recent) for k in recent[0]}
            pace = (time.monotonic() - began) / (step + 1 - start)
            log(run, stage=stage.name, step=step + 1, **means, minutes_left=(stage.steps - step - 1) * pace / 60)
            recent.clear()
        if time.monotonic() - saved > _SAVE_SECONDS or step + 1 == stage.steps:
            saved = time.monotonic()
            model = {n: p.detach() for n, p in trainable.items()}
            state = {"model": model, "average": average, "optimizer": optimizer.state_dict()}
            temporary = checkpoint.with_suffix(".tmp")
            torch.save({**state, "step": step + 1, "steps": stage.steps}, temporary)
            os.replace(temporary, checkpoint)
    with torch.no_grad():
        for n, p in trainable.items():
            p.copy_(average[n])
    log(run, stage=stage.name, validation=validate(module, validation, stage.batch))
    save_file({n: p.detach().contiguous() for n, p in trainable.items()}, str(run / f"{stage.name}.safetensors"))


@torch.no_grad()
def validate(module: nn.Module, sampler: Sampler, size: int) -> dict[str, float]:
    """Mean loss and numbers on faces of other people."""
    module.eval()
    rows = []
    for step in range(_VALIDATION_BATCHES):
        loss, numbers = module(sampler.batch(step, size), torch.Generator().manual_seed(step))
        rows.append({"loss": loss.item(), **numbers})
    return {k: sum(r[k] for r in rows) / len(rows) for k in rows[0]}


def rate(step: int, stage: Stage) -> float:
    """Share of the learning rate: a linear start, then a cosine to 2 %."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    done = (step - stage.warmup) / max(1, stage.steps - stage.warmup)
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def log(run: Path, **entry: object) -> None:
    rounded = json.loads(json.dumps(entry), parse_float=lambda text: round(float(text), 4))
    print(json.dumps(rounded), flush=True)
    with open(run / "log.jsonl", "a") as handle:
        handle.write(json.dumps(rounded) + "\n")


def _load_part(module: nn.Module, run: Path, stage: str, prefix: str) -> None:
    path = run / f"{stage}.safetensors"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: run --stage {stage} first")
    state = {k.removeprefix(prefix): v for k, v in load_file(str(path)).items() if k.startswith(prefix)}
    module.load_state_dict(state)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.train", description=__doc__.splitlines()[0])
    parser.add_argument("--stage", choices=STAGES, required=True)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with portraits.csv and landmarks.npz")
    parser.add_argument("--locator", type=Path, required=True, help="locator.safetensors (training.train_locator)")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and results")
    parser.add_argument("--steps", type=int, help="override the curriculum's number of steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more than one rarely helps at this size")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)  # initial weights; samples have generators of their own
    arguments.run.mkdir(parents=True, exist_ok=True)
    config, stage = ModelConfig(), STAGES[arguments.stage]
    if arguments.steps:
        stage = Stage(**{**stage.__dict__, "steps": arguments.steps})
    mean_face = Locator.from_file(arguments.locator).mean_face
    faces = load_faces(
        arguments.portraits,
        split="train",
        mean_face=mean_face,
        view=config.view,
        cache=arguments.run / "cache",
        crop_size=config.mae.image_size,
    )
    training, held_out = split_by_identity(faces, held_out=_HELD_OUT, seed=0)
    view = CanonicalView(config.view, mean_face)
    module = build_stage(arguments.stage, config, arguments.run)
    if isinstance(module, BackboneStage):
        module.field_dit.start_from_shapes(training.shapes)
    train(
        stage,
        module,
        Sampler(training, view, SampleConfig(), seed=arguments.seed),
        Sampler(held_out, view, SampleConfig(), seed=10_000 + arguments.seed),
        arguments.run,
    )


if __name__ == "__main__":
    main()
