"""Sample Portraits: two drawn people and a retouch of one, so that the first workflow runs before any photo is at hand.

The pictures are drawn by a program of this repository (tests/environment/draw_samples.py) and show nobody.
"""

from __future__ import annotations

from pathlib import Path

from comfy_api.latest import io
from torch import Tensor

from ..mirrorppr_core.images import as_float
from ..mirrorppr_core.operations.llw import apply_llw
from ..mirrorppr_core.photo_files import read_photo
from .sets import BUNDLED, extractor_of
from .sockets import CATEGORY, found_by, to_image

_FOLDER = Path(__file__).parent / "samples"
RETOUCHES = {
    "larger eyes, narrower nose": (("eye_resize", 90.0), ("nose_alar", -90.0)),
    "fuller lips": (("lip_thickness", 100.0),),
    "smaller mouth, shorter nose": (("mouth_resize", -80.0), ("nose_length", -80.0)),
}


class SamplePortraits(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_SamplePortraits",
            display_name="Sample Portraits (MirrorPPR)",
            category=CATEGORY,
            **found_by("example", "portrait", "test picture"),
            description="Two drawn portraits to try things with: one before and after a retouch, and another person. "
            "Replace this node by three Load Image nodes with your own photos.",
            inputs=[
                io.Combo.Input(
                    "retouch",
                    options=list(RETOUCHES),
                    default=next(iter(RETOUCHES)),
                    tooltip="What was done between before and after. Start with the first.",
                )
            ],
            outputs=[
                io.Image.Output("before", display_name="before", tooltip="A portrait. For Extract Operation."),
                io.Image.Output("after", display_name="after", tooltip="The same, retouched."),
                io.Image.Output("query", display_name="query", tooltip="Another person. For Retouch Sampler."),
            ],
        )

    @classmethod
    def execute(cls, retouch) -> io.NodeOutput:
        before, query = (as_float(_read(name)) for name in ("portrait_a", "portrait_b"))
        mesh = extractor_of(BUNDLED).sight.locator.find(before)[0].mesh
        after = apply_llw(before, mesh, RETOUCHES[retouch]).image
        return io.NodeOutput(to_image([before]), to_image([after]), to_image([query]))


def _read(name: str) -> Tensor:
    return read_photo(_FOLDER / f"{name}.jpg").pixels
