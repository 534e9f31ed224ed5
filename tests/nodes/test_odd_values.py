"""Whatever a workflow puts on an input of ours: a sentence that names the input, and the host goes on."""

from __future__ import annotations

import json
import shutil

import pytest
from test_nodes import ASTRONAUT, BUNDLED, BUNDLED_FOLDER, HOPPER, node, png, simulate
from test_operation_nodes import refused

pytestmark = pytest.mark.host


@pytest.fixture(scope="module", autouse=True)
def pictures(host):
    host.upload_image("odd_query.png", png(HOPPER))
    host.upload_image("odd_before.png", png(ASTRONAUT))


def odd(what: str) -> dict:
    return node("MirrorPPRProbe_Odd", what=what)


def sampler(**changes) -> dict:
    """A graph whose sampler gets the odd node's value ("odd") or a constant in place of some inputs."""
    sound = {
        "dit": ["1", 2], "connector": ["1", 1], "operation": ["3", 0], "query": ["2", 0], "strength": 1.0, "steps": 2,
        "seed": 0, "face": "only",
    }  # fmt: skip
    extract = node("MirrorPPR_ExtractOperation", extractor=["1", 0], before=["4", 0], after=["4", 0])
    return {
        "1": node("MirrorPPR_Load", set_name=BUNDLED),
        "2": node("LoadImage", image="odd_query.png"),
        "3": extract,
        "4": node("LoadImage", image="odd_before.png"),
        "9": node("MirrorPPR_RetouchSampler", **{**sound, **changes}),
        "10": node("PreviewImage", images=["9", 0]),
    }


@pytest.mark.parametrize(
    ("name", "what", "message"),
    [
        ("query", "no picture", "query is an empty batch"),
        ("query", "grey picture", "query has 1 channels: need pictures in colour"),
        ("query", "flat picture", r"query is numbers of the shape \(300, 300, 3\)"),
        ("query", "text", "query is 'three': connect pictures"),
        ("region", "mask of four axes", "region is numbers of the shape .*connect a MASK"),
        ("region", "mask with NaN", "region contains NaN"),
        ("strength", "huge number", r"strength=1e\+30: use a number from -2.0 to 2.0"),
        ("strength", "NaN", "strength=nan: use a number from"),
        ("strength", "text", "strength is 'three': need a number"),
        ("operation", "number", "operation is 3: connect the operation of Extract Operation"),
        ("dit", "text", "dit is 'three': connect the dit of Load MirrorPPR"),
        ("connector", "nothing", "connector is None: connect the connector"),
        ("face", "number", "face is 3: need a text"),
    ],
)
def test_what_another_node_sends_is_refused_in_a_sentence(host, name, what, message):
    refused(host, {**sampler(**{name: ["11", 0]}), "11": odd(what)}, message)


@pytest.mark.parametrize(
    ("name", "constant"), [("operation", 3), ("dit", "a"), ("connector", {"a": 1}), ("query", "x.png"), ("face", 7)]
)
def test_a_constant_where_a_connection_belongs_is_refused_in_a_sentence(host, name, constant):
    refused(host, sampler(**{name: constant}), f"{name} is .*: (connect|need)|{name}.*not in")


@pytest.mark.parametrize("strength", [1e30, float("nan"), "three"])
def test_a_lora_strength_that_is_none_is_refused(host, strength):
    graph = {
        "1": node("MirrorPPR_LoadDiT", set_name=BUNDLED, lora_strength=strength),
        **{key: one for key, one in sampler(dit=["1", 0], connector=["5", 1]).items() if key != "1"},
        "5": node("MirrorPPR_Load", set_name=BUNDLED),
    }
    graph["3"]["inputs"]["extractor"] = ["5", 0]
    refused(host, graph, "lora_strength=(1e.30|nan): use a number|lora_strength")


@pytest.mark.parametrize(("kind", "name"), [("MirrorPPR_Load", "set_name"), ("MirrorPPR_LoadOperation", "file")])
def test_a_number_where_a_name_is_expected_is_refused_in_a_sentence(host, kind, name):
    graph = {"1": node(kind, **{name: 3}), "2": node("PreviewAny", source=["1", 0])}
    refused(host, graph, "there is no set|there is no operation file|not in list")


def test_a_number_as_the_name_of_an_operation_is_refused(host):
    graph = {
        "1": node("MirrorPPR_OperationFromSliders", eye_resize=30.0),
        "2": node("MirrorPPR_SaveOperation", operation=["1", 0], name=["3", 0], pictures="none"),
        "3": odd("number"),
    }
    refused(host, graph, "name is 3: need a text")


def test_a_field_with_nan_is_refused_by_the_preview(host):
    graph = {
        "1": node("MirrorPPR_LoadExtractor", set_name=BUNDLED),
        "2": node("LoadImage", image="odd_before.png"),
        "3": simulate(["1", 0], ["2", 0]),
        "4": node("MirrorPPRProbe_FieldWithNaN", field=["3", 1]),
        "5": node("MirrorPPR_FieldPreview", field=["4", 0], style="arrows", close_up=False),
    }
    refused(host, graph, "contains NaN or infinit")


def test_a_set_in_a_second_model_folder_is_found_there(host, tmp_path_factory):
    """A folder of the same name in the first may hold other files."""
    first = host.base_dir / "models" / "mirrorppr" / "twice"
    first.mkdir(parents=True, exist_ok=True)
    (first / "lora.safetensors").write_bytes(b"something else")
    second = host.base_dir / "second" / "mirrorppr"
    shutil.copytree(BUNDLED_FOLDER, second / "twice")
    added = {"1": node("MirrorPPRProbe_AddModelFolder", folder=str(second)), "2": node("PreviewAny", source=["1", 0])}
    assert host.run(added).status == "success"
    graph = {"1": node("MirrorPPR_Load", set_name="twice"), "2": node("PreviewAny", source=["1", 0])}
    run = host.run(graph)
    assert run.status == "success", json.dumps(run.error)[:500]
