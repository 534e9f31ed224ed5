"""The training loop on toy stages: exact resume, equal parts, and failures that lose nothing."""

import dataclasses
import json
import os
import shutil

import pytest
import torch
from toys import TINY, seeded

from tests.training.mini.test_samples import sampler
from tests.training.mini.test_training import QUICK, built, every_stage, log, short, train
from training.mini.engine import SamplerSource
from training.mini.stages import EncoderStage
from training.runs.checkpoints import (
    CheckpointError,
    TrainingState,
    check_result,
    checkpoints,
    load_checkpoint,
    save_checkpoint,
    save_result,
)
from training.runs.loop import StageParts, Stopped, run_stage
from training.runs.preflight import PreflightError, freeze_silent
from training.train import weights_hash

accelerate = pytest.importorskip("accelerate")


class Cut(SamplerSource):
    """Something happens when the fourth step's batch is asked for: by default the run dies."""

    def __init__(self, happens=None):
        super().__init__(sampler())
        self.happens = happens

    def batch(self, step, size, part, parts):
        if step == 3:
            if self.happens is None:
                raise KeyboardInterrupt
            self.happens()
        return super().batch(step, size, part, parts)


@every_stage
def test_a_run_that_was_killed_and_continued_equals_an_unbroken_one(name, tmp_path):
    unbroken = train(name, tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt):
        train(name, tmp_path / "broken", source=Cut())
    continued = train(name, tmp_path / "broken", seed=9)
    assert continued == unbroken, "whatever weights the second process began with"
    assert log(tmp_path / "broken") == log(tmp_path / "unbroken")


def test_a_run_killed_between_checkpoints_logs_no_step_twice(tmp_path):
    seldom = dataclasses.replace(QUICK, save_steps=2, log_steps=3)
    unbroken = train("extractor", tmp_path / "unbroken", config=seldom)
    with pytest.raises(KeyboardInterrupt):
        train("extractor", tmp_path / "broken", source=Cut(), config=seldom)
    assert train("extractor", tmp_path / "broken", config=seldom) == unbroken
    assert log(tmp_path / "broken") == log(tmp_path / "unbroken"), "means span the kill"


def test_a_run_asked_to_stop_saves_first_and_continues_exactly(tmp_path):
    asked, seldom = [], dataclasses.replace(QUICK, save_steps=100)
    with pytest.raises(Stopped, match="stopped at step 4; the same command continues"):
        train(
            "extractor",
            tmp_path / "a",
            source=Cut(lambda: asked.append(1)),
            config=seldom,
            asked_to_stop=lambda: bool(asked),
        )
    assert train("extractor", tmp_path / "a", config=seldom) == train("extractor", tmp_path / "b", config=seldom)


def test_looking_at_held_out_people_changes_nothing(tmp_path):
    often = dataclasses.replace(QUICK, validate_steps=2, sheet_steps=2)
    assert train("extractor", tmp_path / "often", config=often) == train("extractor", tmp_path / "once")
    assert sorted(os.listdir(tmp_path / "often" / "sheets")) == [f"extractor-0000000{n}.png" for n in (2, 4, 6)]


def test_loader_processes_change_nothing(tmp_path):
    ahead = dataclasses.replace(QUICK, workers=1)
    assert train("extractor", tmp_path / "ahead", config=ahead) == train("extractor", tmp_path / "here")


@pytest.mark.parametrize("name", ["backbone", "joint"])
def test_the_one_batch_test_passes_and_changes_nothing(name, tmp_path):
    tested = dataclasses.replace(QUICK, preflight_steps=4)
    assert train(name, tmp_path / "tested", config=tested, steps=2) == train(name, tmp_path / "untested", steps=2)


def test_a_loss_that_cannot_fall_is_found_before_the_first_step(tmp_path):
    class Deaf(EncoderStage):
        def forward(self, batch, generator):
            loss, numbers = super().forward(batch, generator)
            return loss.detach() + 0 * sum(p.sum() for p in self.parameters()), numbers

    tested = dataclasses.replace(QUICK, preflight_steps=3)
    with pytest.raises(PreflightError, match="one repeated batch went from .* it must fall. Check the data"):
        train("encoder", tmp_path, module=Deaf(TINY), config=tested)


def test_a_batch_that_does_not_fit_is_found_before_the_first_step(tmp_path):
    class Huge(EncoderStage):
        def forward(self, batch, generator):
            raise torch.OutOfMemoryError("tried to allocate 80 GiB")

    tested = dataclasses.replace(QUICK, preflight_steps=1)
    with pytest.raises(PreflightError, match="does not fit in memory .*80 GiB.*Lower the stage's micro_batch"):
        train("encoder", tmp_path, module=Huge(TINY), config=tested)


def test_equal_seeds_give_equal_weights_and_others_do_not(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train("encoder", tmp_path / name, steps=2, config=dataclasses.replace(QUICK, seed=seed))
    one, same, other = (weights_hash(tmp_path / name / "encoder.safetensors") for name in "abc")
    assert one == same != other


def test_a_batch_seen_in_parts_gives_the_same_step_up_to_summation(tmp_path):
    class Still(EncoderStage):
        """Always hides the same patches, so that parts draw the same noise as the whole."""

        def forward(self, batch, generator):
            torch.manual_seed(0)
            order = torch.rand(1, TINY.mae.grid**2, generator=seeded(0))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(torch, "rand", lambda count, length, generator: order.expand(count, length))
                return super().forward(batch, generator)

    logs = []
    for micro in (0, 1, 2):
        stage = dataclasses.replace(short("encoder", 3), micro_batch=micro)
        torch.manual_seed(0)
        parts = StageParts(Still(TINY), SamplerSource(sampler()), SamplerSource(sampler(seed=50)))
        folder = tmp_path / str(micro)
        folder.mkdir()
        run_stage(stage, parts, QUICK, folder, accelerate.Accelerator(cpu=True), {})
        logs.append([entry["training"]["loss"] for entry in log(folder) if "training" in entry])
    for cut in logs[1:]:
        assert cut == pytest.approx(logs[0], rel=1e-4)


def test_a_batch_that_processes_cannot_share_is_refused():
    stage = short("encoder")
    assert stage.accumulate(2) == 1 and dataclasses.replace(stage, micro_batch=1).accumulate(2) == 2
    with pytest.raises(ValueError, match="3 processes cannot share a batch of 4 .* a multiple of 3"):
        stage.accumulate(3)


def test_a_finished_run_is_not_trained_again(tmp_path):
    finished = train("extractor", tmp_path)
    assert train("extractor", tmp_path, seed=9) == finished
    assert not checkpoints(tmp_path / "checkpoints" / "extractor"), "a finished stage needs none"


def test_other_settings_are_refused_with_their_names(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train("extractor", tmp_path, source=Cut())
    with pytest.raises(CheckpointError, match="steps: 6 there, 8 here\n.*--accept-changes"):
        train("extractor", tmp_path, steps=8)
    train("extractor", tmp_path, steps=8, accept_changes=True)
    assert log(tmp_path)[-2]["step"] == 8
    with pytest.raises(CheckpointError, match="is finished, with other settings:\n  steps: 8 there, 6 here"):
        train("extractor", tmp_path)


def test_a_loss_that_is_no_number_stops_the_run_and_saves_the_state_before_it(tmp_path):
    module = built("encoder")

    def spoil():
        with torch.no_grad():
            module.mask_token.fill_(float("nan"))

    seldom = dataclasses.replace(QUICK, save_steps=100)
    with pytest.raises(FloatingPointError, match=r"encoder: the loss is nan at step 3 \(seed 0\).*Lower learning_rate"):
        train("encoder", tmp_path, module=module, source=Cut(spoil), config=seldom)
    assert [path.name for path in checkpoints(tmp_path / "checkpoints" / "encoder")] == ["step-00000003"]
    assert not (tmp_path / "encoder.safetensors").exists()


def test_a_full_disk_leaves_the_checkpoint_before_it_intact(tmp_path):
    resource = pytest.importorskip("resource")
    unbroken = train("extractor", tmp_path / "unbroken")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = Cut(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, old[1])))
    try:
        with pytest.raises(CheckpointError, match=r"step 4 could not be written.*step-00000003 is intact; free"):
            train("extractor", tmp_path / "full", source=full)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    kept = os.listdir(tmp_path / "full" / "checkpoints" / "extractor")
    assert sorted(kept) == ["step-00000002", "step-00000003"], "and nothing half-written"
    assert train("extractor", tmp_path / "full") == unbroken


def test_the_log_ends_with_the_numbers_on_people_never_trained_on(tmp_path):
    train("backbone", tmp_path)
    last = log(tmp_path)[-1]
    assert last["stage"] == "backbone" and {"loss", "relEPE", "copy", "gain_db"} <= set(last["validation"])
    assert (tmp_path / "sheets" / "backbone-00000006.png").exists()


@pytest.fixture
def interrupted(tmp_path):
    """A run folder with two checkpoints, and the newer one."""
    with pytest.raises(KeyboardInterrupt):
        train("extractor", tmp_path, source=Cut())
    return tmp_path, checkpoints(tmp_path / "checkpoints" / "extractor")[-1]


def test_a_checkpoint_of_another_code_version_is_refused(interrupted):
    run, newest = interrupted
    about = json.loads((newest / "state.json").read_text())
    (newest / "state.json").write_text(json.dumps({**about, "format": 0}))
    with pytest.raises(CheckpointError, match=r"another version of this code \(format 0, here 1\)"):
        train("extractor", run)


def test_a_checkpoint_of_another_number_of_processes_is_refused(interrupted):
    run, newest = interrupted
    about = json.loads((newest / "state.json").read_text())
    about["settings"]["processes"] = 2
    del about["sha256"]  # an older one: its own sha256 would tell of the change
    (newest / "state.json").write_text(json.dumps(about))
    with pytest.raises(CheckpointError, match="processes: 2 there, 1 here"):
        train("extractor", run)


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_goes_on(interrupted, tmp_path_factory):
    run, newest = interrupted
    weights = newest / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="step-00000003 is damaged .* Delete it: the one before it is used"):
        train("extractor", run)
    shutil.rmtree(newest)
    assert train("extractor", run) == train("extractor", tmp_path_factory.mktemp("unbroken"))


def test_a_checkpoint_of_another_model_is_refused(interrupted):
    wider = dataclasses.replace(TINY, mae=dataclasses.replace(TINY.mae, depth=2))
    with pytest.raises(CheckpointError, match=r"holds another model: \d+ tensors differ, first"):
        train("extractor", interrupted[0], module=EncoderStage(wider))


def test_a_checkpoint_killed_while_it_is_written_does_not_count(interrupted):
    run, newest = interrupted
    half = newest.parent / ".writing-00000004"
    half.mkdir()
    (half / "weights.safetensors").write_bytes(b"half")
    assert checkpoints(newest.parent)[-1] == newest
    train("extractor", run)


def test_a_finished_stage_whose_source_was_trained_again_is_told(tmp_path):
    described = {"starts_from": {"encoder.safetensors": "0" * 64}}
    save_result(tmp_path / "joint.safetensors", {"weight": torch.ones(2)}, described, is_main=True)
    assert check_result(tmp_path / "joint.safetensors", {})
    (tmp_path / "encoder.safetensors").write_bytes(b"another")
    with pytest.raises(CheckpointError, match="encoder.safetensors has been trained again since"):
        check_result(tmp_path / "joint.safetensors", {})


def test_too_little_memory_or_disk_is_told_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("training.runs.preflight.free_memory", lambda device: 1000)
    with pytest.raises(PreflightError, match=r"training needs 0.00 GiB on cpu .* Use a smaller LoRA rank"):
        train("encoder", tmp_path / "memory")
    monkeypatch.undo()
    monkeypatch.setattr("training.runs.preflight.shutil.disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 1000))
    with pytest.raises(PreflightError, match=r"0 MB free but 2 checkpoints and the one being written need \d+ MB"):
        train("encoder", tmp_path / "disk")


def test_a_module_with_nothing_to_train_is_refused(tmp_path):
    with pytest.raises(PreflightError, match="EncoderStage has nothing to train"):
        train("encoder", tmp_path, module=EncoderStage(TINY).requires_grad_(False))


def test_parameters_that_no_gradient_reaches_are_found_and_frozen():
    module = EncoderStage(TINY)
    module.unused = torch.nn.Linear(2, 2)
    found = freeze_silent(module, sampler().batch(0, 2), seeded(0), accelerate.Accelerator(cpu=True))
    assert found == ["unused.weight", "unused.bias"] and not module.unused.weight.requires_grad
    assert all(p.grad is None for p in module.parameters()) and module.predict.weight.requires_grad


def test_sharded_tensors_are_stored_whole_and_come_back(tmp_path):
    """FSDP2 on one CPU process: parameters, averages and moments are DTensors."""
    from torch.distributed import HashStore, destroy_process_group, init_process_group
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    def fresh(seed: int) -> TrainingState:
        torch.manual_seed(seed)
        module = fully_shard(torch.nn.Linear(4, 3), mesh=init_device_mesh("cpu", (1,)))
        optimizer = torch.optim.AdamW(module.parameters())
        module(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        trainable = dict(module.named_parameters())
        return TrainingState(trainable, {n: p.detach().clone() for n, p in trainable.items()}, optimizer, step=seed)

    init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        saved, loaded = fresh(1), fresh(2)
        assert hasattr(saved.trainable["weight"], "full_tensor")
        save_checkpoint(tmp_path, saved, {}, keep=1, is_main=True)
        assert load_checkpoint(tmp_path, loaded, {}) and loaded.step == 1
        for one, other in zip(saved.trainable.values(), loaded.trainable.values(), strict=True):
            assert torch.equal(one.full_tensor(), other.full_tensor())
            for kind, moment in saved.optimizer.state[one].items():
                again = loaded.optimizer.state[other][kind]
                assert torch.equal(*(t.full_tensor() if hasattr(t, "full_tensor") else t for t in (moment, again)))
    finally:
        destroy_process_group()
