"""Retouch Sampler: an operation on a batch of photos, each at its own resolution, warped and never repainted."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.utils
from comfy_api.latest import io
from torch import Tensor

from ..mirrorppr_core.bodies.sources import PoseChoice
from ..mirrorppr_core.geometry.field import Field
from ..mirrorppr_core.mini.editor import RetouchConfig, Retouched
from ..mirrorppr_core.mini.files import check_one_set
from ..mirrorppr_core.mini.sequence import FrameSequence
from .picture import draw_motion_preview, draw_photo
from .sockets import (
    ADVANCED,
    CATEGORY,
    ConnectorSocket,
    DiTSocket,
    FieldSocket,
    OperationSocket,
    face_input,
    found_by,
    moved_mask,
    naming,
    photos,
    pose_choices,
    pose_inputs,
    regions,
    strength_input,
    to_image,
)

_PREVIEW_PX = 512
ON_ERROR = ("stop", "skip")


class RetouchSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_RetouchSampler",
            display_name="Retouch Sampler (MirrorPPR)",
            category=CATEGORY,
            **found_by("portrait", "retouch", "liquify", "face", "beauty"),
            description="Portrait retouch by example, like liquify: gives photos the retouch of an operation. The "
            "photo's own pixels are moved, at full resolution; those that do not move keep their bits. Every picture "
            "of a batch is retouched by itself.",
            inputs=[
                DiTSocket.Input("dit", tooltip="From Load MirrorPPR or Load DiT."),
                ConnectorSocket.Input("connector", tooltip="From the same set as the DiT."),
                OperationSocket.Input("operation", tooltip="From Extract Operation, extracted with the same set."),
                io.Image.Input("query", tooltip="The portraits to retouch, 256 pixels or larger. Alpha is kept."),
                strength_input(
                    "How far to go. Start with 1, as in the exemplar; 0.5 is half of it, 0 leaves the photo as "
                    "it is, -1 does the opposite.",
                ),
                io.Int.Input(
                    "steps",
                    default=RetouchConfig.num_steps,
                    min=1,
                    max=50,
                    tooltip="Steps of the flow. Start with 2; more are slower and not more accurate.",
                    **ADVANCED,
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFF_FFFF_FFFF_FFFF,
                    control_after_generate=False,
                    tooltip="Start with 0. The same seed gives the same file; another changes little.",
                    **ADVANCED,
                ),
                face_input(
                    "Whose face, where a photo shows several. Start with only, which refuses to guess. "
                    "Numbers count from the left.",
                ),
                io.Mask.Input(
                    "region",
                    optional=True,
                    tooltip="Says who is meant: faces whose centre it does not cover are left alone. Usually not "
                    "connected. Paint it on the query itself.",
                ),
                io.Combo.Input(
                    "on_error",
                    options=list(ON_ERROR),
                    default=ON_ERROR[0],
                    optional=True,
                    tooltip="A photo of the batch that cannot be retouched (no face, say). stop: the run ends there; "
                    "skip: the photo stays as it is and the notes say why.",
                ),
                *pose_inputs("query"),
                io.Boolean.Input(
                    "sequence",
                    default=False,
                    optional=True,
                    tooltip="On: the batch is the frames of one person, in order; the face is followed and steadied "
                    "over time. Start with off, for single pictures.",
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The retouched photos, at the query's size."),
                FieldSocket.Output(
                    "field", display_name="field", tooltip="How the pixels moved. For Apply Field and Field Preview."
                ),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="1 where pixels moved; elsewhere the bits are the query's."
                ),
                io.String.Output(
                    "notes", display_name="notes", tooltip="What was done and what to know about it, in plain words."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        dit,
        connector,
        operation,
        query,
        strength,
        steps,
        seed,
        face,
        region=None,
        on_error="stop",
        pose=None,
        joints="auto",
        sequence=False,
    ) -> io.NodeOutput:
        check_one_set(connector=connector.set_id, dit=dit.set_id)
        config = RetouchConfig(strength=strength, num_steps=steps, seed=seed, face=face)
        progress = _Progress(num_photos=len(query), num_steps=steps)
        results: list[Retouched] = []
        choices = pose_choices(pose, joints, query, "pose")
        frames = FrameSequence(dit, operation, connector.connector, config) if sequence else None
        if frames is not None:
            _looked_through(frames, query, region, choices)
        for index, (photo, meant) in enumerate(zip(photos(query), regions(region, query), strict=True)):
            with naming(index, len(query)):
                try:
                    if frames is None:
                        result = dit.retouch(
                            photo,
                            operation,
                            connector.connector,
                            config,
                            region=meant,
                            pose=choices[index],
                            on_step=progress.during(index),
                        )
                    else:
                        result = frames.retouch(index, photo, choices[index])
                except ValueError as error:
                    if on_error != "skip":
                        raise
                    result = _unchanged(photo, error)
            progress.after(index, result.image)
            results.append(result)
        images, fields = [result.image for result in results], tuple(result.field for result in results)
        return io.NodeOutput(to_image(images), fields, moved_mask(fields), _notes(results))


def _looked_through(frames: FrameSequence, query: Tensor, region: Tensor | None, choices: list[PoseChoice]) -> None:
    """All pictures of the batch as one sequence."""
    if region is not None:
        raise ValueError("a sequence follows one person by itself: disconnect region, or set sequence to off")
    for index, (photo, pose) in enumerate(zip(photos(query), choices, strict=True)):
        comfy.model_management.throw_exception_if_processing_interrupted()
        with naming(index, len(query)):
            frames.look(photo, "query", pose)


def _unchanged(photo: Tensor, error: ValueError) -> Retouched:
    still = Field.zero(photo.shape[-2], photo.shape[-1])
    return Retouched(image=photo, field=still, faces=(), notes=(f"left unchanged: {error}",), num_found=0)


class _Progress:
    """The node's bar and preview; stops the run when the user asks for it, between steps and between photos."""

    def __init__(self, *, num_photos: int, num_steps: int):
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.num_steps = num_steps
        self.bar = comfy.utils.ProgressBar(num_photos * num_steps)

    def during(self, index: int) -> Callable[[int, Tensor], None]:
        """For core's on_step: shows the motion as it forms, on the straightened face."""

        def on_step(step: int, latent: Tensor) -> None:
            comfy.model_management.throw_exception_if_processing_interrupted()
            self.bar.update_absolute(
                index * self.num_steps + step, preview=("JPEG", draw_motion_preview(latent), _PREVIEW_PX)
            )

        return on_step

    def after(self, index: int, image: Tensor) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.bar.update_absolute(
            (index + 1) * self.num_steps, preview=("JPEG", draw_photo(image, _PREVIEW_PX), _PREVIEW_PX)
        )


def _notes(results: list[Retouched]) -> str:
    """A line for each photo and each thing to know about it."""
    lines = []
    for number, result in enumerate(results, start=1):
        name = f"picture {number}: " if len(results) > 1 else ""
        chosen = f"{min(len(result.faces), result.num_found)} of {result.num_found} face(s) chosen"
        sure = "" if result.confidence is None else f", confidence {result.confidence:.2f}"
        lines.append(f"{name}{chosen}, largest motion {result.field.max_px:.1f} px{sure}")
        lines += [f"{name}{note}" for note in result.notes]
    return "\n".join(lines)
