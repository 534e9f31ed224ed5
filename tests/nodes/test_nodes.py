"""The nodes in the real ComfyUI: every node, the API workflow, and what happens to bad input.

Exemplar: Eileen Collins (scikit-image), her `after` made by our own Simulate Retouch. Query: Grace Hopper (matplotlib).
"""

from __future__ import annotations

import copy
import io
import json
import re
import shutil
import time
from pathlib import Path

import matplotlib.cbook
import numpy as np
import pytest
import skimage.data
from host import PACK, ROOT
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.host

BUNDLED = "mini-face (bundled)"
BUNDLED_FOLDER = ROOT / "mirrorppr_core" / "weights" / "mini"
WORKFLOW = json.loads((ROOT / "workflows" / "api" / "retouch_from_exemplar.json").read_text())
BEFORE, AFTER, QUERY, LOAD, EXTRACT, SAMPLE, NOTES, SAVE = "12345689"  # its nodes

ASTRONAUT = skimage.data.astronaut()
HOPPER = np.asarray(Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)).convert("RGB"))
TWO_PEOPLE = np.concatenate([ASTRONAUT, HOPPER[:512]], axis=1)
NOBODY = np.linspace(0, 255, 300 * 400 * 3).reshape(300, 400, 3).astype(np.uint8)


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def retouch(changes: dict[str, dict] | None = None, **more_nodes: dict) -> dict:
    """The API workflow with some inputs changed, {node id: {input: value}}, and more nodes: n20=node(...)."""
    prompt = copy.deepcopy(WORKFLOW)
    for name, inputs in (changes or {}).items():
        prompt[name]["inputs"].update(inputs)
    return prompt | {name.removeprefix("n"): one for name, one in more_nodes.items()}


def saved(host, prompt: dict, node_id: str = SAVE) -> list[np.ndarray]:
    """Run the prompt; the pictures that one of its nodes saved."""
    run = host.run(prompt)
    assert run.status == "success", run.complaint
    return [pixels(content) for content in host.images(run, node_id)]


def outputs(host) -> set[str]:
    return {str(path) for path in (host.base_dir / "output").rglob("*") if path.is_file()}


def assert_refused(host, prompt: dict, message: str) -> None:
    """The prompt fails with this message, nothing is written, and the host works on."""
    written = outputs(host)
    run = host.run(prompt)
    assert run.status == "error"
    assert re.search(message, run.complaint), run.complaint
    assert outputs(host) == written
    assert host.is_running


@pytest.fixture(scope="module")
def upload(host):
    """Puts pictures where the workflow's LoadImage nodes find them."""

    def put(name: str, picture: np.ndarray) -> str:
        return host.upload_image(name, png(picture))

    return put


@pytest.fixture(scope="module", autouse=True)
def pictures(host, upload):
    """before.png, after.png and query.png, under the names that the workflow has; after is made by our own node."""
    upload("before.png", ASTRONAUT)
    upload("query.png", HOPPER)
    prompt = {
        "1": node("LoadImage", image="before.png"),
        "2": node("MirrorPPR_LoadExtractor", set_name=BUNDLED),
        "3": simulate(["2", 0], ["1", 0]),
        "4": node("SaveImage", images=["3", 0], filename_prefix="simulated"),
    }
    (after,) = saved(host, prompt, "4")
    upload("after.png", after)


def simulate(extractor: list, image: list) -> dict:
    inputs = {"extractor": extractor, "image": image, "operation": "nose_alar", "strength": -100.0}
    return node("MirrorPPR_SimulateRetouch", **inputs)


# --- what the nodes are ---------------------------------------------------------------------------------------------


def test_every_node_and_input_explains_itself(host):
    ours = {name: info for name, info in host.object_info().items() if name.startswith("MirrorPPR_")}
    assert set(ours) == {page.stem for page in (ROOT / "nodes" / "web" / "docs").glob("*.md")}
    for name, info in ours.items():
        assert (
            info["description"] and info["category"].startswith("MirrorPPR") and "MirrorPPR" in info["display_name"]
        ), name
        inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
        assert all(spec[1].get("tooltip") for spec in inputs.values()), name
        assert all(info["output_tooltips"]), name
        assert not set(inputs) & set(info["output_name"]), name


def test_every_node_runs(host):
    prompt = retouch(
        {
            EXTRACT: {"extractor": ["10", 0]},
            SAMPLE: {"connector": ["11", 0], "dit": ["12", 0]},
            SAVE: {"images": ["13", 0], "filename_prefix": "every_node"},
        },
        n10=node("MirrorPPR_LoadExtractor", set_name=BUNDLED),
        n11=node("MirrorPPR_LoadConnector", set_name=BUNDLED),
        n12=node("MirrorPPR_LoadDiT", set_name=BUNDLED, lora_strength=1.0),
        n7=node("PreviewImage", images=[EXTRACT, 1]),
        n13=node("MirrorPPR_ApplyField", image=[QUERY, 0], field=[SAMPLE, 1], strength=1.0),
        n14=node("MirrorPPR_FieldPreview", field=[SAMPLE, 1], image=[QUERY, 0], style="arrows", close_up=True),
        n15=node("MirrorPPR_FieldPreview", field=["16", 1], style="colour", close_up=False),
        n16=simulate([LOAD, 0], [QUERY, 0]),
    )
    run = host.run(prompt)
    assert run.status == "success", run.complaint
    assert all(len(host.images(run, name)) == 1 for name in ("7", "14", "15"))
    others = "".join(p.read_text() for p in Path(__file__).parent.glob("test_*.py") if p.name != Path(__file__).name)
    run_here = {one["class_type"] for one in prompt.values()} | set(re.findall(r"MirrorPPR_\w+", others))
    assert {n for n in host.object_info() if n.startswith("MirrorPPR_") and "Qwen" not in n} <= run_here


def test_the_template_browser_shows_the_workflows(host):
    assert sorted(host.templates()[PACK]) == sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))


# --- retouching -----------------------------------------------------------------------------------------------------


def test_the_api_workflow_retouches_the_query(host):
    run = host.run(retouch({SAVE: {"filename_prefix": "api"}}))
    assert run.status == "success", run.complaint
    result = pixels(host.images(run, SAVE)[0])
    changed = (result != HOPPER).any(-1)
    assert result.shape == HOPPER.shape
    assert 0.001 < changed.mean() < 0.2
    assert re.search(r"1 face\(s\) chosen, largest motion \d", run.outputs[NOTES]["text"][0])


def test_pixels_outside_the_mask_are_those_of_the_query(host):
    prompt = retouch(
        {SAVE: {"filename_prefix": "outside"}},
        n20=node("MaskToImage", mask=[SAMPLE, 2]),
        n21=node("SaveImage", images=["20", 0], filename_prefix="mask"),
    )
    run = host.run(prompt)
    result, mask = (pixels(host.images(run, name)[0]) for name in (SAVE, "21"))
    still = mask[..., 0] == 0
    assert set(np.unique(mask)) == {0, 255}
    assert np.array_equal(result[still], HOPPER[still])
    assert (result[~still] != HOPPER[~still]).any(-1).mean() > 0.5


def test_the_same_seed_gives_the_same_file(host):
    def run(seed: int) -> tuple[bytes, list[str]]:
        done = host.run(retouch({SAMPLE: {"seed": seed}, SAVE: {"filename_prefix": "seed"}}))
        (content,) = host.images(done, SAVE)
        return content, done.cached

    (first, _), _, (again, cached) = run(5), run(6), run(5)
    assert SAMPLE not in cached, "the host returned its earlier result"
    assert first == again


def test_strength_zero_returns_the_query(host):
    (result,) = saved(host, retouch({SAMPLE: {"strength": 0.0}, SAVE: {"filename_prefix": "zero"}}))
    assert np.array_equal(result, HOPPER)


def test_an_exemplar_without_change_returns_the_query_and_says_so(host):
    run = host.run(retouch({EXTRACT: {"after": [BEFORE, 0]}, SAVE: {"filename_prefix": "identity"}}))
    assert np.array_equal(pixels(host.images(run, SAVE)[0]), HOPPER)
    assert "no change found between before and after" in run.outputs[NOTES]["text"][0]


def test_every_picture_of_a_batch_is_retouched_by_itself(host, upload):
    upload("mirrored.png", HOPPER[:, ::-1])
    alone = saved(host, retouch({SAVE: {"filename_prefix": "alone"}}))
    batch = retouch(
        {SAMPLE: {"query": ["21", 0]}, SAVE: {"filename_prefix": "batch"}},
        n20=node("LoadImage", image="mirrored.png"),
        n21=node("ImageBatch", image1=[QUERY, 0], image2=["20", 0]),
    )
    first, second = saved(host, batch)
    assert np.array_equal(first, alone[0])
    assert (second != HOPPER[:, ::-1]).any()


def test_photos_of_any_size_go_through_one_workflow(host, upload):
    large = np.asarray(Image.fromarray(HOPPER).resize((1100, 1289), Image.Resampling.LANCZOS))
    upload("large.png", large)
    for name, query in {"query.png": HOPPER, "large.png": large}.items():
        (result,) = saved(host, retouch({QUERY: {"image": name}, SAVE: {"filename_prefix": "size"}}))
        assert result.shape == query.shape
        assert (result != query).any()


def test_alpha_is_kept(host, upload):
    alpha = np.tile(np.arange(512, dtype=np.uint8) // 2, (600, 1))
    upload("cutout.png", np.dstack([HOPPER, alpha]))
    prompt = retouch(
        {SAMPLE: {"query": ["21", 0]}, SAVE: {"filename_prefix": "alpha"}},
        n20=node("LoadImage", image="cutout.png"),
        n21=node("JoinImageWithAlpha", image=["20", 0], alpha=["20", 1]),
        n22=node("SaveImage", images=["21", 0], filename_prefix="alpha_in"),
    )
    run = host.run(prompt)
    result, given = (pixels(host.images(run, name)[0]) for name in (SAVE, "22"))
    assert result.shape == (600, 512, 4)
    still = (result[..., :3] == given[..., :3]).all(-1)
    assert np.array_equal(result[:40], given[:40]) and still.mean() > 0.8


def test_of_several_people_only_the_chosen_one_is_retouched(host, upload):
    upload("two.png", TWO_PEOPLE)
    upload("right_half.png", np.where(np.arange(1024)[None, :, None] > 512, 255, np.zeros_like(TWO_PEOPLE)))
    by_number = retouch({QUERY: {"image": "two.png"}, SAMPLE: {"face": "2"}, SAVE: {"filename_prefix": "who"}})
    by_mask = retouch(
        {QUERY: {"image": "two.png"}, SAMPLE: {"region": ["20", 0]}, SAVE: {"filename_prefix": "who"}},
        n20=node("LoadImageMask", image="right_half.png", channel="red"),
    )
    (numbered,), (masked,) = saved(host, by_number), saved(host, by_mask)
    assert np.array_equal(numbered, masked)
    assert np.array_equal(numbered[:, :512], ASTRONAUT) and (numbered[:, 512:] != HOPPER[:512]).any()


def test_a_running_retouch_can_be_interrupted(host):
    prompt = retouch(
        {SAMPLE: {"query": ["20", 0], "steps": 50}, SAVE: {"filename_prefix": "interrupted"}},
        n20=node("RepeatImageBatch", image=[QUERY, 0], amount=30),
    )
    saved(host, retouch({SAVE: {"filename_prefix": "interrupted"}}))  # now the host has the extraction in its cache
    written = outputs(host)
    prompt_id = host.queue(prompt).prompt_id
    while not host.history(prompt_id):
        time.sleep(0.5)
        host.interrupt(prompt_id)
    (how,) = (what for name, what in host.history(prompt_id)["status"]["messages"] if name == "execution_interrupted")
    assert how["node_type"] == "MirrorPPR_RetouchSampler"
    assert outputs(host) == written


# --- fields ---------------------------------------------------------------------------------------------------------


def applied(image: list, **inputs) -> dict:
    return retouch(
        {SAVE: {"images": ["21", 0], "filename_prefix": "applied"}},
        n21=node("MirrorPPR_ApplyField", **({"image": image, "field": [SAMPLE, 1], "strength": 1.0} | inputs)),
        n22=node("SaveImage", images=[SAMPLE, 0], filename_prefix="sampled"),
    )


def test_the_samplers_field_on_the_query_is_the_samplers_image(host):
    run = host.run(applied([QUERY, 0]))
    assert np.array_equal(*(pixels(host.images(run, name)[0]) for name in (SAVE, "22")))


def test_a_field_fits_the_same_photo_at_another_size(host):
    prompt = applied(["20", 0])
    prompt["20"] = node("ImageScaleBy", image=[QUERY, 0], upscale_method="lanczos", scale_by=2.0)
    (result,) = saved(host, prompt)
    assert result.shape == (1200, 1024, 3)


def test_a_field_is_refused_for_a_picture_of_another_shape(host):
    assert_refused(host, applied([BEFORE, 0]), "512x600 but image is 512x512, of another aspect ratio")


def test_a_field_too_many_is_refused(host):
    prompt = applied(["20", 0], field=["23", 1])
    prompt["20"] = node("RepeatImageBatch", image=[QUERY, 0], amount=3)
    prompt["24"] = node("RepeatImageBatch", image=[QUERY, 0], amount=2)
    prompt["23"] = copy.deepcopy(prompt[SAMPLE])
    prompt["23"]["inputs"]["query"] = ["24", 0]
    assert_refused(host, prompt, "one field for all pictures, or one for each")


# --- bad pictures and settings --------------------------------------------------------------------------------------

BAD_PICTURES = {
    "another_size": (AFTER, ASTRONAUT[:300], "before is 512x512 but after is 512x300, of another shape"),
    "another_photo": (AFTER, ASTRONAUT[:, ::-1], "exemplar after is mirrored"),
    "small_exemplar": (BEFORE, ASTRONAUT[:200, :200], "exemplar before is 200x200 pixels: .* at least 256"),
    "small_query": (QUERY, HOPPER[:120], "query is 512x120 pixels: .* at least 256 and the shorter 128"),
    "nobody": (QUERY, NOBODY, "no face found. Use a portrait"),
    "two_people": (QUERY, TWO_PEOPLE, "2 faces found and no choice made: 1: x .*; 2: x .*Set face to"),
}


@pytest.mark.parametrize("case", BAD_PICTURES)
def test_a_picture_that_cannot_be_used_is_refused_with_advice(host, upload, case):
    where, picture, message = BAD_PICTURES[case]
    assert_refused(host, retouch({where: {"image": upload(f"{case}.png", picture)}}), message)


@pytest.mark.parametrize("node_id, name", [(EXTRACT, "before"), (EXTRACT, "after"), (SAMPLE, "query")])
def test_nan_is_refused(host, node_id, name):
    clean = {"before": BEFORE, "after": AFTER, "query": QUERY}[name]
    prompt = retouch({node_id: {name: ["20", 0]}}, n20=node("MirrorPPRProbe_ImageWithNaN", image=[clean, 0]))
    assert_refused(host, prompt, f"{name} contains NaN or infinite pixels")


def test_a_batch_of_befores_needs_as_many_afters(host):
    two = node("ImageBatch", image1=[BEFORE, 0], image2=[AFTER, 0])
    assert_refused(host, retouch({EXTRACT: {"before": ["20", 0]}}, n20=two), "before holds 2 pictures but after 1")


def test_an_error_in_a_batch_names_the_picture(host, upload):
    upload("faceless.png", np.ascontiguousarray(np.resize(NOBODY, HOPPER.shape)))
    prompt = retouch(
        {SAMPLE: {"query": ["21", 0]}},
        n20=node("LoadImage", image="faceless.png"),
        n21=node("ImageBatch", image1=[QUERY, 0], image2=["20", 0]),
    )
    assert_refused(host, prompt, "picture 2 of 2: no face found")


def test_a_mask_of_another_size_is_refused(host):
    assert_refused(host, retouch({SAMPLE: {"region": [QUERY, 1]}}), "region is 64x64 but query is 512x600")


@pytest.mark.parametrize("name, value", [("strength", 2.5), ("strength", -3.0), ("steps", 0), ("steps", 51)])
def test_settings_out_of_range_are_refused_before_anything_runs(host, name, value):
    queued = host.queue(retouch({SAMPLE: {name: value}}))
    assert queued.prompt_id is None
    assert list(queued.node_errors) == [SAMPLE] and name in queued.complaint


@pytest.mark.parametrize("where", [EXTRACT, SAMPLE])
def test_a_face_that_is_no_choice_is_refused(host, where):
    assert_refused(host, retouch({where: {"face": "the left one"}}), "face='the left one': use only, largest")


# --- bad model files ------------------------------------------------------------------------------------------------


@pytest.fixture
def own_set(host, request):
    """A copy of the bundled set, without its list of sums, under models/mirrorppr, named after the test."""
    folder = host.base_dir / "models" / "mirrorppr" / re.sub(r"\W+", "_", request.node.name)
    shutil.copytree(BUNDLED_FOLDER, folder, ignore=shutil.ignore_patterns("set.json"))
    yield folder
    shutil.rmtree(folder)


def loaded(folder) -> dict:
    return retouch({LOAD: {"set_name": folder.name}, SAVE: {"filename_prefix": "own_set"}})


def with_other_hash(file, _folder):
    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    save_file(load_file(file), file, metadata=metadata | {"set_hash": "0123456789ab"})


BAD_FILES = {  # what is done to a file of the set, and how it is refused
    "corrupt": ("dit", lambda file, _: file.write_bytes(b"\x07" * 5000), "dit.safetensors is damaged"),
    "truncated": ("rformer", lambda file, _: file.write_bytes(file.read_bytes()[:-999]), "rformer.* is damaged"),
    "empty": ("connector", lambda file, _: file.write_bytes(b""), "connector.safetensors is damaged"),
    "truncated locator": ("locator", lambda file, _: file.write_bytes(file.read_bytes()[:-999]), "locator"),
    "foreign": ("dit", lambda file, _: save_file(load_file(file), file), "dit.* is not a MirrorPPR file"),
    "other part": ("dit", lambda file, folder: shutil.copy(folder / "connector.safetensors", file), "needs 'dit'"),
    "missing": ("lora", lambda file, _: file.unlink(), "lora.safetensors is missing from the set"),
    "other set": ("connector", with_other_hash, "different sets .*connector 0123456789ab"),
    "other set inside": ("mae", with_other_hash, "mixed: .*mae 0123456789ab"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_model_file_that_cannot_be_used_is_refused_with_advice(host, own_set, case):
    part, damage, message = BAD_FILES[case]
    damage(own_set / f"{part}.safetensors", own_set)
    assert_refused(host, loaded(own_set), message)


def test_a_set_of_ones_own_works_until_its_file_changes(host, own_set):
    saved(host, loaded(own_set))
    (own_set / "dit.safetensors").write_bytes(b"no longer a model")
    assert_refused(host, loaded(own_set), "dit.safetensors is damaged")


def test_parts_of_different_sets_do_not_work_together(host, own_set):
    with_other_hash(own_set / "connector.safetensors", own_set)
    other = node("MirrorPPR_LoadConnector", set_name=own_set.name)
    assert_refused(host, retouch({SAMPLE: {"connector": ["20", 0]}}, n20=other), "from different sets")


def test_a_set_that_is_not_there_is_refused_before_anything_runs(host):
    queued = host.queue(retouch({LOAD: {"set_name": "../../secrets"}}))
    assert queued.prompt_id is None
    assert re.search("there is no set '../../secrets': put its folder|not in list", queued.complaint, re.IGNORECASE)
