"""The Qwen engine on an album, with the photographer's own pixels kept.

    photo ─► Qwen engine ─► a generated picture ─► reproject ─► field × strength ─► the photo's pixels, moved

The generated picture alone is what the paper returns; it repaints every pixel. What it says about shape is measured and
repeated with the original (reproject.py). All photos are encoded first and the large models move to the device once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ..geometry.field import Field, apply_field
from ..motion.reproject import reproject
from .extractor import QwenOperation
from .standalone import QwenEngine, QwenRetouchConfig


@dataclass(frozen=True)
class AlbumResult:
    """image: like the photo. field: its motion, None for a generated picture returned as it is. notes: for the user."""

    image: Tensor
    field: Field | None
    notes: tuple[str, ...]


def retouch_album(
    engine: QwenEngine,
    photos: list[Tensor],
    operation: QwenOperation,
    config: QwenRetouchConfig,
    *,
    strength: float = 1.0,
    generated: bool = False,
) -> Iterator[AlbumResult | ValueError]:
    """One result for each photo (1, 3 or 4, H, W), in order, each as soon as it is ready.

    generated: return the generated pictures (float, RGB) instead.  A picture that shows no version of its photo any
    more cannot be reprojected: its ValueError takes its place, and the others go on.
    """
    for photo, edited in zip(photos, engine.generate(photos, operation, config), strict=True):
        if generated:
            yield AlbumResult(edited, None, ("generated picture: every pixel is repainted",))
            continue
        try:
            kept = reproject(photo, edited)
        except ValueError as error:
            yield ValueError(f"{error} (the generated picture itself: --generated)")
            continue
        field = kept.field.scaled(strength)
        yield AlbumResult(apply_field(photo, field), field, kept.notes)
