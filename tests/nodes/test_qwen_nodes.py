"""The Qwen engine's nodes in the real ComfyUI, on a tiny random Qwen-Image-Edit that stock loaders read.

What the standalone engine computes on diffusers, the graph must compute: same weights, seed and sigmas.
"""

from __future__ import annotations

import io
import json
import re
import shutil
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from host import ROOT
from PIL import Image
from qwen_graph import (
    AFTER,
    APPLY,
    BEFORE,
    CLIP,
    DECODER,
    EXTRACT,
    LOAD,
    MODEL,
    QUERY,
    RESTORE,
    SAMPLE,
    STEPS,
    TELL,
    WORKFLOW,
    done,
    drawn,
    graph,
    latent,
    node,
    png,
    restored,
)
from safetensors.torch import load_file, save_file
from tiny_qwen import TINY_FACE, lora_state, save_set
from tiny_qwen_files import DIT, STYLE, host_components, save_for_host

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.qwen.extractor import QwenConnector, QwenExtractor
from mirrorppr_core.qwen.files import SLOTS, QwenSet
from mirrorppr_core.qwen.standalone import QwenRetouchConfig, encode_queries, lora_attached, retouch_latent

pytestmark = pytest.mark.host

SIZES = {"query": (270, 301), "other": (270, 301), "exact": (256, 288)}  # height, width; only the last is a multiple


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def parts():
    return host_components()


@pytest.fixture(scope="module")
def folder(host, parts):
    """The tiny models in the host's folders; the set's folder."""
    models = host.base_dir / "models"
    yield save_for_host(parts, models)
    shutil.rmtree(models / "mirrorppr" / "mirrorppr_face")


@pytest.fixture(scope="module", autouse=True)
def pictures(host, folder):
    """before, after, query, other and exact, each a PNG of the host's."""
    before = drawn(280, 264, seed=1)
    after = before.copy()
    after[90:150, 90:150] = before[90:150, 94:154]
    made = {"before": before, "after": after}
    made |= {name: drawn(*size, seed=10 + index) for index, (name, size) in enumerate(SIZES.items())}
    for name, pixels in made.items():
        host.upload_image(f"{name}.png", png(pixels))
    return made


def assert_refused(host, prompt: dict, message: str) -> None:
    run = host.run(prompt)
    assert run.status == "error" and host.is_running
    assert re.search(message, run.complaint), run.complaint


@pytest.fixture(scope="module")
def standalone(parts, folder, pictures):
    """What our engine on diffusers makes of a query, in the VAE's units."""
    files = QwenSet.from_folder(folder)
    pair = Exemplar(to_tensor(pictures["before"]), to_tensor(pictures["after"]))
    tokens = QwenConnector.load(files).tokens(QwenExtractor.load(files).extract(pair))
    mean, std = (
        torch.tensor(v).view(1, -1, 1, 1) for v in (parts.vae.config.latents_mean, parts.vae.config.latents_std)
    )

    def retouch(name: str, **settings) -> torch.Tensor:
        config = QwenRetouchConfig(num_steps=STEPS, **settings)
        (query,) = encode_queries(parts, [to_tensor(pictures[name])])
        with lora_attached(parts.transformer, files.lora.path, strength=config.lora_strength):
            return retouch_latent(parts, query, tokens, config) * std + mean

    return retouch


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.std())


# --- the same result as the standalone engine -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, settings, nodes_settings",
    [
        ("exact", {}, {}),
        ("query", {}, {}),
        ("query", {"guidance": 2.5}, {SAMPLE: {"guidance": 2.5}}),
        ("query", {"noise": "native", "seed": 7}, {SAMPLE: {"noise": "native", "seed": 7}}),
        ("query", {"lora_strength": 0.5}, {APPLY: {"lora_strength": 0.5}}),
        ("query", {"reference_numerics": True}, {APPLY: {"reference_numerics": True}}),
    ],
)
def test_the_graph_computes_what_the_standalone_engine_does(host, standalone, name, settings, nodes_settings):
    expected = standalone(name, **settings)
    result = latent(host, graph(nodes_settings | {QUERY: {"image": f"{name}.png"}}))
    assert result.shape == expected.shape
    assert relative(result, expected) < 1e-5


def test_picture_tokens_stand_in_their_places(host):
    """Hosts up to 0.3.75 leave them in window order; the comparison above would fail by far without mending. Newer ones
    do not, and then nothing is said."""
    prompt = graph(n40=node("PreviewAny", source=[TELL, 4]))
    version = host._json("/system_stats")["system"]["comfyui_version"]
    old = tuple(int(part) for part in version.split(".")[:3]) <= (0, 3, 75)
    assert ("window order: put right" in done(host, prompt).outputs["40"]["text"][0]) == old


def test_every_layer_of_the_lora_is_counted(host):
    prompt = graph(n40=node("PreviewAny", source=[APPLY, 1]), n41=node("PreviewAny", source=[LOAD, 1]))
    run = done(host, prompt)
    num_layers = len(lora_state()) // 2
    assert f"{num_layers} of {num_layers} LoRA layers applied" in run.outputs["40"]["text"][0]
    assert "MirrorPPR-Face" in run.outputs["41"]["text"][0] and "patch-order test" in run.outputs["41"]["text"][0]


# --- at home in other people's graphs -------------------------------------------------------------------------------


def with_ksampler(**settings) -> dict:
    """The same connections on the stock sampler."""
    inputs = {"seed": 123, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    sockets = {"model": [APPLY, 0], "positive": [TELL, 0], "negative": [TELL, 1], "latent_image": [TELL, 2]}
    return graph() | {SAMPLE: node("KSampler", **sockets, **(inputs | settings))}


def test_the_stock_sampler_runs_on_the_same_connections(host):
    ours, plain = latent(host, graph({SAMPLE: {"noise": "native"}})), latent(host, with_ksampler())
    guided = latent(host, with_ksampler(cfg=3.0))
    assert plain.isfinite().all() and relative(plain, ours) > 1e-3, "its schedule is another"
    assert relative(guided, plain) > 1e-3


def test_the_same_seed_gives_the_same_bits_and_another_does_not(host):
    first, other, again = (latent(host, graph({SAMPLE: {"seed": seed}})) for seed in (5, 6, 5))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_another_lora_goes_on_top_or_below(host):
    style = {"lora_name": STYLE, "strength_model": 0.7}
    without = latent(host, graph())
    on_top = graph({SAMPLE: {"model": ["20", 0]}}, n20=node("LoraLoaderModelOnly", model=[APPLY, 0], **style))
    below = graph({APPLY: {"model": ["20", 0]}}, n20=node("LoraLoaderModelOnly", model=[MODEL, 0], **style))
    top, bottom = latent(host, on_top), latent(host, below)
    assert relative(top, bottom) < 1e-4 < relative(top, without)


def test_the_users_model_is_as_before_afterwards(host):
    bare = {SAMPLE: {"model": [MODEL, 0]}}
    before, patched = latent(host, graph(bare)), latent(host, graph({APPLY: {"reference_numerics": True}}))
    assert not torch.equal(before, patched)
    assert torch.equal(latent(host, graph(bare)), before)
    assert torch.equal(latent(host, graph({APPLY: {"lora_strength": 0.0}})), before)


def test_models_of_low_precision_take_the_lora(host):
    full = latent(host, graph())
    low = latent(host, graph({MODEL: {"weight_dtype": "fp8_e4m3fn"}}))
    assert low.isfinite().all() and 1e-3 < relative(low, full)


def test_a_model_that_patches_packed_weights_by_itself_takes_the_lora(host):
    """As GGUF packs do: bytes stay as they are, and patches go onto what is unpacked."""
    packed = {"n20": node("TinyQwen_LoadPacked", unet_name=DIT)}
    full, full_bare = latent(host, graph()), latent(host, graph({APPLY: {"lora_strength": 0.0}}))
    bare = latent(host, graph({APPLY: {"model": ["20", 0], "lora_strength": 0.0}}, **packed))
    patched = latent(host, graph({APPLY: {"model": ["20", 0]}}, **packed))
    error, effect = (patched - full).norm() / full.norm(), (full_bare - full).norm() / full.norm()
    assert error < 0.25 * effect and (bare - full_bare).norm() / full.norm() < 0.25 * effect
    again = latent(host, graph({APPLY: {"model": ["20", 0], "lora_strength": 0.0}}, **packed))
    assert torch.equal(again, bare)
    assert_refused(host, graph({APPLY: {"model": ["20", 0], "reference_numerics": True}}, **packed), "is quantised")


def test_a_running_retouch_can_be_interrupted(host):
    prompt = graph({SAMPLE: {"steps": 200, "seed": 77}})
    prompt_id = host.queue(prompt).prompt_id
    while not host.history(prompt_id):
        time.sleep(0.3)
        host.interrupt(prompt_id)
    assert "execution_interrupted" in dict(host.history(prompt_id)["status"]["messages"])
    latent(host, graph())


def watched(*, out_of_memory: bool = False) -> dict:
    return node("TinyQwen_Watch", model=[APPLY, 0], out_of_memory=out_of_memory)


def test_one_model_call_per_step_unless_guided(host):
    """The authors' program makes two per step, for the same result."""
    for guidance, num_calls in {1.0: STEPS, 2.5: 2 * STEPS}.items():
        before = host.log().count("tiny model called")
        done(host, graph({SAMPLE: {"model": ["20", 0], "guidance": guidance}}, n20=watched()))
        assert host.log().count("tiny model called") - before == num_calls


def test_out_of_memory_in_the_middle_is_said_and_survived(host):
    before = latent(host, graph())
    assert_refused(host, graph({SAMPLE: {"model": ["20", 0]}}, n20=watched(out_of_memory=True)), "out of memory")
    assert torch.equal(latent(host, graph()), before)


# --- pictures -------------------------------------------------------------------------------------------------------


def test_pictures_of_any_size_come_back_at_it(host, pictures):
    host.upload_image("large.png", png(drawn(563, 641, seed=20)))
    for name, size in {"query": (270, 301), "exact": (256, 288), "large": (563, 641)}.items():
        prompt = graph({QUERY: {"image": f"{name}.png"}, TELL: {"max_megapixels": 0.25}})
        (result,) = restored(host, prompt)
        assert result.shape == (*size, 3)


def test_each_picture_of_a_batch_is_retouched_as_if_alone(host):
    batch = graph(
        {TELL: {"query": ["21", 0]}},
        n20=node("LoadImage", image="other.png"),
        n21=node("ImageBatch", image1=[QUERY, 0], image2=["20", 0]),
    )
    alone = torch.cat([latent(host, graph({QUERY: {"image": f"{name}.png"}})) for name in ("query", "other")])
    together = latent(host, batch)
    assert relative(together, alone) < 1e-5
    assert len(restored(host, batch)) == 2


def test_alpha_comes_back(host, pictures):
    alpha = np.tile(np.linspace(0, 255, 301).astype(np.uint8), (270, 1))
    host.upload_image("cutout.png", png(np.dstack([pictures["query"], alpha])))
    prompt = graph(
        {QUERY: {"image": "cutout.png"}, TELL: {"query": ["21", 0]}},
        n21=node("JoinImageWithAlpha", image=[QUERY, 0], alpha=[QUERY, 1]),
        n22=node("SaveImage", images=["21", 0], filename_prefix="alpha_in"),
    )
    run = done(host, prompt)
    result, given = (np.asarray(Image.open(io.BytesIO(host.images(run, name)[0]))) for name in ("31", "22"))
    assert result.shape == (270, 301, 4) and np.array_equal(result[..., 3], given[..., 3])


# --- bad input ------------------------------------------------------------------------------------------------------


def test_a_model_that_is_not_qwen_is_refused(host):
    other = {"n20": node("TinyQwen_OtherModel")}
    for changes in ({APPLY: {"model": ["20", 0]}}, {SAMPLE: {"model": ["20", 0]}}):
        assert_refused(host, graph(changes, **other), "model is Linear, not Qwen-Image: .* Load Diffusion Model")


def test_a_clip_that_sees_no_pictures_is_refused(host):
    prompt = graph({TELL: {"clip": ["20", 0]}}, n20=node("TinyQwen_BlindClip", clip=[CLIP, 0]))
    assert_refused(host, prompt, "clip is Identity, which sees no pictures: .*type qwen_image")


def test_another_vae_is_refused(host):
    assert_refused(host, graph({DECODER: {"vae_name": "pixel_space"}}), "vae gives latents of .*load qwen_image_vae")


def test_pictures_that_cannot_be_used_are_refused(host):
    host.upload_image("small.png", png(drawn(120, 300, seed=3)))
    assert_refused(
        host, graph({QUERY: {"image": "small.png"}}), "query is 300x120 pixels: .*at least 256 and the shorter 128"
    )
    nan = {"n20": node("MirrorPPRProbe_ImageWithNaN", image=[QUERY, 0])}
    assert_refused(host, graph({TELL: {"query": ["20", 0]}}, **nan), "query contains NaN")
    assert_refused(host, graph({AFTER: {"image": "query.png"}}), "before is 264x280 but after is 301x270")
    two = {"n20": node("ImageBatch", image1=[BEFORE, 0], image2=[AFTER, 0])}
    assert_refused(host, graph({EXTRACT: {"before": ["20", 0]}}, **two), "batch of 2 pictures")


def test_a_picture_of_another_size_is_not_restored(host):
    prompt = graph({RESTORE: {"image": [QUERY, 0]}})
    assert_refused(host, prompt, "image is 301x270 but this query was worked on at 320x288")


@pytest.mark.parametrize("where, inputs", [(EXTRACT, {"crop": "fit"}), (SAMPLE, {"noise": "white"})])
def test_a_choice_that_is_none_is_refused(host, where, inputs):
    prompt = graph({where: inputs})
    queued = host.queue(prompt)
    complaint = queued.complaint if queued.prompt_id is None else host.wait(queued.prompt_id).complaint
    assert re.search("(?i)use one of|not in list", complaint)  # ours, and what newer hosts say before asking the node


@pytest.mark.parametrize(
    "name, message", [("../../secrets", "no Qwen set"), ("no set found", "holds no MirrorPPR-Face")]
)
def test_a_set_that_is_not_there_is_refused_with_where_it_comes_from(host, name, message):
    queued = host.queue(graph({LOAD: {"set_name": name}}))
    assert queued.prompt_id is None
    if "not in list" not in queued.complaint.lower():  # newer hosts do not ask the node
        assert message in queued.complaint and "mirrorppr_core fetch" in queued.complaint
        assert all(file in queued.complaint for file in SLOTS.values())


@pytest.fixture
def own_set(host, request):
    """A second set, named after the test, with other weights."""
    root = host.base_dir / "models" / "mirrorppr" / re.sub(r"\W+", "_", request.node.name)
    folder = save_set(root, seed=50)
    yield folder
    shutil.rmtree(root)


def with_set(folder) -> dict:
    return {LOAD: {"set_name": f"{folder.parent.name}/{folder.name}"}}


def shifted(file, _):
    """Layers that this model does not have, besides those that it has."""
    state = load_file(file)
    save_file({name.replace("transformer_blocks.1.", "transformer_blocks.9."): v for name, v in state.items()}, file)


def widened(file, _):
    save_file({name: torch.cat([v, v], dim=1) if "lora_A" in name else v for name, v in load_file(file).items()}, file)


def foreign(file, _):
    save_file({"something.weight": torch.zeros(3)}, file)


BAD_FILES = {  # what is done to a file of the set, and how it is refused
    **{f"{slot} foreign": (slot, foreign, f"not a file that MirrorPPR knows .*The {slot} slot") for slot in SLOTS},
    **{f"{slot} cut": (slot, lambda file, _: file.write_bytes(file.read_bytes()[:-9]), "is damaged") for slot in SLOTS},
    "a connector for rformer": (
        "rformer",
        lambda file, folder: shutil.copy(folder / SLOTS["connector"], file),
        "is the connector, which belongs to the connector slot. The rformer slot needs",
    ),
    "the DiT for lora": ("lora", lambda file, folder: shutil.copy(folder.parents[2] / "diffusion_models" / DIT, file),
                         "is the Qwen-Image DiT, which belongs to ComfyUI's diffusion_models folder"),
    "no mae": ("mae", lambda file, _: file.unlink(), "0 candidates for mae/mae_pretrained.safetensors"),
    "part of a lora": ("lora", shifted, "layers exist in this model .*made for another model"),
    "lora of another width": ("lora", widened, "in this model and .* in the file. It was made for another model"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_wrong_file_is_refused_with_what_it_is(host, own_set, case):
    slot, damage, message = BAD_FILES[case]
    damage(own_set / SLOTS[slot], own_set)
    assert_refused(host, graph(with_set(own_set)), message)


def test_an_operation_of_another_set_is_refused(host, own_set):
    prompt = graph({TELL: {"qwen_set": ["20", 0]}}, n20=node("MirrorPPR_LoadQwen", **with_set(own_set)[LOAD]))
    assert_refused(host, prompt, "trained apart")


def test_a_set_for_another_text_encoder_is_refused(host):
    wide = replace(TINY_FACE, connector=replace(TINY_FACE.connector, output=48))
    folder = save_set(host.base_dir / "models" / "mirrorppr" / "wide", wide)
    assert_refused(host, graph(with_set(folder)), "operation tokens are 48 wide, the text embeddings 32: .*qwen_image")
    shutil.rmtree(folder.parent)


# --- what the nodes are ---------------------------------------------------------------------------------------------


def test_every_node_and_input_explains_itself(host):
    ours = {name: info for name, info in host.object_info().items() if name.startswith("MirrorPPR_") and "Qwen" in name}
    assert set(ours) >= {one["class_type"] for one in WORKFLOW.values() if "Qwen" in one["class_type"]}
    for name, info in ours.items():
        assert info["description"] and info["category"] == "MirrorPPR/Qwen" and "MirrorPPR" in info["display_name"], (
            name
        )
        inputs = info["input"].get("required", {}) | info["input"].get("optional", {})
        assert all(spec[1].get("tooltip") for spec in inputs.values()), name
        assert all(info["output_tooltips"]), name
        assert (ROOT / "nodes" / "web" / "docs" / f"{name}.md").exists(), name


def test_both_workflows_are_one():
    page = json.loads((ROOT / "workflows" / "qwen_retouch.json").read_text())
    page["nodes"] = [one for one in page["nodes"] if one["type"] != "MarkdownNote"]
    assert {one["type"] for one in page["nodes"]} == {one["class_type"] for one in WORKFLOW.values()}
    wires = {(link[1], link[2], link[3]) for link in page["links"]}
    expected = {
        (int(value[0]), value[1], int(name))
        for name, one in WORKFLOW.items() for value in one["inputs"].values() if isinstance(value, list)
    }  # fmt: skip
    assert wires == expected
    for one in page["nodes"]:
        values = [v for v in WORKFLOW[str(one["id"])]["inputs"].values() if not isinstance(v, list)]
        assert one.get("widgets_values", [])[: len(values)] == values, one["type"]
