"""Pictures of people as the pose network learns from them: small copies, and which of their joints can be believed.

Renders come with exact joints; all other labels are a teacher's (MediaPipe Pose), who looked at each picture several
times. A joint counts as far as these looks agree:

    weight   how much its place is learned from: 1 where at least four of five looks agree, 0.5 for three, else 0;
             a place that is there but hidden counts 0.4
    told     1 where it can be seen, 0 where it cannot, and nothing (`unsure`) where the looks disagree about it

Places outside the picture keep their weight: the crops decide how far beyond the border one can still know them.
Points are x, y pixels of the copy, the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from mirrorppr_core.bodies.pose_network import JOINTS, MEDIAPIPE_POSE
from mirrorppr_core.picture_guard import open_picture

from ..data.body_labels import GROUPS, BodyLabel, read_body_labels

_LONGEST_PX = {"portrait": 288}  # close-ups need no more; others at most ...
_LONGEST_ELSE = 384
_SEEN = 0.5  # the teacher's visibility of a joint that can be told
_HIDDEN_WEIGHT = 0.4


@dataclass(frozen=True)
class PosePhoto:
    """pixels: (3, h, w) uint8.  joints: (J, 2).  weight, told: (J,).  unsure: (J,) bool, `told` means nothing there.
    face: (3,) centre and longest side, NaN where no face is known.  group: one of GROUPS."""

    file: str
    identity: str
    group: str
    pixels: Tensor
    joints: np.ndarray
    weight: np.ndarray
    told: np.ndarray
    unsure: np.ndarray
    face: np.ndarray

    @cached_property
    def half(self) -> Tensor:
        """The same at half the size, for coarse looks."""
        source = self.pixels[None].float()
        half = F.avg_pool2d(source, 2, ceil_mode=True, count_include_pad=False)
        return half[0].round().byte()

    @property
    def torso(self) -> float:
        """Pixels from the middle of the shoulders to the middle of the hips."""
        middle = [
            self.joints[[JOINTS.index(f"{part}_{side}") for side in "rl"]].mean(0) for part in ("shoulder", "hip")
        ]
        return float(np.linalg.norm(middle[0] - middle[1]))


def load_photos(root: Path, *, split: str, groups: Sequence[str] = GROUPS) -> list[PosePhoto]:
    """root: the folder of portraits.csv, with bodies/ in it.  Raises ValueError where it holds none of the groups."""
    labels = read_body_labels(root, split=split, groups=groups)
    with ThreadPoolExecutor() as pool:  # pictures are decoded outside Python's lock
        return list(pool.map(_photo, labels))


def _photo(label: BodyLabel) -> PosePhoto:
    with open_picture(label.file) as image:
        image = image.convert("RGB")
    size = image.size
    factor = min(1.0, _LONGEST_PX.get(label.group, _LONGEST_ELSE) / max(size))
    if factor < 1:
        image = image.resize((round(size[0] * factor), round(size[1] * factor)), Image.Resampling.BOX)
    scale = np.array([image.width / size[0], image.height / size[1]], dtype=np.float32)
    pose, votes = label.pose[list(MEDIAPIPE_POSE)], label.votes[list(MEDIAPIPE_POSE)]
    weight, told, unsure = believed(pose[:, 3], votes, label.views, exact=label.exact)
    low, high = label.face[:2] * scale, label.face[2:] * scale
    return PosePhoto(
        file=label.name,
        identity=label.identity,
        group=label.group,
        pixels=torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous(),
        joints=pose[:, :2] * scale - 0.5,  # labels are measured from the picture's edge
        weight=weight,
        told=told,
        unsure=unsure,
        face=np.array([*((low + high) / 2 - 0.5), (high - low).max()], dtype=np.float32),
    )


def believed(
    visibility: np.ndarray, votes: np.ndarray, views: int, *, exact: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """weight, told and unsure of each joint.  visibility, votes: (J,)."""
    seen = visibility >= _SEEN
    if exact:  # visibility 1 seen, 0.25 hidden, 0.02 outside; the votes say whether the teacher would know
        weight = np.where(seen, 1.0, _HIDDEN_WEIGHT)
        unsure = ~seen & (visibility > 0.1) & (votes >= 2)
    else:
        share = votes / views
        weight = np.select([share >= 0.8, share >= 0.6], [1.0, 0.5], 0.0) * np.where(seen, 1.0, _HIDDEN_WEIGHT)
        unsure = seen & (share < 0.8)
    return weight.astype(np.float32), seen.astype(np.float32), unsure


def split_photos(
    photos: Sequence[PosePhoto], *, held_out: float, seed: int
) -> tuple[tuple[PosePhoto, ...], tuple[PosePhoto, ...]]:
    """Photos for training, and others of other people to judge by: a share of the people of each group.

    Raises ValueError where nobody is left for either.
    """
    generator = torch.Generator().manual_seed(seed)
    held: set[str] = set()
    for group in GROUPS:
        names = sorted({photo.identity for photo in photos if photo.group == group})
        order = torch.randperm(len(names), generator=generator).tolist()
        held |= {names[i] for i in order[: round(len(names) * held_out + 0.3)]}
    training = tuple(photo for photo in photos if photo.identity not in held)
    shown = tuple(photo for photo in photos if photo.identity in held)
    if not training or not shown:
        raise ValueError(
            f"{len({photo.identity for photo in photos})} people cannot be divided into training and held-out ones: "
            "the stage `body` needs at least two. Add pictures, or leave the stage out (preset mini-face)"
        )
    return training, shown
