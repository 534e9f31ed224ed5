"""Operations kept, mixed and explained, in the real ComfyUI."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pytest
from safetensors import safe_open
from test_nodes import ASTRONAUT, BUNDLED, BUNDLED_FOLDER, HOPPER, node, pixels, png, simulate

pytestmark = pytest.mark.host

FOLDER = "mirrorppr_operations"
LOAD, BEFORE, QUERY, AFTER, EXTRACT = "1", "2", "3", "4", "5"


@pytest.fixture(scope="module", autouse=True)
def pictures(host):
    host.upload_image("operation_before.png", png(ASTRONAUT))
    host.upload_image("operation_query.png", png(HOPPER))


def graph(**more_nodes: dict) -> dict:
    """An operation extracted from a simulated pair (node 5), a query (3), and more nodes: n20=node(...)."""
    base = {
        LOAD: node("MirrorPPR_Load", set_name=BUNDLED),
        BEFORE: node("LoadImage", image="operation_before.png"),
        QUERY: node("LoadImage", image="operation_query.png"),
        AFTER: simulate([LOAD, 0], [BEFORE, 0]),
        EXTRACT: node("MirrorPPR_ExtractOperation", extractor=[LOAD, 0], before=[BEFORE, 0], after=[AFTER, 0]),
    }
    return base | {name.removeprefix("n"): one for name, one in more_nodes.items()}


def sampled(operation: list, query: list | None = None) -> dict:
    how = {"strength": 1.0, "steps": 2, "seed": 0, "face": "only"}
    inputs = {"dit": [LOAD, 2], "connector": [LOAD, 1], "operation": operation, "query": query or [QUERY, 0]}
    return node("MirrorPPR_RetouchSampler", **inputs, **how)


def shown(images: list) -> dict:
    return node("PreviewImage", images=images)


def succeeded(host, prompt: dict):
    run = host.run(prompt)
    assert run.status == "success", run.complaint
    return run


def picture(host, run, name: str) -> np.ndarray:
    (content,) = host.images(run, name)
    return pixels(content).astype(int)


def refused(host, prompt: dict, message: str) -> None:
    """At the queue or while it runs: hosts differ in who checks a list of choices."""
    queued = host.queue(prompt)
    complaint = queued.complaint if queued.prompt_id is None else host.wait(queued.prompt_id).complaint
    assert re.search(message, complaint), complaint
    assert host.is_running


def kept(host) -> set[str]:
    return {path.name for path in (host.base_dir / "output" / FOLDER).glob("*")}


def test_an_operation_saved_and_loaded_gives_the_same_picture(host):
    saved = node("MirrorPPR_SaveOperation", operation=[EXTRACT, 0], name="round trip", pictures="thumbnails")
    run = succeeded(host, graph(n10=saved, n11=sampled([EXTRACT, 0]), n12=shown(["11", 0])))
    direct = picture(host, run, "12")
    assert "round trip_00001.safetensors" in kept(host)
    assert "shows a person" in run.outputs["10"]["text"][0]
    file = "round trip_00001.safetensors [output]"
    loaded = node("MirrorPPR_LoadOperation", file=file)
    again = succeeded(host, graph(n20=loaded, n21=sampled(["20", 0]), n22=shown(["21", 0]), n23=shown(["20", 1])))
    assert (picture(host, again, "22") == direct).all()
    assert picture(host, again, "23").shape == (128, 256, 3)
    assert (direct != HOPPER.astype(int)).any()
    assert file in host.object_info()["MirrorPPR_LoadOperation"]["input"]["required"]["file"][1]["options"]


def test_a_second_file_of_the_same_name_is_counted_up(host):
    for pictures in ("none", "exemplar"):  # another input, or the host would show the first result again
        succeeded(
            host, graph(n10=node("MirrorPPR_SaveOperation", operation=[EXTRACT, 0], name="twice", pictures=pictures))
        )
    assert {"twice_00001.safetensors", "twice_00002.safetensors"} <= kept(host)
    path = host.base_dir / "output" / FOLDER / "twice_00002.safetensors"
    with safe_open(str(path), framework="pt") as file:
        assert {"exemplars.0.before", "exemplars.0.after"} <= set(file.keys())


@pytest.mark.parametrize("name", ["../escaped", "a/b", "C:\\x", "", ".hidden"])
def test_a_name_with_a_path_in_it_is_refused_and_nothing_is_written(host, name):
    before = kept(host)
    saved = node("MirrorPPR_SaveOperation", operation=["9", 0], name=name, pictures="none")
    refused(host, {"9": node("MirrorPPR_OperationFromSliders", eye_resize=30.0), "10": saved}, "name of an operation")
    assert kept(host) == before and not list(host.base_dir.glob("**/escaped*"))


@pytest.mark.parametrize("file", ["../../models/x.safetensors [output]", "nowhere.safetensors [output]", "x [temp]"])
def test_a_file_that_is_not_listed_is_refused(host, file):
    loaded = node("MirrorPPR_LoadOperation", file=file)
    refused(host, graph(n20=loaded, n21=sampled(["20", 0]), n22=shown(["21", 0])), "(?i)no operation file|not in list")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty: save it again"),
        (b"\0" * 100, "is damaged or no safetensors file"),
        ((BUNDLED_FOLDER / "dit.safetensors").read_bytes(), "holds the dit of a set of weights and no operation"),
    ],
)
def test_a_file_that_is_no_operation_is_refused(host, content, message):
    path = host.base_dir / "input" / FOLDER / f"bad_{len(content)}.safetensors"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    loaded = node("MirrorPPR_LoadOperation", file=f"{path.name} [input]")
    refused(host, graph(n20=loaded, n21=sampled(["20", 0]), n22=shown(["21", 0])), message)


def test_arithmetic_runs_in_the_graph_and_what_is_reversed_is_undone(host):
    run = succeeded(
        host,
        graph(
            n10=node("MirrorPPR_OperationFromSliders", mouth_smile_both=60.0, text="nose_alar = -40"),
            n11=node("MirrorPPR_ScaleOperation", operation=[EXTRACT, 0], percent=150.0),
            n12=node("MirrorPPR_CombineOperations", first=["11", 0], second=["10", 0]),
            n13=node("MirrorPPR_ReverseOperation", operation=["12", 0]),
            n14=node("MirrorPPR_CombineOperations", first=["12", 0], second=["13", 0]),
            n15=sampled(["14", 0]),
            n16=shown(["15", 0]),
            n17=node("MirrorPPR_BlendOperations", first=["11", 0], second=["10", 0], percent=30.0),
            n18=node("MirrorPPR_AverageOperations", pair_1=["17", 0], pair_2=[EXTRACT, 0], pair_3=["12", 0]),
            n19=sampled(["18", 0]),
            n20=shown(["19", 0]),
        ),
    )
    undone = np.abs(picture(host, run, "16") - HOPPER)
    assert undone.max() <= 3, undone.max()  # grey levels: a twentieth of a pixel on an edge
    assert np.abs(picture(host, run, "20") - HOPPER).max() > 20


def test_what_is_limited_keeps_the_bits_of_the_rest(host):
    parts = dict.fromkeys(("brows", "nose", "mouth", "contour", "hair", "body"), False)
    run = succeeded(
        host,
        graph(
            n10=node("MirrorPPR_OperationFromSliders", eye_resize=80.0, mouth_resize=80.0),
            n11=node("MirrorPPR_LimitOperation", operation=["10", 0], side="left", eyes=True, **parts),
            n12=sampled(["11", 0]),
            n13=shown(["12", 0]),
        ),
    )
    rows, columns = np.nonzero((picture(host, run, "13") != HOPPER).any(axis=-1))
    assert len(rows) > 50
    whole = succeeded(host, graph(n10=node("MirrorPPR_OperationFromSliders", eye_resize=80.0, mouth_resize=80.0),
                                  n12=sampled(["10", 0]), n13=shown(["12", 0])))  # fmt: skip
    all_rows, all_columns = np.nonzero((picture(host, whole, "13") != HOPPER).any(axis=-1))
    assert rows.max() < (all_rows.min() + all_rows.max()) / 2  # the mouth is still
    assert columns.min() > (all_columns.min() + all_columns.max()) / 2 - 25  # and so is the right eye


def test_an_operation_is_explained_and_opened_as_sliders(host):
    run = succeeded(
        host,
        graph(
            n10=node("MirrorPPR_ExplainOperation", operation=[EXTRACT, 0], extractor=[LOAD, 0]),
            n11=node("MirrorPPR_OperationFromSliders", text=["10", 2], nose_alar=10.0),
            n12=sampled(["11", 0]),
            n13=shown(["12", 0]),
            n14=node("PreviewAny", source=["10", 2]),
            n15=node("PreviewAny", source=["11", 1]),
        ),
    )
    lines, opened = run.outputs["14"]["text"][0], run.outputs["15"]["text"][0]
    assert lines.startswith("nose_alar = -"), lines  # simulated: nose_alar -100
    found, changed = (float(text.split("=")[1].split()[0]) for text in (lines, opened))
    assert -100 <= found < -80 and changed == pytest.approx(found + 10)
    assert len(host.images(run, "10")) == 1 and (picture(host, run, "13") != HOPPER).any()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"eye_resize": 300.0}, "bigger than max|larger than"),
        ({"text": "eye_resize = 300"}, "line 1 sets eye_resize to 300: sliders go from -100 to 100"),
        ({"text": "eye_resize = 80", "eye_resize": 40.0}, "eye_resize = 120: sliders go from -100 to 100"),
        ({"text": "third_eye = 10"}, "line 1 names no slider .'third_eye'."),
    ],
)
def test_sliders_beyond_range_and_unknown_names_are_refused(host, inputs, message):
    sliders = node("MirrorPPR_OperationFromSliders", **inputs)
    refused(host, graph(n10=sliders, n11=sampled(["10", 0]), n12=shown(["11", 0])), message)


def test_operations_of_different_sets_are_refused_when_combined(host):
    folder = host.base_dir / "models" / "mirrorppr" / "other"
    if not folder.exists():
        shutil.copytree(BUNDLED_FOLDER, folder, ignore=shutil.ignore_patterns("set.json"))
        relabelled(folder)
    prompt = graph(
        n10=node("MirrorPPR_LoadExtractor", set_name="other"),
        n11=node("MirrorPPR_ExtractOperation", extractor=["10", 0], before=[BEFORE, 0], after=[AFTER, 0]),
        n12=node("MirrorPPR_CombineOperations", first=[EXTRACT, 0], second=["11", 0]),
        n13=sampled(["12", 0]),
        n14=shown(["13", 0]),
    )
    try:
        refused(host, prompt, "these operations come from different sets")
    finally:
        shutil.rmtree(folder)


def relabelled(folder) -> None:
    """Give a copied set another id."""
    from safetensors.torch import load_file, save_file

    for path in folder.glob("*.safetensors"):
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata()
        if "set_hash" in metadata:
            save_file(load_file(str(path)), str(path), metadata=metadata | {"set_hash": "another00000"})
