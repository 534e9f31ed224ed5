"""Landmarks of training portraits: one interface, three sources, one convention of pixels."""

import os
import pickle
import re
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from training.data.landmark_sources import LocatorLandmarks, NpzLandmarks, landmark_source
from training.data.landmarks import SeveralFaces, the_face
from training.data.mediapipe_landmarks import MediaPipeLandmarks

IMAGE = torch.zeros(1, 3, 256, 320)


def seeded(*shape) -> np.ndarray:
    return np.random.default_rng(0).uniform(10, 200, shape).astype(np.float32)


@pytest.fixture(scope="module")
def astronaut():
    data = pytest.importorskip("skimage.data", reason="needs scikit-image's photo")
    return torch.from_numpy(data.astronaut().copy()).permute(2, 0, 1)[None] / 255


@pytest.fixture(scope="module")
def mini():
    return landmark_source("mini")


# A file of landmarks


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_a_file_tells_face_and_body_in_pixels_from_the_centre_of_the_first(tmp_path):
    mesh, pose = seeded(1, 478, 3), seeded(1, 33, 4)
    found = NpzLandmarks(write(tmp_path / "a.npz", files=["x.jpg"], mesh=mesh, pose=pose)).find("x.jpg", IMAGE)
    assert_close(found.mesh, torch.from_numpy(mesh[0, :, :2]) - 0.5)
    assert_close(found.pose, torch.from_numpy(pose[0]) - torch.tensor([0.5, 0.5, 0, 0]))


def test_the_averaged_face_goes_before_the_single_one(tmp_path):
    averaged, single = seeded(1, 478, 2), np.zeros((1, 478, 3), np.float32)
    source = NpzLandmarks(write(tmp_path / "a.npz", files=["x.jpg"], face=single, face_avg=averaged))
    assert_close(source.find("x.jpg", IMAGE).mesh, torch.from_numpy(averaged[0]) - 0.5)


def test_bodies_may_have_their_own_list_of_names(tmp_path):
    arrays = {"files": ["face.jpg"], "face": seeded(1, 478, 3), "body_files": ["body.jpg"], "pose": seeded(1, 33, 4)}
    source = NpzLandmarks(write(tmp_path / "a.npz", **arrays))
    assert source.files == {"face.jpg", "body.jpg"}
    assert source.find("face.jpg", IMAGE).pose is None
    assert source.find("body.jpg", IMAGE).mesh is None


def test_what_is_not_a_number_was_not_found(tmp_path):
    mesh = np.concatenate([seeded(1, 478, 2), np.full((1, 478, 2), np.nan)])
    source = NpzLandmarks(write(tmp_path / "a.npz", files=["a", "b"], mesh=mesh))
    assert source.find("a", IMAGE).mesh is not None
    assert source.find("b", IMAGE).mesh is None and source.find("never listed", IMAGE).mesh is None
    assert source.finds_mesh and not source.finds_pose


def test_another_content_is_another_name_and_the_place_of_the_file_is_not(tmp_path):
    (tmp_path / "moved").mkdir()
    first = write(tmp_path / "a.npz", files=["a"], mesh=seeded(1, 478, 2))
    same = (tmp_path / "moved" / "a.npz").write_bytes(first.read_bytes()) and NpzLandmarks(tmp_path / "moved" / "a.npz")
    name = NpzLandmarks(first).name
    other = NpzLandmarks(write(first, files=["a"], mesh=seeded(1, 478, 2) + 1))
    assert same.name == name != other.name


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"files": ["a"]}, "neither of mesh, face_avg, face nor pose"),
        ({"mesh": np.zeros((1, 478, 2))}, "files is missing"),
        ({"files": ["a", "b"], "mesh": np.zeros((1, 478, 2))}, r"files is \(2,\)"),
        ({"files": ["a"], "mesh": np.zeros((1, 468, 2))}, r"mesh is \(1, 468, 2\), need \(n, 478"),
        ({"files": ["a"], "pose": np.zeros((1, 33, 3))}, r"need \(m, 33, 4\)"),
        ({"files": ["a", "a"], "mesh": np.zeros((2, 478, 2))}, "names a more than once"),
    ],
)
def test_a_file_of_another_layout_is_refused_with_what_it_lacks(tmp_path, arrays, complaint):
    with pytest.raises(ValueError, match=complaint):
        NpzLandmarks(write(tmp_path / "a.npz", **arrays))


def test_a_missing_or_broken_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        landmark_source(f"npz:{tmp_path}/nowhere.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 but cut")
    with pytest.raises(ValueError, match="broken.npz is damaged"):
        landmark_source(f"npz:{tmp_path}/broken.npz")


# Our own locator


def test_mini_finds_the_face_and_never_a_body(mini, astronaut):
    found = mini.find("astronaut", astronaut)
    assert found.mesh.shape == (478, 2) and found.pose is None
    nose = found.mesh[1]
    assert 210 < nose[0] < 240 and 100 < nose[1] < 140
    assert mini.find("grey", torch.full((1, 3, 256, 256), 0.5)).mesh is None


def test_in_another_process_mini_answers_the_same(mini, astronaut):
    elsewhere = pickle.loads(pickle.dumps(mini))
    assert elsewhere.name == mini.name
    assert torch.equal(elsewhere.find("a", astronaut).mesh, mini.find("a", astronaut).mesh)
    assert len(pickle.dumps(mini)) < 10_000  # the weights stay behind


def test_two_people_side_by_side_are_nobodys_portrait(mini, astronaut):
    with pytest.raises(SeveralFaces):
        mini.find("two", astronaut[..., 100:350].repeat(1, 1, 1, 2))


def test_of_a_large_and_a_small_face_the_large_one_counts():
    small = torch.from_numpy(seeded(478, 2))
    assert torch.equal(the_face([small, small * 2]), small * 2)
    assert the_face([]) is None
    with pytest.raises(SeveralFaces, match="faces of"):
        the_face([small, small * 1.1])


def test_a_missing_locator_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="locator.safetensors is missing"):
        LocatorLandmarks(tmp_path / "locator.safetensors")


# MediaPipe


class Answering:
    """A detector of a stand-in MediaPipe: takes any options, knows one answer."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, **options):
        return SimpleNamespace(process=lambda pixels: self.answer)


def marks(points, visibility=1.0):
    """Landmarks as MediaPipe gives them: fractions of the picture's sides.  points: (n, 2)."""
    return SimpleNamespace(
        landmark=[SimpleNamespace(x=x, y=y, z=0.1, visibility=visibility) for x, y in points.tolist()]
    )


def stand_in(monkeypatch, faces, pose):
    solutions = SimpleNamespace(
        face_mesh=SimpleNamespace(FaceMesh=Answering(SimpleNamespace(multi_face_landmarks=faces))),
        pose=SimpleNamespace(Pose=Answering(SimpleNamespace(pose_landmarks=pose))),
    )
    monkeypatch.setitem(sys.modules, "mediapipe", SimpleNamespace(__version__="0", solutions=solutions))
    return landmark_source("mediapipe")


def face_marks(scale=0.3):
    return torch.rand(478, 2, generator=torch.Generator().manual_seed(0)) * scale + 0.4


def test_mediapipes_fractions_become_pixels_from_the_centre_of_the_first(monkeypatch):
    face, body = face_marks(), torch.full((33, 2), 0.5)
    found = stand_in(monkeypatch, [marks(face)], marks(body, visibility=0.7)).find("x", IMAGE)
    assert_close(found.mesh, face * torch.tensor([320.0, 256.0]) - 0.5)
    assert_close(found.pose[0], torch.tensor([159.5, 127.5, 32.0, 0.7]))


def test_the_body_of_somebody_else_is_dropped(monkeypatch):
    found = stand_in(monkeypatch, [marks(face_marks())], marks(torch.full((33, 2), 0.05))).find("x", IMAGE)
    assert found.mesh is not None and found.pose is None


def test_a_body_without_a_face_is_kept(monkeypatch):
    found = stand_in(monkeypatch, None, marks(torch.full((33, 2), 0.05))).find("x", IMAGE)
    assert found.mesh is None and found.pose is not None


def stand_in_with_tasks(monkeypatch, *, face=None, pose=None):
    """A release without models; with the user's, its detectors find these marks, or fail if there are none."""

    def landmarker(answer):
        def create_from_options(options):
            if answer is None:
                raise RuntimeError("a model of another release")
            return SimpleNamespace(detect=lambda picture: answer, close=lambda: None)

        return SimpleNamespace(create_from_options=create_from_options)

    vision = SimpleNamespace(
        FaceLandmarkerOptions=lambda model, num_faces: model,
        PoseLandmarkerOptions=lambda model, num_poses: model,
        FaceLandmarker=landmarker(face and SimpleNamespace(face_landmarks=[face.landmark])),
        PoseLandmarker=landmarker(pose and SimpleNamespace(pose_landmarks=[pose.landmark])),
    )
    release = SimpleNamespace(
        __version__="1.2",
        tasks=SimpleNamespace(BaseOptions=lambda model_asset_buffer: model_asset_buffer, vision=vision),
        Image=lambda image_format, data: data,
        ImageFormat=SimpleNamespace(SRGB=1),
    )
    monkeypatch.setitem(sys.modules, "mediapipe", release)


@pytest.fixture
def models(tmp_path):
    """Two .task files, as far as can be told without MediaPipe."""
    paths = {"face_model": tmp_path / "face.task", "pose_model": tmp_path / "pose.task"}
    for path in paths.values():
        zipfile.ZipFile(path, "w").close()
    return paths


def test_a_mediapipe_without_models_asks_for_them(monkeypatch, tmp_path):
    stand_in_with_tasks(monkeypatch)
    with pytest.raises(ValueError, match=r"1\.2 brings no models.*face_landmarker\.task.*or the landmarks of `mini`"):
        landmark_source("mediapipe")
    with pytest.raises(FileNotFoundError, match="face.task: no such model file"):
        landmark_source("mediapipe", face_model=tmp_path / "face.task")
    (tmp_path / "face.task").write_text("<html>404</html>")
    with pytest.raises(ValueError, match="face.task is no .task file"):
        landmark_source("mediapipe", face_model=tmp_path / "face.task")


def test_a_mediapipe_with_the_users_models_finds_what_they_are_for(monkeypatch, models):
    face, body = face_marks(), torch.full((33, 2), 0.5)
    stand_in_with_tasks(monkeypatch, face=marks(face), pose=marks(body))
    both = landmark_source("mediapipe", **models)
    assert re.fullmatch(r"mediapipe-1\.2:face\.task@\w{8}:pose\.task@\w{8}", both.name)
    assert both.finds_mesh and both.finds_pose
    assert_close(both.find("x", IMAGE).mesh, face * torch.tensor([320.0, 256.0]) - 0.5)
    assert_close(both.find("x", IMAGE).pose[:, :2], torch.tensor([159.5, 127.5]).expand(33, 2))
    body_only = landmark_source("mediapipe", pose_model=models["pose_model"])
    assert body_only.find("x", IMAGE).mesh is None and not body_only.finds_mesh and body_only.finds_pose


def test_a_model_that_mediapipe_refuses_is_named(monkeypatch, models):
    stand_in_with_tasks(monkeypatch, face=marks(face_marks()))
    with pytest.raises(ValueError, match="cannot use face.task and pose.task .a model of another release"):
        landmark_source("mediapipe", **models).find("x", IMAGE)


def test_a_mediapipe_that_was_used_before_a_fork_is_refused_in_the_worker(monkeypatch):
    source = stand_in(monkeypatch, [marks(face_marks())], None)
    source.find("x", IMAGE)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(RuntimeError, match="start workers by spawn"):
        source.find("x", IMAGE)
    assert pickle.loads(pickle.dumps(source)).find("x", IMAGE).mesh is not None  # as a spawned worker gets it


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)  # importing it fails
    with pytest.raises(ImportError, match=r"pip install .*mediapipe"):
        MediaPipeLandmarks()


def test_the_real_mediapipe_agrees_with_our_locator(mini, astronaut):
    mediapipe = pytest.importorskip("mediapipe", reason="the extra `detect` is not installed")
    if not hasattr(mediapipe, "solutions"):
        pytest.skip(f"mediapipe {mediapipe.__version__} brings no models")
    found, ours = landmark_source("mediapipe").find("a", astronaut), mini.find("a", astronaut)
    assert (found.mesh - ours.mesh).norm(dim=-1).mean() < 3
    assert found.pose.shape == (33, 4)


# The word on the command line


@pytest.mark.parametrize("kind", ["dlib", "npz", "npz:", ""])
def test_an_unknown_source_is_refused_with_those_there_are(kind):
    with pytest.raises(ValueError, match="use one of npz:PATH, mini, mediapipe"):
        landmark_source(kind)


def test_model_files_for_a_source_that_has_its_own_are_refused():
    with pytest.raises(ValueError, match="leave them out"):
        landmark_source("mini", face_model="face.task")
