"""Parts of a person as weights on the photo."""

import pytest
import torch
from toys import LOCATOR, astronaut

from mirrorppr_core.faces.landmarks import BROWS, EYE_L, EYE_R, LIPS, NOSE, OVAL
from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.faces.parts import PARTS, part_shares, part_weight
from mirrorppr_core.faces.search import locate
from mirrorppr_core.geometry.displacement import pixel_grid

pytest.importorskip("skimage")
OWN = {"eyes": EYE_R + EYE_L, "brows": BROWS, "nose": NOSE, "mouth": LIPS}


@pytest.fixture(scope="module")
def landmarks() -> torch.Tensor:
    return locate(Locator.from_file(LOCATOR), astronaut())[0].landmarks


def test_every_place_belongs_to_the_parts_by_shares_that_sum_to_one(landmarks):
    points = pixel_grid(128, 128).flatten(2)[0].T * 4
    shares = part_shares(landmarks, points)
    assert shares.shape == (len(PARTS), 128 * 128) and shares.min() >= 0
    torch.testing.assert_close(shares.sum(0), torch.ones(128 * 128))


@pytest.mark.parametrize("part", OWN)
def test_a_features_own_landmarks_are_its_own_and_the_others_have_none_of_them(landmarks, part):
    points = landmarks[list(OWN[part])]
    assert part_weight(landmarks, points, (part,)).min() > 0.5
    if part != "nose":  # the root of the nose lies between the eyes
        others = tuple(name for name in PARTS if name != part)
        assert part_weight(landmarks, points, others).max() < 0.5
    middle = points.mean(0, keepdim=True)
    if part in ("nose", "mouth"):
        assert part_weight(landmarks, middle, (part,)) == 1
        assert all(part_weight(landmarks, middle, (name,)) == 0 for name in PARTS if name != part)


def test_the_contour_is_the_outline_of_the_face(landmarks):
    assert part_weight(landmarks, landmarks[list(OVAL)], ("contour",)).min() > 0.9


def test_hair_is_above_and_body_below(landmarks):
    unit = (landmarks[list(EYE_L)].mean(0) - landmarks[list(EYE_R)].mean(0)).norm()
    eyes = landmarks[list(EYE_L + EYE_R)].mean(0)
    above, below = eyes - torch.tensor([0.0, 3.0]) * unit, eyes + torch.tensor([0.0, 5.0]) * unit
    assert part_weight(landmarks, above[None], ("hair",)) == 1 and part_weight(landmarks, below[None], ("body",)) == 1


def test_left_and_right_are_the_persons_own_and_sum_to_both(landmarks):
    points = landmarks + 3.0
    left, right = (part_weight(landmarks, points, PARTS, side) for side in ("left", "right"))
    torch.testing.assert_close(left + right, torch.ones(len(points)))
    assert part_weight(landmarks, landmarks[list(EYE_R)], ("eyes",), "left").max() == 0
    assert part_weight(landmarks, landmarks[list(EYE_L)], ("eyes",), "left").min() > 0.5


def test_unknown_parts_and_sides_are_refused(landmarks):
    with pytest.raises(ValueError, match="ears.*choose one or more of eyes, brows"):
        part_weight(landmarks, landmarks, ("ears",))
    with pytest.raises(ValueError, match="use one of both, left, right"):
        part_weight(landmarks, landmarks, ("eyes",), "top")
