"""Ablations on the tiny preset: each variant changes what it says, and what is judged are the weights it stored."""

import json

import pytest
import torch

pytest.importorskip("accelerate")
pytest.importorskip("peft")

from safetensors.torch import load_file

from training import ablations
from training.ablations import VARIANTS, main, run_variant, table
from training.mini import engine as mini
from training.presets import load_preset
from training.train import train

CHANGES = ["loop.preflight_steps=0", "loop.validate_steps=100"]
STEPS = 2
KINDS = {"other person", "same person"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the tiny preset, finished up to the extractor. Few batches, as nothing is judged by its numbers here."""
    folder, preset = tmp_path_factory.mktemp("run"), load_preset("tiny", CHANGES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "_VALIDATION_BATCHES", 1)
        for stage in preset.stages:
            if not stage.name.startswith("joint"):
                train(preset, folder, only=stage.name, device="cpu")
        yield folder


@pytest.fixture(scope="module")
def variants(run):
    """What was built for each variant, and its scores."""
    built, build = {}, mini.build

    def remembered(stage, *arguments):
        built[stage.name] = stage, build(stage, *arguments)
        return built[stage.name][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "build", remembered)
        scores = {name: run_variant(name, load_preset("tiny", CHANGES), run, steps=STEPS) for name in VARIANTS}
    return {name: (*built[f"ablation-{name}"], scores[name]) for name in VARIANTS}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_scored_on_both_kinds_of_pair(name, variants):
    stage, _, scores = variants[name]
    assert stage.steps == STEPS and set(scores) == KINDS
    assert all(numbers["relEPE"] > 0 for numbers in scores.values())
    other, same = (scores[kind]["copy"] for kind in ("other person", "same person"))
    assert other > same > 0, "copying a motion costs more where the face is another"
    row = f"| {name} | {VARIANTS[name].says} | {scores['other person']['relEPE']:.3f} |"
    assert row in table({name: scores}, STEPS)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_changes_what_it_says_and_nothing_else(name, variants, run):
    stage, parts, _ = variants[name]
    config = parts.training.sampler.config
    assert config.professional_share == load_preset("tiny").data.samples.professional_share > 0
    assert config.same_identity == {"cross-identity": 0.0, "self-augmentation": 1.0}.get(name, 0.15)
    untrained = name in ("no-stage-1", "queries-2", "queries-16")
    assert ("extractor.safetensors" in parts.starts_from) != untrained
    tokens = parts.module.rformer.embeddings.latent_motion_token
    assert tokens.shape[1] == {"queries-2": 2, "queries-16": 16}.get(name, 4)
    adapters = [p for key, p in parts.module.named_parameters() if ".lora_" in key]
    assert adapters and all(p.requires_grad == (name != "no-lora") for p in adapters)


def test_what_is_scored_are_the_stored_weights_so_a_finished_variant_scores_the_same_again(variants, run):
    _, parts, scores = variants["as-shipped"]
    stored, state = load_file(run / "ablation-as-shipped.safetensors"), parts.module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in stored.items())
    assert run_variant("as-shipped", load_preset("tiny", CHANGES), run, steps=STEPS) == scores


def test_the_command_writes_a_table_and_tells_mistakes_in_a_line(variants, run, capsys):
    command = ["--run", str(run), "--config", "tiny", "--only", "no-lora", "--steps"]
    assert main([*command, str(STEPS)]) == 0
    assert "| no-lora | backbone frozen, no LoRA |" in capsys.readouterr().out
    stored = json.loads((run / "ablations.json").read_text())
    assert stored == {"steps": STEPS, "results": {"no-lora": variants["no-lora"][2]}}
    assert main([*command, "5"]) == 2
    assert "ablation-no-lora.safetensors is finished, with other settings" in capsys.readouterr().err
    assert main(["--run", str(run)]) == 2
    assert "no portraits: give --portraits DIR" in capsys.readouterr().err
