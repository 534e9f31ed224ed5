"""Apply Field and Field Preview: the motion of a retouch, used on other pictures and shown."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..mirrorppr_core.geometry.field import Field, apply_field
from ..mirrorppr_core.images import check_photo
from .picture import STYLES, draw_field
from .sockets import (
    CATEGORY,
    FieldSocket,
    fields_for,
    found_by,
    moved_mask,
    naming,
    photos,
    pictures_to_image,
    strength_input,
    to_image,
)

_SAME_ASPECT = 0.01


class ApplyField(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_ApplyField",
            display_name="Apply Field (MirrorPPR)",
            category=CATEGORY,
            **found_by("warp", "displace", "liquify"),
            description="Moves the pixels of pictures by a field made before: the same retouch on another size or "
            "version of the photo, on its mask or depth map, or with another strength.",
            inputs=[
                io.Image.Input("image", tooltip="Pictures with the aspect ratio of the photo that the field is of."),
                FieldSocket.Input("field", tooltip="From Retouch Sampler. One for all pictures, or one for each."),
                strength_input(
                    "How much of the motion. Start with 1, all of it; negative moves the other way.",
                ),
            ],
            outputs=[
                io.Image.Output("moved", display_name="moved", tooltip="The pictures, moved."),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="1 where pixels moved; elsewhere the bits are the picture's."
                ),
            ],
        )

    @classmethod
    def execute(cls, image, field, strength) -> io.NodeOutput:
        height, width = image.shape[1:3]
        fields = [_fitted(one, height, width).scaled(strength) for one in fields_for(field, len(image))]
        results = []
        for index, (photo, one) in enumerate(zip(photos(image), fields, strict=True)):
            with naming(index, len(image)):
                check_photo(photo, "image")
                results.append(apply_field(photo, one))
        return io.NodeOutput(to_image(results), moved_mask(fields))


class FieldPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_FieldPreview",
            display_name="Field Preview (MirrorPPR)",
            category=CATEGORY,
            **found_by("warp", "displacement", "vectors"),
            description="Shows how a field moves the pixels, as arrows or colours, and the longest motion in pixels.",
            inputs=[
                FieldSocket.Input("field", tooltip="From Retouch Sampler or Simulate Retouch."),
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    default=STYLES[0],
                    tooltip="Start with arrows: from where a spot was to where it went, lengthened. colour: hue is the "
                    "direction, strength the distance.",
                ),
                io.Boolean.Input(
                    "close_up", default=True, tooltip="Start with true: where pixels moved. false: the whole photo."
                ),
                io.Image.Input("image", optional=True, tooltip="The photo to draw on. Without it the ground is grey."),
            ],
            outputs=[io.Image.Output("picture", display_name="picture", tooltip="A square picture for each field.")],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, field, style, close_up, image=None) -> io.NodeOutput:
        grounds = [None] * len(field)
        fields = list(field)
        if image is not None:
            grounds = photos(image)
            fields = [_fitted(one, *image.shape[1:3]) for one in fields_for(field, len(image))]
        look = {"style": style, "close_up": close_up}
        pictures = pictures_to_image([draw_field(one, on, **look) for one, on in zip(fields, grounds, strict=True)])
        return io.NodeOutput(pictures, ui=ui.PreviewImage(pictures, cls=cls))


def _fitted(field: Field, height: int, width: int) -> Field:
    """The field at a picture's size, which must be the same picture: it has the same aspect ratio."""
    if abs(width * field.height / (height * field.width) - 1) > _SAME_ASPECT:
        raise ValueError(
            f"the field belongs to a photo of {field.width}x{field.height} but image is {width}x{height}, of another "
            "aspect ratio: use the same photo, uncropped, at any size"
        )
    return field.resized(height, width)
