"""How well the pose network finds joints, on pictures of split `eval`: renders apart from real ones.

    python -m training.evaluate_body --portraits DIR [--weights body.safetensors] [--most N]

Prints, for every kind of picture: the share of the joints found within a tenth of the torso, the median shoulder error
as a share of the shoulder width, how far `told` can be believed; then the time for one photo and the size of the file.
The network is the bundled one unless --weights names another: that of a set, or the result of the body stages after
training.export.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mirrorppr_core.bodies.pose import find_pose, load_pose_net
from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.mini.files import bundled_set

from .body.data import PosePhoto, load_photos
from .body.scores import PoseScore, median_seconds, report, score
from .data.body_labels import GROUPS
from .program import Parser, run

_GROUPS = tuple(group for group in GROUPS if group != "portrait")  # close-ups show no bodies
_TIMED_PX = (1500, 1000)  # height and width of the photo whose time is told


def evaluate(weights: Path, photos: list[PosePhoto]) -> tuple[list[PoseScore], float]:
    """The score of each photo, and seconds for one large photo with a face."""
    finder = functools.partial(find_pose, load_pose_net(weights))
    locator = Locator.from_file(bundled_set() / "locator.safetensors")
    scores, timed = [], None
    for photo in photos:
        image = photo.pixels[None].float() / 255
        faces = locator.find(image)
        scores.append(score(photo, finder, faces))
        if timed is None and faces:
            timed = image, faces[0]
    if timed is None:
        return scores, float("nan")
    large = torch.nn.functional.interpolate(timed[0], _TIMED_PX, mode="bilinear")
    return scores, median_seconds(finder, large, None)


def spread_out(photos: list[PosePhoto], most: int) -> list[PosePhoto]:
    """At most so many of each group, evenly from all of them; 0 for all."""
    chosen = []
    for group in _GROUPS:
        own = [photo for photo in photos if photo.group == group]
        step = max(1, len(own) / most) if most else 1
        chosen += [own[int(i * step)] for i in range(int(len(own) / step))]
    return chosen


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("evaluate_body", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and bodies/")
    parser.add_argument("--weights", type=Path, default=bundled_set() / "body.safetensors")
    parser.add_argument("--most", type=int, default=0, help="pictures of each kind at most; 0: all")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    photos = spread_out(load_photos(options.portraits, split="eval", groups=_GROUPS), options.most)
    scores, seconds = evaluate(options.weights, photos)
    print("\n".join(report(scores)))
    threads = torch.get_num_threads()
    print(f"\n{seconds:.3f} s for a photo of {_TIMED_PX[1]} x {_TIMED_PX[0]}, {threads} thread(s), the face known")
    print(f"{options.weights.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())
