"""`training.evaluate --engine qwen` on a tiny random model: the retouch command's pictures, scored and controlled."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_qwen import components, save_base, save_set

from mirrorppr_core.commands.cli import main as core
from training.evaluate import main

SIZE = (260, 300)  # height, width


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Set, base model and two cases in one folder."""
    root = tmp_path_factory.mktemp("qwen")
    save_set(root / "set")
    save_base(components(), root / "base")
    rows = []
    for number in range(2):
        row = {"operation": f"operation {number}"}
        for seed, pair in enumerate(("pair1", "pair2")):
            noise = np.random.default_rng(10 * number + seed).integers(40, 200, (26, 30, 3), dtype=np.uint8)
            photo = np.array(Image.fromarray(noise).resize(SIZE[::-1], Image.Resampling.BICUBIC))
            retouched = photo.copy()
            retouched[80:140, 100:180] += 20
            for role, pixels in (("origin", photo), ("edited", retouched)):
                row[f"{pair}_{role}"] = f"{pair}_{role}_{number}.png"
                Image.fromarray(pixels).save(root / row[f"{pair}_{role}"])
        rows.append(row)
    (root / "dataset.json").write_text(json.dumps(rows))
    return root


def evaluate(place, out, *more) -> int:
    told = ["--dataset", str(place / "dataset.json"), "--outputs", f"qwen={out}", "--engine", "qwen"]
    return main([*told, "--weights", str(place / "set"), "--base", str(place / "base"), "--steps", "2", *more])


def test_the_pictures_are_those_of_the_retouch_command_and_are_scored_with_their_controls(place, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert evaluate(place, tmp_path / "out", "--generated", "--controls", "2", "--report", str(report)) == 0
    stored = json.loads(report.read_text())
    assert stored["name"] == "qwen" and stored["summary"]["valid_pixel_samples"] == 2
    controls = sorted(path.parent.name for path in (tmp_path / "out").glob("*/*.png"))
    assert controls == ["identity", "reversed", "shuffled"]
    pair = ["--before", str(place / "pair1_origin_0.png"), "--after", str(place / "pair1_edited_0.png")]
    query = ["--query", str(place / "pair2_origin_0.png"), "--out", str(tmp_path / "retouch")]
    engine = ["--engine", "qwen", "--weights", str(place / "set"), "--base", str(place / "base")]
    assert core(["retouch", *pair, *query, *engine, "--steps", "2", "--generated"]) == 0
    (scored,) = (tmp_path / "out").glob("*idx0000*.png")
    assert np.array_equal(
        np.asarray(Image.open(scored)), np.asarray(Image.open(tmp_path / "retouch/pair2_origin_0.png"))
    )


def test_a_picture_that_cannot_be_brought_back_to_the_photo_is_refused_and_counted(place, tmp_path, capsys):
    """An untrained DiT answers with noise, which shows no version of the photo."""
    assert evaluate(place, tmp_path / "out") == 2
    log = json.loads((tmp_path / "out" / "inference_log.json").read_text())
    assert [row["output_image_path"] for row in log] == [None, None] and "--generated" in log[0]["error"]
    assert "no picture is named" in capsys.readouterr().err


def test_what_the_engine_needs_is_said_before_any_work(place, tmp_path, capsys):
    told = ["--dataset", str(place / "dataset.json"), "--outputs", str(tmp_path / "out")]
    assert main([*told, "--engine", "qwen"]) == 2
    assert "--engine qwen needs --weights (a set) and --base" in capsys.readouterr().err
    assert main([*told, "--engine", "mini", "--generated"]) == 2
    assert "add --engine qwen" in capsys.readouterr().err
