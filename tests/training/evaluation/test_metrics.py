"""Metrics: equal to the field's reference implementation, and honest about doing nothing."""

import math

import pytest
import torch
from torch.testing import assert_close

from training.evaluation.metrics import psnr, region_psnr, relative_epe, ssim


@pytest.fixture
def pair():
    """A smooth picture and a noisy copy, (2, 3, 40, 52)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 40), torch.linspace(0, 1, 52), indexing="ij")
    target = torch.stack([0.5 + 0.4 * torch.sin(9 * x + 4 * y), x * y, 0.3 + 0.5 * y]).expand(2, 3, 40, 52)
    noise = (torch.arange(target.numel()) * 7919 % 997 / 997 - 0.5).view_as(target)  # the same on every machine
    amount = torch.tensor([0.2, 0.04]).view(2, 1, 1, 1)
    return (target + amount * noise).clamp(0, 1), target


def test_a_uniform_error_of_a_tenth_is_twenty_decibel():
    assert_close(psnr(torch.full((2, 3, 8, 8), 0.6), torch.full((2, 3, 8, 8), 0.5)).float(), torch.tensor([20.0, 20]))


def test_equal_pictures_have_infinite_psnr_and_ssim_one(pair):
    _, target = pair
    assert (psnr(target, target) == math.inf).all()
    assert_close(ssim(target, target), torch.ones(2))


def test_ssim_equals_torchmetrics(pair):
    """Values of torchmetrics 1.9.0, structural_similarity_index_measure(..., data_range=1.0, reduction=None)."""
    assert_close(ssim(*pair).float(), torch.tensor([0.705932, 0.967958]), atol=1e-4, rtol=0)


def test_psnr_equals_torchmetrics(pair):
    """Values of torchmetrics 1.9.0, peak_signal_noise_ratio(..., data_range=1.0), of each picture."""
    prediction, target = pair
    assert_close(psnr(prediction, target).float(), torch.tensor([24.929815, 38.802746]), atol=1e-3, rtol=0)


def test_region_psnr_sees_only_its_region(pair):
    prediction, target = pair
    region = torch.zeros(1, 1, 40, 52)
    region[..., :20, :] = 1
    spoiled = torch.cat([prediction[..., :20, :], 1 - target[..., 20:, :]], -2)
    assert_close(region_psnr(spoiled, target, region), psnr(prediction[..., :20, :], target[..., :20, :]))


def test_doing_nothing_has_a_relative_error_of_one(pair):
    motion = pair[0][:, :2]
    everywhere = torch.ones(1, 1, 40, 52)
    assert_close(relative_epe(torch.zeros_like(motion), motion, everywhere), torch.ones(2, dtype=torch.float64))
    assert not relative_epe(motion, motion, everywhere).any()
    assert_close(relative_epe(1.5 * motion, motion, everywhere), torch.full((2,), 0.5, dtype=torch.float64))


def test_pictures_of_two_sizes_are_refused(pair):
    with pytest.raises(ValueError, match="resize the prediction"):
        psnr(pair[0], pair[1][..., :-1])


def test_an_empty_region_is_refused(pair):
    with pytest.raises(ValueError, match="region is empty"):
        region_psnr(*pair, torch.zeros(1, 1, 40, 52))


def test_a_truth_without_motion_is_refused():
    still = torch.zeros(1, 2, 8, 8)
    with pytest.raises(ValueError, match="no motion to compare"):
        relative_epe(still, still, torch.ones(1, 1, 8, 8))
