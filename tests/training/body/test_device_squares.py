"""Squares drawn a batch at once: functions of (seed, step, part), with labels that lie where the pictures show them."""

from dataclasses import fields

import numpy as np
import torch
from torch.testing import assert_close

from mirrorppr_core.bodies.pose_network import JOINTS
from training.body.data import PosePhoto
from training.body.device_squares import DeviceSource
from training.body.settings import PoseSettings, chances_of

CPU = torch.device("cpu")
EASY = PoseSettings(side_px=96, hard=0.0, moved=0.0)


def dotted_photo(group: str = "photo", *, height: int = 150, width: int = 121) -> PosePhoto:
    """Black with one white disc, at the right wrist."""
    joints = np.stack([np.linspace(30, 90, len(JOINTS)), np.linspace(20, 130, len(JOINTS))], 1).astype(np.float32)
    y, x = np.mgrid[:height, :width]
    at = joints[JOINTS.index("wrist_r")]
    disc = (np.hypot(x - at[0], y - at[1]) < 6).astype(np.uint8) * 255
    ones = np.ones(len(JOINTS), dtype=np.float32)
    return PosePhoto(
        file=f"{group}.png", identity=group, group=group, pixels=torch.from_numpy(disc).expand(3, -1, -1).contiguous(),
        joints=joints, weight=ones, told=ones, unsure=np.zeros(len(JOINTS), dtype=bool),
        face=np.array([36.0, 30.0, 20.0], dtype=np.float32),
    )  # fmt: skip


def source(settings: PoseSettings = EASY, seed: int = 0) -> DeviceSource:
    return DeviceSource((dotted_photo(), dotted_photo("render", height=100, width=140)), seed, settings, CPU)


def test_a_batch_is_a_function_of_seed_step_and_part():
    first, again, other = source().batch(3, 8, 0, 2), source().batch(3, 8, 0, 2), source().batch(4, 8, 0, 2)
    for field in fields(first):
        assert_close(getattr(first, field.name), getattr(again, field.name), rtol=0, atol=0)
    assert not torch.equal(first.places, other.places)
    assert len(first.pixels) == 4 and first.pixels.shape == (4, 5, 96, 96)


def test_the_hardest_squares_are_finite_and_within_their_ranges():
    batch = source(PoseSettings(side_px=96, hard=1.0, moved=1.0)).batch(0, 64, 0, 1)
    assert all(getattr(batch, field.name).isfinite().all() for field in fields(batch))
    assert batch.pixels.min() >= 0 and batch.pixels.max() <= 1
    assert set(batch.sure.unique().tolist()) <= {0.0, 1.0} and (batch.told <= 1).all() and (batch.weight <= 1).all()


def test_a_joint_lies_where_the_square_shows_it():
    batch = source().batch(0, 64, 0, 1)
    wrist = JOINTS.index("wrist_r"), JOINTS.index("wrist_l")  # mirrored squares call it the left one
    bright = (batch.pixels[:, :3].mean(1) * batch.pixels[:, 3]).double()
    bright = (bright - bright.flatten(1).median(1).values[:, None, None]).clamp_min(0)
    bright = bright * (bright > 0.6 * bright.amax((1, 2), keepdim=True))
    u = (torch.arange(96, dtype=torch.float64) + 0.5) * 2 / 96 - 1
    total = bright.sum((1, 2)).clamp_min(1e-9)
    seen = torch.stack([(bright * u).sum((1, 2)), (bright * u[:, None]).sum((1, 2))], 1) / total[:, None]
    off = torch.stack([(batch.places[:, j].double() - seen).norm(dim=1) for j in wrist]).amin(0)
    asked = (batch.told[:, list(wrist)].amin(1) == 1) & (batch.pixels[:, :3].std((1, 2, 3)) > 0.1)
    assert asked.sum() > 16 and off[asked].median() < 0.05


def test_groups_are_drawn_by_their_shares_and_their_pictures_alike():
    photos = [dotted_photo(), dotted_photo("render"), dotted_photo("render")]
    assert_close(torch.tensor(chances_of(photos, 0.4)), torch.tensor([0.4, 0.3, 0.3]))
