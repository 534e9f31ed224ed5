"""Fields as files for other programs: what is in them, how exactly they come back, and what is refused."""

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from synthetic import bump, random_bumps

from mirrorppr_core.geometry.displacement import changed_mask, sample, warp
from mirrorppr_core.geometry.field import Field
from mirrorppr_core.geometry.field_files import read_field, write_field
from mirrorppr_core.geometry.st_map import from_st_map, to_st_map

OpenEXR = pytest.importorskip("OpenEXR")
tifffile = pytest.importorskip("tifffile")
png = pytest.importorskip("png")

SIZE = 1024
EXACT_PX = 1e-3


@pytest.fixture(scope="module")
def field() -> Field:
    """Smooth pushes up to 20 px long in one part of the photo."""
    dense = random_bumps(SIZE, torch.Generator().manual_seed(3), longest_px=(9.0, 20.0))
    dense[..., :200, :] = 0
    return Field.from_dense(dense)


@pytest.fixture
def small() -> Field:
    return Field.from_dense(bump(60, 90, centre=(40, 30), radius=25, shift=(6, -3)))


def apart(one: Field, other: Field) -> float:
    return float((one.dense() - other.dense()).abs().max())


@pytest.mark.parametrize("ending", ["exr", "tiff", "tif"])
def test_an_st_map_comes_back_within_a_thousandth_of_a_pixel(field, tmp_path, ending):
    path = tmp_path / f"field.{ending}"
    write_field(path, field)
    loaded = read_field(path).field
    assert (loaded.height, loaded.width) == (SIZE, SIZE)
    assert 0 < apart(loaded, field) < EXACT_PX


def test_a_png_comes_back_within_the_step_that_it_states(field, tmp_path):
    path = tmp_path / "field.png"
    about = write_field(path, field)
    range_px = float(field.displacement.abs().max())
    assert f"65535 is {range_px:.6g} px" in about and f"exact to {range_px / 65534:.2g} px" in about
    assert apart(read_field(path).field, field) <= range_px / 65534 * 1.01 < EXACT_PX


@pytest.mark.parametrize("ending", ["exr", "tiff", "png"])
def test_what_did_not_move_does_not_move_after_the_way_through_a_file(field, tmp_path, ending):
    path = tmp_path / f"field.{ending}"
    write_field(path, field)
    still = changed_mask(field.dense()) == 0
    assert still[..., :200, :].all()
    assert (read_field(path).field.dense()[still.expand(-1, 2, -1, -1)] == 0).all()


@pytest.mark.parametrize("ending", ["exr", "tiff", "png"])
def test_no_motion_comes_back_as_no_motion_at_that_size(tmp_path, ending):
    path = tmp_path / f"still.{ending}"
    write_field(path, Field.zero(300, 517))
    loaded = read_field(path).field
    assert (loaded.height, loaded.width, loaded.max_px) == (300, 517, 0)


def test_an_st_map_says_where_each_pixel_comes_from_with_v_upwards_and_read_at_pixel_centres(small):
    st_map = to_st_map(small)
    assert st_map[0, 0, 0, 0] == pytest.approx(0.5 / 90) and st_map[0, 1, 0, 0] == pytest.approx(1 - 0.5 / 60)
    assert (st_map[0, 2] == 0).all()
    picture = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), (60, 90), mode="bicubic").clamp(0, 1)
    u, v = st_map[0, 0], st_map[0, 1]
    as_others_do = sample(picture, torch.stack([u * 90 - 0.5, (1 - v) * 60 - 0.5])[None])
    assert (as_others_do.clamp(0, 1) - warp(picture, small.dense())).abs().max() < 0.01


def test_what_stands_in_the_files_is_what_other_programs_expect(small, tmp_path):
    for ending in ("exr", "tiff", "png"):
        write_field(tmp_path / f"f.{ending}", small)
    u, v, _ = to_st_map(small)[0].numpy()
    with OpenEXR.File(str(tmp_path / "f.exr"), separate_channels=True) as file:
        channels = file.channels()
        assert (channels["R"].pixels == u).all() and (channels["G"].pixels == v).all()
    with tifffile.TiffFile(tmp_path / "f.tiff") as file:
        assert file.pages[0].dtype == np.float32 and file.pages[0].compression == 1
        assert (file.pages[0].asarray()[..., 0] == u).all()
    width, height, rows, info = png.Reader(str(tmp_path / "f.png")).read()
    values = np.stack([np.asarray(row) for row in rows]).reshape(height, width, 3)
    assert info["bitdepth"] == 16 and values[0, 0].tolist() == [32768] * 3
    assert values[..., 0].max() == 65535 and values[..., 1].min() < 32768


def test_an_existing_file_is_not_replaced(small, tmp_path):
    path = tmp_path / "f.exr"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="not overwritten"):
        write_field(path, small)
    assert path.read_bytes() == b"mine" and len(list(tmp_path.iterdir())) == 1


def repacked(path: Path, text: bytes | None) -> None:
    """The same PNG with another text, or none."""
    chunks = [chunk for chunk in png.Reader(bytes=path.read_bytes()).chunks() if chunk[0] != b"tEXt"]
    if text is not None:
        chunks.insert(1, (b"tEXt", b"mirrorppr-field\0" + text))
    with path.open("wb") as stream:
        png.write_chunks(stream, chunks)


def test_a_png_that_lost_its_text_is_read_with_the_range_that_is_given(small, tmp_path):
    path = tmp_path / "f.png"
    write_field(path, small)
    repacked(path, None)
    with pytest.raises(ValueError, match="f.png: it does not say how far its values reach.*give range_px"):
        read_field(path)
    range_px = float(small.displacement.abs().max())
    assert apart(read_field(path, range_px=range_px).field, small) < EXACT_PX
    with pytest.raises(ValueError, match="range_px is -1"):
        read_field(path, range_px=-1)


@pytest.mark.parametrize("text", [b"{", b"[]", b'{"version": 1}', b'{"version": 1, "range_px": "x"}'])
def test_a_png_with_a_broken_text_is_refused(small, tmp_path, text):
    path = tmp_path / "f.png"
    write_field(path, small)
    repacked(path, text)
    with pytest.raises(ValueError, match="give range_px"):
        read_field(path)


def test_a_png_of_a_later_version_is_refused(small, tmp_path):
    path = tmp_path / "f.png"
    write_field(path, small)
    later = {"version": 2, "range_px": 3.0, "zero": 32768, "steps": 32767}
    repacked(path, json.dumps(later).encode())
    with pytest.raises(ValueError, match="version 2.*update"):
        read_field(path)


@pytest.mark.parametrize("ending", ["exr", "tiff", "png"])
@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.9])
def test_a_file_that_was_cut_short_is_named_and_refused(field, tmp_path, ending, kept):
    path = tmp_path / f"cut.{ending}"
    write_field(path, field)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=f"cut.{ending}.*again") as refusal:
        read_field(path)
    assert str(tmp_path) not in str(refusal.value)


def test_half_floats_and_bytes_are_too_coarse(small, tmp_path):
    u, v, _ = to_st_map(small)[0].numpy()
    header = {"type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"R": u.astype("f2"), "G": v.astype("f2")}).write(str(tmp_path / "half.exr"))
    tifffile.imwrite(tmp_path / "eight.tiff", (np.stack([u, v, v], -1) * 255).astype("u1"), photometric="rgb")
    for name in ("half.exr", "eight.tiff"):
        with pytest.raises(ValueError, match=f"{name}.*32-bit floats"):
            read_field(tmp_path / name)
    with (tmp_path / "eight.png").open("wb") as stream:
        png.Writer(width=4, height=4, greyscale=False, bitdepth=8).write(stream, [[0] * 12] * 4)
    with pytest.raises(ValueError, match="eight.png: it is no 16-bit RGB"):
        read_field(tmp_path / "eight.png", range_px=3)


def test_an_exr_of_other_channels_or_of_a_part_of_its_frame_is_refused(tmp_path):
    plane = np.zeros((5, 7), "f4")
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"Z": plane}).write(str(tmp_path / "depth.exr"))
    with pytest.raises(ValueError, match="depth.exr: it has the channels Z: an ST map has u in R"):
        read_field(tmp_path / "depth.exr")
    header = {"type": OpenEXR.scanlineimage, "displayWindow": ((0, 0), (9, 9)), "dataWindow": ((1, 1), (7, 5))}
    OpenEXR.File(header, {"R": plane, "G": plane}).write(str(tmp_path / "part.exr"))
    with pytest.raises(ValueError, match="part.exr: its picture is only a part of its frame"):
        read_field(tmp_path / "part.exr")


def test_a_tiff_of_several_pages_or_one_channel_is_refused(tmp_path):
    tifffile.imwrite(tmp_path / "pages.tiff", np.zeros((2, 20, 30, 3), "f4"), photometric="rgb")
    with pytest.raises(ValueError, match="pages.tiff: it has 2 pages"):
        read_field(tmp_path / "pages.tiff")
    tifffile.imwrite(tmp_path / "grey.tiff", np.zeros((20, 30), "f4"))
    with pytest.raises(ValueError, match="grey.tiff: it has one channel"):
        read_field(tmp_path / "grey.tiff")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.index_fill(2, torch.tensor([3]), torch.nan), "NaN or infinity"),
        (lambda m: m * 90, "absolute positions in parts of the width"),
        (lambda m: torch.cat([m[:, :1], 1 - m[:, 1:2]], 1), "v downwards has to be turned over"),
        (lambda m: m[:, :1], "two channels or more"),
        (lambda m: torch.rand(m.shape), "the position from the left"),
    ],
)
def test_what_is_no_map_of_absolute_positions_is_refused(small, change, message):
    with pytest.raises(ValueError, match=message):
        from_st_map(change(to_st_map(small)))


def test_a_picture_of_a_size_that_nobody_has_is_refused_before_it_is_read(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 16, 2, 0, 0, 0)
    (tmp_path / "vast.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    with pytest.raises(ValueError, match="vast.png"):
        read_field(tmp_path / "vast.png")


@pytest.mark.parametrize(("ending", "module"), [("exr", "OpenEXR"), ("tiff", "tifffile"), ("png", "png")])
def test_where_a_package_is_missing_the_error_names_the_command(small, tmp_path, monkeypatch, ending, module):
    path = tmp_path / f"f.{ending}"
    write_field(path, small)
    monkeypatch.setitem(sys.modules, module, None)  # Python then says that there is none
    name = {"png": "pypng"}.get(module, module)
    for work in (lambda: read_field(path), lambda: write_field(tmp_path / f"g.{ending}", small)):
        with pytest.raises(ValueError, match=f"pip install {name},"):
            work()
    assert len(list(tmp_path.iterdir())) == 1


def test_other_endings_are_refused(small, tmp_path):
    with pytest.raises(ValueError, match="ends in .jpg: a field is a file .exr, .tiff or .png"):
        write_field(tmp_path / "f.jpg", small)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_field(tmp_path / "f.exr")
