"""How people find and understand a node: search words, titles that fit, sliders, tooltips, help, other languages."""

from __future__ import annotations

import ast
import json

import pytest
from host import ROOT
from test_structure import python_files

HELP = ROOT / "nodes" / "web" / "docs"
LOCALES = ROOT / "nodes" / "page" / "ComfyUI-MirrorPPR" / "locales"
LONGEST_TITLE = 40  # letters; what a node of usual width shows
AS_SLIDERS = ("strength", "percent", "lora_strength")
ADVANCED = ("steps", "seed")  # nobody needs to touch these


def schemas() -> dict[str, ast.Call]:
    """The io.Schema of every node, by its id."""
    found = {}
    for path in python_files("nodes"):
        for call in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "Schema":
                found[next(word.value.value for word in call.keywords if word.arg == "node_id")] = call
    return found


@pytest.mark.parametrize("node", schemas())
def test_every_node_has_words_by_which_people_look_for_it(node):
    spread = [word.value for word in schemas()[node].keywords if word.arg is None]
    said = [word.value for call in spread if getattr(call.func, "id", "") == "found_by" for word in call.args]
    assert len(said) >= 2 and len(set(said)) == len(said) and all(word == word.lower() for word in said)


@pytest.mark.parametrize("node", schemas())
def test_every_node_has_a_help_page_that_names_all_its_inputs(node):
    page = HELP / f"{node}.md"
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# ") and len(text) > 200
    assert not [name for name in inputs_written_out(schemas()[node]) if name not in text]


def inputs_written_out(schema: ast.Call) -> list[str]:
    """Names of the inputs that stand in the schema itself."""
    inputs = next((word.value for word in schema.keywords if word.arg == "inputs"), ast.List(elts=[]))
    return [call.args[0].value for call in input_calls(inputs) if isinstance(call.args[0], ast.Constant)]


def input_calls(inputs: ast.expr) -> list[ast.Call]:
    calls = [one for one in ast.walk(inputs) if isinstance(one, ast.Call) and one.args]
    return [one for one in calls if getattr(one.func, "attr", "") == "Input"]


def test_no_help_page_is_of_a_node_that_is_gone():
    assert {page.stem for page in HELP.glob("*.md")} == set(schemas())


@pytest.mark.parametrize("node", schemas())
def test_steps_and_seed_are_advanced_where_the_host_knows_that(node):
    for call in input_calls(ast.List(elts=[schemas()[node]])):
        if getattr(call.args[0], "value", "") in ADVANCED:
            spread = [word.value for word in call.keywords if word.arg is None]
            assert any(getattr(one, "id", "") == "ADVANCED" for one in spread), call.args[0].value


@pytest.fixture(scope="module")
def nodes(host) -> dict[str, dict]:
    return {name: about for name, about in host.object_info().items() if name.startswith("MirrorPPR_")}


def inputs_of(about: dict) -> dict[str, list]:
    return {**about["input"].get("required", {}), **about["input"].get("optional", {})}


@pytest.mark.host
def test_every_title_fits_its_node_and_is_like_no_other(nodes):
    titles = [about["display_name"] for about in nodes.values()]
    assert all(len(title) <= LONGEST_TITLE and "MirrorPPR" in title for title in titles)
    assert len(set(titles)) == len(titles)


@pytest.mark.host
def test_amounts_are_sliders(nodes):
    for name, about in nodes.items():
        for key, (_, options) in ((k, v) for k, v in inputs_of(about).items() if k in AS_SLIDERS):
            assert options.get("display") == "slider", f"{name}.{key}"


@pytest.mark.host
def test_every_input_and_output_says_what_it_is(nodes):
    for name, about in nodes.items():
        assert len(about["description"]) > 30, name
        assert all(about["output_tooltips"]), name
        for key, declared in inputs_of(about).items():
            assert declared[1].get("tooltip"), f"{name}.{key}"


# --- other languages ------------------------------------------------------------------------------------------------


def translated(language: str) -> dict[str, dict]:
    return json.loads((LOCALES / language / "nodeDefs.json").read_text(encoding="utf-8"))


@pytest.mark.host
def test_every_node_speaks_chinese(nodes):
    chinese = translated("zh")
    assert set(chinese) == set(nodes)
    missing = []
    for name, about in nodes.items():
        one = chinese[name]
        assert any("\u4e00" <= letter <= "\u9fff" for letter in one["display_name"] + one["description"]), name
        assert set(one["inputs"]) <= set(inputs_of(about)), f"{name}: an input that is gone"
        assert {int(slot) for slot in one["outputs"]} <= set(range(len(about["output"]))), name
        missing += [f"{name}.{key}" for key in inputs_of(about) if not one["inputs"].get(key, {}).get("tooltip")]
    assert len(missing) <= 10, f"translate: {missing}"  # an input that was added yesterday


@pytest.mark.host
def test_english_names_of_inputs_are_of_inputs_that_exist(nodes):
    for name, one in translated("en").items():
        assert set(one["inputs"]) <= set(inputs_of(nodes[name])), name


@pytest.mark.host
def test_the_host_hands_out_our_translations_and_our_blueprint(host):
    served = host._json("/i18n")
    assert (
        served["zh"]["nodeDefs"]["MirrorPPR_Load"]["display_name"] == translated("zh")["MirrorPPR_Load"]["display_name"]
    )
    assert served["en"]["nodeDefs"]["MirrorPPR_OperationFromSliders"]["inputs"]["mouth_smile"]["name"] == "smile"
    (ours,) = [one for one in host._json("/global_subgraphs").values() if one["name"] == "Retouch by example"]
    assert ours["source"] == "custom_node"


@pytest.mark.host
def test_what_the_page_needs_of_us_is_not_loaded_as_nodes(host):
    """nodes/page/ is one of the host's folders of packs, and holds nothing that could run."""
    folder = ROOT / "nodes" / "page"
    assert not [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".json"]
    assert "IMPORT FAILED" not in "\n".join(line for line in host.log().splitlines() if "page" in line)
