"""Other surroundings for the people whom the pose network learns from: the person stays, what is around changes."""

import numpy as np
import torch
from torch.testing import assert_close

from mirrorppr_core.bodies.pose_network import JOINTS
from training.body.crops import augmented, plain
from training.body.drawn_bodies import drawn_bodies
from training.body.surroundings import in_anothers_light, other_background, person_mask

SIZE = 128
PHOTO, *OTHERS = drawn_bodies(4)


def square():
    pixels, places, weight, _, _, torso = plain(PHOTO, SIZE)
    return pixels[:3], places, weight > 0, float(torso)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def cells(places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = ((places + 1) * SIZE / 2).long().clamp(0, SIZE - 1).unbind(-1)
    return y, x


def test_every_known_joint_is_on_the_person_and_the_corners_are_not():
    _, places, known, torso = square()
    mask = person_mask(places, known, torso, SIZE)
    assert (mask[cells(places[known])] == 1).all()
    assert mask[0, 0] == mask[-1, -1] == mask[0, -1] == mask[-1, 0] == 0


def test_a_wider_outline_keeps_more():
    _, places, known, torso = square()
    narrow, wide = (person_mask(places, known, torso, SIZE, width=width).mean() for width in (0.9, 1.8))
    assert wide > 1.2 * narrow


def test_the_person_keeps_every_pixel_and_the_background_is_another():
    colour, places, known, torso = square()
    y, x = cells(places[known])
    for seed in range(8):
        moved = other_background(colour, places, known, torso, OTHERS, rng(seed))
        assert_close(moved[:, y, x], colour[:, y, x])
        assert not torch.equal(moved[:, 0, 0], colour[:, 0, 0])
        assert 0 <= moved.min() and moved.max() <= 1


def test_without_the_trunk_nothing_is_replaced():
    colour, places, known, torso = square()
    known = known.clone()
    known[JOINTS.index("hip_l")] = False
    assert other_background(colour, places, known, torso, OTHERS, rng()) is colour


def test_in_anothers_light_the_means_go_towards_the_others():
    colour = square()[0]
    dark = OTHERS[0].__class__(**{**vars(OTHERS[0]), "pixels": OTHERS[0].pixels // 8})
    for seed in range(4):
        lit = in_anothers_light(colour, dark, rng(seed))
        assert (lit.mean((1, 2)) < colour.mean((1, 2))).all()
        assert lit.shape == colour.shape and 0 <= lit.min() and lit.max() <= 1


def test_squares_differ_only_where_they_were_asked_to_move():
    """Places and labels are the same wherever somebody stands."""
    here, there = (augmented(PHOTO, OTHERS, 5, SIZE, 0.0, moved) for moved in (0.0, 1.0))
    assert not torch.equal(here[0][:3], there[0][:3])
    for one, other in zip(here[1:], there[1:], strict=True):
        assert torch.equal(one, other)
