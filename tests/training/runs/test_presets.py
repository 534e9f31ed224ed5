"""Presets: names for whole runs, changes by name, mistakes told before anything runs, launcher files that load."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

pytest.importorskip("accelerate")

from training.curriculum import MINI_FACE
from training.mini.config import MiniData
from training.mini.engine import check
from training.presets import PRESETS, load_preset
from training.runs.preset import Preset, plain
from training.runs.stage import Stage
from training.train import describe_presets, main, stop_after, train

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "training" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_whole_and_says_what_it_is(name):
    preset = load_preset(name)
    assert preset.name == name and preset.stages
    for stage in preset.stages:
        json.dumps(preset.described(stage))
    assert name in describe_presets()


def stage_of(preset: Preset, name: str) -> Stage:
    return next(stage for stage in preset.stages if stage.name == name)


def test_single_settings_change_by_name():
    preset = load_preset(
        "tiny",
        ["stages.joint.learning_rate=5e-4", "data.samples.part_share=0.5", "loop.reporters=[wandb]", "loop.seed=7"],
    )
    assert stage_of(preset, "joint").learning_rate == 5e-4 and preset.stages[0] == load_preset("tiny").stages[0]
    assert preset.data.samples.part_share == 0.5 and preset.loop.reporters == ("wandb",) and preset.loop.seed == 7


def test_a_file_changes_a_preset_and_the_command_line_changes_the_file(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("base: mini-face\ndata: {portraits: here}\nstages: {joint: {steps: 5, batch: 8}}\n")
    preset = load_preset(str(file), ["stages.joint.steps=6"])
    joint = stage_of(preset, "joint")
    assert (joint.steps, joint.batch, preset.data.portraits) == (6, 8, "here")


def test_settings_that_only_fit_together_are_changed_together():
    changes = ["model.connector.output=32", "model.dit.text_width=32"]
    assert load_preset("tiny", changes).model.dit.text_width == 32
    with pytest.raises(ValueError, match="connector output 32 must be DiT text_width 16"):
        load_preset("tiny", changes[:1])


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ("minii", (), "no preset 'minii'. Use a YAML file or one of tiny, mini-face"),
        ("none.yaml", (), "none.yaml does not exist"),
        ("tiny", ["loop.sed=1"], "loop has no 'sed', only seed, precision"),
        (
            "tiny",
            ["stages.joined.steps=1"],
            "stages has no 'joined', only encoder, geometry, backbone",
        ),
        ("tiny", ["loop.seed=many"], "loop.seed='many': needs int, as in loop.seed=0"),
        ("tiny", ["loop=3"], "loop has parts seed, .*: set one of them"),
        ("tiny", ["loop.seed"], "write it as name=value"),
        ("tiny", ["loop.precision=fp16"], "precision='fp16': use no or bf16"),
        ("tiny", ["loop.keep=0"], "keep=0: use 1 or more"),
        ("tiny", ["loop.reporters=[email]"], r"reporters \['email'\] are unknown"),
        ("tiny", ["data.held_out=1.5"], "need 0 < held_out < 1"),
    ],
)
def test_a_wrong_name_or_value_is_told_with_what_is_right(config, changes, message):
    with pytest.raises(ValueError, match=message):
        load_preset(config, changes)


def test_a_file_must_name_the_preset_it_changes(tmp_path):
    (tmp_path / "mine.yaml").write_text("loop: {seed: 1}\n")
    with pytest.raises(ValueError, match="must say which preset it changes"):
        load_preset(str(tmp_path / "mine.yaml"))


def test_paths_may_change_between_runs_and_nothing_else():
    stage = MINI_FACE[0]
    here, there = (load_preset("mini-face", [f"data.portraits={path}"]) for path in ("here", "there"))
    assert here.described(stage) == there.described(stage)
    assert here.described(stage) != load_preset("mini-face", ["loop.seed=1"]).described(stage)
    assert plain(here)["data"]["portraits"] == "here", "the saved configuration has them"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": MiniData()}, "no portraits: give --portraits DIR"),
        ({"data": MiniData(portraits="/none")}, "/none has no landmarks.npz"),
        ({"stages": (dataclasses.replace(MINI_FACE[0], module="vae"),)}, "module 'vae' is none of Mini's encoder"),
        ({"stages": (MINI_FACE[0], dataclasses.replace(MINI_FACE[2], starts={}))}, r"starts lacks \['mae'\]"),
        ({"stages": (dataclasses.replace(MINI_FACE[0], samples={"noise": 1}),)}, r"no setting \['noise'\], only"),
    ],
)
def test_mini_refuses_what_cannot_work_before_it_starts(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        check(dataclasses.replace(load_preset("tiny"), **change), tmp_path)


def test_a_stage_that_the_preset_lacks_is_refused(tmp_path):
    with pytest.raises(ValueError, match="tiny has no stage 'joined', only encoder, geometry"):
        train(load_preset("tiny"), tmp_path, only="joined", device="cpu")


def test_the_command_tells_a_mistake_in_one_line(tmp_path, capsys):
    assert main(["--config", "mini-face", "--run", str(tmp_path), "--set", "loop.sed=1"]) == 2
    assert "error: loop has no 'sed'" in capsys.readouterr().err


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_launcher_files_load_as_accelerate_reads_them(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.num_processes == 8 and config.mixed_precision == "bf16" and not config.use_cpu
    kinds = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "FSDP"}
    assert config.distributed_type.value == kinds[path.stem]


@pytest.mark.parametrize(("name", "gathers_twice"), [("fsdp2", True), ("zero2", False)])
def test_the_sharded_launchers_wrap_a_block_that_exists(name, gathers_twice):
    from accelerate.commands.config.config_args import load_config_from_file

    if (diffusers := importlib.util.find_spec("diffusers")) is None:
        pytest.skip("diffusers is not installed")
    settings = load_config_from_file(str(ROOT / "training" / "configs" / f"{name}.yaml")).fsdp_config
    source = Path(diffusers.origin).parent / "models" / "transformers" / "transformer_qwenimage.py"  # slow to import
    assert f"class {settings['fsdp_transformer_layer_cls_to_wrap']}(" in source.read_text()
    assert settings["fsdp_version"] == 2 and settings["fsdp_reshard_after_forward"] == gathers_twice


def test_a_run_ends_when_its_time_is_over_or_when_it_is_asked_to(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("training.train.time.monotonic", lambda: now[0])
    asked = []
    over, never = stop_after(2.0, lambda: bool(asked)), stop_after(None, lambda: bool(asked))
    now[0] = 219.0
    assert not over()
    now[0] = 220.0
    assert over() and not never()
    now[0] = 100.0
    asked.append(True)
    assert over() and never()
    with pytest.raises(ValueError, match="--minutes 0: give the time"):
        stop_after(0.0, lambda: False)


def test_a_run_whose_time_is_over_is_saved_and_says_how_to_go_on(tmp_path, capsys):
    words = ["--config", "tiny", "--run", str(tmp_path), "--stage", "encoder", "--set", "loop.preflight_steps=0"]
    assert main([*words, "--device", "cpu", "--minutes", "0.00001"]) == 130
    assert "the same command continues it" in capsys.readouterr().err and (tmp_path / "checkpoints").is_dir()
    assert main([*words, "--device", "cpu"]) == 0 and (tmp_path / "encoder.safetensors").is_file()
