"""Save and Load Operation of the Qwen engine; the files lie where Mini's do."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ...mirrorppr_core.mini.operation_file import opened
from ...mirrorppr_core.qwen.extractor import ExtractConfig
from ...mirrorppr_core.qwen.operation_file import PICTURES, load_qwen_operation, save_qwen_operation
from ..listed_folder import OPERATIONS
from ..sockets import found_by
from .operation import extract
from .sockets import CATEGORY, QwenOperationSocket, QwenSetSocket


class SaveQwenOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_SaveQwenOperation",
            display_name="Save Operation (MirrorPPR, Qwen)",
            category=CATEGORY,
            **found_by("preset", "keep", "library"),
            description="Keeps an operation of the Qwen engine as a file in the host's output folder. A file is never "
            "overwritten: the number at its end counts up.",
            inputs=[
                QwenOperationSocket.Input("operation", tooltip="From Extract Operation (Qwen)."),
                OPERATIONS.name_input("my look"),
                io.Combo.Input(
                    "pictures",
                    options=list(PICTURES),
                    default=PICTURES[0],
                    tooltip="Start with none. exemplar: the file holds the pair, which shows a person, so that another "
                    "set or Mini can extract it again.",
                ),
            ],
            outputs=[
                QwenOperationSocket.Output("same", display_name="same", tooltip="The operation, unchanged."),
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
        save_qwen_operation(path, operation, name=name, pictures=pictures)
        text = f"saved as {path.name} in output/{OPERATIONS.name}\n{opened(path).metadata['privacy']}"
        return io.NodeOutput(operation, text, ui=ui.PreviewText(text))


class LoadQwenOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_LoadQwenOperation",
            display_name="Load Operation (MirrorPPR, Qwen)",
            category=CATEGORY,
            **found_by("preset", "library"),
            description="An operation for the Qwen engine from a file.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=OPERATIONS.files(),
                    tooltip=f"Files in {OPERATIONS.where}, the newest first. Refresh the node list after saving.",
                ),
                QwenSetSocket.Input(
                    "qwen_set",
                    optional=True,
                    tooltip="From Load MirrorPPR (Qwen). If the file is of another set or of Mini and holds its "
                    "exemplar, the operation is extracted again with this one.",
                ),
            ],
            outputs=[
                QwenOperationSocket.Output(
                    "operation", display_name="operation", tooltip="The retouch. For Retouch Conditioning (Qwen)."
                ),
                io.String.Output("notes", display_name="notes", tooltip="What to know about it."),
            ],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None) -> bool | str:
        return True if file is None or OPERATIONS.has(file) else OPERATIONS.missing(file)

    @classmethod
    def fingerprint_inputs(cls, file: str, qwen_set=None) -> tuple[str, int, int]:
        return OPERATIONS.state_of(file)

    @classmethod
    def execute(cls, file, qwen_set=None) -> io.NodeOutput:
        def again(exemplar):
            return extract(qwen_set, exemplar, ExtractConfig())

        operation = load_qwen_operation(
            OPERATIONS.path_of(file), qwen_set and qwen_set.set_id, again if qwen_set is not None else None
        )
        return io.NodeOutput(operation, "\n".join(operation.notes) or "nothing unusual about this operation")
