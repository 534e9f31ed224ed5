"""What a matched set sees photos with: its locator, canonical view, frozen encoder and body network.

Extractor and editor of one set look with one Sight, loaded once: what the one measured on the exemplar the other
places on the query, so both must see the same way.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..bodies.pose_network import PoseNet
from ..bodies.sources import PoseChoice, without_faces
from ..bodies.transfer import BodySight
from ..faces.locator import Face, Locator
from ..faces.search import locate
from ..faces.view import CanonicalView, FaceView
from ..geometry.crop import pixel_box
from ..images import reduce
from ..networks.mae import MAEEncoder
from ..operations.known_pushes import KnownPushes

_SEE_PX_PER_CELL = 6.0  # the encoder looks at 2 px a cell; more would be averaged away


@dataclass(frozen=True, kw_only=True)
class Sight:
    """set_id: whose sight it is.  locator_sha256, body_sha256: of the files, by which the set's other parts know
    them; the second is empty without a body network."""

    set_id: str
    locator: Locator
    view: CanonicalView
    mae: MAEEncoder
    body: PoseNet | None  # without it only the face's part of a retouch is read and applied
    locator_sha256: str
    body_sha256: str = ""
    notes: tuple[str, ...] = ()  # what could not be checked of the set

    @property
    def bodies(self) -> BodySight:
        return BodySight(self.body, self.view, self.locator.mean_face, KnownPushes())

    def faces(self, photo: Tensor) -> list[Face]:
        """All faces of a photo (1, C, H, W) of any size, largest first."""
        return locate(self.locator, photo)

    def people(self, photo: Tensor, pose: PoseChoice) -> list[Face]:
        """The faces of a photo (1, C, H, W); where there is none, those whose joints are told (Head), largest first.

        pose: whose joints of the photo.
        """
        return self.faces(photo) or without_faces(pose, self.body, photo, self.locator)

    def features(self, photo: Tensor, view: FaceView) -> Tensor:
        """What the encoder makes of the straightened face: (1, N, D)."""
        return self.mae(self.straightened(photo, view, size=self.mae.config.image_size))

    def straightened(self, photo: Tensor, view: FaceView, *, size: int) -> Tensor:
        """The face of a photo (1, C, H, W) in the view, from as few native pixels as possible: (1, 3, size, size)."""
        factor = max(1, int(view.pixels_per_cell // _SEE_PX_PER_CELL))
        low, high = view.corners(2 * factor)
        left, top, right, bottom = pixel_box(low, high, photo)
        part = reduce(photo[..., top:bottom, left:right], factor)
        close = view.cropped(left=left, top=top, factor=factor)
        return self.view.see(part, close, size=size)
