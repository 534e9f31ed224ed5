"""Both Qwen stages through the real trainer: from a folder of portraits and model files to a set that loads."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from qwen_training_toys import tiny_train_config
from safetensors.torch import load_file
from tiny_qwen import TINY_PRO, components, save_base, save_set
from toys import push

from mirrorppr_core.qwen.files import SLOTS, QwenSet
from tests.core.operations.test_professional import SIZE, draw_mesh
from tests.training.qwen.test_qwen_pairs import recipe, write_shards
from training.presets import load_preset
from training.qwen import engine as qwen_engine
from training.qwen import sources as qwen_sources
from training.qwen.batches import BODY_POOL, FACE_POOL
from training.qwen.config import QwenDataConfig
from training.qwen.encoders import CachedEncoder, OnlineEncoder, base_identity
from training.qwen.examiner import QwenExaminer
from training.qwen.flow import edited_region
from training.qwen.stages import LatentBatch
from training.qwen_cache import encode_missing
from training.qwen_export import export, trained_config
from training.recipes.recipe import PROFESSIONAL_BODY, PROFESSIONAL_FACE, SIMULATED
from training.runs.checkpoints import CheckpointError
from training.runs.loop import LoopConfig, Stopped
from training.runs.preset import Preset
from training.train import train, weights_hash

PEOPLE, SAMPLES, SIDE = 6, 4, 64


@pytest.fixture(scope="module")
def material(tmp_path_factory) -> dict[str, str]:
    """Paths of a tiny base model, its MAE, and six drawn portraits with landmarks."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "portraits").mkdir()
    for person in range(PEOPLE):
        coarse = torch.rand(1, 3, 12, 12, generator=torch.Generator().manual_seed(person))
        picture = torch.nn.functional.interpolate(coarse, [2 * side for side in SIZE], mode="bicubic").clamp(0, 1)
        pixels = (picture[0] * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "portraits" / f"{person}.png")
    meshes = np.stack([2 * draw_mesh(person).numpy() + 0.5 for person in range(PEOPLE)])
    files = np.array([f"{person}.png" for person in range(PEOPLE)])
    np.savez(folder / "landmarks.npz", files=files, mesh=meshes)
    return {
        "base": str(save_base(components(), folder / "base")),
        "mae": str(save_set(folder) / SLOTS["mae"]),
        "portraits": str(folder / "portraits"),
        "landmarks": f"npz:{folder / 'landmarks.npz'}",
    }


@pytest.fixture(scope="module")
def preset(material) -> Preset:
    """qwen-face with everything tiny."""
    stages = tuple(
        replace(stage, steps=4, batch=2, micro_batch=1, warmup=1, learning_rate=3e-3)
        for stage in load_preset("qwen-face").stages
    )
    data = QwenDataConfig(
        **material, operations="face", min_side=256, samples=SAMPLES, held_out=0.5, exemplar_size=(SIDE, SIDE),
        query_sizes=((SIDE, SIDE),),
    )  # fmt: skip
    loop = LoopConfig(log_steps=2, validate_steps=4, validation_batches=1, sheet_steps=4, save_steps=2,
                      preflight_steps=0, reporters=())  # fmt: skip
    return Preset(name="tiny-qwen", engine="qwen", stages=stages, data=data, model=tiny_train_config(), loop=loop)


@pytest.fixture(scope="module")
def run(preset, tmp_path_factory) -> Path:
    """Both stages, never interrupted."""
    folder = tmp_path_factory.mktemp("run")
    train(preset, folder, device="cpu")
    return folder


def stopped_after(steps: int):
    """Instead of a person at the keyboard: asks the loop to stop when it has asked back so many times."""
    asked = iter(range(10_000))
    return lambda: next(asked) >= steps - 1


def test_both_stages_run_and_what_they_made_loads_as_a_set(run, preset, tmp_path):
    exported = export(
        run / "joint.safetensors", trained_config(run / "joint.safetensors"), mae=Path(preset.data.mae), out=tmp_path,
        dtype=torch.float32,
    )  # fmt: skip
    loaded = QwenSet.from_folder(exported.folder).load_connector(dtype=torch.float32)
    trained = load_file(str(run / "joint.safetensors"))
    assert torch.equal(loaded.state_dict()["proj.0.weight"], trained["connector.proj.0.weight"])
    assert trained_config(run / "joint.safetensors") == preset.model


def test_held_out_numbers_and_painted_faces_are_there(run):
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    held_out = {entry["stage"]: entry for entry in entries if "validation" in json.dumps(entry)}
    assert {"loss", "psnr_region", "copy_psnr_region"} <= held_out["extractor"]["validation"].keys()
    scores = held_out["joint"]["validation"]
    assert {"loss", "flow", "region_error", "sheet_psnr_region", "sheet_copy_psnr_region"} <= scores.keys()
    assert "sheet_relEPE" not in scores, "no motion is measured in pictures as small as these"


@pytest.mark.parametrize("stage", ["extractor", "joint"])
def test_a_sheet_shows_exemplar_query_result_and_truth_of_people_never_trained_on(run, stage):
    with Image.open(run / "sheets" / f"{stage}-00000004.png") as sheet:
        assert sheet.width == 5 * 192
        cells = [np.asarray(sheet.crop((192 * n, 16, 192 * (n + 1), 208)), np.float32) for n in range(5)]
    before, after, query, result, truth = cells
    assert np.abs(query - truth).mean() < np.abs(query - before).mean(), "query and truth are one picture"
    assert 0 < np.abs(before - after).mean() < np.abs(before - query).mean()
    assert np.abs(result - truth).mean() > np.abs(query - truth).mean(), "after four steps nothing is learned"


def test_a_sheet_measures_motion_where_pictures_are_large_enough():
    """A moved square against itself, and against leaving it where it was."""
    still = torch.nn.functional.interpolate(
        torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)), size=(256, 256), mode="bicubic"
    ).clamp(0, 1)
    moved = push(still, centre=(128, 128), radius=60, shift=(6.0, 0.0))
    region = edited_region(still, moved)
    batch = LatentBatch(before=still, after=still, text=still, query=still, target=still, region=region)
    examiner = QwenExaminer(lambda: None)
    right, copied = (
        examiner.sheet_numbers(batch, {"query": still, "result": result, "truth": moved}) for result in (moved, still)
    )
    assert right["sheet_relEPE"] < 0.01 < copied["sheet_relEPE"] == 1.0
    assert right["sheet_psnr_region"] > copied["sheet_psnr_region"] == copied["sheet_copy_psnr_region"]


@pytest.mark.parametrize("stage", ["extractor", "joint"])
def test_a_run_that_was_stopped_continues_to_the_same_bits(run, preset, stage, tmp_path):
    if stage == "joint":
        (tmp_path / "extractor.safetensors").write_bytes((run / "extractor.safetensors").read_bytes())
    with pytest.raises(Stopped):
        train(preset, tmp_path, only=stage, device="cpu", asked_to_stop=stopped_after(3))
    assert not (tmp_path / f"{stage}.safetensors").exists()
    train(preset, tmp_path, only=stage, device="cpu")
    assert weights_hash(tmp_path / f"{stage}.safetensors") == weights_hash(run / f"{stage}.safetensors")


def as_rank(rank: int, port: int, preset: Preset, run: Path) -> None:
    """One of two processes that train the joint stage, with the environment that launchers give them."""
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    os.environ.update({name: str(value) for name, value in {**ranks, **place}.items()})
    train(preset, run, only="joint", device="cpu")


def test_two_killed_processes_continue_to_the_bits_of_one_that_nobody_touched(run, preset, tmp_path):
    # A server that imported everything once and forks: four processes would take half a minute to start.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["diffusers.models", "transformers.models.qwen2_5_vl", "peft", __name__])

    def start() -> list:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        started = [context.Process(target=as_rank, args=(rank, port, preset, tmp_path)) for rank in range(2)]
        for process in started:
            process.start()
        return started

    (tmp_path / "extractor.safetensors").write_bytes((run / "extractor.safetensors").read_bytes())
    killed, log = start(), tmp_path / "log.jsonl"
    while not (log.exists() and '"step": 2' in log.read_text()):
        assert killed[0].is_alive(), "it ended before its second step"
        time.sleep(0.005)
    for process in killed:
        process.kill()
        process.join()
    assert not (tmp_path / "joint.safetensors").exists()
    for process in start():
        process.join()
        assert process.exitcode == 0
    assert weights_hash(tmp_path / "joint.safetensors") == weights_hash(run / "joint.safetensors")


def test_a_run_from_the_cache_gives_the_bits_of_one_that_asks_the_models(run, preset, tmp_path):
    (tmp_path / "extractor.safetensors").write_bytes((run / "extractor.safetensors").read_bytes())
    cache, encoder = tmp_path / "cache", OnlineEncoder(components())
    base = base_identity(Path(preset.data.base))
    halves = [qwen_sources.pictures_to_encode(preset, part=part, parts=2) for part in range(2)]
    new = sum(encode_missing(encoder, half, cache, base=base, part=part) for part, half in enumerate(halves))
    assert new == len(CachedEncoder(cache)) > SAMPLES
    cached = replace(preset, data=replace(preset.data, cache=str(cache)))
    train(cached, tmp_path, only="joint", device="cpu")
    assert weights_hash(tmp_path / "joint.safetensors") == weights_hash(run / "joint.safetensors")


def test_nobody_is_in_training_and_validation(preset):
    stage = preset.stages[0]
    people = [
        {name for sample in bucket for name in sample.identities}
        for held_out in (False, True)
        for bucket in qwen_sources.batches(stage, preset, None, held_out=held_out).buckets
    ]
    assert people[0] and people[1] and not people[0] & people[1]


def test_stage_two_starts_from_stage_one(run, preset):
    stage = preset.stages[1]
    module = qwen_engine.build(stage, preset, run, torch.device("cpu")).module
    trained = load_file(str(run / "extractor.safetensors"))
    for name, value in module.rformer.state_dict().items():
        assert torch.equal(value, trained[f"rformer.{name}"]), name


def test_a_later_joint_stage_goes_on_with_all_three_parts(run, preset):
    later = replace(preset.stages[1], name="joint-pro", starts=dict.fromkeys(("rformer", "connector", "lora"), "joint"))
    parts = qwen_engine.build(later, preset, run, torch.device("cpu"))
    trained = load_file(str(run / "joint.safetensors"))
    own = {name: p for name, p in parts.module.named_parameters() if p.requires_grad}
    assert own.keys() == trained.keys() and all(torch.equal(own[name], trained[name]) for name in own)
    assert {"mae", "base", "joint.safetensors"} == set(parts.starts_from)
    with pytest.raises(ValueError, match="does not hold the rformer of this run"):
        wider = replace(preset, model=tiny_train_config(TINY_PRO))
        qwen_engine.build(replace(later, starts={"rformer": "joint"}), wider, run, torch.device("cpu"))


# --- finished pairs instead of portraits -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def from_shards(preset, tmp_path_factory) -> Preset:
    shards = write_shards(
        tmp_path_factory.mktemp("shards"), [(f"person {n % 6}", recipe(PROFESSIONAL_FACE[n % 2])) for n in range(12)]
    )
    return replace(
        preset, data=replace(preset.data, source="shards", pairs=str(shards), portraits="", samples=0, min_side=64)
    )


def test_a_stopped_run_on_shards_continues_to_the_same_bits(run, from_shards, tmp_path):
    for name in ("unbroken", "broken"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "extractor.safetensors").write_bytes((run / "extractor.safetensors").read_bytes())
    train(from_shards, tmp_path / "unbroken", only="joint", device="cpu")
    with pytest.raises(Stopped):
        train(from_shards, tmp_path / "broken", only="joint", device="cpu", asked_to_stop=stopped_after(3))
    train(from_shards, tmp_path / "broken", only="joint", device="cpu")
    hashes = {weights_hash(tmp_path / name / "joint.safetensors") for name in ("unbroken", "broken")}
    assert len(hashes) == 1 and weights_hash(run / "joint.safetensors") not in hashes


def test_other_pairs_do_not_continue_a_run(from_shards, tmp_path):
    with pytest.raises(Stopped):
        train(from_shards, tmp_path, only="extractor", device="cpu", asked_to_stop=stopped_after(3))
    rows = [(f"person {n % 6}", recipe(PROFESSIONAL_FACE[0], strength=-50.0)) for n in range(12)]
    others = write_shards(tmp_path / "others", rows)
    with pytest.raises(CheckpointError, match="starts_from.pairs: '.*' there, '.*' here"):
        train(replace(from_shards, data=replace(from_shards.data, pairs=str(others))), tmp_path, device="cpu")


def test_a_cache_of_finished_pairs_is_complete(from_shards, tmp_path):
    encoder, base = OnlineEncoder(components()), base_identity(Path(from_shards.data.base))
    encode_missing(encoder, qwen_sources.pictures_to_encode(from_shards), tmp_path, base=base)
    source = qwen_sources.batches(from_shards.stages[1], from_shards, CachedEncoder(tmp_path), held_out=False)
    epoch = len(source.buckets[0]) // 2
    assert all(source.batch(step, 2, 0, 1).text.isfinite().all() for step in range(epoch))


def test_pairs_that_cannot_feed_a_stage_are_refused_before_anything_is_built(from_shards, tmp_path):
    def checked(**changes):
        qwen_engine.check(replace(from_shards, data=replace(from_shards.data, **changes)), tmp_path)

    checked()
    for changes, message in (
        ({"pairs": ""}, "data.pairs is not set: give the folder that python -m training.synthesize wrote"),
        ({"source": "released"}, "none of the released layouts"),
        ({"operations": "simulated"}, "no pair shows operations of this stage only"),
        ({"held_out": 1e-9}, "none of the 6 identities of these pairs is held out"),
        ({"source": "tape"}, "use one of online, shards, released"),
        ({"source": "online", "samples": 0}, "samples=0 takes every pair"),
    ):
        with pytest.raises(ValueError, match=message):
            checked(**changes)
    hungry = tuple(replace(stage, batch=64, micro_batch=1) for stage in from_shards.stages)
    with pytest.raises(ValueError, match="pairs for stage extractor and its batch is 64: add pairs"):
        qwen_engine.check(replace(from_shards, stages=hungry), tmp_path)


# --- what is wrong is said before anything is built -----------------------------------------------------------------


def test_missing_data_and_rows_that_cannot_work_are_named(preset, tmp_path):
    def checked(**changes):
        qwen_engine.check(replace(preset, data=replace(preset.data, **changes)), tmp_path)

    checked()
    for changes, message in (
        ({"base": ""}, "data.base is not set"),
        ({"landmarks": "mini", "operations": "all"}, "body operations and data.landmarks=mini"),
        ({"operations": "eye_rotate"}, "unknown operation"),
    ):
        with pytest.raises(ValueError, match=message):
            checked(**changes)
    with pytest.raises(FileNotFoundError, match="data.mae=/nowhere does not exist"):
        checked(mae="/nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is empty: fill it with"):
        checked(cache=str(tmp_path / "empty"))
    encode_missing(OnlineEncoder(components()), [(torch.rand(3, 64, 64), False)], tmp_path / "other", base="another")
    with pytest.raises(ValueError, match="filled from base model another"):
        checked(cache=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="set loop.workers=0"):
        qwen_engine.check(replace(preset, loop=replace(preset.loop, workers=2)), tmp_path)
    first, second = preset.stages
    for rows, message in (
        ((replace(first, module="backbone"),), "none of Qwen's"),
        ((first, replace(second, starts={"mae": "extractor"})), "joint cannot start"),
    ):
        with pytest.raises(ValueError, match=message):
            qwen_engine.check(replace(preset, stages=rows), tmp_path)


def test_each_kind_of_set_draws_the_operations_and_sizes_of_its_subset():
    face, pro = load_preset("qwen-face"), load_preset("qwen-pro", ["data.landmarks=mediapipe"])
    assert qwen_sources.operations(face.stages[1], face) == SIMULATED
    assert qwen_sources.operations(pro.stages[-1], pro) == PROFESSIONAL_FACE + PROFESSIONAL_BODY
    assert qwen_sources.query_sizes(face.data, face.model.model, SIMULATED) == ((1024, 1024),)
    for chosen, pool in ((SIMULATED, FACE_POOL), (PROFESSIONAL_BODY, BODY_POOL)):
        sizes = qwen_sources.query_sizes(pro.data, pro.model.model, chosen)
        assert sizes == tuple((height, width) for width, height in pool)
    assert qwen_sources.exemplar_size(pro.data, pro.model.model) == (1536, 1440)
    assert qwen_sources.exemplar_size(face.data, face.model.model) == (1024, 1024)
    for wrong in ({"held_out": 1.0}, {"samples": 0}, {"exemplar_size": (3,)}):
        with pytest.raises(ValueError, match="held_out < 1|height, width"):
            QwenDataConfig(**wrong)
