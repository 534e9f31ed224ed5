"""Extract Operation: a before/after pair, or several of one look, become an operation, and pictures of it."""

from __future__ import annotations

from comfy_api.latest import io

from ..mirrorppr_core.mini.explain import bodies_in
from ..mirrorppr_core.mini.operation import Operation
from .picture import draw_findings
from .sockets import (
    CATEGORY,
    ExtractorSocket,
    OperationSocket,
    exemplar_pairs,
    face_input,
    found_by,
    interruptible,
    pictures_to_image,
    pose_choices,
    pose_inputs,
)


class ExtractOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_ExtractOperation",
            display_name="Extract Operation (MirrorPPR)",
            category=CATEGORY,
            **found_by("exemplar", "before after", "retouch", "liquify", "learn"),
            description="Reads the retouch out of one photo before and after, or out of a batch of pairs of one look, "
            "which is better. Use the operation on as many other photos as you like. Changes of shape are read; colour "
            "and skin are not.",
            inputs=[
                ExtractorSocket.Input("extractor", tooltip="From Load MirrorPPR or Load Extractor."),
                io.Image.Input(
                    "before",
                    tooltip="The exemplar portrait before retouching, at least 256 pixels high. Start with one; a "
                    "batch of two to eight people with the same retouch is more exact.",
                ),
                io.Image.Input(
                    "after",
                    tooltip="The same photo retouched, at exactly the same size, uncropped. A batch: in one order.",
                ),
                face_input(
                    "Whose retouch to read. Start with only: the one face, or of several the one that changed. "
                    "Numbers count from the left.",
                    every=False,
                    optional=True,
                ),
                *pose_inputs("before"),
            ],
            outputs=[
                OperationSocket.Output(
                    "operation", display_name="operation", tooltip="The retouch. For Retouch Sampler."
                ),
                io.Image.Output(
                    "picture",
                    display_name="picture",
                    tooltip="What was found: the face, its landmarks and how it was moved. One picture a pair.",
                ),
                io.String.Output(
                    "notes", display_name="notes", tooltip="What to know about this exemplar, in plain words."
                ),
            ],
        )

    @classmethod
    def execute(cls, extractor, before, after, face="only", pose=None, joints="auto") -> io.NodeOutput:
        pairs = exemplar_pairs(before, after)
        poses = pose_choices(pose, joints, before, "pose")
        with interruptible():
            found = extractor.extract_together(pairs, face=face, poses=poses)
        seen = [(pair.before, one) for pair, one in zip(pairs, found.each, strict=True) if one is not None]
        drawn = [draw_findings(photo, one.face, one.field) for photo, one in seen]
        return io.NodeOutput(found.operation, pictures_to_image(drawn), _notes(found.operation))


def _notes(operation: Operation) -> str:
    largest = f"largest motion in the exemplar {operation.largest_px:.1f} px"
    return "\n".join((largest, *bodies_in(operation), *operation.notes))
