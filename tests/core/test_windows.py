"""Windows: the sums of shifted pictures say what torch's pooling and resizing say."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from mirrorppr_core.windows import block_mean, enlarged, highest_around, mean_around, window_mean

PLANES = torch.rand(2, 3, 37, 29, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [1, 2, 3, 8, 40])
def test_blocks_are_averaged_and_cut_ones_average_what_is_there(size):
    assert_close(block_mean(PLANES, size), F.avg_pool2d(PLANES, size, ceil_mode=True))


@pytest.mark.parametrize("size", [1, 2, 5, 17])
def test_a_window_is_averaged_at_every_place(size):
    assert_close(window_mean(PLANES, size), F.avg_pool2d(PLANES, size, stride=1))


@pytest.mark.parametrize("reach", [1, 3, 7])
def test_at_the_border_a_mean_counts_the_pixels_that_exist(reach):
    pooled = F.avg_pool2d(PLANES, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)
    assert_close(mean_around(PLANES, reach), pooled)


@pytest.mark.parametrize("reach", [1, 2, 6])
def test_the_highest_value_around_is_found(reach):
    assert torch.equal(highest_around(-PLANES, reach), F.max_pool2d(-PLANES, 2 * reach + 1, stride=1, padding=reach))


@pytest.mark.parametrize("times", [1, 2, 3, 6])
def test_enlarging_is_bicubic(times):
    wanted = F.interpolate(PLANES, scale_factor=times, mode="bicubic", align_corners=False)
    assert_close(enlarged(PLANES, times), wanted, atol=1e-5, rtol=0)


def test_what_is_given_is_not_written_to():
    before = PLANES.clone()
    for made in (block_mean(PLANES, 1), window_mean(PLANES, 1), mean_around(PLANES, 1), enlarged(PLANES, 1)):
        made.add_(1) if made is not PLANES else None
    assert torch.equal(PLANES, before)
