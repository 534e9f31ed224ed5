"""The face locator as stages of the shared loop, on drawn pictures: it learns, resumes exactly and ends in one file."""

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from host import ROOT
from PIL import Image
from safetensors.torch import load_file
from torch.testing import assert_close
from toys import drawn_face, seeded

from mirrorppr_core.faces.landmarks import FACE_POINTS, eye_distance
from mirrorppr_core.faces.locator import Locator
from training.data.labelled import labelled_portraits
from training.data.landmark_sources import landmark_arrays
from training.data.landmarks import Landmarks
from training.locator.data import STAGE_1, cut_faces, mean_mesh
from training.locator.engine import build, check, trained_locator
from training.locator.finder_data import load_photos
from training.locator.mesh_mirror import MIRROR_MESH
from training.locator.stages import canvas_source, crop_source, landmark_error
from training.presets import load_preset
from training.train import train
from training.train_locator import main

pytest.importorskip("accelerate")

STEPS = 3
TOY = ["data.ridge_samples=64", "data.calibration_batches=1", "loop.save_steps=1", "loop.log_steps=1",
       "loop.validation_batches=1", "loop.preflight_steps=0", "loop.reporters=[]"]  # fmt: skip
for stage in ("finder", "stage1", "stage2"):
    TOY += [f"stages.{stage}.steps={STEPS}", f"stages.{stage}.batch=4"]


def drawn_mesh(seed: int) -> torch.Tensor:
    """A mesh around the drawn face, in pixels of a 96 px picture."""
    mesh = drawn_face().mean(0) + 1.2 * torch.randn(478, 2, generator=seeded(seed))
    mesh[list(FACE_POINTS)] = drawn_face() + 0.02 * torch.randn(130, 2, generator=seeded(seed))
    return mesh * 14 + torch.tensor([48.0, 40.0])


@pytest.fixture(scope="module")
def portraits(tmp_path_factory) -> Path:
    """Four people, noise with landmarks; what is learned is where landmarks usually are."""
    folder = tmp_path_factory.mktemp("portraits")
    (folder / "train").mkdir()
    found, rows = {}, ["file,split,identity,source"]
    for person in range(4):
        file = f"train/{person}.png"
        pixels = (torch.rand(96, 96, 3, generator=seeded(person)) * 255).byte().numpy()
        Image.fromarray(pixels).save(folder / file)
        found[file] = Landmarks(drawn_mesh(person), None)
        rows.append(f"{file},train,{person},here")
    (folder / "portraits.csv").write_text("\n".join(rows))
    np.savez(folder / "landmarks.npz", **landmark_arrays(found))
    return folder


def preset(portraits: Path, *changes: str):
    return load_preset("locator", [f"data.portraits={portraits}", *TOY, *changes])


@pytest.fixture(scope="module")
def unbroken(portraits, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("unbroken")
    train(preset(portraits), run, device="cpu")
    return run


def command(portraits: Path, out: Path) -> list[str]:
    words = ["--portraits", str(portraits), "--out", str(out)]
    for change in TOY:
        words += ["--set", change]
    return words


def test_a_killed_run_continues_to_the_locator_of_an_unbroken_one(portraits, unbroken, tmp_path):
    words = command(portraits, tmp_path / "locator.safetensors")
    started = subprocess.Popen(
        [sys.executable, "-m", "training.train_locator", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    for line in started.stdout:
        if "stage1" in line and f" 2/{STEPS} " in line:
            break
    started.send_signal(signal.SIGKILL)
    started.communicate()
    assert started.returncode == -signal.SIGKILL
    progress = tmp_path / "locator.progress"
    assert (progress / "finder.safetensors").exists() and not (progress / "stage1.safetensors").exists()
    assert main(words) == 0
    made = Locator.from_file(tmp_path / "locator.safetensors").state_dict()
    expected = trained_locator(preset(portraits).stages, preset(portraits).model, unbroken).state_dict()
    for name, value in expected.items():
        rounded = value.half().float() if value.is_floating_point() and name != "mean_mesh" else value
        assert torch.equal(made[name], rounded), name
    log = [(run / "log.jsonl").read_text() for run in (progress, unbroken)]
    assert log[0] == log[1]


def test_the_second_landmark_network_continues_the_first(portraits, unbroken):
    stages = preset(portraits).stages
    parts = build(stages[2], preset(portraits), unbroken, torch.device("cpu"))
    learned = load_file(unbroken / "stage1.safetensors")
    for name, value in parts.module.net.state_dict().items():
        assert torch.equal(value, learned[f"net.{name}"]), name
    assert set(parts.starts_from) == {"faces", "stage1.safetensors"}


def test_a_run_is_not_continued_on_other_faces(portraits):
    first = preset(portraits)
    before = build(first.stages[1], first, portraits, torch.device("cpu")).starts_from
    people = preset(portraits, "data.held_out=0.5")
    assert build(people.stages[1], people, portraits, torch.device("cpu")).starts_from != before


def test_the_mean_mesh_and_its_mirror_image_are_one(unbroken):
    mean = load_file(unbroken / "stage2.safetensors")["mean_mesh"]
    assert_close(mean[list(MIRROR_MESH)] * torch.tensor([-1.0, 1.0]), mean, atol=1e-4, rtol=0)
    bundled = Locator.from_file(ROOT / "mirrorppr_core/weights/mini/locator.safetensors").mean_mesh
    assert_close(bundled[list(MIRROR_MESH)] * torch.tensor([-1.0, 1.0]), bundled, atol=1e-4, rtol=0)


def test_parts_of_a_step_are_the_step_for_crops_and_canvases(portraits):
    people = labelled_portraits(portraits, split="train")
    mean = mean_mesh(torch.stack([p.mesh for p in people]), torch.tensor(MIRROR_MESH))[list(FACE_POINTS)]
    crops = crop_source(cut_faces(people, mean), mean, STAGE_1, seed=1)
    whole, parts = crops.batch(3, 4, 0, 1), [crops.batch(3, 4, part, 2) for part in range(2)]
    assert torch.equal(whole.points, torch.cat([part.points for part in parts]))
    assert not torch.equal(crops.batch(4, 4, 0, 1).points, whole.points)
    canvases = canvas_source(load_photos(people, mean), seed=1)
    whole, parts = canvases.batch(3, 4, 0, 1), [canvases.batch(3, 4, part, 2) for part in range(2)]
    assert torch.equal(whole.pixels, torch.cat([part.pixels for part in parts]))
    frames = [frame for part in parts for frame in part.frames]
    assert all(torch.equal(a.scale, b.scale) for a, b in zip(whole.frames, frames, strict=True))


def test_an_error_of_five_per_cent_costs_five_and_a_hopeless_point_no_more_than_sixty():
    truth = drawn_face()[None] / 2
    off = torch.tensor([0.05, 0.0]) * eye_distance(truth)
    assert landmark_error(truth + off, truth).item() == pytest.approx(5.0, abs=0.1)
    assert landmark_error(truth + 5, truth).item() == 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"module": "mae"}, "module 'mae' is none of the locator's finder, rough, aligned"),
        ({"samples": {"x": 1}}, "samples empty"),
    ],
)
def test_rows_that_cannot_work_are_refused(portraits, tmp_path, change, message):
    whole = preset(portraits)
    with pytest.raises(ValueError, match=message):
        check(replace(whole, stages=(replace(whole.stages[0], **change),)), tmp_path)


def test_mistakes_are_told_in_one_line(portraits, tmp_path, capsys):
    for words, complaint in (
        (["--portraits", str(portraits)], "training needs --out FILE"),
        (["--portraits", str(portraits), "--evaluate"], "--evaluate needs --weights FILE"),
        (["--portraits", str(tmp_path), "--out", str(tmp_path / "a")], "has no landmarks.npz"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert complaint in error and error.count("\n") == 1


def test_one_person_alone_is_refused(portraits, tmp_path):
    only = tmp_path / "one"
    (only / "train").mkdir(parents=True)
    (only / "train/0.png").write_bytes((portraits / "train/0.png").read_bytes())
    (only / "portraits.csv").write_text("file,split\ntrain/0.png,train")
    (only / "landmarks.npz").write_bytes((portraits / "landmarks.npz").read_bytes())
    one = preset(only)
    with pytest.raises(ValueError, match="1 people of split 'train' cannot be divided"):
        build(one.stages[0], one, tmp_path, torch.device("cpu"))
