"""A pack for tests only: nodes that bring the host into states that stock nodes do not."""

import time

import comfy.model_management
import torch
from comfy_api.latest import ComfyExtension, io


class ImageWithNaN(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="MirrorPPRProbe_ImageWithNaN",
            inputs=[io.Image.Input("image")],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image) -> io.NodeOutput:
        image = image.clone()
        image[:, 0, 0, 0] = torch.nan
        return io.NodeOutput(image)


class WaitForInterruption(io.ComfyNode):
    """Passes the image on after `seconds`, unless it is interrupted before."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="MirrorPPRProbe_Wait",
            inputs=[io.Image.Input("image"), io.Float.Input("seconds", default=60.0, min=0.0, max=600.0)],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image, seconds) -> io.NodeOutput:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            comfy.model_management.throw_exception_if_processing_interrupted()
            time.sleep(0.02)
        return io.NodeOutput(image)


class Probe(ComfyExtension):
    async def get_node_list(self):
        return [ImageWithNaN, WaitForInterruption]


async def comfy_entrypoint() -> Probe:
    return Probe()
