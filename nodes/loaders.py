"""Loading a matched set: the bundled Mini weights, or folders of the user's under models/mirrorppr.

A set is a folder of safetensors files that were trained together (mirrorppr_core/mini/files.py). Nothing is ever
downloaded. Files are chosen by name from a list, never by a free path.

Mini runs on the CPU in about a second, so its models stay there: they take no GPU memory from the user's other
models. What decides a result runs on one thread (one_thread.py), so the same seed gives the same file however many
threads there are; other processors round otherwise, by some 1e-5 pixel. Loaded models are kept until their files
change or others come.
"""

from __future__ import annotations

from comfy_api.latest import io

from ..mirrorppr_core.mini.pipeline import MirrorPPR
from .sets import (
    BUNDLED,
    CHOSEN,
    CONNECTOR_PARTS,
    DIT_PARTS,
    EXTRACTOR_PARTS,
    Files,
    connector_of,
    dit_of,
    extractor_of,
    files_of,
    listed,
    set_names,
)
from .sockets import CATEGORY, ConnectorSocket, DiTSocket, ExtractorSocket, found_by


def _set_input(*parts: str) -> io.Combo.Input:
    return io.Combo.Input(
        "set_name",
        options=set_names(*parts),
        default=BUNDLED,
        tooltip=f"The matched set to load. Start with {BUNDLED}. Sets of your own: a folder each in models/mirrorppr.",
    )


def _extractor_output() -> io.Output:
    return ExtractorSocket.Output(
        "extractor", display_name="extractor", tooltip="Reads before/after pairs. For Extract Operation."
    )


def _connector_output() -> io.Output:
    return ConnectorSocket.Output(
        "connector", display_name="connector", tooltip="Translates operations for the DiT. For Retouch Sampler."
    )


def _dit_output() -> io.Output:
    return DiTSocket.Output("dit", display_name="dit", tooltip="Applies operations to photos. For Retouch Sampler.")


class Load(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_Load",
            display_name="Load MirrorPPR",
            category=CATEGORY,
            **found_by("portrait", "retouch", "model"),
            description="Loads extractor, connector and DiT of one matched set: all that retouching by example needs.",
            inputs=[_set_input(*CHOSEN)],
            outputs=[_extractor_output(), _connector_output(), _dit_output()],
        )

    @classmethod
    def validate_inputs(cls, set_name: str | None = None) -> bool | str:
        return listed(set_name, *CHOSEN)

    @classmethod
    def fingerprint_inputs(cls, set_name: str) -> Files:
        return files_of(set_name, EXTRACTOR_PARTS + CONNECTOR_PARTS + DIT_PARTS)

    @classmethod
    def execute(cls, set_name: str) -> io.NodeOutput:
        model = MirrorPPR(  # checks that the three belong together
            extractor=extractor_of(set_name), connector=connector_of(set_name), editor=dit_of(set_name)
        )
        return io.NodeOutput(model.extractor, model.connector, model.editor)


class LoadExtractor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LoadExtractor",
            display_name="Load Extractor (MirrorPPR)",
            category=CATEGORY,
            **found_by("model", "mae", "r-former"),
            description="Loads what reads a before/after pair: face locator, MAE encoder and R-Former.",
            inputs=[_set_input("rformer")],
            outputs=[_extractor_output()],
        )

    @classmethod
    def validate_inputs(cls, set_name: str | None = None) -> bool | str:
        return listed(set_name, "rformer")

    @classmethod
    def fingerprint_inputs(cls, set_name: str) -> Files:
        return files_of(set_name, EXTRACTOR_PARTS)

    @classmethod
    def execute(cls, set_name: str) -> io.NodeOutput:
        return io.NodeOutput(extractor_of(set_name))


class LoadConnector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LoadConnector",
            display_name="Load Connector (MirrorPPR)",
            category=CATEGORY,
            **found_by("model", "adapter"),
            description="Loads what translates an operation for the DiT. Take it from the extractor's own set.",
            inputs=[_set_input("connector")],
            outputs=[_connector_output()],
        )

    @classmethod
    def validate_inputs(cls, set_name: str | None = None) -> bool | str:
        return listed(set_name, "connector")

    @classmethod
    def fingerprint_inputs(cls, set_name: str) -> Files:
        return files_of(set_name, CONNECTOR_PARTS)

    @classmethod
    def execute(cls, set_name: str) -> io.NodeOutput:
        return io.NodeOutput(connector_of(set_name))


class LoadDiT(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LoadDiT",
            display_name="Load DiT (MirrorPPR)",
            category=CATEGORY,
            **found_by("model", "lora", "checkpoint"),
            description="Loads what applies an operation to a photo: the field DiT with its LoRA.",
            inputs=[
                _set_input("dit"),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How much of the set's LoRA is merged in. Leave at 1: that is what it was trained with. "
                    "0 shows the backbone alone. To weaken a retouch, use the sampler's strength instead.",
                ),
            ],
            outputs=[_dit_output()],
        )

    @classmethod
    def validate_inputs(cls, set_name: str | None = None) -> bool | str:
        return listed(set_name, "dit")

    @classmethod
    def fingerprint_inputs(cls, set_name: str, lora_strength: float) -> Files:
        return files_of(set_name, DIT_PARTS)

    @classmethod
    def execute(cls, set_name: str, lora_strength: float) -> io.NodeOutput:
        return io.NodeOutput(dit_of(set_name, lora_strength))
