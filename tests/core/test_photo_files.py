"""A photographer's file goes in and comes back: depth, grey, profile, EXIF, XMP, IPTC, resolution, format."""

import io
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from mirrorppr_core.photo_files import Photo, check_saving, read_photo, write_photo
from mirrorppr_core.photo_saving import Saving

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]  # only its colour space is looked at
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6" dc:rights="Ada"/></x:xmpmeta>'
IPTC = b"8BIM\x04\x04\x00\x00\x00\x00\x00\x0c\x1c\x02\x74\x00\x07Ada (c)"
FORMATS = ("png", "tiff", "jpeg", "webp")


def noise(height=40, width=60, channels=3, dtype=np.uint8):
    low = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)
    return low


def exif(orientation=1) -> Image.Exif:
    tags = Image.Exif()
    tags[0x112], tags[0x8298], tags[0x10F] = orientation, "Copyright Ada", "Kamera AG"
    inner = tags.get_ifd(0x8769)
    inner[0x829A], inner[0x9003] = (1, 125), "2024:05:06 07:08:09"
    tags[0x8769] = inner
    tags.get_ifd(0x8825)[1] = "N"
    return tags


@pytest.fixture
def jpeg(tmp_path):
    """A JPEG with everything, lying on its side."""
    path = tmp_path / "phone.jpg"
    smooth = np.linspace(0, 255, 60).astype(np.uint8)[None, :, None].repeat(40, 0).repeat(3, 2)
    marker = b"\xff\xed" + struct.pack(">H", 16 + len(IPTC)) + b"Photoshop 3.0\x00" + IPTC
    Image.fromarray(smooth).save(
        path, exif=exif(6), icc_profile=SRGB, xmp=XMP, dpi=(300, 300), quality=87, subsampling=2, extra=marker,
        comment=b"roll 7",
    )  # fmt: skip
    return path


def write_deep(path, pixels):
    """A 16-bit file as others write it."""
    imagecodecs, tifffile = pytest.importorskip("imagecodecs"), pytest.importorskip("tifffile")
    flat = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    if path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(flat))
    else:
        kind = "rgb" if pixels.shape[2] > 2 else "minisblack"
        alpha = {"extrasamples": ["unassalpha"]} if pixels.shape[2] in (2, 4) else {}
        tifffile.imwrite(path, flat, photometric=kind, planarconfig="contig" if flat.ndim > 2 else None, **alpha)
    return path


def read_deep(path):
    imagecodecs, tifffile = pytest.importorskip("imagecodecs"), pytest.importorskip("tifffile")
    found = imagecodecs.png_decode(path.read_bytes()) if path.suffix == ".png" else tifffile.imread(path)
    return found if found.ndim == 3 else found[..., None]


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_come_back_bit_for_bit(tmp_path, suffix, channels):
    pixels = noise(channels=channels, dtype=np.uint16)
    path = write_deep(tmp_path / f"deep{suffix}", pixels)
    if suffix == ".tif" and channels == 2:
        with pytest.raises(ValueError, match="deep.tif is a 16-bit grey TIFF with alpha"):
            read_photo(path)
        return
    photo = read_photo(path)
    assert photo.pixels.dtype == torch.float32 and photo.pixels.shape[1] == (4 if channels in (2, 4) else 3)
    for kind, ending in (("same", suffix), ("png", ".png"), ("tiff", ".tif")):
        write_photo(tmp_path / f"back{ending}", photo, Saving(format=kind))
        assert np.array_equal(read_deep(tmp_path / f"back{ending}"), pixels), kind


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_what_moved_in_a_deep_photo_has_sixteen_bits_too(tmp_path, suffix):
    photo = read_photo(write_deep(tmp_path / f"deep{suffix}", noise(dtype=np.uint16)))
    moved = photo.with_pixels((photo.pixels + photo.pixels.roll(1, -1)) / 2)
    write_photo(tmp_path / f"back{suffix}", moved, Saving(format="same"))
    found = read_deep(tmp_path / f"back{suffix}")
    assert np.abs(found / 65535 - moved.pixels[0].permute(1, 2, 0).numpy()).max() <= 0.51 / 65535
    assert len(np.unique(found % 257)) > 200  # more than eight bits hold


def test_a_planar_tiff_and_one_with_white_as_zero_are_read_as_they_look(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    pixels = noise(dtype=np.uint16)
    planar, negative = tmp_path / "planar.tif", tmp_path / "negative.tif"
    tifffile.imwrite(planar, np.moveaxis(pixels, -1, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(negative, pixels[..., 0], photometric="miniswhite")
    assert np.array_equal((read_photo(planar).pixels[0].permute(1, 2, 0) * 65535).round().numpy(), pixels)
    assert np.array_equal((read_photo(negative).pixels[0, 0] * 65535).round().numpy(), 65535 - pixels[..., 0])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", FORMATS)
def test_eight_bits_come_back_bit_for_bit_from_what_keeps_them(tmp_path, kind, channels):
    pixels = noise(channels=channels)
    flat = pixels[..., 0] if channels == 1 else pixels
    Image.fromarray(flat, {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]).save(tmp_path / "in.png")
    photo, back = read_photo(tmp_path / "in.png"), tmp_path / f"back.{kind}"
    if kind == "jpeg" and channels in (2, 4):
        with pytest.raises(ValueError, match="in.png has transparency, which a JPEG cannot hold: choose"):
            check_saving(photo, Saving(format=kind), "in.png")
        return
    write_photo(back, photo, Saving(format=kind))
    again = read_photo(back)
    assert again.pixels.dtype == torch.uint8
    assert torch.equal(again.pixels, photo.pixels) or kind == "jpeg"


@pytest.mark.parametrize("kind", FORMATS)
def test_exif_xmp_profile_and_resolution_go_into_every_format(tmp_path, jpeg, kind):
    photo = read_photo(jpeg)
    assert photo.pixels.shape[-2:] == (60, 40)  # upright
    back = tmp_path / f"back.{kind}"
    notes = write_photo(back, photo, Saving(format=kind))
    with Image.open(back) as picture:
        tags = picture.getexif()
        assert picture.size == (40, 60) and picture.info["icc_profile"] == SRGB
        assert tags[0x8298] == "Copyright Ada" and tags[0x10F] == "Kamera AG" and tags.get(0x112, 1) == 1
        assert tags.get_ifd(0x8769)[0x9003] == "2024:05:06 07:08:09" and tags.get_ifd(0x8825)[1] == "N"
        xmp = picture.info.get("xmp") or picture.info["XML:com.adobe.xmp"].encode()
        assert bytes(xmp) == XMP.replace(b'Orientation="6"', b'Orientation="1"')
        if kind != "webp":
            assert picture.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    again = read_photo(back)
    assert again.metadata.iptc == IPTC if kind in ("jpeg", "tiff") else any("IPTC" in note for note in notes)


def test_a_preview_in_the_exif_which_shows_the_photo_before_is_left_out(tmp_path, jpeg):
    raw = bytearray(read_photo(jpeg).metadata.exif)
    count = struct.unpack_from("<H" if raw[:2] == b"II" else ">H", raw, 8)[0]
    assert raw[10 + 12 * count : 14 + 12 * count] == bytes(4)  # no directory follows the first


def test_a_jpeg_comes_back_with_its_own_tables(tmp_path, jpeg):
    write_photo(tmp_path / "back.jpg", read_photo(jpeg), Saving(format="same"))
    with Image.open(jpeg) as old, Image.open(tmp_path / "back.jpg") as new:
        assert old.quantization == new.quantization
        assert new.info["comment"] == b"roll 7"
    write_photo(tmp_path / "worse.jpg", read_photo(jpeg), Saving(format="same", quality=30))
    assert (tmp_path / "worse.jpg").stat().st_size < (tmp_path / "back.jpg").stat().st_size


@pytest.mark.parametrize("kind", FORMATS)
def test_a_grey_photo_stays_grey_and_keeps_its_profile(tmp_path, kind):
    Image.fromarray(noise()[..., 0]).save(tmp_path / "grey.png", icc_profile=GREY_PROFILE)
    photo = read_photo(tmp_path / "grey.png")
    assert photo.pixels.shape[1] == 3 and photo.metadata.icc_profile == GREY_PROFILE
    write_photo(tmp_path / f"back.{kind}", photo, Saving(format=kind))
    with Image.open(tmp_path / f"back.{kind}") as picture:
        if kind != "webp":  # which has no grey
            assert picture.mode == "L" and picture.info["icc_profile"] == GREY_PROFILE
        else:
            assert "icc_profile" not in picture.info  # a grey profile means nothing on colours


def test_texts_of_a_png_stay_and_are_named_where_they_cannot(tmp_path):
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Copyright", "Ada")
    Image.fromarray(noise()).save(tmp_path / "in.png", pnginfo=texts)
    photo = read_photo(tmp_path / "in.png")
    assert write_photo(tmp_path / "back.png", photo) == ()
    with Image.open(tmp_path / "back.png") as picture:
        assert picture.text["Copyright"] == "Ada"
    assert "Copyright" in write_photo(tmp_path / "back.jpg", photo, Saving(format="jpeg"))[0]


def test_print_colours_are_refused_and_turned_into_srgb_only_when_asked(tmp_path):
    Image.new("CMYK", (40, 30), (0, 255, 255, 0)).save(tmp_path / "print.tif")
    with pytest.raises(ValueError, match="print.tif has colour mode CMYK.*--cmyk convert"):
        read_photo(tmp_path / "print.tif")
    photo = read_photo(tmp_path / "print.tif", cmyk="convert")
    assert photo.pixels[0, :, 0, 0].tolist() == [255, 0, 0] and "as asked" in photo.metadata.notes[0]
    assert photo.metadata.icc_profile[16:20] == b"RGB "


@pytest.mark.parametrize(
    "name, mode, words",
    [("moving.webp", "RGB", "holds 3 frames"), ("moving.png", "RGB", "3 frames"), ("pages.tif", "RGB", "3 pages")],
)
def test_animations_and_several_pages_are_refused_and_never_cut_to_one(tmp_path, name, mode, words):
    first, *others = (Image.new(mode, (40, 30), (shade, shade, 0)) for shade in (10, 90, 200))
    first.save(tmp_path / name, save_all=True, append_images=others)
    with pytest.raises(ValueError, match=f"{name} .*{words}.*single pictures"):
        read_photo(tmp_path / name)


@pytest.mark.parametrize(
    "name, tag, words",
    [
        ("DSC_0042.NEF", (254, 0), "camera's raw file"),
        ("renamed.tif", (50706, b"\1\4\0\0"), "camera's raw file"),
        ("preview.tif", (254, 1), "smaller copy of its picture"),
    ],
)
def test_a_raw_file_is_refused_and_not_read_at_its_thumbnail(tmp_path, name, tag, words):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag[0]] = tag[1]
    Image.new("RGB", (160, 120), "grey").save(tmp_path / name, format="TIFF", tiffinfo=tags)
    with pytest.raises(ValueError, match=f"{name} .*{words}"):
        read_photo(tmp_path / name)


def test_a_phone_s_jpeg_with_a_gain_map_is_one_photo_and_a_note(tmp_path):
    first, second = Image.fromarray(noise()), Image.new("RGB", (20, 20))
    first.save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[second])
    photo = read_photo(tmp_path / "phone.jpg")
    assert photo.pixels.shape[-2:] == (40, 60) and photo.origin.format == "jpeg"
    assert "gain map" in photo.metadata.notes[0]


@pytest.mark.parametrize("dtype", [np.float32, np.uint32, np.int16])
def test_depths_that_cannot_be_kept_are_named(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "odd.tif", np.zeros((30, 40, 3), dtype), photometric="rgb")
    bits = np.dtype(dtype).itemsize * 8
    with pytest.raises(ValueError, match=f"odd.tif has {bits} bits a channel.*which cannot be kept"):
        read_photo(tmp_path / "odd.tif")


@pytest.mark.parametrize("suffix, module", [(".png", "imagecodecs"), (".tif", "tifffile")])
def test_without_the_library_the_sentence_says_how_to_get_it(tmp_path, monkeypatch, suffix, module):
    path = write_deep(tmp_path / f"deep{suffix}", noise(dtype=np.uint16))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"deep{suffix} has 16 bits a channel.*pip install tifffile imagecodecs"):
        read_photo(path)


def test_heic_is_read_where_its_reader_is_and_otherwise_named(tmp_path, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.from_pillow(Image.new("RGB", (64, 48), (200, 30, 40))).save(tmp_path / "a.heic", quality=95)
    photo = read_photo(tmp_path / "a.heic")
    assert photo.pixels.shape == (1, 3, 48, 64) and photo.origin.format == "heic"
    with pytest.raises(ValueError, match="a.heic is HEIC, which cannot be written here: choose --format jpeg"):
        check_saving(photo, Saving(format="same"), "a.heic")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ValueError, match="a.heic is a HEIC picture, which needs a reader: pip install"):
        read_photo(tmp_path / "a.heic")


def test_a_deep_photo_written_with_eight_bits_says_so(tmp_path):
    photo = Photo(torch.rand(1, 3, 30, 40))
    assert "16 bits were rounded" in write_photo(tmp_path / "a.jpg", photo, Saving(format="jpeg"))[0]


@pytest.mark.parametrize(
    "settings, words", [({"format": "gif"}, "use same, png"), ({"format": "jpeg", "quality": 0}, "1 to 100"),
                        ({"format": "png", "quality": 90}, "leave it out")]
)  # fmt: skip
def test_impossible_ways_of_saving_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Saving(**settings)


def test_a_large_tiff_is_written_in_strips_that_others_read(tmp_path):
    pixels = noise(700, 600)
    write_photo(tmp_path / "a.tif", Photo(torch.from_numpy(pixels).permute(2, 0, 1)[None]), Saving(format="tiff"))
    with Image.open(tmp_path / "a.tif") as picture:
        assert len(picture.tag_v2[273]) > 1 and np.array_equal(np.array(picture), pixels)


def test_photos_read_from_memory_files_keep_nothing_of_the_disk(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(noise()).save(stream, "PNG")
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    assert read_photo(tmp_path / "a.png").metadata.notes == ()
