"""One person's face through frames: the trembling goes, the motion stays, and who is followed is told."""

import math

import pytest
import torch

from mirrorppr_core.faces.locator import Face
from mirrorppr_core.faces.steady import Follower

POINTS = torch.rand(608, 2, generator=torch.Generator().manual_seed(0)) * 200 + 100


def face(points) -> Face:
    landmarks = points[:130]
    box = (*landmarks.amin(0).tolist(), *landmarks.amax(0).tolist())
    return Face(landmarks, points[130:], 0.9, 2.0, box)


def seen(path, *, num=30, noise=0.3) -> tuple[list, torch.Tensor]:
    """Faces as a locator finds them, and where the landmarks really are.  path: frame -> pixels to the right."""
    generator = torch.Generator().manual_seed(1)
    true = [POINTS + torch.tensor([float(path(t)), 0.0]) for t in range(num)]
    found = [face(points + noise * torch.randn(points.shape, generator=generator)) for points in true]
    return found, torch.stack([points[:130] for points in true])


def followed(faces, choice="only"):
    follower = Follower(choice)
    for one in faces:
        follower.see(one if isinstance(one, list) else [one])
    return follower.steadied()


def error(faces, true) -> float:
    return float((torch.stack([one.landmarks for one in faces]) - true).norm(dim=-1).mean())


@pytest.mark.parametrize(
    "path, share",
    [
        (lambda t: 0.0, 0.5),
        (lambda t: 3.0 * t, 0.5),
        (lambda t: 20 * math.sin(t * 2 * math.pi / 40), 0.65),
        (lambda t: 0.0 if t < 15 else 8.0, 0.85),  # a sudden move
    ],
    ids=["still", "steady motion", "turning back", "a jump"],
)
def test_the_landmarks_err_less_and_do_not_lag(path, share):
    found, true = seen(path)
    steady = [frame.face for frame in followed(found)]
    assert error(steady, true) < share * error(found, true)
    late = (torch.stack([one.landmarks for one in steady]) - true).mean(dim=1).norm(dim=-1)
    assert late.max() < 1.2


def test_one_frame_alone_stays_as_it_is():
    found, _ = seen(lambda t: 0.0, num=1)
    assert torch.allclose(followed(found)[0].face.landmarks, found[0].landmarks)


def test_a_frame_without_a_face_takes_its_neighbours_place_and_says_so():
    found, true = seen(lambda t: 2.0 * t)
    missing = [*found[:10], [], *found[11:]]
    frame = followed(missing)[10]
    assert (frame.face.landmarks - true[10]).norm(dim=-1).mean() < 0.4
    assert "no face found in this frame, its place is its neighbours'" in frame.problem


def test_frames_at_the_end_without_a_face_have_none_and_the_reason():
    found, _ = seen(lambda t: 0.0, num=10)
    last = followed([*found, [], []])[-1]
    assert last.face is None and last.problem.startswith("no face found")


def test_the_person_of_the_first_frame_is_followed_though_somebody_larger_comes():
    found, _ = seen(lambda t: 0.0, num=12)
    larger = face((POINTS - 200) * 1.6 + torch.tensor([900.0, 200.0]))
    frames = [[one] if t < 4 else [larger, one] for t, one in enumerate(found)]
    assert all(abs(frame.face.landmarks[:, 0].mean() - POINTS[:130, 0].mean()) < 2 for frame in followed(frames))


def test_a_cut_begins_anew_and_nothing_is_averaged_across_it():
    here, true = seen(lambda t: 0.0 if t < 10 else 400.0, num=20)
    steady = [frame.face for frame in followed(here)]
    assert error(steady, true) < 0.6 * error(here, true)


def test_several_people_at_once_are_no_sequence():
    with pytest.raises(ValueError, match="a sequence follows one person"):
        Follower("all")
