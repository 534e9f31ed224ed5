"""The Qwen engine on an album, with the photographer's own pixels kept.

    photo ─► Qwen engine ─► a generated picture ─► reproject ─► field × strength ─► the photo's pixels, moved

The generated picture alone is what the paper returns; it repaints every pixel. What it says about shape is measured and
repeated with the original (reproject.py). Photos are encoded in groups, and for each group the large models move to the
device once: an encoded photo takes about 10 MB, so memory holds a group and never an album.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from ..geometry.field import Field, apply_field
from ..motion.reproject import reproject
from .extractor import QwenOperation
from .standalone import QwenEngine, QwenRetouchConfig

GROUP = 16


@dataclass(frozen=True)
class AlbumResult:
    """image: like the photo. field: its motion, None for a generated picture returned as it is. notes: for the user."""

    image: Tensor
    field: Field | None
    notes: tuple[str, ...]


def retouch_album(
    engine: QwenEngine,
    photos: Iterable[Tensor],
    operation: QwenOperation,
    config: QwenRetouchConfig,
    *,
    strength: float = 1.0,
    generated: bool = False,
) -> Iterator[AlbumResult | ValueError]:
    """One result for each photo (1, 3 or 4, H, W), in order, each as soon as it is ready.

    photos: read when their group's turn comes.  generated: return the generated pictures (float, RGB) instead.
    A picture that shows no version of its photo any more cannot be reprojected: its ValueError takes its place, and
    the others go on.
    """
    waiting = iter(photos)
    while group := list(islice(waiting, GROUP)):
        for photo, edited in zip(group, engine.generate(group, operation, config), strict=True):
            yield _result(photo, edited, strength=strength, generated=generated)


def _result(photo: Tensor, edited: Tensor, *, strength: float, generated: bool) -> AlbumResult | ValueError:
    if generated:
        return AlbumResult(edited, None, ("generated picture: every pixel is repainted",))
    try:
        kept = reproject(photo, edited)
    except ValueError as error:
        return ValueError(f"{error} (the generated picture itself: --generated)")
    field = kept.field.scaled(strength)
    return AlbumResult(apply_field(photo, field), field, kept.notes)
