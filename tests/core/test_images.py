"""Pictures inside core: what is refused and why, and that reducing is plain averaging."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close
from toys import seeded

from mirrorppr_core.images import check_photo, reduce


def photo(height: int = 300, width: int = 260, channels: int = 3) -> torch.Tensor:
    return torch.rand(1, channels, height, width, generator=seeded())


def test_rgb_and_rgba_in_floats_or_bytes_are_photos():
    for channels in (3, 4):
        check_photo(photo(256, 256, channels), "query")
        check_photo((photo(256, 256, channels) * 255).byte(), "query")


def with_pixel(value: float) -> torch.Tensor:
    image = photo()
    image[0, 1, 5, 7] = value
    return image


def test_a_little_overshoot_of_sharp_resizing_is_accepted():
    for value in (-0.2, 1.2):
        check_photo(with_pixel(value), "query")


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (photo()[0], r"query has shape \(3, 300, 260\): need one RGB or RGBA picture"),
        (photo(channels=1), "need one RGB or RGBA picture"),
        (photo().expand(2, -1, -1, -1), "need one RGB or RGBA picture"),
        (photo(300, 127), "query is 127x300 pixels: .*at least 256 and the shorter 128.*enlarge it first"),
        ((photo() * 255).int(), "torch.int32 pixels: pass float in .* or uint8"),
        (with_pixel(float("nan")), "NaN or infinite pixels.*Save and reload"),
        (with_pixel(float("inf")), "NaN or infinite pixels"),
        (photo() * 255, "Divide 8-bit values by 255"),
        (with_pixel(-0.8), r"values from -0.8 to .*: pixels must lie in \[0, 1\]"),
    ],
)
def test_what_is_no_photo_is_refused_with_a_remedy(image, message):
    with pytest.raises(ValueError, match=message):
        check_photo(image, "query")


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_reducing_averages_whole_blocks(factor):
    image = photo(factor * 40, factor * 30)
    expected = image if factor == 1 else F.avg_pool2d(image, factor)
    assert_close(reduce(image, factor), expected)


def test_blocks_cut_by_the_edge_average_what_is_there():
    image = photo(301, 259)
    small = reduce(image, 4)
    assert small.shape == (1, 3, 76, 65)
    assert_close(small[..., -1, -1], image[..., 300:, 256:].mean(dim=(2, 3)))


def test_a_tall_photo_is_reduced_the_same_in_strips():
    image = photo(1500, 256)  # three strips
    assert_close(reduce(image, 7)[..., :214, :36], F.avg_pool2d(image, 7))


@pytest.mark.parametrize("factor", [1, 3])
def test_bytes_and_floats_reduce_to_the_same_picture(factor):
    image = (photo(600, 300) * 255).round().byte()
    assert_close(reduce(image, factor), reduce(image.float() / 255, factor))


def test_alpha_takes_no_part_in_what_the_networks_see():
    image = photo(channels=4)
    assert torch.equal(reduce(image, 2), reduce(image[:, :3], 2))
