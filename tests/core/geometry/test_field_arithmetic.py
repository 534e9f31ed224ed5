"""Fields of one photo put one after another, mixed, weakened by place and undone: laws, to 0.05 px at 1024 px."""

import pytest
import torch
from synthetic import bump, random_bumps

from mirrorppr_core.geometry.arithmetic import apart, destinations, inverse, mixture, origins, sequence, weighted
from mirrorppr_core.geometry.displacement import length, warp
from mirrorppr_core.geometry.field import Field

SIZE = 1024
EXACT_PX = 0.05


@pytest.fixture(scope="module")
def fields() -> list[Field]:
    """Three edits of many smooth pushes, 9 to 30 px long."""
    generator = torch.Generator().manual_seed(5)
    return [Field.from_dense(random_bumps(SIZE, generator, longest_px=(9.0, 30.0))) for _ in range(3)]


def test_nothing_before_or_after_a_field_is_the_field(fields):
    nothing = Field.zero(SIZE, SIZE)
    assert apart(sequence(fields[0], nothing), fields[0]) == 0
    assert apart(sequence(nothing, fields[0]), fields[0]) == 0


def test_a_sequence_moves_pixels_as_two_warps_in_a_row():
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (256, 256), mode="bicubic").clamp(0, 1)
    first, second = (
        bump(256, 256, centre=c, radius=90, shift=s) for c, s in (((120, 120), (9, 4)), ((150, 110), (-5, 8)))
    )
    both = sequence(Field.from_dense(first), Field.from_dense(second)).dense()
    assert (warp(smooth, both) - warp(warp(smooth, first), second)).abs().amax() < 0.008  # resampled once and twice


def test_sequences_are_associative(fields):
    a, b, c = fields
    assert apart(sequence(sequence(a, b), c), sequence(a, sequence(b, c))) < EXACT_PX


@pytest.mark.parametrize("index", range(3))
def test_a_field_and_its_inverse_leave_nothing(fields, index):
    field = fields[index]
    undone = inverse(field)
    assert undone.num_left == 0 and undone.left_px < EXACT_PX
    assert length(sequence(field, undone.field).dense()).amax() < EXACT_PX
    assert length(sequence(undone.field, field).dense()).amax() < 2 * EXACT_PX  # looked up twice between pixels


def test_the_inverse_of_the_inverse_is_the_field(fields):
    assert apart(inverse(inverse(fields[0]).field).field, fields[0]) < 2 * EXACT_PX


def test_the_inverse_holds_pixels_still_that_the_field_holds_still(fields):
    still = (fields[0].dense() == 0).all(1)
    assert (inverse(fields[0]).field.dense()[:, :, still[0]] == 0).all()


def test_a_field_that_folds_says_how_much_cannot_be_undone():
    folding = Field.from_dense(bump(256, 256, centre=(128, 128), radius=40, shift=(60, 0)))
    undone = inverse(folding)
    assert undone.num_left > 0 and undone.left_px > EXACT_PX
    assert torch.isfinite(undone.field.displacement).all()


def test_motion_at_the_photos_border_is_undone_inside_the_photo():
    field = Field.from_dense(bump(200, 200, centre=(0, 100), radius=60, shift=(0, 9)))
    undone = inverse(field)
    assert undone.left_px < EXACT_PX


def test_points_go_where_the_pixels_go_and_come_back(fields):
    points = torch.rand(50, 2, generator=torch.Generator().manual_seed(1)) * SIZE * 0.6 + SIZE * 0.2
    moved = destinations(points, fields[0])
    assert (moved - points).norm(dim=1).amax() > 5
    assert (origins(moved, fields[0]) - points).norm(dim=1).amax() < EXACT_PX


def test_a_mixture_is_the_weighted_sum(fields):
    a, b, _ = fields
    mixed = mixture([a, b], [0.25, 0.75])
    torch.testing.assert_close(mixed.dense(), 0.25 * a.dense() + 0.75 * b.dense())
    assert apart(mixture([a, a], [0.4, 0.6]), a) < 1e-4
    assert mixture([a], [0.0]).max_px == 0


def test_motions_are_apart_by_their_longest_difference(fields):
    a, b, _ = fields
    assert apart(a, b) == float(length(a.dense() - b.dense()).amax()) > 1
    assert apart(a, Field.zero(SIZE, SIZE)) == a.max_px and apart(a, a) == 0


def test_a_weight_of_nothing_stops_the_motion_exactly(fields):
    height, width = fields[0].displacement.shape[-2:]
    weight = torch.ones(1, 1, height, width)
    weight[..., : width // 2] = 0
    half = weighted(fields[0], weight)
    assert (half.displacement[..., : width // 2] == 0).all()
    assert torch.equal(half.displacement[..., width // 2 :], fields[0].displacement[..., width // 2 :])


def test_fields_of_two_photos_are_refused(fields):
    other = Field.zero(512, 512)
    with pytest.raises(ValueError, match="photos of 512x512 and 1024x1024.*bring them to one size"):
        sequence(fields[0], other)
    with pytest.raises(ValueError, match="1 fields and 2 weights"):
        mixture([fields[0]], [1.0, 2.0])
