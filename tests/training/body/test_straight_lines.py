"""How far a motion bends lines behind a person."""

import pytest
import torch

from mirrorppr_core.bodies.frames import Body
from mirrorppr_core.bodies.pose_network import JOINTS
from mirrorppr_core.geometry.displacement import length, pixel_grid
from training.body.straight_lines import UNMOVED, Bend, bend, sentence

TRUNK = {"shoulder_r": (190.0, 160.0), "shoulder_l": (310.0, 160.0), "hip_r": (215.0, 330.0), "hip_l": (285.0, 330.0)}
UNIT = 125.0
SHIFT = torch.full((1, 2, 512, 512), 3.0)


def bump(at: tuple[float, float], width: float) -> torch.Tensor:
    """5 px upward and to the left around a place."""
    away = pixel_grid(512, 512) - torch.tensor(at).view(1, 2, 1, 1)
    height = 5 * torch.exp(-away.square().sum(1, keepdim=True) / (2 * width**2)).expand(-1, 2, -1, -1)
    return torch.where(height > 0.02, height, 0.0)


def of(displacement: torch.Tensor) -> Bend | None:
    """Behind somebody of whom head and trunk show."""
    points, told = torch.zeros(len(JOINTS), 2), torch.zeros(len(JOINTS))
    for name, place in TRUNK.items():
        points[JOINTS.index(name)], told[JOINTS.index(name)] = torch.tensor(place), 1.0
    person = Body(points, told, eyes=torch.tensor([250.0, 80.0]), chin=torch.tensor([250.0, 120.0]), eye_distance=24.0)
    return bend(displacement, person, UNIT)


def test_lines_stay_straight_under_a_shift_and_a_slant_and_bend_under_a_bump():
    slant = SHIFT + 0.01 * pixel_grid(512, 512)
    for straight in (SHIFT, slant):
        assert of(straight).largest == pytest.approx(0, abs=1e-3)
    found = of(bump((60.0, 250.0), 15.0))
    assert 0.5 < found.largest < 5 and 0.05 < found.rms < found.largest


def test_the_bend_of_an_edit_that_reaches_no_background_is_not_told():
    assert of(torch.zeros(1, 2, 512, 512)) is None
    assert of(torch.where(length(pixel_grid(512, 512) - 250) < 10, 1.0, 0.0).expand(-1, 2, -1, -1)) is None


def test_half_the_motion_bends_half_as_far_and_as_far_per_pixel_of_motion():
    whole, half = of(bump((60.0, 250.0), 15.0)), of(bump((60.0, 250.0), 15.0) / 2)
    assert half.rms == pytest.approx(whole.rms / 2, rel=1e-4)
    assert half.largest == pytest.approx(whole.largest / 2, rel=1e-4)
    assert half.rms_per_px == pytest.approx(whole.rms_per_px, rel=1e-4)
    assert half.largest_per_px == pytest.approx(whole.largest_per_px, rel=1e-4)


def test_the_largest_bend_grows_where_the_same_motion_ends_more_suddenly():
    assert of(bump((60.0, 250.0), 8.0)).largest > 1.3 * of(bump((60.0, 250.0), 40.0)).largest


def test_the_report_names_the_largest_bend_of_all_cases_and_leaves_out_cases_without_lines():
    small, large = Bend(rms=0.1, largest=0.5, motion=5.0), Bend(rms=0.3, largest=1.5, motion=5.0)
    told = sentence([{"truth": small, "own": UNMOVED}, {"truth": large, "own": small}, {"truth": None, "own": small}])
    assert "2 cases" in told
    assert "truth 0.200 / 1.00 / 1.50 / 0.0400 / 0.200" in told
    assert "own 0.050 / 0.25 / 0.50 / 0.0100 / 0.050" in told
    assert sentence([{"truth": None}]) == "Lines of the background: no edit reaches any."
