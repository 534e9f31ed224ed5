"""Fields to files, to pictures and back, in the real ComfyUI."""

import re

import numpy as np
import pytest
from test_nodes import HOPPER, node, pixels, png

pytestmark = pytest.mark.host
pytest.importorskip("OpenEXR")
pytest.importorskip("tifffile")
pytest.importorskip("png")

FOLDER = "mirrorppr_fields"


@pytest.fixture(scope="module", autouse=True)
def photo(host):
    host.upload_image("field_photo.png", png(HOPPER))


def graph(**more_nodes: dict) -> dict:
    """A photo (1), a field from a simulated retouch of it (3), and more nodes: n20=node(...)."""
    base = {
        "1": node("LoadImage", image="field_photo.png"),
        "2": node("MirrorPPR_Load", set_name="mini-face (bundled)"),
        "3": node(
            "MirrorPPR_SimulateRetouch",
            extractor=["2", 0], image=["1", 0], operation="eye_resize", strength=60.0, face="only",
        ),
    }  # fmt: skip
    return base | {name.removeprefix("n"): one for name, one in more_nodes.items()}


def applied(field: list) -> dict:
    return node("MirrorPPR_ApplyField", image=["1", 0], field=field, strength=1.0)


def shown(images: list) -> dict:
    return node("PreviewImage", images=images)


def result(host, run, name: str) -> np.ndarray:
    (content,) = host.images(run, name)
    return pixels(content).astype(int)


@pytest.mark.parametrize("form", ["exr", "tiff", "png"])
def test_a_saved_field_moves_the_photo_as_before(host, form):
    field = ["3", 1]
    saved = node("MirrorPPR_SaveField", field=field, name=f"nose {form}", format=form)
    first = host.run(graph(n10=saved, n11=applied(["10", 0]), n12=shown(["11", 0])))
    assert first.status == "success", first.complaint
    text = first.outputs["10"]["text"][0]
    assert f"saved as nose {form}_00001.{form} in output/{FOLDER}" in text and f"{HOPPER.shape[1]}x" in text
    assert (host.base_dir / "output" / FOLDER / f"nose {form}_00001.{form}").is_file()
    loaded = node("MirrorPPR_LoadField", file=f"nose {form}_00001.{form} [output]")
    again = host.run(
        graph(n20=loaded, n21=applied(["20", 0]), n22=shown(["21", 0]), n23=node("PreviewAny", source=["20", 1]))
    )
    assert again.status == "success", again.complaint
    direct, after = result(host, first, "12"), result(host, again, "22")
    still = (direct == HOPPER.astype(int)).all(axis=-1)
    assert 0.3 < still.mean() < 1 and np.abs(after - direct).max() <= 1
    assert (after == HOPPER.astype(int))[still].mean() > 0.999
    assert "largest motion" in again.outputs["23"]["text"][0]


@pytest.mark.parametrize("v", ["up", "down"])
def test_a_field_survives_the_way_through_a_picture_of_positions(host, v):
    nodes = {
        "n10": node("MirrorPPR_FieldToMap", field=["3", 1], v=v),
        "n11": node("MirrorPPR_MapToField", map=["10", 0], v=v),
        "n12": applied(["11", 0]), "n13": shown(["12", 0]), "n14": shown(["3", 0]),
    }  # fmt: skip
    run = host.run(graph(**nodes))
    assert run.status == "success", run.complaint
    assert np.abs(result(host, run, "13") - result(host, run, "14")).max() <= 1


def test_a_map_read_upside_down_is_refused(host):
    run = host.run(
        graph(
            n10=node("MirrorPPR_FieldToMap", field=["3", 1], v="down"),
            n11=node("MirrorPPR_MapToField", map=["10", 0], v="up"),
            n12=applied(["11", 0]),
            n13=shown(["12", 0]),
        )
    )
    assert run.status == "error" and "turned over" in run.complaint


@pytest.mark.parametrize("name", ["../escaped", "a/b", ""])
def test_a_field_is_written_into_its_own_folder_only(host, name):
    prompt = graph(n10=node("MirrorPPR_SaveField", field=["3", 1], name=name, format="exr"))
    queued = host.queue(prompt)
    assert queued.prompt_id is None and "name of a field" in queued.complaint
    assert not list(host.base_dir.glob("**/escaped*"))


@pytest.mark.parametrize("file", ["../x.exr [output]", "nowhere.exr [output]", "x [temp]"])
def test_a_field_file_that_is_not_listed_is_refused(host, file):
    queued = host.queue(graph(n20=node("MirrorPPR_LoadField", file=file), n21=applied(["20", 0]), n22=shown(["21", 0])))
    complaint = queued.complaint if queued.prompt_id is None else host.wait(queued.prompt_id).complaint
    assert re.search("(?i)no field file|not in list", complaint)
