"""What lies beside a face belongs to the nearest place of its outline."""

import torch
from torch.testing import assert_close
from toys import drawn_face

from mirrorppr_core.faces.landmarks import OVAL
from mirrorppr_core.faces.outline import on_face, onto
from mirrorppr_core.faces.view import CanonicalView, ViewConfig

SQUARE = torch.tensor([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])


def test_a_place_on_the_face_belongs_to_itself():
    points = torch.tensor([[1.0, 1.0], [0.5, 1.9]])
    place, beside = onto(points, SQUARE)
    assert_close(place, points)
    assert_close(beside, torch.zeros(2))


def test_a_place_beside_the_face_belongs_to_the_nearest_place_of_the_outline():
    place, beside = onto(torch.tensor([[1.0, -3.0], [5.0, 6.0], [-1.0, 0.5]]), SQUARE)
    assert_close(place, torch.tensor([[1.0, 0.0], [2.0, 2.0], [0.0, 0.5]]))
    assert_close(beside, torch.tensor([3.0, 5.0, 1.0]))


def test_either_way_around_is_the_same_outline():
    points = torch.rand(20, 2) * 6 - 2
    for one, other in zip(onto(points, SQUARE), onto(points, SQUARE.flip(0)), strict=True):
        assert_close(one, other)


def square_face() -> torch.Tensor:
    """A drawn face whose outline is convex."""
    face = drawn_face()
    angle = torch.arange(len(OVAL)) / len(OVAL) * 2 * torch.pi
    face[list(OVAL)] = torch.stack([0.95 * angle.sin(), 0.4 - 1.2 * angle.cos()], dim=1)
    return face


def test_a_wider_face_is_wider_beside_itself_too_but_not_without_bound():
    """The spline alone would carry the difference on, ever larger, to the corner of the view."""
    face = square_face()
    view = CanonicalView(ViewConfig(), face)
    wider = face * torch.tensor([1.2, 1.0]) * 100 + 256
    shape = view.fit(wider).shape[0].norm(dim=0)
    on_outline = float(shape[16:48, 16:48].max())
    assert float(shape.max()) < 1.3 * on_outline
    assert float(shape[32, 0]) > 0.3 * on_outline


def test_shape_maps_still_tell_the_landmarks():
    face = square_face()
    view = CanonicalView(ViewConfig(), face)
    moved = face * 100 + 256 + torch.randn(face.shape, generator=torch.Generator().manual_seed(0))
    shape, similarity = view.shapes(moved[None])
    again = view.shapes(similarity.apply(view.landmarks(shape)))[0]
    assert_close(again, shape, atol=0.05, rtol=0)


def test_the_corner_of_a_face_s_box_beside_the_jaw_is_not_on_the_face():
    outline = torch.tensor([[20.0, 10.0], [60.0, 10.0], [60.0, 50.0], [40.0, 90.0], [20.0, 50.0]])
    shown = on_face(outline, 100, 80, margin=0.0)[0, 0]
    assert shown.shape == (100, 80) and shown[50, 40] and shown[84, 40]
    assert not shown[86, 56] and not shown[86, 24] and not shown[4, 40]
    assert on_face(outline, 100, 80, margin=0.1)[0, 0, 4, 40]
