"""Picture files: the formats we mean to read, of a size that fits, or one sentence that names the file and the fix."""

import io
import os
import resource
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from host import ROOT
from PIL import Image

from mirrorppr_core import picture_guard
from mirrorppr_core.photo_files import read_photo
from mirrorppr_core.picture_guard import MOST_PIXELS, PictureError, open_picture

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n%%EndComments\nshowpage\n"


def picture(size=(64, 48)):
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def saved(path, **settings):
    picture().save(path, **settings)
    return path


def png_of(width, height):
    """A PNG whose header says so, with far too few pixels behind it."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp", "a.bmp"])
def test_the_formats_of_photos_are_read(tmp_path, name):
    assert tuple(read_photo(saved(tmp_path / name)).pixels.shape) == (1, 3, 48, 64)


def test_a_camera_s_mpo_is_read_as_its_first_photo(tmp_path):
    picture().save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[picture((32, 32))])
    assert tuple(read_photo(tmp_path / "a.jpg").pixels.shape) == (1, 3, 48, 64)


def test_an_eps_named_jpg_is_refused_by_name_and_starts_no_program(tmp_path, monkeypatch):
    for function in (subprocess, "Popen"), (os, "posix_spawn"), (os, "system"):
        monkeypatch.setattr(*function, lambda *_, **__: pytest.fail("a program was started"))
    (tmp_path / "a.jpg").write_bytes(EPS)
    with pytest.raises(
        PictureError, match="a.jpg is a PostScript file, which is not read here: save it as one of JPEG"
    ):
        read_photo(tmp_path / "a.jpg")


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (b"\xc5\xd0\xd3\xc6" + bytes(40), "EPS"),
        (b"%PDF-1.7", "PDF"),
        (b"GIF89a" + bytes(20), "GIF"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "WMF"),
        (b"\x00\x00\x00\x18ftypavif" + bytes(40), "AVIF"),
        (b"FUJIFILMCCD-RAW", "Fujifilm raw"),
        (b"FOVb" + bytes(40), "Sigma raw"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'>", "SVG"),
    ],
)
def test_another_kind_of_file_is_told_by_its_kind(tmp_path, begin, kind):
    (tmp_path / "a.png").write_bytes(begin)
    with pytest.raises(PictureError, match=f"a.png is an? {kind} file, which is not read here"):
        read_photo(tmp_path / "a.png")


def test_no_format_but_those_asked_for_is_tried(tmp_path):
    picture().save(tmp_path / "a.ppm")
    with pytest.raises(PictureError, match="a.ppm is a PPM file, which is not read here: save it as one of JPEG, PNG"):
        read_photo(tmp_path / "a.ppm")


@pytest.mark.parametrize("side", [11_000, 13_300, 60_000])
def test_a_picture_above_the_limit_is_called_large_and_not_damaged(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png_of(side, side))
    with pytest.raises(PictureError, match="a.png is too large.*120 million"):
        read_photo(tmp_path / "a.png")


def test_the_size_is_looked_at_before_anything_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda *_: pytest.fail("decoded"))
    (tmp_path / "a.png").write_bytes(png_of(12_000, 12_000))
    with pytest.raises(PictureError, match="12000x12000 is 144 million pixels, at most 120 million"):
        read_photo(tmp_path / "a.png")


def test_a_photo_of_a_medium_format_camera_is_not_too_large():
    assert picture_guard.check_size(11_648, 8_736, "a.tif") is None and 11_648 * 8_736 > 0.8 * MOST_PIXELS


def test_a_small_tiff_of_huge_tiles_is_not_unpacked(tmp_path):
    content = bytearray(saved(tmp_path / "a.tif", compression="tiff_lzw").read_bytes())
    begin = struct.unpack_from("<I", content, 4)[0] + 2
    tags = [struct.unpack_from("<HHII", content, begin + 12 * k) for k in range(10)]
    tiles = {273: (324, 4, 1, 8), 278: (322, 4, 1, 2**15), 279: (325, 4, 1, 156), 284: (323, 4, 1, 2**15)}
    for k, tag in enumerate(sorted(tiles.get(tag[0], tag) for tag in tags)):
        struct.pack_into("<HHII", content, begin + 12 * k, *tag)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(PictureError, match="a.tif is damaged .tiles of 32768 pixels.: export it again"):
        read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("x"), SyntaxError("x"), struct.error("x"), zlib.error("x"), KeyError(5), IndexError(),
        TypeError("x"), OverflowError("x"), EOFError(), RuntimeError("x\n" * 999), AttributeError("x"), OSError("x"),
        ZeroDivisionError(),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_decoder_raises_is_one_short_sentence(tmp_path, monkeypatch, raised):
    def broken(*_):
        raise raised

    saved(tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", broken)
    with pytest.raises(PictureError, match="a.png is damaged or not a picture .*export it again") as told:
        read_photo(tmp_path / "a.png")
    assert len(str(told.value)) < 500 and "\n" not in str(told.value) and told.value.reason == "damaged"


def test_too_little_memory_is_told_as_that(tmp_path, monkeypatch):
    def full(*_):
        raise MemoryError

    saved(tmp_path / "a.png")
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", full)
    with pytest.raises(PictureError, match="a.png needs more memory than there is"):
        read_photo(tmp_path / "a.png")


def test_an_empty_file_a_folder_and_a_pipe_are_told_as_what_they_are(tmp_path):
    (tmp_path / "a.png").touch()
    (tmp_path / "b.png").mkdir()
    os.mkfifo(tmp_path / "c.png")
    for name, told in (("a.png", "is empty"), ("b.png", "is no file"), ("c.png", "is no file")):
        with pytest.raises(PictureError, match=f"{name} {told}"):
            read_photo(tmp_path / name)


def test_a_name_of_250_letters_is_shortened_in_the_sentence(tmp_path):
    path = tmp_path / ("x" * 240 + "end.png")
    path.write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"^xxx.*\.\.\.x*end.png is damaged") as told:
        read_photo(path)
    assert len(str(told.value)) < 250


def test_a_refusal_of_the_caller_s_own_is_left_as_it_is():
    stream = io.BytesIO()
    picture().save(stream, "PNG")
    stream.seek(0)
    with pytest.raises(PictureError, match="^mine$"), open_picture(stream, "it"):
        raise PictureError("mine")


_DECODE = """
import resource, sys
from pathlib import Path
from mirrorppr_core.photo_files import read_photo
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_photo(Path(sys.argv[1]))
except ValueError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_bomb_of_13300_pixels_square_costs_no_memory(tmp_path):
    assert resource.getrusage  # the numbers below are kilobytes on Linux
    (tmp_path / "bomb.png").write_bytes(png_of(13_300, 13_300))
    command = [sys.executable, "-c", _DECODE, str(tmp_path / "bomb.png")]
    told, grown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert "too large" in told and int(grown) < 20_000
