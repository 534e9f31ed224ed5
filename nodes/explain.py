"""Explain Operation and Operation from Sliders: a retouch in names and numbers, and back."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..mirrorppr_core.mini.explain import explain
from ..mirrorppr_core.operations.atoms import atoms_of
from ..mirrorppr_core.operations.llw_table import OPERATIONS as LLW
from ..mirrorppr_core.operations.professional_table import OPERATIONS as PROFESSIONAL
from ..mirrorppr_core.operations.sliders import FULL, NAMES, SLIDERS, Sliders, percents_of
from .bars import draw_bars
from .sockets import CATEGORY, ExtractorSocket, OperationSocket, found_by, pictures_to_image


class ExplainOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_ExplainOperation",
            display_name="Explain Operation (MirrorPPR)",
            category=CATEGORY,
            **found_by("analyse", "what changed", "sliders"),
            description="Which of the named operations an operation looks like, how strongly, and how much of it has "
            "no name.",
            inputs=[
                OperationSocket.Input("operation", tooltip="From Extract Operation, or any other."),
                ExtractorSocket.Input("extractor", tooltip="From Load MirrorPPR, the set that extracted it."),
            ],
            outputs=[
                io.Image.Output("picture", display_name="picture", tooltip="The names as bars."),
                io.String.Output("words", display_name="words", tooltip="The same in words."),
                io.String.Output(
                    "sliders",
                    display_name="sliders",
                    tooltip="The same as lines name = per cent. For Operation from Sliders, where it can be changed.",
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, operation, extractor) -> io.NodeOutput:
        told = explain(operation, atoms_of(extractor.config.dit.operations))
        picture = pictures_to_image([draw_bars(told)])
        return io.NodeOutput(picture, told.words(), told.lines(), ui=ui.PreviewImage(picture, cls=cls))


class OperationFromSliders(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_OperationFromSliders",
            display_name="Operation from Sliders (MirrorPPR)",
            category=CATEGORY,
            **found_by("liquify", "portrait", "face sliders", "reshape"),
            description="An operation without any exemplar: named motions by amount, made on each photo's own face and "
            "body. The first eight are the paper's simulated operations, the others its professional ones.",
            inputs=[
                *(
                    io.Float.Input(
                        name,
                        default=0.0,
                        min=-FULL,
                        max=FULL,
                        step=1.0,
                        optional=True,
                        display_mode=io.NumberDisplay.slider,
                        tooltip=_tooltip(name),
                    )
                    for name in SLIDERS
                ),
                io.String.Input(
                    "text",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Lines name = per cent, as Explain Operation writes them; the sliders are added to them. "
                    "Here one side alone can be named too, e.g. mouth_smile_left = 20.",
                ),
            ],
            outputs=[
                OperationSocket.Output(
                    "operation", display_name="operation", tooltip="For Retouch Sampler and arithmetic."
                ),
                io.String.Output("lines", display_name="sliders", tooltip="All of it as lines name = per cent."),
            ],
        )

    @classmethod
    def execute(cls, text: str = "", **percents: float) -> io.NodeOutput:
        total = percents_of(text)
        for name, percent in percents.items():
            if percent:
                total[name] = total.get(name, 0.0) + percent
        sliders = Sliders.of(total)
        return io.NodeOutput(sliders, sliders.to_text())


def _tooltip(name: str) -> str:
    operation, _ = NAMES[name]
    table = LLW if operation in LLW else PROFESSIONAL
    one = table[operation]
    parts = f" Moves {one.parts}." if operation in PROFESSIONAL else ""
    return f"Positive: {one.plus}; negative: {one.minus}.{parts} Start with 30 or -30."
