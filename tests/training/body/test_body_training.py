"""Training the body network and measuring body retouches, on drawn people."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close
from toys import LOCATOR, TINY, seeded

from mirrorppr_core.bodies.joints import load_body_net
from mirrorppr_core.bodies.network import CROP_PX, JOINTS, MIRROR_JOINTS
from mirrorppr_core.geometry.displacement import length
from mirrorppr_core.mini.field_dit import FieldDiT
from mirrorppr_core.mini.files import bundled_set
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.networks.mae import MAEEncoder
from mirrorppr_core.networks.rformer import RFormer
from training.body.benchmark import (
    BODY_OPERATIONS,
    Body,
    BodyBenchmarkConfig,
    build_case,
    list_cases,
    load_bodies,
    write_report,
)
from training.body.data import BodyPhoto, augmented_crop, is_plausible, plain_crop, sampled_batch
from training.body.drawn_bodies import drawn_bodies
from training.body.stage import (
    BodyExaminer,
    BodySource,
    BodyStage,
    PlainBodySource,
    body_loss,
    save_trained,
    split_photos,
    usual_places,
)
from training.curriculum import BODY
from training.evaluate_body import main as evaluate_body
from training.evaluation.benchmark_report import MINI, CaseResult
from training.evaluation.known_truth import Score
from training.export import export
from training.mini.engine import build, check
from training.mini.stages import EncoderStage, GeometryStage, JointStage
from training.presets import load_preset
from training.runs.loop import LoopConfig, StageParts, Stopped, run_stage

accelerate = pytest.importorskip("accelerate")

PORTRAITS = Path(os.environ.get("MIRRORPPR_SHARED", Path(__file__).parents[4] / "shared")) / "portraits"
needs_portraits = pytest.mark.skipif(
    not (PORTRAITS / "landmarks.npz").exists(), reason=f"{PORTRAITS} is absent: set MIRRORPPR_SHARED"
)
PHOTOS = drawn_bodies(3)


def unlabelled(photo: BodyPhoto) -> BodyPhoto:
    return replace(photo, told=torch.zeros(len(JOINTS), dtype=torch.bool))


def colours_at(pixels: Tensor, places: Tensor) -> Tensor:
    """(4, S, S), (J, 2) -> (J, 3)."""
    x, y = ((places + 1) * CROP_PX / 2).long().clamp(0, CROP_PX - 1).unbind(1)
    return pixels[:3, y, x].T


def test_joints_stay_on_their_dots_when_a_crop_is_turned_bent_and_mirrored():
    pixels, places, told = plain_crop(PHOTOS[0])
    assert told.all()
    colours = colours_at(pixels, places)
    assert (colours - 0.5).abs().amax(1).gt(0.05).all(), "every place is on a dot"
    hits = total = 0
    for seed in range(12):
        pixels, places, told = augmented_crop(PHOTOS[seed % 3], seeded(seed))
        found = colours_at(pixels, places)
        kept = (told > 0) & (colours_at(pixels[3:].expand(3, -1, -1), places)[:, 0] == 1)  # dots inside the photo
        mirrored = (found - colours[list(MIRROR_JOINTS)]).abs().amax(1) < 0.1
        straight = (found - colours).abs().amax(1) < 0.1
        hits, total = hits + int(((mirrored | straight) & kept).sum()), total + int(kept.sum())
    assert total > 40 and hits >= 0.9 * total


def test_what_a_cut_takes_away_is_not_told():
    told = sampled_batch(PHOTOS[:1], range(48)).told
    assert told[:, :2].mean() > told[:, 6:].mean() + 0.1  # hips are cut off more often than shoulders
    assert 0.3 < told[:, 6:].mean() < 1


def test_a_crop_follows_from_its_seed_alone():
    alone, among = sampled_batch(PHOTOS, [5]), sampled_batch(PHOTOS, [4, 5, 6])
    assert torch.equal(alone.pixels[0], among.pixels[1]) and torch.equal(alone.places[0], among.places[1])
    assert not torch.equal(among.pixels[0], among.pixels[1])


def test_parts_of_a_step_are_the_step():
    for source in (BodySource(tuple(PHOTOS), seed=1), PlainBodySource(tuple(PHOTOS))):
        whole, parts = source.batch(3, 4, 0, 1), [source.batch(3, 4, part, 2) for part in range(2)]
        assert torch.equal(whole.pixels, torch.cat([part.pixels for part in parts]))
        assert torch.equal(whole.places, torch.cat([part.places for part in parts]))


# the stage


def stage(seed: int = 0, *, batches: int = 1) -> BodyStage:
    torch.manual_seed(seed)
    return BodyStage(usual_places(tuple(PHOTOS)), BodySource(tuple(PHOTOS), seed=0), batches=batches)


def trained(module: BodyStage) -> dict[str, Tensor]:
    """What the trainer's result would hold."""
    return {name: p.detach() for name, p in module.named_parameters()} | module.statistics()


def save_parts(run) -> None:
    """Results of the other stages, untrained."""
    torch.manual_seed(0)
    modules = {"encoder": EncoderStage(TINY), "backbone": GeometryStage(TINY)}
    modules["joint-pro"] = JointStage(TINY, MAEEncoder(TINY.mae), FieldDiT(TINY), RFormer(TINY))
    for name, module in modules.items():
        kept = {
            key: value.contiguous()
            for key, value in module.state_dict().items()
            if name != "joint-pro" or key.startswith(("rformer.", "connector.")) or ".lora_" in key
        }
        save_file(kept, run / f"{name}.safetensors")


def body_run(folder, *, asked_to_stop=lambda: False, steps: int = 2) -> bytes:
    folder.mkdir(exist_ok=True)
    row = replace(BODY, steps=steps, batch=2, warmup=1)
    training, held_out = split_photos(drawn_bodies(6), held_out=0.3, seed=0)
    torch.manual_seed(0)
    source = BodySource(training, seed=0)
    module = BodyStage(usual_places(training), source, batches=1)
    parts = StageParts(module, source, PlainBodySource(held_out), BodyExaminer(), completion=module.statistics)
    loop = LoopConfig(log_steps=1, validate_steps=2, sheet_steps=2, validation_batches=1, save_steps=1,
                      preflight_steps=0, reporters=())  # fmt: skip
    accelerator = accelerate.Accelerator(cpu=True)
    return run_stage(row, parts, loop, folder, accelerator, {}, asked_to_stop=asked_to_stop).read_bytes()


def test_a_stopped_run_continues_to_the_same_network_held_out_errors_and_statistics(tmp_path):
    unbroken = body_run(tmp_path / "unbroken")
    with pytest.raises(Stopped):
        body_run(tmp_path / "broken", asked_to_stop=lambda: True)
    assert body_run(tmp_path / "broken") == unbroken
    logs = [(tmp_path / name / "log.jsonl").read_text() for name in ("unbroken", "broken")]
    assert logs[0] == logs[1] and '"validation": {"loss"' in logs[0] and '"joint_error"' in logs[0]
    assert (tmp_path / "unbroken" / "sheets" / "body-00000002.png").exists()


def test_the_loss_falls_and_the_file_of_a_set_answers_as_the_stage_does(tmp_path):
    module, batch = stage(), sampled_batch(PHOTOS, range(4))
    optimizer = torch.optim.AdamW(module.parameters(), lr=4e-3)
    losses = []
    for _ in range(8):
        loss, _ = module(batch, seeded())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0], losses
    save_trained(trained(module), tmp_path / "body.safetensors")
    with torch.no_grad():
        stored = load_body_net(tmp_path / "body.safetensors")(batch.pixels).places
        assert_close(stored, module(batch, seeded()) and module.body(batch.pixels).places, atol=0.01, rtol=0)


def test_statistics_follow_from_the_weights_alone():
    """Whatever was seen before, and on which process: no checkpoint needs them."""
    module, fresh = stage(), stage()
    for seeds in ((1, 2), (3, 4)):
        module(sampled_batch(PHOTOS, seeds), seeded())

    def equal() -> list[bool]:
        return [
            torch.equal(*pair) for pair in zip(module.statistics().values(), fresh.statistics().values(), strict=True)
        ]

    assert all(equal())
    with torch.no_grad():
        module.body.to_4[0][0].weight.mul_(2)
    assert not all(equal())


def test_the_preset_of_face_and_body_ends_with_the_body(tmp_path):
    assert load_preset("mini-pro").stages[-1] is BODY and BODY not in load_preset("mini-face").stages
    tiny = load_preset("tiny", ["data.drawn=6", "data.held_out=0.3"])
    row = tiny.stages[-1]
    parts = build(row, tiny, tmp_path, torch.device("cpu"))
    assert isinstance(parts.module, BodyStage) and set(parts.starts_from) == {"bodies"}
    save_file(trained(parts.module), tmp_path / "body.safetensors")
    later = replace(row, name="body-fine", starts={"body": "body"})
    continued = build(later, tiny, tmp_path, torch.device("cpu"))
    assert set(continued.starts_from) == {"bodies", "body.safetensors"}
    for name, value in continued.module.body.state_dict().items():
        assert torch.equal(value, parts.module.body.state_dict()[name]), name
    check(replace(tiny, stages=(*tiny.stages, later)), tmp_path)
    with pytest.raises(ValueError, match="stage body: the body has no sample settings, remove"):
        check(replace(tiny, stages=(replace(row, samples={"part_share": 0.1}),)), tmp_path)


def test_a_folder_without_bodies_is_refused_before_any_stage_is_trained(tmp_path):
    (tmp_path / "portraits.csv").write_text("file,split,identity,source\n")
    np.savez(tmp_path / "landmarks.npz", files=np.array(["train/0.jpg"]), face_avg=np.zeros((1, 478, 2)))
    told = [f"data.portraits={tmp_path}"]
    check(load_preset("mini-face", told), tmp_path)
    with pytest.raises(ValueError, match="has no body_files and pose, which the stage `body` learns from"):
        check(load_preset("mini-pro", told), tmp_path)


def test_a_run_with_a_body_exports_it_and_the_set_insists_on_it(tmp_path):
    """The other parts come from a finished toy set, as only the body is of interest here."""
    save_file(trained(stage()), tmp_path / "body.safetensors")
    save_parts(tmp_path)
    with_body, without = tmp_path / "with", tmp_path / "without"
    own = export(tmp_path, LOCATOR, with_body, TINY)
    (tmp_path / "body.safetensors").unlink()
    assert export(tmp_path, LOCATOR, without, TINY) != own and not (without / "body.safetensors").exists()
    assert MirrorPPR.from_folder(with_body).editor.set_id == own
    (with_body / "body.safetensors").write_bytes((bundled_set() / "body.safetensors").read_bytes())
    with pytest.raises(ValueError, match="body"):
        MirrorPPR.from_folder(with_body)


def test_a_joint_that_is_not_told_does_not_pull():
    batch = sampled_batch([unlabelled(PHOTOS[0])], range(2))
    assert float(body_loss(stage().body, batch)[1]) == 0


def test_held_out_people_are_never_trained_on_and_one_person_alone_is_refused():
    training, held_out = split_photos(drawn_bodies(10), held_out=0.3, seed=0)
    assert len(held_out) == 3 and not {p.identity for p in training} & {p.identity for p in held_out}
    with pytest.raises(ValueError, match="1 people with half or whole bodies cannot be divided.*at least two"):
        split_photos(drawn_bodies(1), held_out=0.3, seed=0)


@needs_portraits
def test_the_command_measures_the_bundled_network(capsys):
    assert evaluate_body(["--portraits", str(PORTRAITS)]) == 0
    assert "shoulder_r: " in capsys.readouterr().out
    assert evaluate_body(["--portraits", "nowhere"]) == 2


def test_a_pose_with_a_shoulder_above_the_mouth_is_a_mistake():
    pose, mesh = torch.zeros(33, 4), torch.zeros(478, 2)
    pose[[11, 12], 1] = torch.tensor([10.0, 10.0])
    assert is_plausible(pose, mesh)
    pose[12, 1] = -1
    assert not is_plausible(pose, mesh)


# the benchmark


def body(name: str, *, legs: bool) -> Body:
    pose = torch.full((33, 4), 60.0)
    pose[:, 3] = 0
    places = {12: (200, 150), 11: (300, 150), 14: (190, 220), 13: (310, 220), 24: (220, 300), 23: (280, 300),
              10: (240, 90), 9: (260, 90), 26: (220, 390), 25: (280, 390), 28: (220, 470), 27: (280, 470)}  # fmt: skip
    for joint, place in places.items():
        pose[joint] = torch.tensor([*place, 0.0, 1.0 if legs or joint < 25 else 0.0])
    return Body(file=f"body/{name}.jpg", identity=name, pose=pose)


def test_cases_are_a_function_of_the_seed_and_show_what_both_people_show():
    bodies = [body(name, legs=name == "a") for name in "abc"]
    config = BodyBenchmarkConfig(num_each=2)
    cases = list_cases(bodies, config)
    assert cases == list_cases(bodies, config)
    assert {case.operation for case in cases} == set(BODY_OPERATIONS) - {"body_shape_slim_leg"}
    assert all(case.exemplar.identity != case.query.identity and 60 <= abs(case.strength) <= 100 for case in cases)
    assert {case.strength > 0 for case in cases} == {True, False}


def test_the_report_counts_refusals_and_names_what_no_portrait_shows():
    case = list_cases([body(name, legs=False) for name in "ab"], BodyBenchmarkConfig(num_each=1))[0]
    score = Score(relative_epe=0.5, gain_db=3.0, psnr=40.0, ssim=0.9, changed_outside=0.0, changed_beyond=0.0,
                  seconds=0.5, refused="no face")  # fmt: skip
    result = CaseResult(case=case, scores={MINI: score}, controls={}, extract_seconds=1.0)
    report = write_report([result], BodyBenchmarkConfig())
    assert "body_shape_slim_leg | 0 | no two portraits show it" in report
    assert "| all | 1 | 0.500 [0.500, 0.500] |" in report and "query unchanged: 1." in report


def test_strengths_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="need 0 < min <= max <= 100"):
        BodyBenchmarkConfig(min_strength=90, max_strength=80)


@needs_portraits
def test_the_real_cases_show_what_they_move():
    config = BodyBenchmarkConfig(num_each=1)
    case = list_cases(load_bodies(PORTRAITS), config)[0]
    pictures = build_case(case, PORTRAITS)
    assert float(length(pictures.displacement).amax()) >= config.min_motion_px and 0.005 < pictures.region.mean() < 0.9
    outside = pictures.region[0, 0] == 0
    assert ((pictures.query_after - pictures.query).abs() < 0.2)[0][:, outside].all()
