"""Simulate Retouch: a practice exemplar from any portrait, with one of the paper's eight simulated operations.

Landmark-Guided Local Warping (mirrorppr_core/operations/llw.py) fades out over a share of the frame's size, so it runs
in a square around the face: the same retouch then comes out the same however small the face is in its photo. Far
outside the features the motion is exactly zero, so the square leaves no edge.
"""

from __future__ import annotations

from dataclasses import replace

from comfy_api.latest import io
from torch import Tensor

from ..mirrorppr_core.faces.choice import choose
from ..mirrorppr_core.faces.locator import Face
from ..mirrorppr_core.geometry.field import Field, apply_field
from ..mirrorppr_core.images import check_photo
from ..mirrorppr_core.operations.llw import OPERATIONS, llw_displacement
from .sockets import (
    CATEGORY,
    ExtractorSocket,
    FieldSocket,
    face_input,
    found_by,
    interruptible,
    naming,
    photos,
    to_image,
)

_SQUARE = 1.6  # side, in face sizes: a close portrait, as in the simulated training pairs
_EVALUATED_PX = 1024  # of the square, at most; the motion is smooth and loses nothing


class SimulateRetouch(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        signs = "; ".join(f"{name}: {one.plus} / {one.minus}" for name, one in OPERATIONS.items())
        return io.Schema(
            node_id="MirrorPPR_SimulateRetouch",
            display_name="Simulate Retouch (MirrorPPR)",
            category=CATEGORY,
            **found_by("liquify", "face", "portrait", "reshape"),
            description="Retouches a portrait by one known operation, to make an exemplar's after for practice: "
            "connect image as before and this node's picture as after.",
            inputs=[
                ExtractorSocket.Input("extractor", tooltip="From Load MirrorPPR or Load Extractor: it finds the face."),
                io.Image.Input("image", tooltip="The portraits to retouch, 256 pixels or larger. Alpha is kept."),
                io.Combo.Input(
                    "operation",
                    options=list(OPERATIONS),
                    default="nose_alar",
                    tooltip=f"What to do, for positive / negative strength. {signs}.",
                ),
                io.Float.Input(
                    "strength",
                    default=-80.0,
                    min=-100.0,
                    max=100.0,
                    step=5.0,
                    display_mode=io.NumberDisplay.slider,
                    tooltip="How much. Start with 80 or -80, which is easy to see; 30 is subtle.",
                ),
                face_input(
                    "Whose face, where a photo shows several. Start with only. Numbers count from the left.",
                    every=False,
                    optional=True,
                ),
            ],
            outputs=[
                io.Image.Output("after", display_name="after", tooltip="The retouched portraits."),
                FieldSocket.Output(
                    "field", display_name="field", tooltip="The true motion. For Field Preview and Apply Field."
                ),
            ],
        )

    @classmethod
    def execute(cls, extractor, image, operation, strength, face="only") -> io.NodeOutput:
        results, fields = [], []
        for index, photo in enumerate(photos(image)):
            with naming(index, len(image)), interruptible():
                check_photo(photo, "image")
                (person,) = choose(extractor.sight.faces(photo), face)
            fields.append(simulated_field(photo, person, operation, strength))
            results.append(apply_field(photo, fields[-1]))
        return io.NodeOutput(to_image(results), tuple(fields))


def simulated_field(photo: Tensor, face: Face, operation: str, strength: float) -> Field:
    """The operation's exact motion on the square around a face, as a field of the photo."""
    height, width = photo.shape[-2:]
    x0, y0, x1, y1 = face.box
    reach = _SQUARE / 2 * max(x1 - x0, y1 - y0)
    left, right = max(0, int((x0 + x1) / 2 - reach)), min(width, int((x0 + x1) / 2 + reach))
    top, bottom = max(0, int((y0 + y1) / 2 - reach)), min(height, int((y0 + y1) / 2 + reach))
    reduction = min(1.0, _EVALUATED_PX / max(right - left, bottom - top))
    rows, columns = round((bottom - top) * reduction), round((right - left) * reduction)
    scale = face.mesh.new_tensor([columns / (right - left), rows / (bottom - top)])
    mesh = (face.mesh - face.mesh.new_tensor([left, top]) + 0.5) * scale - 0.5
    square = llw_displacement(mesh, (rows, columns), operation=operation, strength=strength).displacement
    field = Field.from_dense(square).resized(bottom - top, right - left)
    return replace(field, left=field.left + left, top=field.top + top, height=height, width=width)
