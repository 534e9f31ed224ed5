"""A pack for tests only: nodes that bring the host into states that stock nodes do not."""

import dataclasses
import json
import os
import resource
import threading
import time

import comfy.model_management
import folder_paths
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


class Odd(io.ComfyNode):
    """Something that no node should send, into whatever input."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="MirrorPPRProbe_Odd", inputs=[io.String.Input("what")], outputs=[io.AnyType.Output("odd")]
        )

    @classmethod
    def execute(cls, what) -> io.NodeOutput:
        values = {
            "no picture": torch.zeros(0, 300, 300, 3),
            "grey picture": torch.zeros(1, 300, 300, 1),
            "flat picture": torch.zeros(300, 300, 3),
            "mask of four axes": torch.zeros(1, 1, 300, 300),
            "mask with NaN": torch.full((1, 300, 300), torch.nan),
            "huge number": 1e30,
            "NaN": float("nan"),
            "number": 3,
            "text": "three",
            "nothing": None,
        }
        return io.NodeOutput(values[what])


class FieldWithNaN(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        socket = io.Custom("MIRRORPPR_FIELD")
        return io.Schema(
            node_id="MirrorPPRProbe_FieldWithNaN", inputs=[socket.Input("field")], outputs=[socket.Output()]
        )

    @classmethod
    def execute(cls, field) -> io.NodeOutput:
        return io.NodeOutput(
            tuple(dataclasses.replace(one, displacement=one.displacement * float("nan")) for one in field)
        )


class AddModelFolder(io.ComfyNode):
    """What extra_model_paths.yaml does when the host starts."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="MirrorPPRProbe_AddModelFolder", inputs=[io.String.Input("folder")], outputs=[io.String.Output()]
        )

    @classmethod
    def execute(cls, folder) -> io.NodeOutput:
        folder_paths.add_model_folder_path("mirrorppr", folder)
        folder_paths.filename_list_cache.pop("mirrorppr", None)
        return io.NodeOutput(folder)


class TakeDescriptors(io.ComfyNode):
    """Leaves the process without file descriptors for so long. Answers with an empty text."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="MirrorPPRProbe_TakeDescriptors",
            inputs=[io.Float.Input("seconds", default=2.0, min=0.0, max=10.0)],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, seconds) -> io.NodeOutput:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = max(int(name) for name in os.listdir("/proc/self/fd"))
        taken = [os.dup(0) for _ in range(used)]  # no hole is left below the limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, hard))

        def give_back():
            time.sleep(seconds)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for one in taken:
                os.close(one)

        threading.Thread(target=give_back, daemon=True).start()
        return io.NodeOutput("")


class Probe(ComfyExtension):
    async def get_node_list(self):
        return [ImageWithNaN, WaitForInterruption, PoseOf, Odd, FieldWithNaN, AddModelFolder, TakeDescriptors]


async def comfy_entrypoint() -> Probe:
    return Probe()
