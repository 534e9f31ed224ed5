"""A pack for tests only: nodes that bring the host into states that stock nodes do not."""

import json
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


class PoseOf(io.ComfyNode):
    """A pose as detectors give it: a list with a dictionary, from its JSON."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="MirrorPPRProbe_Pose",
            inputs=[io.String.Input("text")],
            outputs=[io.Custom("POSE_KEYPOINT").Output()],
        )

    @classmethod
    def execute(cls, text) -> io.NodeOutput:
        return io.NodeOutput([json.loads(text)])


class Probe(ComfyExtension):
    async def get_node_list(self):
        return [ImageWithNaN, WaitForInterruption, PoseOf]


async def comfy_entrypoint() -> Probe:
    return Probe()
