"""The curriculum at toy size: every stage learns, trains only its own parts, and all end in a set that loads."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close
from toys import LOCATOR, TINY, drawn_faces, randomise, seeded

from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.mini.codec import FieldCodec, motion_scale
from mirrorppr_core.mini.field_dit import FieldDiT
from mirrorppr_core.mini.files import load_editor, load_part
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.networks.mae import MAEEncoder
from mirrorppr_core.networks.rformer import RFormer
from mirrorppr_core.operations.atoms import KNOWN_OPERATIONS
from tests.core.networks.test_dit import field_inputs
from tests.training.mini.test_samples import sampler
from training.curriculum import MINI_FACE, MINI_PRO, QWEN_PRO
from training.export import config_of, export
from training.mini import engine as mini
from training.mini.config import MiniData, SampleConfig
from training.mini.engine import SamplerSource, build, build_module, sample_config
from training.mini.examiner import MiniExaminer, predicted_motion
from training.mini.stages import BackboneStage, EncoderStage, ExtractorStage, GeometryStage, JointStage, relative_loss
from training.presets import load_preset
from training.runs.loop import LoopConfig, StageParts, run_stage
from training.runs.preset import plain
from training.runs.stage import Stage, check_order, rate
from training.runs.stored import write_result
from training.tools.stage import CarryStage

accelerate = pytest.importorskip("accelerate")

CONFIGS = Path(__file__).resolve().parents[3] / "training" / "configs"
ADAPTATION = tuple(
    f"field_dit.{name}" for name in ("distance_code.", "geometry_in.", "operation_in.", "mix.", "direct.", "bank_fit.")
)
TRAINED = {
    "encoder": ("mae.", "decoder", "mask_token", "predict."),
    "geometry": (*ADAPTATION, "names."),
    "backbone": ("field_dit.", "names."),
    "extractor": ("rformer.", "head.to_one.", "head.amounts."),
    "joint": ("rformer.", "connector.", "lora_"),
}
QUICK = LoopConfig(log_steps=1, validate_steps=100, validation_batches=1, save_steps=1, preflight_steps=0, reporters=())
every_stage = pytest.mark.parametrize("name", TRAINED)


def built(name: str, seed: int = 0) -> nn.Module:
    """A stage on random results of the stages before it, which are the same for every seed."""
    pytest.importorskip("peft")
    torch.manual_seed(0)
    mae, field_dit, rformer = MAEEncoder(TINY.mae), randomise(FieldDiT(TINY)), RFormer(TINY)
    torch.manual_seed(seed)
    if name == "encoder":
        return EncoderStage(TINY)
    if name == "geometry":
        module = GeometryStage(TINY)
        module.field_dit.load_state_dict(field_dit.state_dict())
        return module
    if name == "backbone":
        return BackboneStage(TINY, mae, field_dit)
    if name == "extractor":
        return ExtractorStage(TINY, mae)
    return JointStage(TINY, mae, field_dit, rformer)


def short(name: str, steps: int = 6) -> Stage:
    row = next(stage for stage in MINI_FACE if stage.name == name)
    return dataclasses.replace(row, steps=steps, batch=4, learning_rate=3e-3, warmup=2)


def train(name: str, folder, *, module=None, seed=0, steps=6, source=None, config=QUICK, **options) -> bytes:
    """Train a stage in this process and return the bytes of its result."""
    seen = {"pixels": name != "geometry"}
    parts = StageParts(
        module=module or built(name, seed),
        training=source or SamplerSource(sampler(), **seen),
        validation=SamplerSource(sampler(seed=50), **seen),
        examiner=MiniExaminer(),
    )
    folder.mkdir(exist_ok=True)
    described = {"steps": steps, "name": name}
    result = run_stage(
        short(name, steps), parts, config, folder, accelerate.Accelerator(cpu=True), described, **options
    )
    return result.read_bytes()


def log(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


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
def test_every_stage_runs_in_bf16(name):
    module, batch = built(name), sampler().batch(0, 4)
    exact, _ = module(batch, seeded(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _ = module(batch, seeded(0))
    loss.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


@every_stage
def test_a_stage_trains_its_own_parts_and_leaves_the_others_frozen(name, tmp_path):
    module = built(name)
    before = state(module)
    train(name, tmp_path, module=module)
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


@torch.no_grad()
def test_held_out_scores_judge_the_whole_prediction():
    batch, examiner = sampler().batch(0, 8), MiniExaminer()
    module = built("backbone").eval()
    untrained = examiner.numbers(module, batch, seeded(0))
    assert examiner.numbers(module, batch, seeded(0)) == untrained
    motion = predicted_motion(module, batch, seeded(0))
    assert motion.shape == batch.target.shape
    perfect = dataclasses.replace(batch, target=motion)
    scores = examiner.numbers(module, perfect, seeded(0))
    assert scores["relEPE"] == pytest.approx(0, abs=1e-6) and scores["gain_db"] > untrained["gain_db"]
    assert examiner.numbers(built("encoder"), batch, seeded(0)) == {}


def test_the_learning_rate_rises_then_falls():
    stage = dataclasses.replace(short("backbone"), steps=1000, warmup=100)
    rates = [rate(step, stage) for step in range(1000)]
    assert rates[:100] == sorted(rates[:100]) and rates[99:] == sorted(rates[99:], reverse=True)
    assert max(rates) == 1 and rates[-1] == pytest.approx(0.02, abs=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "must be positive"),
        ({"ema": 1.0}, "need 0 <= ema < 1"),
        ({"data": "real"}, "none of simulated, professional, both"),
        ({"name": "a/b"}, "use letters, digits"),
    ],
)
def test_impossible_rows_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(MINI_FACE[0], **change)


def test_a_stage_starts_only_from_stages_before_it():
    for stages in (MINI_FACE, MINI_PRO, QWEN_PRO):
        check_order(stages)
    with pytest.raises(ValueError, match="stage backbone takes mae from 'encoder', but before it come only no stages"):
        check_order(MINI_FACE[2:])
    with pytest.raises(ValueError, match="two stages are called encoder"):
        check_order((MINI_FACE[0], MINI_FACE[0]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder in which all stages ran for a few steps."""
    pytest.importorskip("peft")
    run = tmp_path_factory.mktemp("run")
    for stage in MINI_FACE:
        if stage.module == "carry":  # learns from other samples: tests/training/tools
            carry = CarryStage(CanonicalView(TINY.view, Locator.from_file(LOCATOR).mean_face))
            write_result(run / f"{stage.name}.safetensors", carry.state_dict(), {})
            continue
        torch.manual_seed(1)
        module, _ = build_module(short(stage.name), TINY, run)
        train(stage.name, run, module=module)
    return run


def test_all_stages_end_in_a_matched_set_that_loads(finished, tmp_path):
    set_id = export(finished, LOCATOR, tmp_path / "set", TINY)
    model = MirrorPPR.from_folder(tmp_path / "set")
    assert model.editor.set_id == set_id and model.editor.config == TINY and model.editor.carry is not None
    assert export(finished, LOCATOR, tmp_path / "again", TINY) == set_id


@torch.no_grad()
def test_the_exported_editor_is_the_trained_one(finished, tmp_path):
    export(finished, LOCATOR, tmp_path, TINY)
    last = {part: "joint-pro" for part in ("rformer", "connector", "lora")}
    stage = dataclasses.replace(short("joint-pro"), starts={**short("joint-pro").starts, **last})
    module, _ = build_module(stage, TINY, finished)
    expected = module.eval().field_dit(**field_inputs())
    exported, plain = (load_editor(tmp_path / "dit.safetensors", lora_strength=s).field_dit for s in (1.0, 0.0))
    assert_close(exported(**field_inputs()), expected, atol=5e-3, rtol=0)  # half precision on disk
    name = "dit.transformer_blocks.0.attn.to_q"
    trained = module.field_dit.get_submodule(name)
    adapter = trained.lora_B["default"].weight @ trained.lora_A["default"].weight
    assert adapter.any()
    added = exported.get_submodule(name).weight - plain.get_submodule(name).weight
    assert_close(added, adapter, atol=2e-3 * adapter.abs().amax().item(), rtol=0)  # half precision on disk
    mae = load_part(tmp_path / "mae.safetensors", "mae").state
    assert_close(mae["layernorm.weight"], module.mae.layernorm.weight, atol=1e-3, rtol=1e-3)


def test_a_second_joint_stage_continues_the_first(finished):
    module, used = build_module(short("joint-pro"), TINY, finished)
    assert set(used) == {"encoder.safetensors", "backbone.safetensors", "joint.safetensors"}
    state = module.state_dict()
    for name, tensor in load_file(finished / "joint.safetensors").items():
        assert torch.equal(state[name], tensor), name


def test_the_backbone_continues_what_the_geometry_stage_learned_of_faces(finished):
    learned = load_file(finished / "geometry.safetensors")
    wanted = {name for name in built("geometry").state_dict() if name.startswith(TRAINED["geometry"])}
    some = {"field_dit.bank_fit.answer.weight", "names.strength.weight"}
    assert set(learned) == wanted and some < wanted, "and nothing else"
    module, used = build_module(short("backbone"), TINY, finished)
    assert set(used) == {"encoder.safetensors", "geometry.safetensors"}
    state = module.state_dict()
    for name, tensor in learned.items():
        assert torch.equal(state[name], tensor), name


def test_a_joint_stage_may_begin_with_an_untrained_r_former(finished):
    starts = {part: source for part, source in short("joint").starts.items() if part != "rformer"}
    _, used = build_module(dataclasses.replace(short("joint"), starts=starts), TINY, finished)
    assert set(used) == {"encoder.safetensors", "backbone.safetensors"}


def test_results_of_another_model_are_refused_by_name(finished):
    wider = dataclasses.replace(TINY, mae=dataclasses.replace(TINY.mae, depth=2))
    with pytest.raises(ValueError, match=r"encoder.safetensors does not hold the mae of this run: \d+ of"):
        build_module(short("backbone"), wider, finished)


@torch.no_grad()
def test_a_fresh_geometry_stage_starts_from_the_training_faces_and_sees_no_pictures(finished):
    preset = load_preset("tiny")
    parts = build(short("geometry"), preset, finished, torch.device("cpu"))
    codes = parts.module.field_dit.code(parts.training.sampler.faces.points)
    assert_close(codes.T @ codes / len(codes), torch.eye(codes.shape[1]), atol=2e-2, rtol=0)
    held_out, seen = (set(source.sampler.faces.identity) for source in (parts.validation, parts.training))
    assert held_out and not held_out & seen
    for source in (parts.training, parts.validation):
        assert source.batch(0, 4, 0, 1).query_pixels.shape == (4, 3, 1, 1)
    learned = load_file(finished / "geometry.safetensors")["field_dit.distance_code.weight"]
    backbone = build(short("backbone"), preset, finished, torch.device("cpu"))
    assert torch.equal(backbone.module.field_dit.distance_code.weight, learned), "faces set a fresh start only"
    assert backbone.training.batch(0, 4, 0, 1).query_pixels.shape == (4, 3, 64, 64)


def test_the_subset_of_a_stage_says_how_often_professional_operations_are_drawn():
    data = MiniData(samples=SampleConfig(professional_share=0.3, part_share=0.5))
    shares = {}
    for subset in ("simulated", "both", "professional"):
        config = sample_config(dataclasses.replace(short("joint"), data=subset), data)
        shares[subset] = config.professional_share
        assert config.part_share == 0.5, "everything else stays the preset's"
    assert shares["simulated"] == 0 < shares["both"] == 0.3 < shares["professional"] < 1
    own = dataclasses.replace(short("joint"), samples={"professional_share": 0.9})
    assert sample_config(own, data).professional_share == 0.9, "a stage's own settings come last"


@pytest.mark.parametrize("name", ["backbone", "joint"])
def test_a_stage_without_the_one_before_it_says_which_to_run(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="encoder.safetensors is missing: run .* --stage encoder first"):
        build_module(short(name), TINY, tmp_path)


@pytest.mark.parametrize("table", ["shapes", "points", "weight", "llw", "professional", "atoms", "errors"])
def test_a_run_is_not_continued_on_faces_that_operations_move_otherwise(table):
    faces, others = drawn_faces(), drawn_faces()
    assert mini.fingerprint(faces) == mini.fingerprint(others)
    getattr(others, table)[-1].add_(0.5)
    assert mini.fingerprint(faces) != mini.fingerprint(others)


def test_operations_that_are_left_out_may_not_be_in_the_bank(tmp_path):
    left_out = ["data.samples.leave_out=[lip_thickness, nose_length]"]
    with pytest.raises(ValueError, match="stage encoder leaves out lip_thickness, nose_length, but the network's bank"):
        mini.check(load_preset("tiny", left_out), tmp_path)
    shipped = load_preset(str(CONFIGS / "studies" / "leave_out.yaml"), ["data.drawn=8"])
    mini.check(shipped, tmp_path)
    assert shipped.data.samples.leave_out == ("lip_thickness", "nose_length")
    assert set(KNOWN_OPERATIONS) - set(shipped.model.dit.operations) == {"lip_thickness", "nose_length"}


def test_a_set_has_the_model_of_its_run(tmp_path):
    preset = load_preset("tiny", ["model.dit.operations=[eye_resize]"])
    (tmp_path / "config.json").write_text(json.dumps(plain(preset)))
    assert config_of(tmp_path) == preset.model
    (tmp_path / "config.json").write_text('{"model": {"name": "of another release"}}')
    with pytest.raises(ValueError, match="do not fit this version of the code"):
        config_of(tmp_path)
    with pytest.raises(FileNotFoundError, match="config.json is missing: .* is no folder of python -m training.train"):
        config_of(tmp_path / "elsewhere")


def test_an_unfinished_run_cannot_be_exported(tmp_path):
    with pytest.raises(FileNotFoundError, match="run python -m training.train --stage .* first"):
        export(tmp_path, LOCATOR, tmp_path / "set", TINY)
