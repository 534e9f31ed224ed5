"""Refine Operation: one result corrected by hand makes the operation better for all others."""

from __future__ import annotations

from comfy_api.latest import io

from ..mirrorppr_core.exemplar import Exemplar
from .picture import draw_findings
from .sockets import (
    CATEGORY,
    ExtractorSocket,
    OperationSocket,
    face_input,
    found_by,
    interruptible,
    one_photo,
    pictures_to_image,
    pose_choices,
    pose_inputs,
)


class RefineOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_RefineOperation",
            display_name="Refine Operation (MirrorPPR)",
            category=CATEGORY,
            **found_by("correct", "feedback", "exemplar", "retouch"),
            description="Where a result was not quite right, correct it by hand and connect it here: the photo as it "
            "was and the corrected one join the pairs that the operation was read from; the rest of the album follows.",
            inputs=[
                ExtractorSocket.Input("extractor", tooltip="From Load MirrorPPR or Load Extractor: the same set."),
                OperationSocket.Input("operation", tooltip="From Extract Operation, or refined before."),
                io.Image.Input("before", tooltip="The photo that was retouched, as it was. Start with one result."),
                io.Image.Input("corrected", tooltip="The same photo as it should be, same size, uncropped."),
                face_input(
                    "Whose retouch was corrected. Start with only; numbers count from the left.",
                    every=False,
                    optional=True,
                ),
                *pose_inputs("before"),
            ],
            outputs=[
                OperationSocket.Output("refined", display_name="refined", tooltip="The better operation."),
                io.Image.Output("picture", display_name="picture", tooltip="What was found in the correction."),
                io.String.Output("notes", display_name="notes", tooltip="What to know, in plain words."),
            ],
        )

    @classmethod
    def execute(cls, extractor, operation, before, corrected, face="only", pose=None, joints="auto") -> io.NodeOutput:
        pair = Exemplar(one_photo(before, "before"), one_photo(corrected, "corrected"))
        (choice,) = pose_choices(pose, joints, before, "pose")
        with interruptible():
            seen = extractor.refine(operation, pair, face=face, pose=choice)
        picture = draw_findings(pair.before, seen.face, seen.field)
        notes = (f"read from {seen.operation.pairs} pairs", *seen.operation.notes)
        return io.NodeOutput(seen.operation, pictures_to_image([picture]), "\n".join(notes))
