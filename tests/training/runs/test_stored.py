"""Results and settings of runs: damage is named and refused; a mistake in YAML is told with its line."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training.presets import load_preset
from training.runs.checkpoints import CheckpointError, TrainingState, check_result, load_checkpoint, save_checkpoint
from training.runs.settings_file import read_settings
from training.runs.stored import read_result, settings_in, write_result

SETTINGS = {"stage": {"name": "joint"}, "seed": 0}
TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(0), "c": torch.tensor(3)}


@pytest.fixture
def result(tmp_path):
    write_result(tmp_path / "joint.safetensors", TENSORS, SETTINGS)
    return tmp_path / "joint.safetensors"


def test_a_result_comes_back_with_its_settings(result):
    found = read_result(result)
    assert found.settings == settings_in(result) == SETTINGS and found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in TENSORS.items())


def test_equal_results_are_equal_files(result, tmp_path):
    write_result(tmp_path / "again.safetensors", TENSORS, SETTINGS)
    assert (tmp_path / "again.safetensors").read_bytes() == result.read_bytes()


def test_every_flipped_bit_of_a_result_s_numbers_is_found(result):
    sound = result.read_bytes()
    begin = 8 + int.from_bytes(sound[:8], "little")
    for place in range(begin, len(sound)):
        result.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(ValueError, match="joint.safetensors is damaged .*delete it to have"):
            read_result(result)
        result.unlink()  # the old one may be mapped into memory


def test_a_result_of_an_older_version_has_no_hash_and_is_read(result):
    with safe_open(str(result), framework="pt") as file:
        about = json.loads(file.metadata()["training"])
    del about["sha256"]
    save_file(load_file(result), result, {"training": json.dumps(about)})
    assert read_result(result).settings == SETTINGS


@pytest.mark.parametrize("about", ["", "{", "[]", "[" * 9999, '{"format": 1}', '{"format": 1, "settings": 3}'])
def test_a_result_with_a_damaged_header_is_refused(result, about):
    save_file(TENSORS, result, {"training": about})
    for read in (read_result, settings_in):
        with pytest.raises(ValueError, match="joint.safetensors") as told:
            read(result)
        assert len(str(told.value)) < 500
    with pytest.raises(CheckpointError):
        check_result(result, SETTINGS)


def test_a_truncated_result_is_no_traceback_when_a_run_goes_on(result):
    result.write_bytes(result.read_bytes()[:60])
    with pytest.raises(CheckpointError, match="joint.safetensors is damaged or not a result"):
        check_result(result, SETTINGS)


def test_settings_that_differ_in_a_thousand_places_are_told_shortly(result):
    many = {f"setting {number}": "x" * 1000 for number in range(1000)}
    with pytest.raises(CheckpointError, match="and 999 more|and 998 more|and 997 more|and 10.. more") as told:
        check_result(result, many)
    assert len(str(told.value)) < 500 + len(str(result))


def state():
    module = torch.nn.Linear(3, 2)
    trainable = dict(module.named_parameters())
    average = {name: parameter.detach().clone() for name, parameter in trainable.items()}
    return TrainingState(trainable, average, torch.optim.AdamW(trainable.values()))


@pytest.mark.parametrize("file", ["weights.safetensors", "average.safetensors", "optimizer.safetensors", "state.json"])
def test_a_checkpoint_altered_in_one_number_is_refused(tmp_path, file):
    before = state()
    for parameter in before.trainable.values():
        parameter.grad = torch.ones_like(parameter)
    before.optimizer.step()
    before.step = 5
    save_checkpoint(tmp_path, before, SETTINGS, keep=1, is_main=True)
    assert load_checkpoint(tmp_path, state(), SETTINGS)
    path = tmp_path / "step-00000005" / file
    content = path.read_bytes()
    altered = content.replace(b'"step": 5', b'"step": 6') if file == "state.json" else content[:-1] + b"\x01"
    path.unlink()
    path.write_bytes(altered)
    with pytest.raises(CheckpointError, match="step-00000005 is damaged .*Delete it: the one before it is used"):
        load_checkpoint(tmp_path, state(), SETTINGS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("base: mini-face\nloop:\n\tseed: 3\n", "line 3: "),
        ("base: mini-face\nloop: [1, 2\nx: 1\n", "line 3: "),
        ("base: mini-face\nloop:\n  seed: 3\n  sed: 3\n", "line 4: loop has no 'sed'"),
        ("base: mini-face\n\nstages:\n  joint:\n    steps: many\n", "line 5: stages.joint.steps='many'"),
        ("base: mini-face\nlop: 1\n", "line 2: a preset has no 'lop'"),
        ("base: mini-face\n? [a, b]\n: 1\n", "line 2: "),
        ("base: mini-face\nwhen: 2026-13-45\n", ""),
        ("", "is empty"),
        ("- a\n- b\n", "holds a list"),
        ("base: [mini-face]\n", "there is no preset"),
        ("base: mini-face\n" + "a: {" * 500 + "}" * 500, "nested too deep"),
        ("base: " + "&a [" * 3, "line 1"),
    ],
)
def test_a_mistake_in_yaml_is_told_with_its_line(tmp_path, text, told):
    path = tmp_path / "preset.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"preset.yaml|{told}") as error:
        load_preset(str(path))
    assert told in str(error.value) and len(str(error.value)) < 500


def test_a_file_that_is_no_utf_8_is_told_with_its_line(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"base: mini-face\n# caf\xe9\n")
    with pytest.raises(ValueError, match="a.yaml, line 2: not UTF-8"):
        read_settings(tmp_path / "a.yaml")
