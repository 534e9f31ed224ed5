"""JPEGs in strips: the bytes of a whole encoding, with less encoding; and pixels packed into one number."""

import io

import numpy as np
import pytest
from PIL import Image

from training.data.packed_pixels import as_jpeg, as_png, decoded, to_pixels, to_planes
from training.shards import jpeg_strips
from training.shards.jpeg_strips import JpegStrips

WHOLE = {"quality": 90, "subsampling": 0, "restart_marker_rows": 1}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Packed; smooth enough for a JPEG, with noise so that every block says something."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 255, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return to_pixels(
        np.clip(smooth + generator.integers(-9, 9, smooth.shape), 0, 255).astype(np.float32).transpose(2, 0, 1)
    )


@pytest.mark.parametrize("size", [(64, 48), (67, 45), (8, 8), (200, 24)])
def test_a_picture_is_encoded_as_pillow_does_it(size):
    assert JpegStrips.of(picture(*size), 90).to_bytes() == as_jpeg(picture(*size), **WHOLE)


@pytest.mark.parametrize("size", [(64, 48), (67, 45), (200, 24)])
@pytest.mark.parametrize("rows", [(0, 1), (9, 30), (16, 24), (40, None), (0, None)])
def test_a_change_of_a_few_rows_gives_the_bytes_of_the_whole_picture(size, rows):
    before, after = picture(*size), picture(*size)
    top, bottom = rows[0], rows[1] or size[0]
    after[top:bottom] = picture(*size, seed=1)[top:bottom]
    spliced = JpegStrips.of(before, 90).with_rows(after, top, bottom)
    assert spliced.to_bytes() == as_jpeg(after, **WHOLE) != as_jpeg(before, **WHOLE)


def test_rows_that_did_not_change_decode_to_the_same_pixels():
    before, after = picture(64, 48), picture(64, 48)
    after[20:30] = 0
    strips = JpegStrips.of(before, 90)
    stored = [decoded(file) for file in (strips.to_bytes(), strips.with_rows(after, 20, 30).to_bytes())]
    same = (stored[0] == stored[1]).all(1)
    assert same[:16].all() and same[32:].all() and not same[20:30].any()


def test_no_changed_rows_is_the_same_picture():
    strips = JpegStrips.of(picture(64, 48), 90)
    assert strips.with_rows(picture(64, 48), 5, 5) is strips


def test_a_pillow_that_knows_no_strips_is_refused(monkeypatch):
    def old(pixels, *, restart_marker_rows, **settings):
        return as_jpeg(pixels, **settings)

    monkeypatch.setattr(jpeg_strips, "as_jpeg", old)
    with pytest.raises(ImportError, match="Pillow 10.2 or newer"):
        JpegStrips.of(picture(64, 48), 90)


def test_the_pixels_are_those_of_a_jpeg_without_strips():
    usual = as_jpeg(picture(67, 45), quality=90, subsampling=0)
    assert np.array_equal(decoded(usual), decoded(JpegStrips.of(picture(67, 45), 90).to_bytes()))


def test_packed_pixels_are_the_bytes_that_files_hold():
    pixels = picture(20, 30)
    with Image.open(io.BytesIO(as_png(pixels))) as stored:
        rgb = np.asarray(stored)
    assert rgb.shape == (20, 30, 3) and np.array_equal(rgb.transpose(2, 0, 1), to_planes(pixels)[0].numpy())
    assert np.array_equal(to_pixels(to_planes(pixels)[0].numpy()), pixels) and np.array_equal(
        decoded(as_png(pixels)), pixels
    )
    assert to_pixels(np.array([[1.0], [2.0], [255.0]], np.float32)).tolist() == [1 + 2 * 256 + 255 * 65536]
