"""Training the pose network: which labels are believed, squares that keep joints and pictures together, the stage."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.testing import assert_close
from toys import LOCATOR, TINY, seeded

from mirrorppr_core.bodies.pose import Pose, load_pose_net, save_pose_net
from mirrorppr_core.bodies.pose_network import PoseNet
from mirrorppr_core.mini.files import bundled_set
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.networks.mae import MAEEncoder
from mirrorppr_core.networks.rformer import RFormer
from training.body.crops import augmented, plain, plain_batch, sampled_batch
from training.body.data import PosePhoto, believed, load_photos, split_photos
from training.body.drawn_bodies import drawn_bodies
from training.body.scores import pck, report, score, whose_face
from training.body.stage import (
    PlainPoseSource,
    PoseExaminer,
    PoseSettings,
    PoseSource,
    PoseStage,
    pose_loss,
    save_trained,
    usual_places,
)
from training.body.trust import _fitted, reliability
from training.curriculum import BODY
from training.evaluate_body import main as evaluate_body
from training.export import export
from training.mini.engine import build, check
from training.mini.stages import EncoderStage, GeometryStage, JointStage
from training.presets import load_preset
from training.runs.loop import LoopConfig, StageParts, Stopped, run_stage

accelerate = pytest.importorskip("accelerate")

PORTRAITS = Path(os.environ.get("MIRRORPPR_SHARED", Path(__file__).parents[4] / "shared")) / "portraits"
needs_portraits = pytest.mark.skipif(
    not (PORTRAITS / "bodies" / "bodies.npz").exists(), reason=f"{PORTRAITS} has no bodies: set MIRRORPPR_SHARED"
)
SIZE = 64  # of the squares here
PHOTOS = tuple(drawn_bodies(3))
SMALL = PoseSettings(side_px=SIZE)


def colours_at(pixels: Tensor, places: Tensor) -> Tensor:
    """(C, S, S), (J, 2) -> (J, C)."""
    side = pixels.shape[-1]
    x, y = ((places + 1) * side / 2).long().clamp(0, side - 1).unbind(1)
    return pixels[:, y, x].T


# labels


def test_a_joint_counts_as_far_as_the_looks_of_the_teacher_agree():
    visibility, votes = np.array([0.9, 0.9, 0.9, 0.1]), np.array([5, 3, 2, 5])
    weight, told, unsure = believed(visibility, votes, 5, exact=False)
    assert weight == pytest.approx([1, 0.5, 0, 0.4]) and told.tolist() == [1, 1, 1, 0]
    assert unsure.tolist() == [False, True, True, False]


def test_a_hidden_joint_of_a_render_has_a_place_and_is_told_only_if_the_teacher_would_know_it():
    weight, told, unsure = believed(np.array([1.0, 0.25, 0.25, 0.02]), np.array([3, 3, 0, 0]), 3, exact=True)
    assert weight == pytest.approx([1, 0.4, 0.4, 0.4]) and told.tolist() == [1, 0, 0, 0]
    assert unsure.tolist() == [False, True, False, False]


def folder_of_bodies(root) -> None:
    """Two renders and one older portrait, all of split train."""
    (root / "bodies").mkdir()
    for name in ("bodies/a.jpg", "bodies/b.jpg", "body_c.jpg"):
        Image.new("RGB", (40, 30), "grey").save(root / name)
    arrays = {
        "pose": np.full((2, 33, 4), 10.0, dtype=np.float32), "point_votes": np.full((2, 33), 3, dtype=np.int8),
        "views": np.full(2, 3), "exact": np.array([True, True]), "face": np.full((2, 4), np.nan, dtype=np.float32),
    }  # fmt: skip
    np.savez(root / "bodies" / "bodies.npz", files=np.array(["a.jpg", "b.jpg"]), **arrays)
    one = {name: value[:1] for name, value in arrays.items()}
    np.savez(root / "bodies" / "portraits_pose.npz", files=np.array(["body_c.jpg"]), **one)
    for path, fields, rows in (
        ("bodies/bodies.csv", ("file", "split", "identity", "source", "synthetic", "label"),
         [("a.jpg", "train", "p", "own", "1", "exact"), ("b.jpg", "eval", "q", "own", "1", "exact")]),
        ("portraits.csv", ("file", "split", "identity"), [("body_c.jpg", "train", "r")]),
    ):  # fmt: skip
        with open(root / path, "w", newline="") as handle:
            csv.writer(handle).writerows([fields, *rows])


def test_photos_of_another_split_are_not_read_and_points_are_counted_from_the_first_pixels_centre(tmp_path):
    folder_of_bodies(tmp_path)
    photos = load_photos(tmp_path, split="train")
    assert [(photo.file, photo.group) for photo in photos] == [("a.jpg", "render"), ("body_c.jpg", "portrait")]
    assert photos[0].joints[0].tolist() == [9.5, 9.5] and np.isnan(photos[0].face).all()
    with pytest.raises(ValueError, match="no pictures of split 'test'"):
        load_photos(tmp_path, split="test")


def test_a_folder_without_bodies_is_refused_before_any_stage_is_trained(tmp_path):
    (tmp_path / "portraits.csv").write_text("file,split,identity,source\n")
    np.savez(tmp_path / "landmarks.npz", files=np.array(["train/0.jpg"]), face_avg=np.zeros((1, 478, 2)))
    told = [f"data.portraits={tmp_path}"]
    check(load_preset("mini-face", told), tmp_path)
    with pytest.raises(ValueError, match="has no bodies/bodies.csv and no bodies/bodies.npz, which the stage `body`"):
        check(load_preset("mini-pro", told), tmp_path)


def test_held_out_people_are_never_trained_on_and_one_person_alone_is_refused():
    training, held_out = split_photos(drawn_bodies(10), held_out=0.3, seed=0)
    assert len(held_out) == 3 and not {p.identity for p in training} & {p.identity for p in held_out}
    with pytest.raises(ValueError, match="1 people cannot be divided.*at least two"):
        split_photos(drawn_bodies(1), held_out=0.3, seed=0)


# squares


def test_joints_stay_on_their_dots_when_a_square_is_turned_bent_and_mirrored():
    pixels, places, _, told, _, _ = plain(PHOTOS[0], 256)
    colours = colours_at(pixels[:3], places)
    assert told.all() and (colours - 0.5).abs().amax(1).gt(0.04).all(), "every place is on a dot"
    on_dots = total = 0
    for seed in range(24):
        pixels, places, weight, told, _, _ = augmented(PHOTOS[0], PHOTOS, seed, 256, 1.0)
        kept = (told > 0) & (weight == 1) & (colours_at(pixels[3:4], places)[:, 0] == 1)
        around = torch.stack([colours_at(pixels[:3], places + torch.tensor(d)) for d in ((0.0, 0.0), (0.12, 0.0))])
        on_dots += int((((around[0] - around[1]).abs().amax(1) > 0.02) & kept).sum())  # unlike what is beside it
        total += int(kept.sum())
    assert total > 100 and on_dots >= 0.85 * total


def test_a_mirrored_square_has_right_and_left_changed():
    squares = [augmented(replace(PHOTOS[0]), PHOTOS, seed, SIZE, 0.0) for seed in range(20)]
    leans = []
    for _, places, weight, *_ in squares:
        if weight[5] > 0 and weight[6] > 0:
            leans.append(float(places[6, 0] - places[5, 0]))
    assert all(lean > 0 for lean in leans) and len(leans) > 10  # the person's left is on the right of every picture


def test_what_a_cut_or_a_cover_takes_away_is_not_told():
    batch = sampled_batch(PHOTOS[:1] * 48, PHOTOS, range(48), SIZE, 1.0)
    ankles, shoulders = batch.told[:, 15:].mean(), batch.told[:, 5:7].mean()
    assert 0.2 < ankles < shoulders - 0.1 < 0.95
    assert ((batch.weight == 0) <= (batch.told == 0)).all(), "what has no place is not told"


def test_a_square_follows_from_its_seed_alone():
    alone, among = (sampled_batch(PHOTOS[-n:], PHOTOS, [4, 5, 6][-n:], SIZE, 1.0) for n in (1, 3))
    assert torch.equal(alone.pixels[0], among.pixels[2]) and torch.equal(alone.places[0], among.places[2])
    assert not torch.equal(among.pixels[0], among.pixels[1])


def test_parts_of_a_step_are_the_step():
    for source in (PoseSource(PHOTOS, 1, SMALL), PlainPoseSource(PHOTOS, SIZE)):
        whole, parts = source.batch(3, 4, 0, 1), [source.batch(3, 4, part, 2) for part in range(2)]
        assert torch.equal(whole.pixels, torch.cat([part.pixels for part in parts]))
        assert torch.equal(whole.places, torch.cat([part.places for part in parts]))


def test_real_pictures_are_drawn_as_often_as_asked():
    mixed = tuple(replace(photo, group="render" if i else "photo") for i, photo in enumerate(PHOTOS))
    source = PoseSource(mixed, 0, PoseSettings(real_share=0.25, side_px=SIZE))
    drawn = [source.drawn(seed).group for seed in range(400)]
    assert 0.18 < drawn.count("photo") / 400 < 0.32


# the stage


def stage(seed: int = 0) -> PoseStage:
    torch.manual_seed(seed)
    return PoseStage(usual_places(PHOTOS), PoseSource(PHOTOS, 0, SMALL), PHOTOS[:1], batches=1)


def trained(module: PoseStage) -> dict[str, Tensor]:
    """What the trainer's result would hold."""
    return {name: p.detach().contiguous() for name, p in module.named_parameters()} | module.statistics()


def body_run(folder, *, asked_to_stop=lambda: False, steps: int = 2) -> bytes:
    folder.mkdir(exist_ok=True)
    row = replace(BODY[0], steps=steps, batch=2, warmup=1)
    training, held_out = split_photos(drawn_bodies(6), held_out=0.3, seed=0)
    torch.manual_seed(0)
    source = PoseSource(training, 0, SMALL)
    module = PoseStage(usual_places(training), source, held_out, batches=1)
    parts = StageParts(module, source, PlainPoseSource(held_out, SIZE), PoseExaminer(), completion=module.statistics)
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
    assert logs[0] == logs[1] and '"validation": {"loss"' in logs[0] and '"pck"' in logs[0]
    assert (tmp_path / "unbroken" / "sheets" / "body-00000002.png").exists()


def test_the_loss_falls_and_the_file_of_a_set_answers_as_the_stage_does(tmp_path):
    module, batch = stage(), sampled_batch(PHOTOS, PHOTOS, range(3), SIZE, 0.3)
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
        stored = load_pose_net(tmp_path / "body.safetensors")(batch.pixels)
        assert_close(stored.places, module.body(batch.pixels).places, atol=0.01, rtol=0)
        assert_close(stored.seen, module.body(batch.pixels).seen, atol=0.05, rtol=0.05)


def test_statistics_follow_from_the_weights_alone():
    """Whatever was seen before, and on which process: no checkpoint needs them."""
    module, fresh = stage(), stage()
    module(sampled_batch(PHOTOS, PHOTOS, range(3), SIZE, 1.0), seeded())

    def equal() -> list[bool]:
        return [
            torch.equal(*pair) for pair in zip(module.statistics().values(), fresh.statistics().values(), strict=True)
        ]

    assert all(equal())
    with torch.no_grad():
        module.body.to_4[0][0].weight.mul_(2)
    assert not all(equal())


def test_a_joint_without_weight_does_not_pull_and_one_that_nobody_is_sure_of_is_not_asked():
    nobody = replace(PHOTOS[0], weight=np.zeros(17, dtype=np.float32), unsure=np.ones(17, dtype=bool))
    batch = plain_batch([nobody], SIZE)
    assert float(pose_loss(stage().body, batch)[1]) == 0
    assert (batch.sure[batch.places.abs().amax(-1) < 0.9] == 0).all()


def test_the_preset_of_face_and_body_ends_with_the_body(tmp_path):
    assert load_preset("mini-pro").stages[-len(BODY) :] == BODY and BODY[0] not in load_preset("mini-face").stages
    tiny = load_preset("tiny", ["data.drawn=6", "data.held_out=0.3"])
    first = replace(tiny.stages[-1], samples={**tiny.stages[-1].samples, "side_px": SIZE})
    second = replace(first, name="body-more", starts={"body": first.name})
    parts = build(first, tiny, tmp_path, torch.device("cpu"))
    assert isinstance(parts.module, PoseStage) and set(parts.starts_from) == {"bodies"}
    save_file(trained(parts.module), tmp_path / "body.safetensors")
    continued = build(second, tiny, tmp_path, torch.device("cpu"))
    assert set(continued.starts_from) == {"bodies", "body.safetensors"}
    for name, value in continued.module.body.state_dict().items():
        assert torch.equal(value, parts.module.body.state_dict()[name]), name
    with pytest.raises(ValueError, match=r"stage body: the body has no setting \['part_share'\], only"):
        check(replace(tiny, stages=(replace(first, samples={"part_share": 0.1}),)), tmp_path)
    with pytest.raises(ValueError, match="multiple of 32 from 64"):
        PoseSettings(side_px=100)


def test_a_run_with_a_body_exports_its_last_stage_and_the_set_insists_on_it(tmp_path):
    """The other parts are toys, as only the body is of interest here."""
    torch.manual_seed(0)
    modules = {"encoder": EncoderStage(TINY), "backbone": GeometryStage(TINY)}
    modules["joint-pro"] = JointStage(TINY, MAEEncoder(TINY.mae), GeometryStage(TINY).field_dit, RFormer(TINY))
    for name, module in modules.items():
        kept = {
            key: value.contiguous()
            for key, value in module.state_dict().items()
            if name != "joint-pro" or key.startswith(("rformer.", "connector.")) or ".lora_" in key
        }
        save_file(kept, tmp_path / f"{name}.safetensors")
    save_file(trained(stage(2)), tmp_path / "body.safetensors")
    own = export(tmp_path, LOCATOR, tmp_path / "with", TINY)
    exported = load_pose_net(tmp_path / "with" / "body.safetensors").maps.weight
    assert_close(exported, stage(2).body.maps.weight.detach(), atol=1e-3, rtol=1e-2)
    (tmp_path / "body.safetensors").unlink()
    assert export(tmp_path, LOCATOR, tmp_path / "without", TINY) != own
    assert not (tmp_path / "without" / "body.safetensors").exists()
    assert MirrorPPR.from_folder(tmp_path / "with").editor.set_id == own
    (tmp_path / "with" / "body.safetensors").write_bytes((bundled_set() / "body.safetensors").read_bytes())
    with pytest.raises(ValueError, match="body"):
        MirrorPPR.from_folder(tmp_path / "with")


# how far it can be trusted


def test_a_probability_that_is_right_as_often_as_it_says_stays_as_it_is():
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(4000, generator=generator, dtype=torch.float64) * 2
    features = torch.stack([signs, torch.zeros_like(signs), torch.zeros_like(signs), torch.ones_like(signs)], dim=1)
    right = (torch.rand(4000, generator=generator, dtype=torch.float64) < signs.sigmoid()).double()
    prior = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert_close(_fitted(features, right, torch.ones(4000).double(), prior, 1.0), prior, atol=0.12, rtol=0)
    overconfident = _fitted(3 * features, right, torch.ones(4000).double(), prior, 1.0)
    assert 0.25 < overconfident[0] < 0.45
    nothing = torch.zeros(0, 4, dtype=torch.float64), torch.zeros(0).double(), torch.zeros(0).double()
    assert_close(_fitted(*nothing, prior, 1.0), prior)


def test_reliability_sets_what_was_told_beside_what_was_right():
    told, right = np.array([0.1, 0.1, 0.9, 0.9]), np.array([False, False, True, False])
    assert reliability(told, right, bins=2) == [pytest.approx((0.1, 0.0, 2)), pytest.approx((0.9, 0.5, 2))]


# scores


def found(photo: PosePhoto, *, off: float = 0.0, told: float = 0.9) -> Pose:
    """The label's joints, each `off` torsos too far to the right."""
    points = torch.from_numpy(photo.joints) + torch.tensor([off * photo.torso, 0.0])
    return Pose(points=points, told=torch.full((17,), told), source="mini")


def test_joints_count_as_found_within_a_tenth_of_the_torso():
    for off, share in ((0.0, 1.0), (0.09, 1.0), (0.11, 0.0)):
        scores = [score(photo, lambda image, face, p=photo, o=off: found(p, off=o), []) for photo in PHOTOS]
        assert pck(scores, "wrist") == (share, 6)
    assert "| 1.00 (6) |" in "\n".join(report([score(PHOTOS[0], lambda i, f: found(PHOTOS[0]), [])] * 3))


def test_a_person_who_is_not_found_has_no_joint_found_and_unsure_labels_are_not_asked():
    lost = score(PHOTOS[0], lambda image, face: None, [])
    assert pck([lost], "hip") == (0.0, 2) and (lost.told == 0).all()
    doubted = replace(PHOTOS[0], weight=np.full(17, 0.5, dtype=np.float32))
    assert pck([score(doubted, lambda image, face: found(doubted), [])], "hip")[1] == 0


def test_the_face_at_the_labels_nose_is_the_persons():
    from mirrorppr_core.faces.locator import Face

    def face(x: float, y: float) -> Face:
        return Face(torch.zeros(130, 2), torch.zeros(478, 2), 1.0, 1.0, (x - 14, y - 14, x + 14, y + 14))

    x, y = PHOTOS[0].joints[0]
    own, other = face(float(x), float(y) + 3), face(float(x) + 80, float(y))
    assert whose_face(PHOTOS[0], [other, own]) is own and whose_face(PHOTOS[0], [other]) is None


@needs_portraits
def test_the_command_measures_a_network_on_real_pictures(capsys, tmp_path):
    torch.manual_seed(0)
    save_pose_net(PoseNet(), tmp_path / "body.safetensors")
    told = ["--portraits", str(PORTRAITS), "--weights", str(tmp_path / "body.safetensors"), "--most", "1"]
    assert evaluate_body(told) == 0
    out = capsys.readouterr().out
    assert "| all real (photo, painting, body) | 3 |" in out and "| render | 1 |" in out and "s for a photo of" in out


def test_the_command_says_what_a_folder_lacks(capsys, tmp_path):
    assert evaluate_body(["--portraits", str(tmp_path)]) == 2
    assert "has no bodies/bodies.csv" in capsys.readouterr().err
