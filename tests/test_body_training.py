"""Training the body network and measuring body retouches, on drawn people."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toys import seeded

from mirrorppr_core.body_net import CROP_PX, JOINTS, MIRROR_JOINTS
from mirrorppr_core.fields import length
from training.body_benchmark import (
    BODY_OPERATIONS,
    Body,
    BodyBenchmarkConfig,
    BodyScore,
    build_case,
    list_cases,
    load_bodies,
    write_report,
)
from training.body_data import BodyPhoto, augmented_crop, body_batch, is_plausible, plain_crop
from training.train_body import BodyTraining, body_loss, train_body

PORTRAITS = Path(os.environ.get("MIRRORPPR_SHARED", Path(__file__).parents[2] / "shared")) / "portraits"
needs_portraits = pytest.mark.skipif(
    not (PORTRAITS / "landmarks.npz").exists(), reason=f"{PORTRAITS} is absent: set MIRRORPPR_SHARED"
)
COLOURS = torch.rand(len(JOINTS), 3, generator=seeded(3)).mul(200).add(50).byte()


def drawn_photo(seed: int = 0, *, told: bool = True) -> BodyPhoto:
    """A grey picture with a coloured dot at each joint."""
    places = torch.tensor(
        [[-2.5, 4.0], [2.5, 4.0], [-3.5, 7.0], [3.5, 7.0], [-4, 9.0], [4, 9.0], [-1.5, 10], [1.5, 10]]
    )
    joints = (places + 0.3 * torch.randn(places.shape, generator=seeded(seed))) * 11 + torch.tensor([90.0, 50.0])
    pixels = torch.full((3, 190, 180), 128, dtype=torch.uint8)
    for (x, y), colour in zip(joints.round().int().tolist(), COLOURS, strict=True):
        pixels[:, y - 4 : y + 5, x - 4 : x + 5] = colour[:, None, None]
    return BodyPhoto(
        pixels=pixels,
        joints=joints,
        eyes=torch.tensor([90.0, 50.0]),
        unit=11.0,
        told=torch.full((len(JOINTS),), told),
        identity=str(seed),
        whole=True,
    )


def colours_at(pixels: Tensor, places: Tensor) -> Tensor:
    """(4, S, S), (J, 2) -> (J, 3)."""
    x, y = ((places + 1) * CROP_PX / 2).long().clamp(0, CROP_PX - 1).unbind(1)
    return pixels[:3, y, x].T


def test_joints_stay_on_their_dots_when_a_crop_is_turned_bent_and_mirrored():
    pixels, places, told = plain_crop(drawn_photo())
    assert told.all()
    assert_close(colours_at(pixels, places), COLOURS / 255, atol=0.02, rtol=0)
    hits = total = 0
    for seed in range(12):
        pixels, places, told = augmented_crop(drawn_photo(seed), seeded(seed))
        found = colours_at(pixels, places)
        kept = (told > 0) & (colours_at(pixels[3:].expand(3, -1, -1), places)[:, 0] == 1)  # dots inside the photo
        mirrored = (found - COLOURS[list(MIRROR_JOINTS)] / 255).abs().amax(1) < 0.1
        straight = (found - COLOURS / 255).abs().amax(1) < 0.1
        hits, total = hits + int(((mirrored | straight) & kept).sum()), total + int(kept.sum())
    assert total > 40 and hits >= 0.9 * total


def test_what_a_cut_takes_away_is_not_told():
    told = torch.cat([body_batch([drawn_photo()], 8, seeded(seed)).told for seed in range(6)])
    assert told[:, :2].mean() > told[:, 6:].mean() + 0.1  # hips are cut off more often than shoulders
    assert 0.3 < told[:, 6:].mean() < 1


def test_the_same_seed_draws_the_same_batch():
    photos = [drawn_photo(n) for n in range(3)]
    first, again, other = (body_batch(photos, 4, seeded(seed)).pixels for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_training_lowers_the_loss_and_repeats_exactly():
    photos = [drawn_photo(n) for n in range(3)]
    batch = body_batch(photos, 8, seeded(9))
    untrained, trained, again = (
        train_body(photos, BodyTraining(batch=4, num_steps=n, warmup_steps=2, learning_rate=4e-3, ema=0.7))
        for n in (1, 20, 20)
    )
    with torch.no_grad():
        assert float(body_loss(trained, batch)[0]) < 0.95 * float(body_loss(untrained, batch)[0])
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), again.parameters(), strict=True))


def test_a_joint_that_is_not_told_does_not_pull():
    net = train_body([drawn_photo()], BodyTraining(batch=2, num_steps=1))
    batch = body_batch([drawn_photo(told=False)], 2, seeded())
    assert float(body_loss(net, batch)[1]) == 0


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
    score = BodyScore(case=case, relative_epe=0.5, gain_db=3.0, changed_outside=0.0, changed_beyond=0.0,
                      extract_seconds=1.0, retouch_seconds=0.5, refused="no face", notes=())  # fmt: skip
    report = write_report([score], BodyBenchmarkConfig())
    assert "body_shape_slim_leg | 0 | no two portraits show it" in report
    assert "| all | 1 | 0.500 [0.500, 0.500] |" in report and "query unchanged: 1." in report


def test_strengths_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="need 0 < min <= max <= 100"):
        BodyBenchmarkConfig(min_strength=90, max_strength=80)
    with pytest.raises(ValueError, match="25 is usual"):
        BodyTraining(minutes=-1)


@needs_portraits
def test_the_real_cases_show_what_they_move():
    config = BodyBenchmarkConfig(num_each=1)
    case = list_cases(load_bodies(PORTRAITS), config)[0]
    pictures = build_case(case, PORTRAITS, config)
    assert float(length(pictures.displacement).amax()) >= config.min_motion_px and 0.005 < pictures.region.mean() < 0.9
    outside = pictures.region[0, 0] == 0
    assert ((pictures.query_after - pictures.query).abs() < 0.2)[0][:, outside].all()
