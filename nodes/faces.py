"""Find Faces: every face of a photo with its number, and a mask of those that are meant."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..mirrorppr_core.faces.choice import choose, describe
from ..mirrorppr_core.faces.locator import Face
from ..mirrorppr_core.faces.search import locate
from ..mirrorppr_core.images import check_photo
from .picture import draw_faces
from .sockets import CATEGORY, FACE_NUMBERS, ExtractorSocket, found_by, interruptible, one_photo, pictures_to_image


class FindFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_FindFaces",
            display_name="Find Faces (MirrorPPR)",
            category=CATEGORY,
            **found_by("face detect", "face mask", "people"),
            description="Numbers the faces of a photo, so that you can say which one is meant: by its number, or by a "
            "point on it. The mask goes into Retouch Sampler's region.",
            inputs=[
                ExtractorSocket.Input(
                    "extractor", tooltip="From Load MirrorPPR or Load Extractor: it finds the faces."
                ),
                io.Image.Input("image", tooltip="The photo, 256 pixels or larger."),
                io.Combo.Input(
                    "face",
                    options=["all", "largest", *FACE_NUMBERS],
                    default="all",
                    tooltip="Which faces the mask covers. Start with all and read the numbers off the picture.",
                ),
                io.Int.Input(
                    "x",
                    default=-1,
                    min=-1,
                    max=100_000,
                    optional=True,
                    tooltip="With y: a point on the face that is meant, in pixels of the photo. -1: by face instead.",
                ),
                io.Int.Input("y", default=-1, min=-1, max=100_000, optional=True, tooltip="See x."),
            ],
            outputs=[
                io.Image.Output("picture", display_name="picture", tooltip="The photo with a number on every face."),
                io.Mask.Output("region", display_name="region", tooltip="1 on the faces that are meant."),
                io.Int.Output("count", display_name="count", tooltip="How many faces were found."),
                io.String.Output("notes", display_name="notes", tooltip="Where the faces are."),
            ],
        )

    @classmethod
    def execute(cls, extractor, image, face, x=-1, y=-1) -> io.NodeOutput:
        photo = one_photo(image, "image")
        check_photo(photo, "image")
        with interruptible():
            faces = locate(extractor.sight.locator, photo)
        chosen = choose(faces, face) if x < 0 or y < 0 else [_at(faces, x, y)]
        region = torch.zeros(1, *photo.shape[-2:])
        for one in chosen:
            left, top, right, bottom = (max(0, round(value)) for value in one.box)
            region[:, top : bottom + 1, left : right + 1] = 1
        picture = pictures_to_image([draw_faces(photo, faces, chosen)])
        return io.NodeOutput(picture, region, len(faces), describe(faces))


def _at(faces: list[Face], x: int, y: int) -> Face:
    """The face under a point; of two, the smaller, which stands in front."""
    under = [one for one in faces if one.box[0] <= x <= one.box[2] and one.box[1] <= y <= one.box[3]]
    if not under:
        raise ValueError(f"no face at x {x}, y {y}. Found: {describe(faces) or 'none'}")
    return min(under, key=lambda one: one.size_px)
