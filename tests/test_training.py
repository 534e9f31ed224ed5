"""The curriculum at toy size: every stage learns, trains only its own parts, resumes exactly and exports a set."""

import dataclasses
import json

import pytest
import torch
from test_dit import field_inputs
from test_samples import CLEAN, sampler
from torch import Tensor, nn
from torch.testing import assert_close
from toys import LOCATOR, TINY, drawn_faces, drawn_view, randomise, seeded

import training.train
from mirrorppr_core.checkpoint import load_editor, load_part
from mirrorppr_core.codecs import FieldCodec, motion_scale
from mirrorppr_core.field_dit import FieldDiT
from mirrorppr_core.mae import MAEEncoder
from mirrorppr_core.pipeline import MirrorPPR
from mirrorppr_core.rformer import RFormer
from training.curriculum import STAGES, Stage
from training.export import export
from training.samples import Sampler
from training.stages import BackboneStage, EncoderStage, ExtractorStage, JointStage, relative_loss
from training.train import build_stage, rate, train

TRAINED = {
    "encoder": ("mae.", "decoder", "mask_token", "predict."),
    "backbone": ("field_dit.", "names."),
    "extractor": ("rformer.", "head."),
    "joint": ("rformer.", "connector.", "lora_"),
}
every_stage = pytest.mark.parametrize("name", TRAINED)


def built(name: str, seed: int = 0) -> nn.Module:
    """A stage on random results of the stages before it, which are the same for every seed."""
    pytest.importorskip("peft")
    torch.manual_seed(0)
    mae, field_dit, rformer = MAEEncoder(TINY.mae), randomise(FieldDiT(TINY)), RFormer(TINY)
    torch.manual_seed(seed)
    if name == "encoder":
        return EncoderStage(TINY)
    if name == "backbone":
        return BackboneStage(TINY, mae)
    if name == "extractor":
        return ExtractorStage(TINY, mae)
    return JointStage(TINY, mae, field_dit, rformer)


def short(name: str, steps: int = 6) -> Stage:
    return Stage(name=name, trains="a toy", steps=steps, batch=4, learning_rate=3e-3, warmup=2)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def run_stage(name: str, folder, *, seed: int = 0, steps: int = 6, batches: Sampler | None = None) -> bytes:
    """Train and return the bytes of the result."""
    train(short(name, steps), built(name, seed), batches or sampler(), sampler(seed=50), folder)
    return (folder / f"{name}.safetensors").read_bytes()


class Cut(Sampler):
    """A run that is killed at its fourth step."""

    def batch(self, step, size):
        if step == 3:
            raise KeyboardInterrupt
        return super().batch(step, size)


@every_stage
def test_every_stage_lowers_its_loss(name):
    module, batch = built(name), sampler().batch(0, 8)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=5e-3)
    losses = []
    for _ in range(25):
        loss, _ = module(batch, seeded(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.95 * losses[0]


@every_stage
def test_a_stage_trains_its_own_parts_and_leaves_the_others_frozen(name, tmp_path):
    module = built(name)
    before = state(module)
    train(short(name), module, sampler(), sampler(seed=50), tmp_path)
    changed = {key for key, value in module.state_dict().items() if not torch.equal(value, before[key])}
    own = {key for key in before if key.startswith(TRAINED[name]) or (name == "joint" and "lora_" in key)}
    assert changed <= own and {key for key, p in module.named_parameters() if p.requires_grad} == own
    # The text stream of the last block, here the only one, ends nowhere: its weights may stay as they were.
    still = {key for key in own - changed if not any(word in key for word in ("txt", "add_", "added"))}
    assert not still, "every part must receive a gradient"


def test_a_loss_of_zero_is_the_true_motion_and_doing_nothing_costs_its_length():
    batch = sampler().batch(0, 8)
    scale = motion_scale(batch.copied)
    truth = FieldCodec().encode(batch.target, scale)
    loss, numbers = relative_loss(truth, batch, scale)
    assert loss.item() == pytest.approx(0, abs=1e-6) and numbers["relEPE"] < 0.01
    _, numbers = relative_loss(torch.zeros_like(truth), batch, scale)
    assert numbers["relEPE"] == pytest.approx(1)


def test_painting_every_hidden_patch_grey_costs_one():
    module = built("encoder")
    with torch.no_grad():
        module.predict.weight.zero_()
    loss, _ = module(sampler().batch(0, 2), seeded(0))
    assert loss.item() == pytest.approx(1, abs=0.05), "each patch is judged by its own contrast"


@every_stage
def test_a_run_that_was_killed_and_continued_equals_an_unbroken_one(name, tmp_path, monkeypatch):
    monkeypatch.setattr(training.train, "_SAVE_SECONDS", -1.0)  # a checkpoint every step
    for folder in ("broken", "unbroken"):
        (tmp_path / folder).mkdir()
    unbroken = run_stage(name, tmp_path / "unbroken")
    cut = Cut(drawn_faces(), drawn_view(), CLEAN, seed=0)
    with pytest.raises(KeyboardInterrupt):
        run_stage(name, tmp_path / "broken", batches=cut)
    assert run_stage(name, tmp_path / "broken", seed=9) == unbroken, "whatever weights the second process began with"


def test_a_finished_run_is_not_trained_again(tmp_path):
    finished = run_stage("encoder", tmp_path)
    assert run_stage("encoder", tmp_path, seed=9) == finished


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    run_stage("encoder", tmp_path)
    with pytest.raises(ValueError, match=r"another configuration \(steps 6, not 8\).*another --run folder"):
        run_stage("encoder", tmp_path, steps=8)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    module = built("encoder")
    with torch.no_grad():
        module.mask_token.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="encoder: loss is nan at step 0. Lower the learning rate"):
        train(short("encoder"), module, sampler(), sampler(), tmp_path)
    assert not (tmp_path / "encoder.safetensors").exists()


def test_the_log_ends_with_the_numbers_on_people_never_trained_on(tmp_path):
    run_stage("backbone", tmp_path)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["stage"] == "backbone" and {"loss", "relEPE", "copy"} <= set(last["validation"])


def test_the_learning_rate_rises_then_falls():
    stage = dataclasses.replace(STAGES["backbone"], steps=1000, warmup=100)
    rates = [rate(step, stage) for step in range(1000)]
    assert rates[:100] == sorted(rates[:100]) and rates[99:] == sorted(rates[99:], reverse=True)
    assert max(rates) == 1 and rates[-1] == pytest.approx(0.02, abs=1e-3)
    with pytest.raises(ValueError, match="must be positive"):
        dataclasses.replace(stage, steps=0)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder in which all stages ran for a few steps, and the module of the last."""
    pytest.importorskip("peft")
    run = tmp_path_factory.mktemp("run")
    for name in STAGES:
        torch.manual_seed(1)
        module = build_stage(name, TINY, run)
        train(short(name), module, sampler(), sampler(seed=50), run)
    return run, module


def test_all_stages_end_in_a_matched_set_that_loads(finished, tmp_path):
    hash_ = export(finished[0], LOCATOR, tmp_path / "set", TINY)
    model = MirrorPPR.from_folder(tmp_path / "set")
    assert model.editor.set_hash == hash_ and model.editor.config == TINY
    assert export(finished[0], LOCATOR, tmp_path / "again", TINY) == hash_


@torch.no_grad()
def test_the_exported_editor_is_the_trained_one(finished, tmp_path):
    run, module = finished
    export(run, LOCATOR, tmp_path, TINY)
    expected = module.eval().field_dit(**field_inputs())
    exported, plain = (load_editor(tmp_path / "dit.safetensors", lora_strength=s).field_dit for s in (1.0, 0.0))
    assert_close(exported(**field_inputs()), expected, atol=5e-3, rtol=0)  # half precision on disk
    name = "dit.transformer_blocks.0.attn.to_q"
    trained = module.field_dit.get_submodule(name)
    adapter = trained.lora_B["default"].weight @ trained.lora_A["default"].weight
    assert adapter.any()
    added = exported.get_submodule(name).weight - plain.get_submodule(name).weight
    assert_close(added, adapter, atol=1e-6, rtol=1e-2)
    mae = load_part(tmp_path / "mae.safetensors", "mae").state
    assert_close(mae["layernorm.weight"], module.mae.layernorm.weight, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["backbone", "joint"])
def test_a_stage_without_the_one_before_it_says_which_to_run(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="encoder.safetensors is missing: run --stage encoder first"):
        build_stage(name, TINY, tmp_path)


def test_an_unfinished_run_cannot_be_exported(tmp_path):
    with pytest.raises(FileNotFoundError, match="run python -m training.train --stage .* first"):
        export(tmp_path, LOCATOR, tmp_path / "set", TINY)
