"""Save Field, Load Field, Field to ST Map, ST Map to Field: motion for other programs and nodes, and back."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..mirrorppr_core.geometry.field_files import FORMATS, read_field, write_field
from ..mirrorppr_core.geometry.st_map import from_st_map, to_st_map
from .listed_folder import FIELDS
from .sockets import ADVANCED, CATEGORY, FieldSocket, found_by, naming, photos, to_image

V_DIRECTIONS = ("up", "down")


def _v_input() -> io.Input:
    return io.Combo.Input(
        "v",
        options=list(V_DIRECTIONS),
        default=V_DIRECTIONS[0],
        tooltip="Where green grows. Start with up, as in Nuke and Fusion; down is the order of rows in a picture.",
    )


class SaveField(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_SaveField",
            display_name="Save Field (MirrorPPR)",
            category=CATEGORY,
            **found_by("st map", "uv map", "displacement", "exr", "nuke", "fusion", "after effects"),
            description="Writes the motion of a retouch as an ST map (UV map, 32-bit EXR or TIFF) for Nuke, Fusion and "
            "others, or as a 16-bit PNG displacement map for After Effects. Never overwrites a file.",
            inputs=[
                FieldSocket.Input("field", tooltip="From Retouch Sampler, Reproject or Simulate Retouch."),
                FIELDS.name_input("field"),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default=FORMATS[0],
                    tooltip="Start with exr: an ST map, exact to a thousandth of a pixel. tiff: the same, larger. png: "
                    "16-bit offsets in pixels; the notes say how many pixels the value 65535 is.",
                ),
            ],
            outputs=[
                FieldSocket.Output("same", display_name="same", tooltip="The field, unchanged."),
                io.String.Output(
                    "notes", display_name="notes", tooltip="Which files were written and how to read them."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return FIELDS.accepts(name)

    @classmethod
    def execute(cls, field, name, format) -> io.NodeOutput:
        lines = []
        for index, one in enumerate(field):
            with naming(index, len(field)):
                path = FIELDS.new_path(name, f".{format}")
                about = write_field(path, one)
            lines.append(f"saved as {path.name} in output/{FIELDS.name}: {about}, {one.width}x{one.height}")
        text = "\n".join(lines)
        return io.NodeOutput(field, text, ui=ui.PreviewText(text))


class LoadField(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LoadField",
            display_name="Load Field (MirrorPPR)",
            category=CATEGORY,
            **found_by("st map", "uv map", "displacement", "exr", "nuke"),
            description="Motion from a file: an ST map (32-bit EXR or TIFF) of any program, or a 16-bit PNG that Save "
            "Field wrote.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=FIELDS.files(),
                    tooltip=f"Files in {FIELDS.where}, the newest first. Refresh the node list after saving.",
                ),
                io.Float.Input(
                    "range_px",
                    default=0.0,
                    min=0.0,
                    max=10_000.0,
                    step=0.001,
                    optional=True,
                    tooltip="Start with 0: as the file says. Only for a PNG that another program saved again and whose "
                    "text is lost: how many pixels of motion the value 65535 is.",
                    **ADVANCED,
                ),
            ],
            outputs=[
                FieldSocket.Output("field", display_name="field", tooltip="For Apply Field and Field Preview."),
                io.String.Output("notes", display_name="notes", tooltip="Its size and longest motion."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return True if file is None or FIELDS.has(file) else FIELDS.missing(file)

    @classmethod
    def fingerprint_inputs(cls, file: str, range_px: float = 0.0) -> tuple:
        return *FIELDS.state_of(file), range_px

    @classmethod
    def execute(cls, file, range_px=0.0) -> io.NodeOutput:
        loaded = read_field(FIELDS.path_of(file), range_px=range_px)
        return io.NodeOutput((loaded.field,), "\n".join(loaded.notes))


class FieldToMap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_FieldToMap",
            display_name="Field to ST Map (MirrorPPR)",
            category=CATEGORY,
            **found_by("uv map", "remap", "displacement"),
            description="The motion as a picture of positions, for remap nodes of other packs: red is where a pixel "
            "comes from across, green along, 0 to 1, at pixel centres.",
            inputs=[
                FieldSocket.Input("field", tooltip="From Retouch Sampler, Reproject or Load Field."),
                _v_input(),
            ],
            outputs=[
                io.Image.Output(
                    "map",
                    display_name="map",
                    tooltip="32-bit floats, not for looking at. A picture file of 8 bits would ruin them: Save Field "
                    "writes files.",
                )
            ],
        )

    @classmethod
    def execute(cls, field, v) -> io.NodeOutput:
        maps = [to_st_map(one) for one in field]
        for one in maps:
            if v == "down":
                one[:, 1] = 1 - one[:, 1]
        return io.NodeOutput(to_image(maps))


class MapToField(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_MapToField",
            display_name="ST Map to Field (MirrorPPR)",
            category=CATEGORY,
            **found_by("uv map", "remap", "displacement"),
            description="A picture of positions from another node, as a field for Apply Field.",
            inputs=[
                io.Image.Input(
                    "map",
                    tooltip="Red and green: where each pixel comes from, 0 to 1, at pixel centres, 32-bit floats.",
                ),
                _v_input(),
            ],
            outputs=[
                FieldSocket.Output(
                    "field", display_name="field", tooltip="For Apply Field, Field Preview and Save Field."
                )
            ],
        )

    @classmethod
    def execute(cls, map, v) -> io.NodeOutput:
        fields = []
        for index, one in enumerate(photos(map)):
            turned = one[:, :2].clone()
            if v == "down":
                turned[:, 1] = 1 - turned[:, 1]
            with naming(index, len(map)):
                fields.append(from_st_map(turned))
        return io.NodeOutput(tuple(fields))
