"""Extract Operation: one before/after pair becomes an operation for any number of photos, and a picture of it."""

from __future__ import annotations

import torch
from comfy_api.latest import io
from torch import Tensor

from ..mirrorppr_core.bodies.transfer import BodySight
from ..mirrorppr_core.exemplar import Exemplar
from ..mirrorppr_core.faces.choice import locate
from ..mirrorppr_core.faces.locator import Face
from ..mirrorppr_core.geometry.field import Field, joined
from ..mirrorppr_core.mini.extractor import OperationExtractor
from ..mirrorppr_core.mini.operation import Operation as CoreOperation
from .picture import draw_findings
from .sockets import CATEGORY, FACE_NUMBERS, Extractor, Operation, one_photo, pictures_to_image


class ExtractOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_ExtractOperation",
            display_name="Extract Operation (MirrorPPR)",
            category=CATEGORY,
            description="Reads the retouch out of one photo before and after. Use the operation on as many other "
            "photos as you like. Changes of shape are read; colour and skin are not.",
            inputs=[
                Extractor.Input("extractor", tooltip="From Load MirrorPPR or Load Extractor."),
                io.Image.Input("before", tooltip="The exemplar portrait before retouching, at least 256 pixels high."),
                io.Image.Input("after", tooltip="The same photo retouched, at exactly the same size, uncropped."),
                io.Combo.Input(
                    "face",
                    options=["only", "largest", *FACE_NUMBERS],
                    default="only",
                    optional=True,
                    tooltip="Whose retouch to read. Start with only: the one face, or of several the one that changed. "
                    "Numbers count from the left.",
                ),
            ],
            outputs=[
                Operation.Output("operation", display_name="operation", tooltip="The retouch. For Retouch Sampler."),
                io.Image.Output(
                    "picture",
                    display_name="picture",
                    tooltip="What was found: the face, its landmarks and how it was moved.",
                ),
                io.String.Output(
                    "notes", display_name="notes", tooltip="What to know about this exemplar, in plain words."
                ),
            ],
        )

    @classmethod
    def execute(cls, extractor, before, after, face="only") -> io.NodeOutput:
        exemplar = Exemplar(one_photo(before, "exemplar before"), one_photo(after, "exemplar after"))
        operation = extractor.extract(exemplar, face=face)
        person, motion = whose(operation, extractor, exemplar.before)
        picture = draw_findings(exemplar.before, person, motion)
        return io.NodeOutput(operation, pictures_to_image([picture]), _notes(operation))


def whose(operation: CoreOperation, extractor: OperationExtractor, before: Tensor) -> tuple[Face, Field]:
    """The face of the exemplar that the operation was read from, and the motion on it.

    The operation carries that face's shape map; of the faces found it belongs to the one whose map is the same.
    """
    found = [(face, extractor.view.fit(face.landmarks)) for face in locate(extractor.locator, before)]
    face, view = min(found, key=lambda pair: float(torch.dist(pair[1].shape, operation.shape)))
    height, width = before.shape[-2:]
    motion = extractor.view.motion_to_photo(operation.motion, view, height=height, width=width)
    if operation.body is None:
        return face, motion
    sight = BodySight(extractor.body, extractor.view, extractor.locator.mean_face)
    beside, _ = sight.carry(operation.body, before, face, 1.0)
    return face, joined([motion, beside], motion)


def _notes(operation: CoreOperation) -> str:
    return "\n".join((f"largest motion in the exemplar {operation.largest_px:.1f} px", *operation.notes))
