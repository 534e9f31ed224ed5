"""Reproject: what any editor did to the shape of photos, done to the photos' own pixels."""

from __future__ import annotations

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io
from torch import Tensor

from ..mirrorppr_core.motion.reproject import ReprojectConfig, Reprojected, reproject
from .sockets import CATEGORY, FieldSocket, found_by, interruptible, naming, photos, to_image


class Reproject(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_Reproject",
            display_name="Reproject (MirrorPPR)",
            category=CATEGORY,
            **found_by("keep pixels", "restore detail", "optical flow", "portrait"),
            description="Gives photos the shape of their edited versions: the motion between the two is measured and "
            "the photo's own pixels are moved, at full resolution. For any editor that repaints: Qwen-Image-Edit, "
            "FLUX, an app. Its blur, colours, zoom and small size are left behind.",
            inputs=[
                io.Image.Input("original", tooltip="The photos before editing, at full resolution. Alpha is kept."),
                io.Image.Input(
                    "edited",
                    tooltip="The same photos after editing, uncropped, at any size. One for each original, or several "
                    "for a single original.",
                ),
                io.Boolean.Input(
                    "paste_residual",
                    default=False,
                    tooltip="Start with false: only the photo's own pixels. true: what no motion explains, such as "
                    "teeth or closed eyes, comes from the edited picture.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "image", display_name="image", tooltip="The originals in their new shape, at their own size."
                ),
                FieldSocket.Output(
                    "field", display_name="field", tooltip="How the pixels moved. For Apply Field and Field Preview."
                ),
                io.Mask.Output(
                    "mask",
                    display_name="mask",
                    tooltip="1 where pixels moved or were pasted; elsewhere the original's bits.",
                ),
                io.Image.Output(
                    "residual", display_name="residual", tooltip="What no motion explains: brighter is more different."
                ),
                io.String.Output(
                    "notes", display_name="notes", tooltip="What was done and what to know about it, in plain words."
                ),
            ],
        )

    @classmethod
    def execute(cls, original, edited, paste_residual) -> io.NodeOutput:
        config = ReprojectConfig(paste_residual=paste_residual)
        pairs = _pairs(original, edited)
        bar = comfy.utils.ProgressBar(len(pairs))
        results = []
        for index, (photo, version) in enumerate(pairs):
            comfy.model_management.throw_exception_if_processing_interrupted()
            with naming(index, len(pairs)), interruptible():
                results.append(reproject(photo, version, config))
            bar.update(1)
        return io.NodeOutput(
            to_image([result.image for result in results]),
            tuple(result.field for result in results),
            torch.cat([result.mask[:, 0] for result in results]),
            to_image([result.residual.expand(-1, 3, -1, -1) for result in results]),
            _notes(results),
        )


def _pairs(original: Tensor, edited: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Each edited picture with its original."""
    originals, versions = photos(original), photos(edited)
    if len(originals) not in (1, len(versions)):
        raise ValueError(
            f"original holds {len(originals)} pictures but edited holds {len(versions)}: use one edited picture for "
            "each original, or a single original for all"
        )
    return list(zip(originals * (len(versions) // len(originals)), versions, strict=True))


def _notes(results: list[Reprojected]) -> str:
    lines = []
    for number, result in enumerate(results, start=1):
        name = f"picture {number}: " if len(results) > 1 else ""
        lines.append(f"{name}largest motion {result.field.max_px:.1f} px")
        lines += [f"{name}{note}" for note in result.notes]
    return "\n".join(lines)
