"""The command line: one pair and any number of photos in, one PNG each and one JSON object out."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from toys import SEEING, astronaut, hopper, push, save_set

from mirrorppr_core.commands.cli import main

ROOT = Path(__file__).resolve().parents[3]
pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


def picture(photo) -> Image.Image:
    return Image.fromarray(photo[0].permute(1, 2, 0).contiguous().numpy())


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """A set of weights, an exemplar pair, and queries of several kinds."""
    folder = tmp_path_factory.mktemp("files")
    save_set(folder / "set", config=SEEING)
    picture(astronaut()).save(folder / "before.png")
    picture(push(astronaut(), centre=(226, 152), radius=28, shift=(5.0, 3.0))).save(folder / "after.png")
    query = picture(hopper())
    query.save(folder / "hopper.png")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    alpha = Image.linear_gradient("L").resize(query.size)
    with_alpha = query.copy()
    with_alpha.putalpha(alpha)
    with_alpha.save(folder / "cutout.png", icc_profile=profile)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show the stored picture turned right by 90 degrees
    query.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=exif, icc_profile=profile)
    return folder


def arguments(files: Path, out: Path, *queries: str, **options: object) -> list[str]:
    pair = {"before": files / "before.png", "after": files / "after.png", "weights": files / "set"}
    given = {**pair, **options, "out": out}
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    return ["retouch", *words, "--query", *(str(files / q) for q in queries)]


def run(capsys, *words: str) -> tuple[int, dict, str]:
    """Exit status, the printed JSON object and what went to standard error."""
    status = main(list(words))
    printed = capsys.readouterr()
    return status, json.loads(printed.out), printed.err


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as opened:
        return np.array(opened)


def process(*words: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mirrorppr_core", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    """One run in a process of its own over three photos: the report and the folder."""
    out = tmp_path_factory.mktemp("out") / "made" / "here"
    done = process(*arguments(files, out, "hopper.png", "cutout.png", "turned.png"))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), out


def test_it_prints_one_json_object_with_a_row_for_each_photo(finished, files):
    report, out = finished
    assert report["exemplar"]["largest_displacement_px"] == pytest.approx(5.8, rel=0.15)
    assert report["exemplar"]["unchanged"] is False and report["set"] == "0123456789ab"
    for row, name in zip(report["queries"], ("hopper.png", "cutout.png", "turned.png"), strict=True):
        assert row["query"] == str(files / name) and row["output"] == str(out / f"{Path(name).stem}.png")
        assert row["seconds"] > 0 and row["largest_displacement_px"] > 1 and 0 < row["changed_share"] < 0.5


def test_results_are_eight_bit_pngs_of_exactly_the_upright_size(finished):
    for name, mode in (("hopper", "RGB"), ("cutout", "RGBA"), ("turned", "RGB")):
        with Image.open(finished[1] / f"{name}.png") as result:
            assert (result.format, result.size, result.mode) == ("PNG", (512, 600), mode)
    assert sorted(path.name for path in finished[1].iterdir()) == ["cutout.png", "hopper.png", "turned.png"]


def test_orientation_is_applied_once(finished):
    assert np.array_equal(pixels(finished[1] / "turned.png"), pixels(finished[1] / "hopper.png"))
    with Image.open(finished[1] / "turned.png") as result:
        assert result.getexif().get(0x0112, 1) == 1


def test_alpha_and_colour_profile_are_kept(finished, files):
    result, query = pixels(finished[1] / "cutout.png"), pixels(files / "cutout.png")
    assert np.array_equal(result[..., :3], pixels(finished[1] / "hopper.png"))
    change = np.abs(result[..., 3].astype(int) - query[..., 3])  # the alpha is a slope of half a level per pixel
    assert 0 < change.max() < 20 and (change == 0).mean() > 0.5
    for name in ("cutout.png", "turned.png"):
        with Image.open(files / name) as before, Image.open(finished[1] / name) as after:
            assert before.info["icc_profile"] and after.info["icc_profile"] == before.info["icc_profile"]


def test_the_same_seed_gives_the_same_file_in_two_processes(finished, files, tmp_path):
    done = process(*arguments(files, tmp_path, "hopper.png", seed=0))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "hopper.png").read_bytes() == (finished[1] / "hopper.png").read_bytes()


def test_strength_zero_writes_the_photo_itself(files, tmp_path, capsys):
    status, report, _ = run(capsys, *arguments(files, tmp_path, "hopper.png", strength=0))
    assert status == 0 and report["queries"][0]["changed_share"] == 0
    assert np.array_equal(pixels(tmp_path / "hopper.png"), pixels(files / "hopper.png"))


def test_an_unchanged_exemplar_writes_the_photo_itself_and_says_so(files, tmp_path, capsys):
    same = arguments(files, tmp_path, "hopper.png", after=files / "before.png")
    status, report, _ = run(capsys, *same)
    (row,) = report["queries"]
    assert status == 0 and row["unchanged"] and report["exemplar"]["unchanged"]
    assert "no change found" in row["notes"][0] and row["largest_displacement_px"] == 0
    assert np.array_equal(pixels(tmp_path / "hopper.png"), pixels(files / "hopper.png"))


def test_a_transparent_colour_becomes_alpha(files, tmp_path, capsys):
    picture(hopper()).save(files / "keyed.png", transparency=tuple(hopper()[0, :, 0, 0].tolist()))
    status, _, _ = run(capsys, *arguments(files, tmp_path, "keyed.png", strength=0))
    result = pixels(tmp_path / "keyed.png")
    assert status == 0 and result.shape == (600, 512, 4) and result[0, 0, 3] == 0 and result[..., 3].max() == 255


def test_a_photo_that_fails_is_reported_and_does_not_stop_the_others(files, tmp_path, capsys):
    Image.new("RGB", (300, 300), "grey").save(files / "nobody.png")
    Image.new("RGB", (90, 300), "grey").save(files / "narrow.png")
    Image.new("CMYK", (300, 300)).save(files / "print.tiff")
    (files / "broken.jpg").write_bytes((files / "hopper.png").read_bytes()[:999])
    names = ("nobody.png", "narrow.png", "print.tiff", "broken.jpg", "hopper.png")
    status, report, errors = run(capsys, *arguments(files, tmp_path, *names))
    assert status == 1 and [path.name for path in tmp_path.iterdir()] == ["hopper.png"]
    wanted = ("one plain colour", "at least 256", "colour mode CMYK.*--cmyk convert", "damaged or not a picture")
    for row, message in zip(report["queries"], wanted, strict=False):
        assert re.search(message, row["error"]) and row["error"] in errors
    assert "error" not in report["queries"][-1]


def test_joints_are_read_from_files_and_those_of_another_picture_are_reported(files, tmp_path, capsys):
    joints = {"pose_keypoints_2d": [256.0, 130.0, 0.9, *[0.0] * 51]}  # the nose alone
    (files / "pose.json").write_text(json.dumps({"canvas_width": 512, "canvas_height": 600, "people": [joints]}))
    words = arguments(files, tmp_path / "one", "hopper.png")
    status, report, _ = run(capsys, *words, "--pose-query", str(files / "pose.json"))
    assert status == 0 and "error" not in report["queries"][0]
    (files / "pose.json").write_text(json.dumps({"canvas_width": 600, "canvas_height": 300, "people": [joints]}))
    words = arguments(files, tmp_path / "two", "hopper.png")
    status, report, _ = run(capsys, *words, "--pose-query", str(files / "pose.json"))
    assert status == 2 and "pose.json is of a 600x300 picture" in report["queries"][0]["error"]


def refused(capsys, out: Path, *words: str) -> str:
    """The message of a run that does nothing: status 2, the same text on both streams, no file."""
    before = sorted(out.rglob("*")) if out.is_dir() else out.exists()
    status, report, errors = run(capsys, *words)
    assert status == 2 and report["error"] in errors
    assert (sorted(out.rglob("*")) if out.is_dir() else out.exists()) == before
    return report["error"]


@pytest.mark.parametrize("name", ["moving.webp", "moving.png", "pages.tif"])
def test_frames_and_pages_are_retouched_one_by_one_where_that_is_asked_for(files, tmp_path, capsys, name):
    first = picture(hopper())
    second = first.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    lossless = {"lossless": True} if name.endswith("webp") else {}
    first.save(files / name, save_all=True, append_images=[second], **lossless)
    assert "--frames each" in run(capsys, *arguments(files, tmp_path, name))[2]
    for out, options in (("all", ["--frames", "each"]), ("still", ["--frames", "each", "--strength", "0"])):
        status, report, _ = run(capsys, *arguments(files, tmp_path / out, name, "hopper.png"), *options)
        assert status == 0 and [row.get("frame") for row in report["queries"]] == [1, 2, None]
        stem = Path(name).stem
        assert sorted(p.name for p in (tmp_path / out).iterdir()) == [
            "hopper.png",
            f"{stem}_0001.png",
            f"{stem}_0002.png",
        ]
    for number, frame in enumerate((first, second), start=1):
        kept = pixels(tmp_path / "still" / f"{stem}_{number:04d}.png")
        assert (kept[..., :3] == np.array(frame)).all()
        assert (pixels(tmp_path / "all" / f"{stem}_{number:04d}.png") != kept).any()


def bad_inputs(files: Path) -> dict[str, tuple[str, str]]:
    """Name of a file -> the words that say what it is, as a query and as after; both written into the folder."""
    photo = picture(astronaut())
    photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(files / "mirrored.png")
    both = Image.new("RGB", (2 * photo.width + 30, photo.height + 20), "black")
    both.paste(photo, (10, 10))
    both.paste(photo, (photo.width + 20, 10))
    both.save(files / "screenshot.png")
    picture(hopper()).resize(photo.size).save(files / "third.png")
    Image.new("RGB", (512, 600)).save(files / "black.png")
    Image.new("RGB", (1, 700), "red").save(files / "line.png")
    for kind in ("png", "jpg", "tif", "webp"):
        photo.save(files / f"whole.{kind}")
        (files / f"cut.{kind}").write_bytes((files / f"whole.{kind}").read_bytes()[:5000])
    (files / "shot.cr2").write_bytes(b"II*\0\x10\0\0\0CR\2\0" + bytes(2000))
    (files / "shot.raf").write_bytes(b"FUJIFILMCCD-RAW 0201" + bytes(2000))
    (files / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(2000))
    cuts = {f"cut.{kind}": ("", "damaged") for kind in ("png", "jpg", "tif", "webp")}
    return cuts | {
        "mirrored.png": ("after", "is mirrored"),
        "screenshot.png": ("after", "two pictures side by side"),
        "third.png": ("after", "do not look like the same photo"),
        "black.png": ("", "one plain colour"),
        "line.png": ("", "is 1x700 pixels"),
        "shot.cr2": ("", "Canon raw file"),
        "shot.raf": ("", "Fujifilm raw file"),
        "photo.heic": ("", "HEIC"),
    }


def test_bad_input_is_refused_by_what_it_is_and_nothing_is_written(files, tmp_path, capsys):
    for name, (role, words) in bad_inputs(files).items():
        sides = ("after",) if role else ("after", "query")
        for side in sides:
            query, pair = (name, {}) if side == "query" else ("hopper.png", {"after": files / name})
            status, report, errors = run(capsys, *arguments(files, tmp_path / "out", query, **pair))
            said = report.get("error") or report["queries"][0]["error"]
            assert status == 2 and words in said and said in errors, (name, side, said)
            assert not list(tmp_path.rglob("*")), (name, side)


def test_a_third_photo_in_the_place_of_before_is_refused(files, capsys):
    swapped = arguments(files, files / "never", "hopper.png", before=files / "third.png", after=files / "before.png")
    assert "do not look like the same photo" in refused(capsys, files / "never", *swapped)


def test_missing_photos_are_all_named_and_nothing_is_written(files, tmp_path, capsys):
    out = tmp_path / "out"
    message = refused(capsys, out, *arguments(files, out, "hopper.png", "gone.png", "lost.png"))
    assert "gone.png" in message and "lost.png" in message and "nothing was written" in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"before": "gone.png"}, "gone.png: no such file"),
        ({"after": "hopper.png"}, "do not look like the same photo"),
        ({"strength": 3}, "must lie between -2 and 2"),
        ({"strength": "nan"}, "must lie between -2 and 2"),
        ({"steps": 0}, "use 1 to 50"),
        ({"weights": "nowhere"}, "mae.safetensors is missing from the set in nowhere/"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_written(files, tmp_path, capsys, options, message):
    options = {k: files / v if isinstance(v, str) and k != "strength" else v for k, v in options.items()}
    out = tmp_path / "out"
    assert message in refused(capsys, out, *arguments(files, out, "hopper.png", **options))


def test_a_folder_that_cannot_be_written_is_named(files, tmp_path, capsys):
    occupied = tmp_path / "file"
    occupied.write_text("not a folder")
    for out in (occupied, occupied / "below"):
        message = refused(capsys, tmp_path, *arguments(files, out, "hopper.png"))
        assert f"cannot write to {out}" in message and "choose another folder" in message


def test_two_photos_of_one_name_are_refused(files, tmp_path, capsys):
    (tmp_path / "hopper.png").write_bytes((files / "hopper.png").read_bytes())
    words = arguments(files, tmp_path / "out", "hopper.png")
    message = refused(capsys, tmp_path / "out", *words, str(tmp_path / "hopper.png"))
    assert "would both be written to" in message and "rename one" in message


@pytest.mark.parametrize("query", ["hopper.png", "elsewhere/before.png"])
def test_a_result_never_replaces_an_input(files, capsys, query):
    (files / "elsewhere").mkdir(exist_ok=True)
    (files / "elsewhere" / "before.png").write_bytes((files / "hopper.png").read_bytes())
    assert "choose another --out" in refused(capsys, files, *arguments(files, files, query))


def test_a_photo_with_several_people_needs_a_choice(files, tmp_path, capsys):
    two = np.concatenate([pixels(files / "hopper.png")[:512], pixels(files / "before.png")], axis=1)
    Image.fromarray(two).save(files / "two.png")
    status, report, _ = run(capsys, *arguments(files, tmp_path, "two.png"))
    assert status == 2 and "2 faces found and no choice made" in report["queries"][0]["error"]
    status, report, _ = run(capsys, *arguments(files, tmp_path, "two.png", face="2"))
    assert status == 0 and report["queries"][0]["largest_displacement_px"] > 1
    assert np.array_equal(pixels(tmp_path / "two.png")[:, :512], two[:, :512])
