"""Retouch Conditioning (Qwen) and Restore Size (Qwen): photos of any size to what Qwen-Image-Edit works on, and back.

Positive: what Qwen2.5-VL says about the query, then the operation's tokens. Negative: the same without the tokens, so
that guidance other than 1 goes along the operation. Both carry the query's latent as reference. These are the host's
own types: any sampler, LoRA or ControlNet for Qwen-Image goes with them.
"""

from __future__ import annotations

from typing import Any

import comfy.model_management
import torch
from comfy_api.latest import io
from torch import Tensor

from ...mirrorppr_core.images import check_photo
from ...mirrorppr_core.qwen.conditioning import append_operation, append_to_mask
from ...mirrorppr_core.qwen.extractor import QwenConnector, QwenOperation
from ...mirrorppr_core.qwen.files import QwenSet, choose_dtype
from ...mirrorppr_core.qwen.sizes import working_size
from ..sockets import found_by, naming, photos, to_image
from .sockets import CATEGORY, QuerySize, QwenOperationSocket, QwenSetSocket, QwenSizeSocket, at_work
from .vision import seeing, words_for

_MEGAPIXEL = 1024 * 1024  # as the host counts
_LATENT_CHANNELS, _LATENT_PX = 16, 8
_CONNECTOR_ROOM = 64 * 2**20  # bytes; eight tokens need less


class QwenConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_QwenConditioning",
            display_name="Retouch Conditioning (MirrorPPR, Qwen)",
            category=CATEGORY,
            **found_by("encode", "prompt", "qwen image edit"),
            description="Tells Qwen-Image-Edit which photo to retouch and how. Takes photos of any size. No prompt: "
            "the operation is the instruction.",
            inputs=[
                io.Clip.Input("clip", tooltip="Qwen2.5-VL-7B from CLIPLoader, type qwen_image."),
                io.Vae.Input("vae", tooltip="The VAE of Qwen-Image."),
                QwenSetSocket.Input("qwen_set", tooltip="The set that the operation was extracted with."),
                QwenOperationSocket.Input("operation", tooltip="From Extract Operation (MirrorPPR, Qwen)."),
                io.Image.Input("query", tooltip="The portraits to retouch, 256 pixels or larger."),
                io.Float.Input(
                    "max_megapixels",
                    default=4.0,
                    min=0.25,
                    max=16.0,
                    step=0.25,
                    optional=True,
                    tooltip="Larger photos are reduced to this, and enlarged again by Restore Size. Start with 4, "
                    "the most the method was tested at; 1 is four times as fast and more.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("positive", display_name="positive", tooltip="The query with the operation."),
                io.Conditioning.Output(
                    "negative", display_name="negative", tooltip="The query without it. Used when guidance is not 1."
                ),
                io.Latent.Output("latent", display_name="latent", tooltip="Empty, of the size to work at."),
                QwenSizeSocket.Output(
                    "size", display_name="size", tooltip="The query's own size and alpha, for Restore Size."
                ),
                io.String.Output("notes", display_name="notes", tooltip="Sizes, and what to know about this host."),
            ],
        )

    @classmethod
    def execute(cls, clip, vae, qwen_set, operation, query, max_megapixels=4.0) -> io.NodeOutput:
        for index, photo in enumerate(photos(query)):
            with naming(index, len(query)):
                check_photo(photo, "query")
        working = working_size(*query.shape[1:3], max_pixels=int(max_megapixels * _MEGAPIXEL))
        tokens = connect(qwen_set, operation)
        pictures = [working.prepare(photo) for photo in photos(query)]
        with seeing(clip) as note:
            said = [words_for(clip, picture) for picture in pictures]
        latents = torch.cat([encode(vae, picture, working.padded) for picture in pictures])
        # The query is a reference as in the first Qwen-Image-Edit, whatever a later host thinks of the model.
        beside = said[0][1] | {"reference_latents": [latents], "reference_latents_method": "index"}
        words = torch.cat([one for one, _ in said])
        latent = {"samples": torch.zeros_like(latents)}
        size = QuerySize(working=working, alpha=query[..., 3:].movedim(-1, 1) if query.shape[-1] > 3 else None)
        notes = [f"query {_px(working.own)}, worked on at {_px(working.padded)}", *([note] if note else [])]
        return io.NodeOutput(
            [[append_operation(words, tokens), _with_tokens(beside, tokens.shape[1])]],
            [[words, beside]],
            latent,
            size,
            "\n".join(notes),
        )


class QwenRestore(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MirrorPPR_QwenRestore",
            display_name="Restore Size (MirrorPPR, Qwen)",
            category=CATEGORY,
            **found_by("resize", "original size"),
            description="Gives decoded pictures the query's exact size and alpha back. For the query's own pixels, "
            "follow with Reproject.",
            inputs=[
                io.Image.Input("image", tooltip="From VAE Decode."),
                QwenSizeSocket.Input("size", tooltip="From Retouch Conditioning (MirrorPPR, Qwen)."),
            ],
            outputs=[io.Image.Output("restored", display_name="restored", tooltip="As large as the query.")],
        )

    @classmethod
    def execute(cls, image, size) -> io.NodeOutput:
        if tuple(image.shape[1:3]) != size.working.padded:
            raise ValueError(
                f"image is {_px(image.shape[1:3])} but this query was worked on at {_px(size.working.padded)}: decode "
                "the latent that came from this Retouch Conditioning, without scaling it"
            )
        results = [size.working.restore(photo[:, :3]) for photo in photos(image)]
        if size.alpha is not None:
            alpha = size.alpha.expand(len(results), -1, -1, -1) if len(size.alpha) == 1 else size.alpha
            if len(alpha) != len(results):
                raise ValueError(f"image holds {len(results)} pictures but the query held {len(alpha)}")
            results = [torch.cat([photo, one[None].to(photo)], 1) for photo, one in zip(results, alpha, strict=True)]
        return io.NodeOutput(to_image(results))


def connect(files: QwenSet, operation: QwenOperation) -> Tensor:
    """The operation's tokens for the DiT, (1, Q, D). The connector is read, used and forgotten."""
    connector = QwenConnector.load(files, dtype=choose_dtype(comfy.model_management.get_torch_device()))
    with at_work(connector.connector, room=_CONNECTOR_ROOM):
        return connector.tokens(operation)


def encode(vae: Any, picture: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) -> (1, 16, 1, H / 8, W / 8). One at a time: to this VAE a batch is a film."""
    latent = vae.encode(picture.movedim(1, -1))
    expected = (1, _LATENT_CHANNELS, 1, *(side // _LATENT_PX for side in size))
    if tuple(latent.shape) != expected:
        raise ValueError(
            f"vae gives latents of {tuple(latent.shape)} where Qwen-Image's gives {expected}: load qwen_image_vae"
        )
    return latent


def _with_tokens(beside: dict, num_tokens: int) -> dict:
    mask = beside.get("attention_mask")
    return beside if mask is None else beside | {"attention_mask": append_to_mask(mask, num_tokens)}


def _px(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
