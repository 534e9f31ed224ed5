"""Several pairs of one look, and a corrected result, in the real ComfyUI."""

import pytest
from test_nodes import BUNDLED, node

pytestmark = pytest.mark.host


def graph(**more) -> dict:
    """Two drawn portraits with one retouch, as a batch of pairs."""
    return {
        "1": node("MirrorPPR_SamplePortraits", retouch="larger eyes, narrower nose"),
        "2": node("MirrorPPR_Load", set_name=BUNDLED),
        "3": node("MirrorPPR_ExtractOperation", extractor=["2", 0], before=["1", 0], after=["1", 1]),
        "4": node("PreviewAny", source=["3", 2]),
        **more,
    }


def test_a_pair_that_is_in_the_batch_twice_counts_once_and_is_named(host):
    twice = {
        "5": node("ImageBatch", image1=["1", 0], image2=["1", 0]),
        "6": node("ImageBatch", image1=["1", 1], image2=["1", 1]),
        "3": node("MirrorPPR_ExtractOperation", extractor=["2", 0], before=["5", 0], after=["6", 0]),
    }
    run = host.run(graph(**twice))
    assert run.status == "success", run.complaint
    assert "pair 2 is left out: it is pair 1 once more" in run.outputs["4"]["text"][0]


def test_a_correction_joins_the_operation(host):
    sampler = node("MirrorPPR_RetouchSampler", dit=["2", 2], connector=["2", 1], operation=["3", 0], query=["1", 2],
                   strength=1.0, steps=2, seed=0, face="only")  # fmt: skip
    corrected = node("MirrorPPR_RefineOperation", extractor=["2", 0], operation=["3", 0], before=["1", 2],
                     corrected=["7", 0])  # fmt: skip
    more = {"7": sampler, "8": corrected, "4": node("PreviewAny", source=["8", 2])}
    run = host.run(graph(**more))
    assert run.status == "success", run.complaint
    assert run.outputs["4"]["text"][0].startswith("read from 2 pairs")
