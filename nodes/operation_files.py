"""Save Operation and Load Operation: retouches to keep, to send and to use again."""

from __future__ import annotations

import torch
from comfy_api.latest import io, ui

from ..mirrorppr_core.mini.explain import bodies_in, composition
from ..mirrorppr_core.mini.operation_file import PICTURES, opened, save_operation, thumbnails_of
from ..mirrorppr_core.mini.reuse import load_operation
from .listed_folder import OPERATIONS
from .sockets import CATEGORY, ExtractorSocket, OperationSocket, found_by

_NO_THUMBNAILS_PX = 128


class SaveOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_SaveOperation",
            display_name="Save Operation (MirrorPPR)",
            category=CATEGORY,
            **found_by("preset", "keep", "library"),
            description="Keeps an operation as a file in the host's output folder, for another day, another workflow "
            "or somebody else. A file is never overwritten: the number at its end counts up.",
            inputs=[
                OperationSocket.Input(
                    "operation", tooltip="Any operation: extracted, from sliders, or made of others."
                ),
                OPERATIONS.name_input("my look"),
                io.Combo.Input(
                    "pictures",
                    options=list(PICTURES),
                    default="thumbnails",
                    tooltip="What the file shows of the exemplar. Start with thumbnails: the face before and after, "
                    "small. exemplar: the whole pair too, so that another set or engine can extract it again. none: to "
                    "give it away without showing anybody. Thumbnails and exemplar show a person.",
                ),
            ],
            outputs=[
                OperationSocket.Output("same", display_name="same", tooltip="The operation, unchanged."),
                io.String.Output("notes", display_name="notes", tooltip="Which file was written and what it shows."),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, name: str | None = None) -> bool | str:
        return OPERATIONS.accepts(name)

    @classmethod
    def execute(cls, operation, name, pictures) -> io.NodeOutput:
        path = OPERATIONS.new_path(name)
        save_operation(path, operation, name=name, pictures=pictures)
        privacy = opened(path).metadata["privacy"]
        text = f"saved as {path.name} in output/{OPERATIONS.name}, {path.stat().st_size / 1e6:.1f} MB\n{privacy}"
        return io.NodeOutput(operation, text, ui=ui.PreviewText(text))


class LoadOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LoadOperation",
            display_name="Load Operation (MirrorPPR)",
            category=CATEGORY,
            **found_by("preset", "library"),
            description="An operation from a file that Save Operation or the command line wrote.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=OPERATIONS.files(),
                    tooltip=f"Files in {OPERATIONS.where}, the newest first. Refresh the node list after saving.",
                ),
                ExtractorSocket.Input(
                    "extractor",
                    optional=True,
                    tooltip="From Load MirrorPPR. If the file is of another set or engine and holds its exemplar, the "
                    "operation is extracted again with this one.",
                ),
            ],
            outputs=[
                OperationSocket.Output(
                    "operation", display_name="operation", tooltip="The retouch. For Retouch Sampler."
                ),
                io.Image.Output(
                    "picture",
                    display_name="picture",
                    tooltip="The exemplar's face before and after, if the file holds thumbnails; grey otherwise.",
                ),
                io.String.Output("notes", display_name="notes", tooltip="Its name and what to know about it."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return True if file is None or OPERATIONS.has(file) else OPERATIONS.missing(file)

    @classmethod
    def fingerprint_inputs(cls, file: str, extractor=None) -> tuple[str, int, int]:
        return OPERATIONS.state_of(file)

    @classmethod
    def execute(cls, file, extractor=None) -> io.NodeOutput:
        loaded = load_operation(OPERATIONS.path_of(file), extractor)
        notes = "\n".join((loaded.name, composition(loaded.operation), *bodies_in(loaded.operation), *loaded.notes))
        return io.NodeOutput(loaded.operation, _side_by_side(thumbnails_of(loaded.operation)), notes)


def _side_by_side(faces: torch.Tensor | None) -> torch.Tensor:
    """Thumbnails (2, 3, S, S) uint8 -> IMAGE (1, S, 2 S, 3)."""
    if faces is None:
        return torch.full((1, _NO_THUMBNAILS_PX, 2 * _NO_THUMBNAILS_PX, 3), 0.5)
    return torch.cat(list(faces.float() / 255), dim=2).movedim(0, -1)[None].contiguous()
