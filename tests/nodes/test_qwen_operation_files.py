"""Operations of the Qwen engine kept as files, in the real ComfyUI on tiny models."""

from __future__ import annotations

import pytest
import torch
from qwen_graph import AFTER, BEFORE, EXTRACT, LOAD, TELL, WORKFLOW, done, graph, latent, node
from test_qwen_nodes import folder, parts, pictures  # noqa: F401

pytestmark = pytest.mark.host

(OPERATION,) = (name for name, value in WORKFLOW[TELL]["inputs"].items() if value == [EXTRACT, 0])


def test_a_kept_operation_gives_the_same_latent_and_another_engine_extracts_it_again(host):
    save = node("MirrorPPR_SaveQwenOperation", operation=[EXTRACT, 0], name="qwen look", pictures="exemplar")
    direct = latent(host, graph(n40=save))
    load = node("MirrorPPR_LoadQwenOperation", file="qwen look_00001.safetensors [output]", qwen_set=[LOAD, 0])
    again = graph({TELL: {OPERATION: ["41", 0]}}, n41=load)
    del again[EXTRACT], again[BEFORE], again[AFTER]
    assert torch.equal(latent(host, again), direct)
    mini = {
        "1": node("MirrorPPR_LoadOperation", file="qwen look_00001.safetensors [output]"),
        "2": node("PreviewImage", images=["1", 1]),
    }
    run = host.run(mini)
    assert run.status == "error" and "of the engine 'qwen', which Mini cannot apply" in run.complaint


def test_minis_file_without_an_exemplar_is_refused(host):
    made = {
        "1": node("MirrorPPR_OperationFromSliders", eye_resize=30.0),
        "2": node("MirrorPPR_SaveOperation", operation=["1", 0], name="sliders only", pictures="none"),
    }
    done(host, made)
    load = node("MirrorPPR_LoadQwenOperation", file="sliders only_00001.safetensors [output]", qwen_set=[LOAD, 0])
    run = host.run(graph({TELL: {OPERATION: ["41", 0]}}, n41=load))
    assert run.status == "error" and "of the engine any, and holds no exemplar" in run.complaint
