"""`retouch --engine qwen` on a tiny random set: a row for each query, and the photo's pixels unless asked otherwise."""

import json

import numpy as np
import pytest
from PIL import Image
from tiny_qwen import components, save_base, save_set

from mirrorppr_core.commands.cli import main


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Set, base model and pictures in one folder."""
    root = tmp_path_factory.mktemp("qwen")
    save_set(root / "set")
    save_base(components(), root / "base")
    noise = np.random.default_rng(0).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((300, 260), Image.Resampling.BICUBIC)
    for name in ("before", "after", "one", "two"):
        picture.save(root / f"{name}.png")
    picture.resize((100, 90)).save(root / "small.png")
    return root


def retouch(place, capsys, out, *words):
    pair = ["--before", str(place / "before.png"), "--after", str(place / "after.png")]
    engine = ["--engine", "qwen", "--weights", str(place / "set"), "--base", str(place / "base"), "--steps", "2"]
    status = main(["retouch", *pair, "--out", str(out), *engine, *words])
    return status, json.loads(capsys.readouterr().out)


def test_generated_pictures_have_the_size_of_their_query(place, capsys, tmp_path):
    queries = [str(place / "one.png"), str(place / "two.png")]
    status, report = retouch(place, capsys, tmp_path, "--generated", "--query", *queries)
    assert status == 0 and [row["largest_displacement_px"] for row in report["queries"]] == [None, None]
    assert Image.open(tmp_path / "one.png").size == (300, 260)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()  # same photo, same seed


def test_a_picture_that_shows_something_else_is_not_forced_onto_the_photo(place, capsys, tmp_path):
    """An untrained DiT answers with noise; its motion would mean nothing."""
    status, report = retouch(place, capsys, tmp_path, "--query", str(place / "one.png"))
    assert status == 2 and "--generated" in report["queries"][0]["error"]
    assert not (tmp_path / "one.png").exists()


def test_one_bad_query_does_not_stop_the_others(place, capsys, tmp_path):
    queries = [str(place / "small.png"), str(place / "one.png")]
    status, report = retouch(place, capsys, tmp_path, "--generated", "--query", *queries)
    assert status == 1 and sum("error" in row for row in report["queries"]) == 1
    assert (tmp_path / "one.png").exists() and not (tmp_path / "small.png").exists()


def test_it_says_what_it_needs(place, capsys, tmp_path):
    words = ["retouch", "--engine", "qwen", "--before", "b", "--after", "a", "--query", "q", "--out", str(tmp_path)]
    assert main(words) == 2
    assert "needs --weights" in json.loads(capsys.readouterr().out)["error"]


def test_a_device_that_is_not_there_is_refused_in_words(place, capsys, tmp_path):
    status, report = retouch(place, capsys, tmp_path, "--device", "cuda:9", "--query", str(place / "one.png"))
    assert status == 2 and "--device cuda:9 cannot be used here" in report["error"]


def test_the_default_seed_is_the_references(place, capsys, tmp_path):
    query = ["--generated", "--query", str(place / "one.png")]
    retouch(place, capsys, tmp_path / "default", *query)
    retouch(place, capsys, tmp_path / "named", "--seed", "123", *query)
    assert (tmp_path / "default" / "one.png").read_bytes() == (tmp_path / "named" / "one.png").read_bytes()
