"""Compare: a picture before and after, what differs, and how far each spot went; a slider on the page."""

from __future__ import annotations

from comfy_api.latest import io, ui

from .picture import draw_comparison
from .sockets import CATEGORY, FieldSocket, fields_for, found_by, photos, pictures_to_image


class Compare(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_Compare",
            display_name="Compare (MirrorPPR)",
            category=CATEGORY,
            **found_by("before after", "difference", "slider"),
            description="Shows a photo before and after with a slider, and what differs: proof that nothing else "
            "moved.",
            inputs=[
                io.Image.Input("before", tooltip="The photo as it was: the query."),
                io.Image.Input("after", tooltip="The photo as it is now, at the same size."),
                FieldSocket.Input(
                    "field", optional=True, tooltip="From Retouch Sampler: adds a heat map of how far each spot went."
                ),
                io.Float.Input(
                    "gain",
                    default=5.0,
                    min=1.0,
                    max=50.0,
                    step=1.0,
                    tooltip="How much the difference is strengthened. Start with 5; 50 shows a single grey level.",
                ),
                io.Boolean.Input(
                    "close_up", default=True, tooltip="Start with true: where pixels changed. false: the whole photo."
                ),
            ],
            outputs=[
                io.Image.Output("picture", display_name="picture", tooltip="Before, after, difference and motion."),
                io.String.Output("notes", display_name="notes", tooltip="How much changed, in words."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, before, after, gain, close_up, field=None) -> io.NodeOutput:
        if before.shape[:3] != after.shape[:3]:
            raise ValueError(
                f"before is {_size(before)} but after is {_size(after)}: compare a photo with its own retouch, "
                "at the same size and in the same number"
            )
        fields = [None] * len(before) if field is None else fields_for(field, len(before))
        pairs = list(zip(photos(before), photos(after), fields, strict=True))
        drawn = [draw_comparison(a, b, one, gain=gain, close_up=close_up) for a, b, one in pairs]
        pictures = pictures_to_image(drawn)
        # For the slider of web/js/compare.js: the first pair.
        pair = [saved for one in (before, after) for saved in ui.PreviewImage(one[:1, ..., :3], cls=cls).values]
        return io.NodeOutput(pictures, _notes(pairs), ui={"mirrorppr_pair": pair})


def _notes(pairs: list[tuple]) -> str:
    lines = []
    for number, (a, b, field) in enumerate(pairs, start=1):
        changed = float((a != b).any(dim=1).float().mean())
        motion = "" if field is None else f", largest motion {field.max_px:.1f} px"
        name = f"picture {number}: " if len(pairs) > 1 else ""
        lines.append(f"{name}{100 * changed:.2f} % of the pixels changed{motion}; the others are the same bit for bit")
    return "\n".join(lines)


def _size(image) -> str:
    return f"{image.shape[2]}x{image.shape[1]}" + (f" ({len(image)} pictures)" if len(image) > 1 else "")
