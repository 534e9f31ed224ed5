"""Our types of connection, and the only place where ComfyUI's pictures become core's and back.

    IMAGE  (B, H, W, C) float32, C = 3 or 4    core: B photos of (1, C, H, W), the same memory, the same bits
    MASK   (B, H, W) float32                   core: a region (H, W) for each photo
    FIELD  tuple of core Fields, one for each picture of a batch
    POSE_KEYPOINT  list of OpenPose dictionaries    core: a PoseChoice for each photo

Pictures of a batch are independent photos. A mistake in one of several names which one.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import comfy.model_management
import numpy as np
import torch
from comfy_api.latest import io
from PIL.Image import Image as Picture
from torch import Tensor

from ..mirrorppr_core.bodies.given import poses_of
from ..mirrorppr_core.bodies.sources import SOURCES, PoseChoice
from ..mirrorppr_core.exemplar import Exemplar
from ..mirrorppr_core.geometry.displacement import changed_mask
from ..mirrorppr_core.geometry.field import Field
from ..mirrorppr_core.mini.editor import MAX_STRENGTH
from ..mirrorppr_core.stopping import stoppable

ExtractorSocket = io.Custom("MIRRORPPR_EXTRACTOR")  # core OperationExtractor
ConnectorSocket = io.Custom("MIRRORPPR_CONNECTOR")  # core LoadedConnector
DiTSocket = io.Custom("MIRRORPPR_DIT")  # core FieldEditor
OperationSocket = io.Custom("MIRRORPPR_OPERATION")  # core Operation
FieldSocket = io.Custom("MIRRORPPR_FIELD")
PoseSocket = io.Custom("POSE_KEYPOINT")  # the host's: OpenPose JSON, a dictionary for each picture

CATEGORY = "MirrorPPR"

# What only newer hosts know is left out on older ones.
_KNOWN = {field.name for field in dataclasses.fields(io.Schema)}
ADVANCED = {"advanced": True} if "advanced" in inspect.signature(io.Int.Input.__init__).parameters else {}


def found_by(*words: str) -> dict[str, list[str]]:
    """Words by which people look for a node, as keyword arguments of io.Schema."""
    return {"search_aliases": list(words)} if "search_aliases" in _KNOWN else {}


FACE_NUMBERS = [str(number) for number in range(1, 10)]  # from the left; where more stand, a mask says who


def strength_input(tooltip: str) -> io.Input:
    return io.Float.Input(
        "strength",
        default=1.0,
        min=-MAX_STRENGTH,
        max=MAX_STRENGTH,
        step=0.05,
        display_mode=io.NumberDisplay.slider,
        tooltip=tooltip,
    )


def face_input(tooltip: str, *, every: bool = True, optional: bool = False) -> io.Input:
    """Which of several faces is meant. every: "all" is offered too."""
    options = ["only", "largest", *(["all"] if every else []), *FACE_NUMBERS]
    return io.Combo.Input("face", options=options, default="only", optional=optional, tooltip=tooltip)


def photos(image: Tensor) -> list[Tensor]:
    """IMAGE -> (1, C, H, W) each."""
    return list(image.movedim(-1, 1).split(1))


def one_photo(image: Tensor, name: str) -> Tensor:
    """IMAGE that must hold a single picture -> (1, C, H, W)."""
    if len(image) != 1:
        raise ValueError(
            f"{name} is a batch of {len(image)} pictures: an exemplar is one pair of one photo. "
            "Connect a single picture, or take one out of the batch (ImageFromBatch)."
        )
    return photos(image)[0]


def exemplar_pairs(before: Tensor, after: Tensor) -> list[Exemplar]:
    """Two IMAGE batches -> one pair for each photo, in order."""
    if len(before) != len(after):
        raise ValueError(
            f"before holds {len(before)} pictures but after {len(after)}: connect both of every pair, in the same order"
        )
    return [Exemplar(one, other) for one, other in zip(photos(before), photos(after), strict=True)]


def to_image(results: Sequence[Tensor]) -> Tensor:
    """(1, C, H, W) each -> IMAGE."""
    batch = results[0] if len(results) == 1 else torch.cat(list(results))
    return batch.movedim(1, -1).contiguous()


def pictures_to_image(pictures: Sequence[Picture]) -> Tensor:
    """RGB pictures of one size -> IMAGE."""
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    return torch.from_numpy(arrays).float() / 255


def regions(mask: Tensor | None, image: Tensor) -> list[Tensor | None]:
    """MASK that belongs to an IMAGE -> a region (H, W) for each of its photos."""
    if mask is None:
        return [None] * len(image)
    masks = mask if mask.ndim == 3 else mask[None]
    (height, width), (own_height, own_width) = image.shape[1:3], masks.shape[1:]
    if (own_height, own_width) != (height, width):
        raise ValueError(
            f"region is {own_width}x{own_height} but query is {width}x{height}: paint the mask on the query itself "
            "(right-click the picture, Open in MaskEditor). An unpainted LoadImage gives a 64x64 mask: disconnect it."
        )
    if len(masks) not in (1, len(image)):
        raise ValueError(f"region holds {len(masks)} masks for {len(image)} pictures: use one for all, or one for each")
    return list(masks.expand(len(image), -1, -1))


def pose_inputs(name: str) -> list[io.Input]:
    """Where the joints of a picture come from: given ones, and else who looks for them.  name: of the picture."""
    return [
        PoseSocket.Input(
            "pose",
            optional=True,
            tooltip=f"The joints in {name}, from DWPose or another detector, one for each picture. Usually not "
            "connected: our own network finds them.",
        ),
        io.Combo.Input(
            "joints",
            options=list(SOURCES),
            default=SOURCES[0],
            optional=True,
            tooltip="Who finds the joints that body retouches need, where no pose is connected. Start with auto: "
            "MediaPipe where it is installed, else our own network. The notes say which it was.",
        ),
    ]


def pose_choices(pose: object, joints: str, image: Tensor, name: str) -> list[PoseChoice]:
    """POSE_KEYPOINT that belongs to an IMAGE, or None -> where the joints of each of its photos come from."""
    if pose is None:
        return [PoseChoice(joints)] * len(image)
    frames = pose if isinstance(pose, list) else [pose]
    if len(frames) not in (1, len(image)):
        raise ValueError(f"{name} is of {len(frames)} pictures and image of {len(image)}: use one of each picture")
    size = (image.shape[1], image.shape[2])
    choices = [PoseChoice(joints, poses_of(frame, size, name)) for frame in frames]
    return choices if len(choices) == len(image) else choices * len(image)


def fields_for(fields: Sequence[Field], num_photos: int) -> list[Field]:
    """FIELD -> a field for each of so many photos."""
    if len(fields) not in (1, num_photos):
        raise ValueError(
            f"field holds the motion of {len(fields)} pictures but image holds {num_photos}: "
            "use one field for all pictures, or one for each"
        )
    return list(fields) if len(fields) == num_photos else list(fields) * num_photos


def moved_mask(fields: Sequence[Field]) -> Tensor:
    """MASK: 1 where pixels moved; where it is 0 the bits are the photo's."""
    masks = torch.zeros(len(fields), fields[0].height, fields[0].width)
    for mask, field in zip(masks, fields, strict=True):
        if field.displacement.numel():
            left, top, right, bottom = field.box
            mask[top:bottom, left:right] = changed_mask(field.displacement)[0, 0]
    return masks


def interruptible() -> AbstractContextManager[None]:
    """Core's work in the block ends soon after the user interrupts the run."""
    return stoppable(comfy.model_management.throw_exception_if_processing_interrupted)


@contextmanager
def naming(index: int, num_photos: int) -> Iterator[None]:
    """Says in every error which picture of a batch it is about."""
    try:
        yield
    except ValueError as error:
        if num_photos == 1:
            raise
        raise ValueError(f"picture {index + 1} of {num_photos}: {error}") from error
