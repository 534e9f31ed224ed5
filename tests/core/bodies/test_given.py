"""Joints from OpenPose JSON: layouts, sizes, whose they are, and files that are none."""

import json

import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core.bodies.given import LAYOUTS, pose_at, poses_of, read_poses
from mirrorppr_core.bodies.mediapipe_pose import is_installed, mediapipe_pose
from mirrorppr_core.bodies.pose_network import JOINTS
from mirrorppr_core.bodies.sources import PoseChoice
from mirrorppr_core.faces.locator import Face

SIZE = (600, 400)  # H, W


def person(layout: int, *, scale=(1.0, 1.0), shift: float = 0.0, untold: tuple[str, ...] = ()) -> dict:
    """Joint k at x = 20 k + 10, y = 30 k + 10."""
    flat = []
    for name in LAYOUTS[layout]:
        k = JOINTS.index(name) if name else 0
        found = name is not None and name not in untold
        flat += [(20 * k + 10 + shift) * scale[0], (30 * k + 10) * scale[1], 0.9] if found else [0.0, 0.0, 0.0]
    return {"pose_keypoints_2d": flat}


def frame(*people: dict, width: float = 400, height: float = 600) -> dict:
    return {"canvas_width": width, "canvas_height": height, "people": list(people)}


def face(x: float, y: float, size: float = 60) -> Face:
    box = (x - size / 2, y - size / 2, x + size / 2, y + size / 2)
    return Face(torch.zeros(130, 2), torch.zeros(478, 2), 1.0, 1.0, box)


WANTED = torch.tensor([(20.0 * k + 9.5, 30.0 * k + 9.5) for k in range(17)])


@pytest.mark.parametrize("layout", [17, 18, 25])
def test_every_layout_gives_the_same_joints(layout):
    (pose,) = poses_of(frame(person(layout)), SIZE)
    assert_close(pose.points, WANTED)
    assert pose.source == "given" and (pose.told == pytest.approx(0.9))


def test_a_smaller_canvas_and_fractions_are_scaled_to_the_photo():
    half = poses_of([frame(person(18, scale=(0.5, 0.5)), width=200, height=300)], SIZE)[0]
    fraction = poses_of(frame(person(18, scale=(1 / 400, 1 / 600))), SIZE)[0]
    assert_close(half.points, WANTED)
    assert_close(fraction.points, WANTED, atol=1e-3, rtol=0)


def test_points_that_were_not_found_or_are_no_numbers_are_not_told():
    data = person(18, untold=("elbow_r",))
    data["pose_keypoints_2d"][3 * LAYOUTS[18].index("wrist_l")] = float("nan")
    (pose,) = poses_of(frame(data), SIZE)
    assert float(pose.told[JOINTS.index("elbow_r")]) == 0 == float(pose.told[JOINTS.index("wrist_l")])
    assert pose.points.isfinite().all()


def test_of_several_people_the_one_at_the_face_is_meant():
    poses = poses_of(frame(person(18), person(18, shift=200)), SIZE)
    assert pose_at(poses, face(250, 70)) is poses[1] and pose_at(poses, face(60, 60)) is poses[0]
    assert pose_at(poses, face(60, 500)) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (frame(), "holds nobody"),
        ({"people": [person(18)]}, "canvas_width=None"),
        (frame(person(18), width=600, height=400), "of a 600x400 picture but the photo is 400x600"),
        (frame({"pose_keypoints_2d": [1.0] * 12}), "with 12 keypoint values: need .* of 17, 18, 25 points"),
        (frame({"pose_keypoints_2d": ["a"] * 54}), "no numbers"),
        (frame({"pose_keypoints_2d": [0.0] * 54}), "tells no joint"),
        (frame({"pose_keypoints_2d": None}), "tells no joint"),
        ([frame(person(18)), frame(person(18))], "of 2 pictures"),
        ("pose", "is str: need OpenPose JSON"),
    ],
)
def test_a_pose_that_cannot_be_used_is_refused_with_the_fix(data, message):
    with pytest.raises(ValueError, match=message):
        poses_of(data, SIZE, "the pose")


def test_a_file_of_poses(tmp_path):
    path = tmp_path / "pose.json"
    path.write_text(json.dumps(frame(person(18))))
    assert_close(read_poses(path, SIZE)[0].points, WANTED)
    path.write_text("{")
    with pytest.raises(ValueError, match="pose.json is no JSON"):
        read_poses(path, SIZE)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_poses(tmp_path / "none.json", SIZE)


def test_a_source_of_joints_is_one_of_three():
    with pytest.raises(ValueError, match="pose='dwpose': use one of auto, mini, mediapipe"):
        PoseChoice("dwpose")


@pytest.mark.skipif(is_installed(), reason="MediaPipe is installed")
def test_mediapipe_that_is_not_installed_is_named_with_the_fix():
    with pytest.raises(ValueError, match="needs MediaPipe installed .* or use pose=mini"):
        mediapipe_pose(torch.zeros(1, 3, 64, 64))


@pytest.mark.parametrize("text", ["[" * 20_000, '{"a":' * 20_000, "1" * 5000, "\xff"])
def test_a_file_that_is_nested_too_deep_or_no_text_is_one_short_sentence(tmp_path, text):
    (tmp_path / "pose.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match="pose.json") as told:
        read_poses(tmp_path / "pose.json", (512, 512))
    assert len(str(told.value)) < 500


@pytest.mark.parametrize("flat", [[[]] * 54, [None] * 54, [True] * 54, ["a"] * 54, [10**400] * 54])
def test_keypoints_that_are_no_numbers_are_refused(flat):
    people = [{"pose_keypoints_2d": flat}]
    with pytest.raises(ValueError, match="keypoints that are no numbers"):
        poses_of({"canvas_width": 512, "canvas_height": 512, "people": people}, (512, 512))
