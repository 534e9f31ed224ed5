"""Joints given to the nodes as POSE_KEYPOINT, in the real ComfyUI."""

from __future__ import annotations

import json

import pytest
from test_nodes import EXTRACT, SAMPLE, assert_refused, node, pictures, retouch, saved, upload  # noqa: F401

pytestmark = pytest.mark.host


@pytest.mark.parametrize("where, name, size", [(EXTRACT, "512x512", (512, 512)), (SAMPLE, "512x600", (512, 600))])
def test_a_pose_is_taken_and_one_of_another_picture_is_refused(host, where, name, size):
    people = [{"pose_keypoints_2d": [250.0, 130.0, 0.9, *[0.0] * 51]}]

    def posed(width: int, height: int) -> dict:
        text = json.dumps({"canvas_width": width, "canvas_height": height, "people": people})
        return retouch({where: {"pose": ["20", 0]}}, n20=node("MirrorPPRProbe_Pose", text=text))

    assert len(saved(host, posed(*size))) == 1
    assert_refused(host, posed(900, 300), f"pose is of a 900x300 picture but the photo is {name}")
