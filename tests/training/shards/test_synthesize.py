"""The data engine: the same shards whoever makes them and however often they are killed, and plain refusals."""

import errno
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from host import ROOT
from PIL import Image
from torch.testing import assert_close

from mirrorppr_core import file_writing
from mirrorppr_core.geometry.field import Field, apply_field
from tests.core.operations.test_professional import SIZE, draw_mesh, draw_pose
from training import synthesize
from training.recipes.recipe import PROFESSIONAL_BODY, PROFESSIONAL_FACE, Recipe, apply_recipe, recipe_displacement
from training.shards import pair_maker
from training.shards.code_version import code_files
from training.shards.pair_maker import PairMaker, Tally
from training.shards.reader import ShardSet, decode_pair
from training.shards.spec import DatasetSpec
from training.shards.workers import run_pool

PEOPLE = 6  # with a face; the last has a body too


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Drawn portraits of 160 x 192 pixels with landmarks, and one of each kind that cannot be used."""
    folder = tmp_path_factory.mktemp("portraits")
    (folder / "train").mkdir()
    meshes, rows = [], ["file,split,identity,source,licence"]
    for person in range(PEOPLE):
        write_picture(folder / "train" / f"{person}.png", SIZE, person)
        meshes.append(draw_mesh(person).numpy() + 0.5)
        rows.append(f"train/{person}.png,train,person{person},drawn,{'CC0' if person else 'CC-BY-4.0'}")
    write_picture(folder / "train" / "faceless.png", SIZE, 7)
    write_picture(folder / "train" / "small.png", (70, 70), 8)
    broken = (folder / "train" / "0.png").read_bytes()[:3000]
    (folder / "train" / "broken.png").write_bytes(broken)
    rows += [f"train/{name}.png,train,{name},drawn,CC0" for name in ("faceless", "small", "broken")]
    (folder / "portraits.csv").write_text("\n".join(rows) + "\n")
    meshes += [np.full((478, 2), np.nan), draw_mesh().numpy() * 0.5, draw_mesh().numpy()]
    files = [row.partition(",")[0] for row in rows[1:]]
    pose = draw_pose().numpy()[None].copy()
    pose[..., :2] += 0.5
    np.savez(
        folder / "landmarks.npz",
        files=np.array(files),
        face_avg=np.stack(meshes),
        body_files=np.array([f"train/{PEOPLE - 1}.png"]),
        pose=pose,
    )
    return folder


def write_picture(path: Path, size: tuple[int, int], seed: int) -> None:
    coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    Image.fromarray((smooth[0] * 255).byte().permute(1, 2, 0).numpy()).save(path)


def command(portraits: Path, out: Path, **changes) -> list[str]:
    told = {
        "operations": "face",
        "pairs": 24,
        "shard_size": 6,
        "side": 160,
        "seed": 5,
        "pairs_per_portrait": 2,
    } | changes
    told = {"portraits": portraits, "landmarks": f"npz:{portraits / 'landmarks.npz'}", "out": out} | told
    flags = []
    for name, value in told.items():
        if value is not None:
            flags += [f"--{name.replace('_', '-')}"] + ([] if value is True else [str(value)])
    return flags


def contents(out: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in out.iterdir()}


@pytest.fixture(scope="module")
def made(portraits, tmp_path_factory):
    """Four shards of six pairs with fields, made in this process."""
    out = tmp_path_factory.mktemp("made")
    assert synthesize.main(command(portraits, out, fields=True)) == 0
    return out


def spec(portraits: Path, **changes) -> DatasetSpec:
    told = {
        "operations": PROFESSIONAL_FACE,
        "num_pairs": 24,
        "shard_size": 6,
        "side": 160,
        "seed": 5,
        "pairs_per_portrait": 2,
    } | changes
    return DatasetSpec(portraits=str(portraits), landmarks=f"npz:{portraits / 'landmarks.npz'}", **told)


# What is in the shards


def test_every_pair_is_what_its_recipe_makes_of_its_portrait(portraits, made):
    stored = ShardSet(made)
    assert len(stored) == 24 and [int(pair.key) for pair in stored] == list(range(24))
    for pair in (stored[0], stored[11], stored[23]):
        person = int(Path(pair.about["file"]).stem)
        recipe = Recipe.from_json(pair.about["recipe"])
        truth = recipe_displacement(recipe, draw_mesh(person), None, SIZE)
        assert_close(pair.displacement[None], truth, atol=0.02, rtol=1e-3)  # float16
        longest = truth.square().sum(1).sqrt().amax()
        assert pair.about["displacement"]["longest_px"] == pytest.approx(float(longest), abs=0.02)
        redone = apply_field(pair.before[None], Field.from_dense(truth))[0].float()
        assert (redone - pair.after).abs().mean() < 1.5, "after is before, warped; both went through a JPEG"
        assert pair.about["identity"] == f"person{person}" and pair.about["size"] == [160, 192]
        assert pair.about["licence"] == ("CC0" if person else "CC-BY-4.0")


def test_the_sidecars_add_up_in_the_summary(made):
    summary = json.loads((made / "summary.json").read_text())
    sidecars = [json.loads((made / f"pairs-{i:06d}.json").read_text()) for i in range(4)]
    assert summary["pairs"] == 24 == sum(s["count"] for s in sidecars)
    assert summary["bytes"] == sum((made / f"pairs-{i:06d}.tar").stat().st_size for i in range(4))
    assert sum(summary["licences"].values()) == 24 and set(summary["licences"]) == {"CC0", "CC-BY-4.0"}
    assert set(summary["operations"]) <= set(PROFESSIONAL_FACE)
    for sidecar, name in zip(sidecars, ("0", "1", "2", "3"), strict=True):
        content = (made / f"pairs-00000{name}.tar").read_bytes()
        assert sidecar["sha256"] == sha256(content).hexdigest()


def test_portraits_that_cannot_be_used_are_counted_and_named(made):
    summary = json.loads((made / "summary.json").read_text())
    assert summary["skipped"] == {"damaged": 1, "no-face": 1, "too-small": 1}
    named = {entry["file"]: entry["reason"] for entry in summary["skipped_files"]}
    assert named["train/small.png"] == "too-small" and all(entry["detail"] for entry in summary["skipped_files"])
    used = {pair.about["file"] for pair in ShardSet(made)}
    assert used == {f"train/{person}.png" for person in range(PEOPLE)}, "the others stand in for them"


def test_a_pair_depends_on_the_specification_and_its_number_alone(portraits):
    forwards, backwards = PairMaker(spec(portraits)), PairMaker(spec(portraits))
    numbers = (0, 3, 4, 23)
    made = {number: forwards.make(number, Tally()) for number in numbers}
    assert {number: backwards.make(number, Tally()) for number in numbers[::-1]} == made
    other = PairMaker(spec(portraits, seed=6))
    assert all(other.make(number, Tally()).files["json"] != made[number].files["json"] for number in numbers)


def test_the_code_version_covers_what_can_change_a_pixel_and_nothing_else():
    covered = set(code_files())
    assert {
        "training.shards.pair_maker", "training.recipes.placed_steps", "training.recipes.augment",
        "training.data.picture_files", "mirrorppr_core.operations.llw_exact", "mirrorppr_core.geometry.displacement",
    } <= covered  # fmt: skip
    assert not any(name.startswith(("mirrorppr_core.qwen", "mirrorppr_core.mini", "training.runs")) for name in covered)


def test_larger_portraits_are_reduced_and_their_landmarks_with_them(portraits):
    stored = decode_pair(PairMaker(spec(portraits, side=80, picture="png", fields=True)).make(8, Tally()))
    recipe = Recipe.from_json(stored.about["recipe"])
    mesh = (draw_mesh(int(Path(stored.about["file"]).stem)) + 0.5) / 2 - 0.5
    assert stored.before.shape == (3, 96, 80) and stored.about["scale"] == 0.5
    assert_close(stored.displacement[None], recipe_displacement(recipe, mesh, None, (96, 80)), atol=0.02, rtol=1e-3)


def test_official_pairs_keep_the_bytes_of_the_published_arithmetic(portraits, tmp_path):
    told = command(portraits, tmp_path, operations="eye_resize,mouth_position", mode="official", pairs=2)
    assert synthesize.main(told) == 0
    for pair in ShardSet(tmp_path):
        mesh = draw_mesh(int(Path(pair.about["file"]).stem))
        truth = apply_recipe(pair.before[None], Recipe.from_json(pair.about["recipe"]), mesh, None)
        assert torch.equal(pair.after, truth.after[0]) and not torch.equal(pair.after, pair.before)


def test_body_operations_are_drawn_for_portraits_that_show_the_body_only(portraits):
    maker = PairMaker(spec(portraits, operations=PROFESSIONAL_BODY, picture="png"))
    tally = Tally()
    for index in range(6):
        stored = json.loads(maker.make(index, tally).files["json"])
        assert stored["file"] == f"train/{PEOPLE - 1}.png"
    assert tally.reasons()["no-person"] >= 2 and sum(tally.kinds["operations"].values()) >= 6


def test_recipes_that_fold_or_move_nothing_are_drawn_again_and_counted(portraits, monkeypatch):
    refused = iter([True, True, False, True])
    monkeypatch.setattr(pair_maker, "recipe_folds", lambda displacement: next(refused, False))
    tally = Tally()
    PairMaker(spec(portraits)).make(0, tally)
    assert tally.redrawn["folds"] == 2
    monkeypatch.setattr(pair_maker, "LEAST_MOTION_PX", 1000)
    monkeypatch.setattr(pair_maker, "MOST_RECIPES", 2)
    with pytest.raises(pair_maker.NothingUsable, match=f"{PEOPLE} no-recipe"):
        PairMaker(spec(portraits)).make(0, Tally())


# The same files whoever makes them


def test_two_workers_leave_the_same_bytes_as_one_process(portraits, made, tmp_path):
    assert synthesize.main(command(portraits, tmp_path, fields=True, workers=2)) == 0
    assert contents(tmp_path) == contents(made)


def test_array_tasks_leave_the_same_bytes_as_one_process(portraits, made, tmp_path):
    for shard_id in (2, 0, 3, 1, 1):
        (tmp_path / ".pairs-000009.tar.0123abcd.part").touch()  # of a task beside it
        assert synthesize.main(command(portraits, tmp_path, fields=True, shard_id=shard_id)) == 0
        (tmp_path / ".pairs-000009.tar.0123abcd.part").unlink()
    assert contents(tmp_path) == contents(made)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_kill_9_in_the_middle_then_the_same_command_gives_the_same_files(portraits, made, tmp_path):
    line = [sys.executable, "-m", "training.synthesize", *command(portraits, tmp_path, fields=True)]
    # Slow enough to be caught inside a shard: the tar's temporary file is there, with some pairs in it.
    running = subprocess.Popen(line, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not ((tmp_path / "pairs-000000.json").exists() and list(tmp_path.glob(".pairs-*.tar.*.part"))):
        assert running.poll() is None and time.monotonic() < deadline, "never seen in the middle of a shard"
        time.sleep(0.001)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert 1 <= len(list(tmp_path.glob("pairs-*.tar"))) < 4 and list(tmp_path.glob(".*.part"))
    kept = (tmp_path / "pairs-000000.tar").stat().st_mtime_ns
    assert synthesize.main(command(portraits, tmp_path, fields=True)) == 0
    assert contents(tmp_path) == contents(made)
    assert (tmp_path / "pairs-000000.tar").stat().st_mtime_ns == kept, "finished shards are not made again"


def test_a_tar_without_its_json_is_made_again(portraits, made, tmp_path):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    (tmp_path / "pairs-000002.json").unlink()
    (tmp_path / "pairs-000002.tar").write_bytes(b"cut off")
    assert synthesize.main(command(portraits, tmp_path, fields=True)) == 0
    assert contents(tmp_path) == contents(made)


def test_a_full_disk_stops_the_run_with_advice_and_the_same_command_goes_on(
    portraits, made, tmp_path, monkeypatch, capsys
):
    class Full(io.FileIO):
        def write(self, block):
            if ".pairs-000002.tar" in str(self.name) and self.tell() > 50_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(block)

    with monkeypatch.context() as full:
        full.setattr(file_writing, "open", lambda path, mode: Full(path, mode.replace("b", "")), raising=False)
        assert synthesize.main(command(portraits, tmp_path, fields=True)) == 2
    assert "no room left" in (message := capsys.readouterr().err) and "same command again" in message
    assert {path.name for path in tmp_path.glob("*.tar")} == {"pairs-000000.tar", "pairs-000001.tar"}
    assert not list(tmp_path.glob(".*"))
    assert synthesize.main(command(portraits, tmp_path, fields=True)) == 0
    assert contents(tmp_path) == contents(made)


def die(number: int) -> dict:
    os.kill(os.getpid(), signal.SIGKILL)
    return {"shard": number}


def test_a_worker_that_is_killed_ends_the_run_with_advice():
    with pytest.raises(OSError, match="fewer --workers"):
        list(run_pool(die, [0], workers=1))


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the optional extra: pip install ray")
def test_ray_leaves_the_same_bytes_as_one_process(portraits, made, tmp_path):
    assert synthesize.main(command(portraits, tmp_path, fields=True, engine="ray")) == 0
    assert contents(tmp_path) == contents(made)


# Refusals before any work


def refusal(capsys, *flags: str) -> str:
    assert synthesize.main(list(flags)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"pairs": 0}, "num_pairs=0: use 1 or more"),
        ({"shard_size": 0}, "shard_size=0"),
        ({"side": 8}, "side=8: use 64"),
        ({"seed": -1}, "seed=-1"),
        ({"workers": 0}, "--workers 0"),
        ({"operations": "noze"}, "unknown operation 'noze': use simulated"),
        ({"operations": "face", "mode": "official"}, "simulated operations only"),
        ({"operations": "body", "landmarks": "mini"}, "needs the landmarks of the body, and mini gives none"),
        ({"landmarks": "npz:/nowhere/landmarks.npz"}, "/nowhere/landmarks.npz: no such"),
        ({"landmarks": "dlib"}, "unknown source of landmarks"),
        ({"split": "evening"}, "its splits are: 'train'"),
        ({"shard_id": 4}, "shards 0 to 3"),
        ({"address": "auto"}, "add --engine ray"),
        ({"engine": "ray", "workers": 2}, "Ray counts its own"),
    ],
)
def test_what_cannot_work_is_refused_before_any_work(portraits, tmp_path, capsys, changes, advice):
    assert advice in refusal(capsys, *command(portraits, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_a_missing_or_empty_folder_is_refused(portraits, tmp_path, capsys):
    landmarks = f"npz:{portraits / 'landmarks.npz'}"
    missing = command(tmp_path / "missing", tmp_path / "out", landmarks=landmarks)
    assert "no such folder" in refusal(capsys, *missing)
    (tmp_path / "empty").mkdir()
    assert "is empty" in refusal(capsys, *command(tmp_path / "empty", tmp_path / "out", landmarks=landmarks))


def test_a_target_that_cannot_be_written_is_refused(portraits, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert "cannot write to" in refusal(capsys, *command(portraits, tmp_path / "file"))


def test_too_little_room_is_noticed_before_the_first_shard(portraits, tmp_path, capsys):
    message = refusal(capsys, *command(portraits, tmp_path, pairs=10**13, shard_size=10**11))
    assert "10000000000000 pairs" in message and "TB" in message and "free" in message
    assert not list(tmp_path.iterdir())


def test_the_pairs_that_tell_the_size_are_of_several_portraits(portraits, tmp_path, monkeypatch):
    maker, probed = PairMaker(spec(portraits, num_pairs=22)), []
    make = maker.make
    monkeypatch.setattr(maker, "make", lambda index, tally: probed.append(index) or make(index, tally))
    synthesize._check_room(maker, [1, 2, 3], tmp_path)  # 16 pairs, 6 to 21
    assert probed == [6, 10, 14, 18]
    probed.clear()
    synthesize._check_room(maker, [3], tmp_path)
    assert probed == [18, 19, 20, 21]


def test_a_folder_where_nothing_is_usable_ends_with_counts(tmp_path, capsys):
    folder = tmp_path / "portraits"
    folder.mkdir()
    for index in range(3):
        write_picture(folder / f"{index}.png", (90, 90), index)
    np.savez(folder / "landmarks.npz", files=np.array(["0.png"]), face_avg=draw_mesh().numpy()[None])
    assert "3 too-small" in refusal(capsys, *command(folder, tmp_path / "out"))
    assert not list((tmp_path / "out").iterdir())


def test_other_arguments_in_the_same_folder_are_refused_with_their_names(portraits, made, tmp_path, capsys):
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    before = contents(tmp_path)
    message = refusal(capsys, *command(portraits, tmp_path, fields=True, seed=6, operations="mouth_smile"))
    assert "dataset.seed: 6 now, 5 there" in message and "dataset.operations" in message
    assert "dataset.side" not in message
    (tmp_path / "manifest.json").unlink()
    assert "no manifest.json" in refusal(capsys, *command(portraits, tmp_path, fields=True))
    (tmp_path / "manifest.json").write_text((made / "manifest.json").read_text()[:50])
    assert "damaged" in refusal(capsys, *command(portraits, tmp_path, fields=True))
    assert {name: value for name, value in contents(tmp_path).items() if name != "manifest.json"} == {
        name: value for name, value in before.items() if name != "manifest.json"
    }


def test_ray_that_is_not_installed_is_refused_with_the_way_to_get_it(portraits, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    message = refusal(capsys, *command(portraits, tmp_path, engine="ray"))
    assert "pip install ray" in message and "--shard-id" in message
