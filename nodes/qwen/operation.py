"""Extract Operation (Qwen): one before/after pair becomes an operation, on the compute device the host chooses."""

from __future__ import annotations

import comfy.model_management
from comfy_api.latest import io

from ...mirrorppr_core.exemplar import Exemplar
from ...mirrorppr_core.qwen.extractor import CROPS, ExtractConfig, QwenExtractor, QwenOperation
from ...mirrorppr_core.qwen.files import QwenSet, choose_dtype
from ..sockets import found_by, one_photo
from .sockets import CATEGORY, QwenOperationSocket, QwenSetSocket, at_work

_ACTIVATIONS = 8 * 4  # bytes for each patch and channel: the widest layer has four times the width, and copies


class ExtractQwenOperation(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_ExtractQwenOperation",
            display_name="Extract Operation (MirrorPPR, Qwen)",
            category=CATEGORY,
            **found_by("exemplar", "before after", "qwen image edit"),
            description="Reads the retouch out of one photo before and after, with the released encoders. Use the "
            "operation on as many other photos as you like.",
            inputs=[
                QwenSetSocket.Input("qwen_set", tooltip="From Load MirrorPPR (Qwen)."),
                io.Image.Input("before", tooltip="The exemplar portrait before retouching, at least 256 pixels high."),
                io.Image.Input("after", tooltip="The same photo retouched, at exactly the same size, uncropped."),
                io.Combo.Input(
                    "crop",
                    options=list(CROPS),
                    default=CROPS[0],
                    optional=True,
                    tooltip="Start with stretch, as released: the pair becomes a square. square: its middle is cut "
                    "out, so that faces of wide or tall pairs keep their proportions.",
                ),
            ],
            outputs=[
                QwenOperationSocket.Output(
                    "operation", display_name="operation", tooltip="The retouch. For Retouch Conditioning (Qwen)."
                ),
                io.String.Output("notes", display_name="notes", tooltip="What to know about this exemplar."),
            ],
        )

    @classmethod
    def execute(cls, qwen_set, before, after, crop=CROPS[0]) -> io.NodeOutput:
        exemplar = Exemplar(one_photo(before, "exemplar before"), one_photo(after, "exemplar after"))
        operation = extract(qwen_set, exemplar, ExtractConfig(crop=crop))
        return io.NodeOutput(operation, "\n".join(operation.notes) or "nothing unusual about this exemplar")


def extract(files: QwenSet, exemplar: Exemplar, config: ExtractConfig) -> QwenOperation:
    """MAE and R-Former are read, used and forgotten: the operation is all that stays."""
    extractor = QwenExtractor.load(files, dtype=choose_dtype(comfy.model_management.get_torch_device()))
    height, width = exemplar.before.shape[-2:]
    patch = files.config.mae.patch
    largest = max((height // patch) * (width // patch), files.config.side_patches**2 * (files.config.kind == "face"))
    with at_work(extractor.mae, extractor.rformer, room=largest * files.config.mae.width * _ACTIVATIONS):
        return extractor.extract(exemplar, config)
