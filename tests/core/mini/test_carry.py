"""How retouches without a name follow another face: places of the view, and the network that starts as the copy."""

from dataclasses import replace

import pytest
import torch
from toys import SEEING

from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.mini.carry import CarryCondition, CarryNet, carried, load_carry, save_carry
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.places import NUM_PLACES, Places
from mirrorppr_core.mini.several import mean_of
from mirrorppr_core.mini.transport import followed
from training.mini.drawn_faces import drawn_mean_face


@pytest.fixture(scope="module")
def view() -> CanonicalView:
    return CanonicalView(SEEING.view, drawn_mean_face())


def learned(view: CanonicalView) -> CarryNet:
    """A network that answers something."""
    torch.manual_seed(0)
    network = CarryNet.of(view)
    torch.nn.init.normal_(network.answer.weight, std=0.1)
    return network.train(False)


def face(view: CanonicalView, seed: int) -> torch.Tensor:
    noise = 0.4 * torch.randn(view.template.shape, generator=torch.Generator().manual_seed(seed))
    return view.shapes((view.template + noise)[None])[0]


def push(view: CanonicalView) -> torch.Tensor:
    n = view.config.size
    motion = torch.zeros(1, 2, n, n)
    motion[:, 0, n // 4 : n // 2, n // 4 : n // 2] = 1.0
    return motion


def operation(view: CanonicalView, motion: torch.Tensor) -> Operation:
    return Operation(
        tokens=torch.zeros(1, 1, 4), motion=motion, shape=face(view, 1), atoms=torch.zeros(1, 2, *motion.shape[1:]),
        set_id="toy",
    )  # fmt: skip


def test_places_cover_the_view_and_lie_on_every_face_as_its_cells_do(view):
    places, shape, n = Places.of(view), face(view, 2), view.config.size
    assert places.cells.shape == (NUM_PLACES, 2) and torch.isclose(places.area.sum(), torch.tensor(1.0))
    assert torch.cdist(places.cells, places.cells).fill_diagonal_(9).min() > 0
    on_face = places.on_faces(view.landmarks(shape), view.template)
    assert (on_face - places.cells - places.seen(shape)).abs().median() < 0.1 * n / 64


def test_a_smooth_map_is_spread_out_from_its_places(view):
    places, n = Places.of(view), view.config.size
    y, x = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    smooth = torch.stack([torch.sin(x * 6 / n), torch.cos(y * 6 / n)])[None].float()
    inner = (..., slice(n // 8, -n // 8), slice(n // 8, -n // 8))
    assert (places.spread_out(places.seen(smooth)) - smooth)[inner].abs().mean() < 0.05


def test_a_network_that_has_learned_nothing_and_a_set_without_one_lay_the_motion_on_the_face_as_it_is(view):
    one, query = operation(view, push(view)), face(view, 3)
    for network in (CarryNet.of(view), None):
        assert torch.equal(carried(network, one, query, view), followed(one, query, view))


def test_the_answer_is_as_strong_as_the_operation(view):
    """Twice the motion is carried as twice the motion: nothing depends on the strength of the exemplar."""
    network, query = learned(view), face(view, 3)
    weak, strong = (carried(network, operation(view, k * push(view)), query, view) for k in (0.5, 1.0))
    assert not torch.equal(strong, push(view))
    torch.testing.assert_close(2 * weak, strong)


def test_on_a_face_like_the_exemplars_the_motion_is_the_copy(view):
    """Whatever the network has learned: for the same face nothing has to be adapted."""
    one = operation(view, push(view))
    torch.testing.assert_close(carried(learned(view), one, one.shape, view), push(view), atol=1e-3, rtol=0)


def test_two_pairs_are_remembered_and_tell_more_than_their_mean(view):
    a, b = operation(view, push(view)), replace(operation(view, 0.8 * push(view)), shape=face(view, 5))
    both = mean_of([a, b], torch.ones(2))
    assert both.seen.shape == (2, 4, *push(view).shape[2:])
    network, query = learned(view), face(view, 3)
    alone = carried(network, replace(both, seen=None), query, view)
    assert not torch.equal(carried(network, both, query, view), alone)


def test_the_order_of_the_pairs_does_not_matter(view):
    network, g = learned(view), torch.Generator().manual_seed(0)
    motions = torch.randn(1, 3, NUM_PLACES, 2, generator=g)
    points = view.template + torch.randn(1, 3, *view.template.shape, generator=g)
    query = view.template[None] + 0.5
    one = network.at_places(CarryCondition(motions, points, query))
    other = network.at_places(CarryCondition(motions.flip(1), points.flip(1), query))
    torch.testing.assert_close(one, other)


def test_a_file_brings_the_network_back_and_another_file_is_refused(view, tmp_path):
    network = learned(view)
    save_carry(network, tmp_path / "carry.safetensors")
    again = load_carry(tmp_path / "carry.safetensors", view)
    one, other = (carried(net, operation(view, push(view)), face(view, 3), view) for net in (network, again))
    torch.testing.assert_close(one, other, atol=1e-2, rtol=1e-2)  # half precision on disk
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="other.safetensors"):
        load_carry(tmp_path / "other.safetensors", view)
