"""A folder of portraits: what is read, what is converted, what is skipped and why, and what is an error at once."""

import os
import pickle
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from torch.testing import assert_close

from training.data.landmark_sources import NpzLandmarks
from training.data.landmarks import Landmarks, SeveralFaces
from training.data.picture_files import UnusablePicture, read_picture
from training.data.portrait_folder import REASONS, Portrait, PortraitFolder, Skipped

SIDE = 64


class Everywhere:
    """A source that knows everybody's face and body, or what it is told to."""

    name, finds_mesh, finds_pose = "everywhere", True, True

    def __init__(self, *, mesh=True, pose=True, at=0.5, fails=None):
        self.mesh, self.pose, self.at, self.fails = mesh, pose, at, fails

    def find(self, file, image):
        if self.fails:
            raise self.fails
        middle = torch.tensor(image.shape[-1:-3:-1]) * self.at
        pose = torch.cat([middle.expand(33, 2), torch.ones(33, 2)], dim=1)
        return Landmarks(mesh=middle.expand(478, 2) if self.mesh else None, pose=pose if self.pose else None)


def drawn(width=SIDE, height=SIDE, *, seed=0) -> Image.Image:
    """Colours that differ everywhere, so that a turned or mirrored picture shows."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def fill(folder, *names):
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        drawn(seed=seed).save(folder / name)
    return folder


def opened(path, **settings):
    return PortraitFolder(path, Everywhere(), **{"min_side": 32, **settings})


# What a folder is


def test_a_plain_folder_is_a_sorted_list_with_names_and_splits_from_the_paths(tmp_path):
    folder = opened(fill(tmp_path, "train/ben.PNG", "eval/cat.png", "ann.png", ".hidden/dan.png", ".eve.png"))
    assert folder.files == ["ann.png", "eval/cat.png", "train/ben.PNG"]
    portraits = [folder.read(index) for index in range(len(folder))]
    assert [p.identity for p in portraits] == ["ann", "cat", "ben"]
    assert [p.split for p in portraits] == ["", "eval", "train"]
    assert {p.licence for p in portraits} == {p.source for p in portraits} == {"not stated"}


def test_a_table_decides_which_pictures_belong_and_what_is_known_of_them(tmp_path):
    fill(tmp_path, "a.png", "b.png", "unlisted.png")
    rows = ["file,identity,source,licence,split,age", "b.png,Ben,studio,CC0,eval,40", "a.png,,,,train,"]
    (tmp_path / "portraits.csv").write_text("\n".join(rows))
    folder = opened(tmp_path)
    assert folder.files == ["a.png", "b.png"] and folder.num_unlisted == 1
    ann, ben = folder.read(0), folder.read(1)
    assert (ann.identity, ann.source, ann.licence, ann.split) == ("a", "not stated", "not stated", "train")
    assert (ben.identity, ben.source, ben.licence, ben.split) == ("Ben", "studio", "CC0", "eval")
    assert opened(tmp_path, split="eval").files == ["b.png"]


def test_reading_gives_pixels_and_landmarks_and_is_the_same_in_another_process(tmp_path):
    folder = opened(fill(tmp_path, "a.png"))
    portrait = folder.read(0)
    assert_close(portrait.image[0], torch.from_numpy(np.array(drawn())).permute(2, 0, 1) / 255)
    assert portrait.mesh.shape == (478, 2) and portrait.pose.shape == (33, 4)
    assert torch.equal(pickle.loads(pickle.dumps(folder)).read(0).image, portrait.image)


def test_bytes_stay_bytes_where_that_is_asked_for(tmp_path):
    fill(tmp_path, "a.png")
    Image.fromarray(np.full((SIDE, SIDE), 40_000, np.uint16)).save(tmp_path / "b.png")
    folder, usual = opened(tmp_path, as_bytes=True), opened(tmp_path)
    assert folder.read(0).image.dtype == torch.uint8
    assert torch.equal(folder.read(0).image.float() / 255, usual.read(0).image)
    assert torch.equal(folder.read(0).mesh, usual.read(0).mesh)
    assert torch.equal(folder.read(1).image, usual.read(1).image), "16 bits would lose some"


def test_no_picture_is_opened_before_it_is_asked_for(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"")
    folder = opened(tmp_path)
    assert folder.files == ["broken.png"]
    assert folder.known(0) == {"identity": "broken", "source": "not stated", "licence": "not stated", "split": ""}


# What is wrong with a folder as a whole


def test_a_missing_folder_and_a_file_in_its_place_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        opened(tmp_path / "nowhere")
    fill(tmp_path, "a.png")
    with pytest.raises(NotADirectoryError, match="a.png is a file"):
        opened(tmp_path / "a.png")


def test_a_folder_without_pictures_says_what_it_holds_instead(tmp_path):
    with pytest.raises(ValueError, match="is empty: need portraits as .bmp"):
        opened(tmp_path)
    for name in ("a.heic", "b.heic", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match="holds no pictures, only 2 .heic, 1 .txt"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("table", "error", "complaint"),
    [
        ("file\na.png\ngone.png", FileNotFoundError, "names 1 pictures that are not in .*: gone.png"),
        ("name\na.png", ValueError, "has columns name: need at least a column `file`"),
        ("file", ValueError, "has no rows"),
        ("file\na.png\na.png", ValueError, "names a.png more than once"),
        ("file\n../a.png", ValueError, "row 2: file is '../a.png', need a name relative"),
        ("file\nsub/b.png\nsub/b.jpg", ValueError, "have the same stem"),
        ("file,split\na.png,train", ValueError, "no portraits of split 'eval'; its splits are: 'train'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, table, error, complaint):
    fill(tmp_path, "a.png", "sub/b.png", "sub/b.jpg")
    (tmp_path / "portraits.csv").write_text(table)
    with pytest.raises(error, match=complaint):
        opened(tmp_path, split="eval" if "split" in table else None)


def test_two_pictures_of_one_stem_need_a_table_that_tells_them_apart(tmp_path):
    fill(tmp_path, "ann/1.png", "ben/1.png")
    with pytest.raises(ValueError, match="ann/1.png and ben/1.png have the same stem.*file and identity"):
        opened(tmp_path)
    (tmp_path / "portraits.csv").write_text("file,identity\nann/1.png,Ann\nben/1.png,Ben")
    assert len(opened(tmp_path)) == 2


def test_landmarks_of_other_pictures_are_an_error_at_once(tmp_path):
    fill(tmp_path, "a.png")
    np.savez(tmp_path / "marks.npz", files=["train/a.png"], mesh=np.ones((1, 478, 2)))
    with pytest.raises(ValueError, match="none of the 1 pictures.*names train/a.png; here are a.png"):
        PortraitFolder(tmp_path, NpzLandmarks(tmp_path / "marks.npz"))


@pytest.mark.parametrize(
    ("settings", "advice"), [({"needs": "hands"}, "face, body, both, any"), ({"min_side": 0}, "1 or more")]
)
def test_impossible_settings_are_refused(tmp_path, settings, advice):
    with pytest.raises(ValueError, match=advice):
        opened(fill(tmp_path, "a.png"), **settings)


# Landmarks that are not enough


@pytest.mark.parametrize(
    ("source", "needs", "reason"),
    [
        (Everywhere(mesh=False), "face", "no-face"),
        (Everywhere(mesh=False), "both", "no-face"),
        (Everywhere(pose=False), "body", "no-person"),
        (Everywhere(pose=False), "both", "no-person"),
        (Everywhere(mesh=False, pose=False), "any", "no-landmarks"),
        (Everywhere(fails=SeveralFaces("faces of 90 and 88 px")), "any", "several-faces"),
        (Everywhere(at=1.5), "any", "landmarks-outside"),
        (Everywhere(at=1.5, mesh=False), "any", "landmarks-outside"),
    ],
)
def test_a_portrait_without_the_landmarks_it_needs_is_skipped(tmp_path, source, needs, reason):
    skipped = PortraitFolder(fill(tmp_path, "a.png"), source, needs=needs, min_side=32).read(0)
    assert isinstance(skipped, Skipped) and skipped.reason == reason and skipped.file == "a.png" and skipped.detail


@pytest.mark.parametrize("source", [Everywhere(mesh=False), Everywhere(pose=False)])
def test_a_face_or_a_body_alone_is_a_portrait_unless_more_is_needed(tmp_path, source):
    assert isinstance(PortraitFolder(fill(tmp_path, "a.png"), source, min_side=32).read(0), Portrait)


# Pictures that are converted


def saved(path, picture, **settings):
    picture.save(path, **settings)
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(tmp_path, orientation):
    stored = drawn(48, 32)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_270],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_90],
    }[orientation]  # fmt: skip
    upright = stored.transpose(turns[0]) if turns else stored
    found = read_picture(saved(tmp_path / "a.png", stored, exif=exif))
    assert_close(found[0].permute(1, 2, 0), torch.from_numpy(np.array(upright)) / 255)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_of_grey_keep_their_whole_range(tmp_path, suffix):
    ramp = np.linspace(0, 65535, SIDE * SIDE).astype(np.uint16).reshape(SIDE, SIDE)
    found = read_picture(saved(tmp_path / f"a.{suffix}", Image.fromarray(ramp)))
    assert_close(found, torch.from_numpy(ramp.astype(np.float32) / 65535).expand(1, 3, SIDE, SIDE))


def test_sixteen_bits_of_colour_keep_their_whole_range_to_a_level(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (SIDE, SIDE, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)  # filter 0 on every row

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0)  # 16 bits, RGB
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(png)
    exact = torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None] / 65535
    assert (read_picture(tmp_path / "a.png") - exact).abs().max() < 1 / 255


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_grey_palette_and_line_art_become_rgb(tmp_path, mode):
    stored = drawn().convert(mode)
    found = read_picture(saved(tmp_path / "a.png", stored))
    assert_close(found[0].permute(1, 2, 0), torch.from_numpy(np.array(stored.convert("RGB"))) / 255)


def test_cmyk_without_a_profile_becomes_rgb(tmp_path):
    paper_and_ink = Image.new("CMYK", (SIDE, SIDE), (0, 0, 0, 0))
    paper_and_ink.paste((0, 255, 255, 0), (0, 0, SIDE // 2, SIDE))  # magenta and yellow: red
    found = read_picture(saved(tmp_path / "a.tif", paper_and_ink))
    assert_close(found[0, :, 0, 0], torch.tensor([1.0, 0, 0]))
    assert_close(found[0, :, 0, -1], torch.ones(3))


def only_black_inks() -> bytes:
    """An ICC profile of a press on which cyan, magenta and yellow leave no trace: L = 100 (1 - K), a = b = 0."""
    ramp = bytes(range(256))
    paper, ink = b"\xff\x80\x80", b"\x00\x80\x80"  # L, a, b
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])  # 4 channels in, 3 out, 2 grid points a channel, K fastest
    lut += struct.pack(">9i", *(65536 if i % 4 == 0 else 0 for i in range(9))) + ramp * 4 + (paper + ink) * 8 + ramp * 3
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    tags, data, offset = b"", b"", 128 + 4 + 2 * 12
    for name, value in ((b"A2B0", lut), (b"wtpt", white)):
        value += bytes(-len(value) % 4)
        tags += name + struct.pack(">II", offset + len(data), len(value))
        data += value
    header = struct.pack(">I4sI4s4s4s", offset + len(data), bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061) + bytes(48)
    return header + struct.pack(">I", 2) + tags + data


def test_cmyk_goes_through_its_own_profile(tmp_path):
    picture = Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0))  # red, by the look of the numbers
    picture.paste((255, 0, 0, 255), (0, 0, SIDE // 2, SIDE))
    found = read_picture(saved(tmp_path / "a.tif", picture, icc_profile=only_black_inks()))
    assert found[0, :, 0, -1].min() > 0.98 and found[0, :, 0, 0].max() < 0.02


def test_a_profile_that_is_broken_or_of_other_colours_is_a_reason(tmp_path):
    picture = Image.new("CMYK", (SIDE, SIDE), (0, 128, 128, 0))
    not_for_cmyk = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in (("wrong.tif", not_for_cmyk), ("broken.tif", b"no profile at all")):
        with pytest.raises(UnusablePicture, match="colour-profile"):
            read_picture(saved(tmp_path / name, picture, icc_profile=profile))


def test_alpha_that_hides_nothing_is_dropped(tmp_path):
    stored = drawn()
    stored.putalpha(255)
    found = read_picture(saved(tmp_path / "a.png", stored))
    assert_close(found[0].permute(1, 2, 0), torch.from_numpy(np.array(drawn())) / 255)


# Pictures that are skipped


def jpeg_cut_in_the_middle(path):
    drawn(256, 256).save(path / "a.jpg")
    (path / "a.jpg").write_bytes((path / "a.jpg").read_bytes()[:5000])


def png_cut_in_the_middle(path):
    drawn(256, 256).save(path / "a.png")
    (path / "a.png").write_bytes((path / "a.png").read_bytes()[:5000])


def half_transparent(path):
    stored = drawn()
    stored.putalpha(Image.linear_gradient("L").resize((SIDE, SIDE)))
    stored.save(path / "a.png")


def transparent_colour(path):
    Image.new("L", (SIDE, SIDE), 7).save(path / "a.png", transparency=7)


def two_frames(path):
    drawn().save(path / "a.gif", save_all=True, append_images=[drawn(seed=1)])


UNUSABLE = {
    "empty-file": lambda path: (path / "a.jpg").touch(),
    "not-a-picture": lambda path: (path / "a.jpg").write_text("<html>404</html>"),
    "damaged": jpeg_cut_in_the_middle,
    "damaged (png)": png_cut_in_the_middle,
    "too-small": lambda path: drawn(500, 31).save(path / "a.png"),
    "animated": two_frames,
    "transparent": half_transparent,
    "transparent (colour)": transparent_colour,
    "colour-mode": lambda path: Image.new("F", (SIDE, SIDE), 0.5).save(path / "a.tif"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_picture_that_cannot_be_used_is_skipped_with_its_reason(tmp_path, case):
    UNUSABLE[case](tmp_path)
    skipped = opened(tmp_path).read(0)
    assert isinstance(skipped, Skipped) and skipped.reason == case.split()[0] and skipped.detail


def test_a_picture_larger_than_pillow_decodes_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", SIDE)
    assert opened(fill(tmp_path, "a.png")).read(0).reason == "too-large"


def test_a_picture_that_vanished_after_the_listing_is_skipped(tmp_path):
    folder = opened(fill(tmp_path, "a.png", "b.png"))
    (tmp_path / "a.png").unlink()
    assert folder.read(0).reason == "missing" and isinstance(folder.read(1), Portrait)


def test_what_the_system_refuses_to_read_is_skipped(tmp_path):
    folder = opened(fill(tmp_path, "a.png"))
    (tmp_path / "a.png").unlink()
    os.mkdir(tmp_path / "a.png")  # reading a folder fails for everybody, root too
    assert folder.read(0).reason == "unreadable"


def test_every_reason_is_documented():
    with pytest.raises(AssertionError):
        Skipped("a.png", "because", "")
    assert all(meaning and slug == slug.lower().replace(" ", "-") for slug, meaning in REASONS.items())
