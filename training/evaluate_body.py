"""How far off the joints of a body network are, on portraits of split `eval`.

    python -m training.evaluate_body --portraits DIR [--weights body.safetensors]

Joint by joint: the distance from MediaPipe's pose in eye distances and in per cent of the shoulder width, and how many
joints are missed or invented. The network is the bundled one unless --weights names another: that of a set, or the
result of the stage `body` after training.export.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from mirrorppr_core.bodies.joints import LEAST_SEEN, load_body_net, told_joints
from mirrorppr_core.bodies.network import HALF_SIDE, JOINTS, BodyNet
from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.mini.files import bundled_set

from .body.data import BodyPhoto, load_body_photos, plain_batch
from .program import Parser, run

_AT_ONCE = 16


@torch.no_grad()
def evaluate(net: BodyNet, photos: list[BodyPhoto]) -> list[str]:
    """One line for each joint that the photos tell."""
    crops = plain_batch(photos)
    answer = torch.cat([told_joints(net, part) for part in crops.pixels.split(_AT_ONCE)])  # (B, J, 3)
    distance = (answer[..., :2] - crops.places).norm(dim=-1) * HALF_SIDE
    shoulders = ((crops.places[:, 0] - crops.places[:, 1]).norm(dim=-1) * HALF_SIDE)[:, None].clamp_min(1.0)
    lines = []
    for j, name in enumerate(JOINTS):
        is_told, claimed = crops.told[:, j] > 0, answer[:, j, 2] >= LEAST_SEEN[j]
        if is_told.any():
            off, share = distance[is_told, j], (distance / shoulders)[is_told, j]
            missed, invented = int((is_told & ~claimed).sum()), int((~is_told & claimed).sum())
            lines.append(
                f"{name}: {int(is_told.sum())} told, error mean {float(off.mean()):.2f} median "
                f"{float(off.median()):.2f} eye distances ({float(share.median()):.1%} of the shoulders), "
                f"missed {missed}, invented {invented}"
            )
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    parser = Parser("evaluate_body", __doc__)
    parser.add_argument("--portraits", type=Path, required=True, help="folder of portraits.csv and landmarks.npz")
    parser.add_argument("--weights", type=Path, default=bundled_set() / "body.safetensors")
    return run(parser, _work, arguments)


def _work(options: argparse.Namespace) -> None:
    net = load_body_net(options.weights)
    mean_face = Locator.from_file(bundled_set() / "locator.safetensors").mean_face
    print("\n".join(evaluate(net, load_body_photos(options.portraits, None, mean_face, split="eval"))))


if __name__ == "__main__":
    sys.exit(main())
