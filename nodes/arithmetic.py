"""Arithmetic of operations: scaled, reversed, combined, blended, averaged, limited to parts of the face."""

from __future__ import annotations

from comfy_api.latest import io

from ..mirrorppr_core.bodies.frames import GROUPS
from ..mirrorppr_core.faces.parts import PARTS, SIDES
from ..mirrorppr_core.mini.arithmetic import MOST, Blended, Limited, Scaled, Undone, averaged, combined, feathered
from .sockets import CATEGORY, OperationSocket, found_by

_MADE = "The operation made. For Retouch Sampler, Save Operation and more arithmetic."
_FEATHER_PX = 16


def _output() -> OperationSocket.Output:
    return OperationSocket.Output("made", display_name="made", tooltip=_MADE)


class ScaleOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_ScaleOperation",
            display_name="Scale Operation (MirrorPPR)",
            category=CATEGORY,
            **found_by("strength", "weaken", "retouch"),
            description="Less or more of an operation, before it is combined or saved.",
            inputs=[
                OperationSocket.Input("operation", tooltip="Any operation."),
                io.Float.Input(
                    "percent",
                    default=100.0,
                    min=0.0,
                    max=100.0 * MOST,
                    step=5.0,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How far to go. Start with 100, as it is; 50 is half of it, 0 nothing, 200 twice as far.",
                ),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, operation, percent) -> io.NodeOutput:
        return io.NodeOutput(Scaled(of=operation, factor=percent / 100))


class ReverseOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_ReverseOperation",
            display_name="Reverse Operation (MirrorPPR)",
            category=CATEGORY,
            **found_by("undo", "inverse", "negative"),
            description="Takes an operation back: the retouched photo becomes the photo before. It is the exact "
            "inverse of the motion, which a negative strength is not: that moves the same places the other way.",
            inputs=[OperationSocket.Input("operation", tooltip="The operation to take back.")],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, operation) -> io.NodeOutput:
        return io.NodeOutput(operation.of if isinstance(operation, Undone) else Undone(of=operation))


class CombineOperations(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_CombineOperations",
            display_name="Combine Operations (MirrorPPR)",
            category=CATEGORY,
            **found_by("sequence", "chain", "add"),
            description="One operation after another, each on the face that those before have made. The photo is "
            "sampled once, so nothing is lost between them.",
            inputs=[
                OperationSocket.Input("first", tooltip="What is done first."),
                OperationSocket.Input("second", tooltip="What is done to the result."),
                OperationSocket.Input("third", optional=True, tooltip="And then. For more, combine the result again."),
                OperationSocket.Input("fourth", optional=True, tooltip="And then."),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, first, second, third=None, fourth=None) -> io.NodeOutput:
        return io.NodeOutput(combined([one for one in (first, second, third, fourth) if one is not None]))


class BlendOperations(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_BlendOperations",
            display_name="Blend Operations (MirrorPPR)",
            category=CATEGORY,
            **found_by("mix", "between"),
            description="Something between two operations: the weighted mean of their motions.",
            inputs=[
                OperationSocket.Input("first", tooltip="What it is at 0."),
                OperationSocket.Input("second", tooltip="What it is at 100."),
                io.Float.Input(
                    "percent",
                    default=50.0,
                    min=0.0,
                    max=100.0,
                    step=5.0,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How much of the second. Start with 50, the middle.",
                ),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, first, second, percent) -> io.NodeOutput:
        return io.NodeOutput(Blended(of=(first, second), weights=(1 - percent / 100, percent / 100)))


class AverageOperations(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_AverageOperations",
            display_name="Average Operations (MirrorPPR)",
            category=CATEGORY,
            **found_by("mean", "several exemplars"),
            description="One operation from several exemplars of one look: what they share stays, what one of them got "
            "wrong fades. Connect the operations of two to five pairs that were retouched in the same way.",
            inputs=[
                OperationSocket.Input("pair_1", tooltip="The operation of one exemplar."),
                OperationSocket.Input("pair_2", tooltip="That of another exemplar of the same look."),
                *(
                    OperationSocket.Input(f"pair_{number}", optional=True, tooltip="One more of the same look.")
                    for number in (3, 4, 5)
                ),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(cls, pair_1, pair_2, pair_3=None, pair_4=None, pair_5=None) -> io.NodeOutput:
        return io.NodeOutput(averaged([one for one in (pair_1, pair_2, pair_3, pair_4, pair_5) if one is not None]))


class LimitOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LimitOperation",
            display_name="Limit Operation (MirrorPPR)",
            category=CATEGORY,
            **found_by("region", "mask", "eyes", "mouth", "part"),
            description="An operation only on parts of the face or body, on one side, or inside a mask. Elsewhere "
            "pixels keep their bits; at the border of a part it fades.",
            inputs=[
                OperationSocket.Input("operation", tooltip="Any operation."),
                *(
                    io.Boolean.Input(
                        part, default=True, tooltip=f"Whether it may act on the {part}. Start with all on."
                    )
                    for part in PARTS
                ),
                io.Combo.Input(
                    "side",
                    options=list(SIDES),
                    default="both",
                    tooltip="Start with both. left and right are the person's own: the right eye is on the picture's "
                    "left.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Paint it on the query: only there the operation acts, more where it is brighter. Usually "
                    "not connected.",
                ),
                io.Int.Input(
                    "feather_px",
                    default=_FEATHER_PX,
                    min=0,
                    max=512,
                    optional=True,
                    tooltip=f"How far inside the mask it reaches its full strength. Start with {_FEATHER_PX}; at 0 a "
                    "hard edge tears what it crosses.",
                ),
                io.Combo.Input(
                    "of_body",
                    options=["all", *GROUPS],
                    default="all",
                    optional=True,
                    tooltip="Start with all. One of the others leaves the rest of the body alone: arms moves only the "
                    "arms of an operation that slims arms and waist.",
                ),
            ],
            outputs=[_output()],
        )

    @classmethod
    def execute(
        cls, operation, side, mask=None, feather_px=_FEATHER_PX, of_body="all", **chosen: bool
    ) -> io.NodeOutput:
        parts = tuple(part for part in PARTS if chosen[part])
        if not parts:
            raise ValueError("every part is switched off, so nothing would be moved: switch on at least one")
        region = None
        if mask is not None:
            masks = mask if mask.ndim == 3 else mask[None]
            if len(masks) != 1:
                raise ValueError(
                    f"mask is a batch of {len(masks)}: an operation is limited by one mask, painted on one photo. "
                    "Connect a single one."
                )
            region = feathered(masks[0], feather_px)
        groups = GROUPS if of_body == "all" else (of_body,)
        return io.NodeOutput(Limited(of=operation, parts=parts, side=side, region=region, of_body=groups))
