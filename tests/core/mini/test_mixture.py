"""The query's face as a mixture of the exemplars' faces: what must be true of the shares, and of the mirror image."""

import pytest
import torch
from torch import Tensor

from mirrorppr_core.mini.mixture import DOUBT, mirror_doubt, mirror_share, mirrored, shares

EYES = 16.0  # cells
G = torch.Generator().manual_seed(0)
FACES = 2.0 * torch.randn(3, 130, 2, generator=G)


def asked(query: Tensor, doubt: float = DOUBT, faces: Tensor = FACES) -> Tensor:
    return shares(faces, query, torch.full((len(faces),), doubt), eye_distance=EYES)


def test_shares_sum_to_one_and_one_face_alone_has_all():
    assert asked(FACES[0] + 1).sum() == pytest.approx(1, abs=1e-5)
    assert asked(FACES[1], faces=FACES[:1]).tolist() == [1.0]


def test_a_face_that_is_a_mixture_gets_it_back_where_nothing_is_doubted():
    for mixture in ([0.2, 0.5, 0.3], [1.5, -0.25, -0.25], [0.0, 0.0, 1.0]):
        query = torch.einsum("i,ikd->kd", torch.tensor(mixture), FACES)
        assert asked(query, doubt=1e-4).tolist() == pytest.approx(mixture, abs=5e-3)


def test_doubt_brings_the_shares_towards_equal_ones():
    far = [float((asked(FACES[0], doubt) - 1 / 3).abs().max()) for doubt in (0.01, 0.2, 5.0, 500.0)]
    assert far == sorted(far, reverse=True) and far[0] > 0.6 and far[-1] < 0.01


def test_the_same_face_twice_counts_once():
    twice = torch.cat([FACES[:1], FACES[:1], FACES[1:2]])
    one, other, _ = asked((FACES[0] + FACES[1]) / 2, faces=twice).tolist()
    assert one == pytest.approx(other)
    assert one + other == pytest.approx(0.5, abs=0.1)


def test_what_moved_on_one_side_has_no_mirror_image_and_unlike_sides_are_doubted():
    even = torch.zeros(1, 2, 32, 32)
    even[0, 1, 8:12, 4:10] = even[0, 1, 8:12, 22:28] = 1.0
    assert mirror_doubt(even) == pytest.approx(DOUBT)
    uneven = even.clone()
    uneven[..., :16] *= 0.6
    assert mirror_doubt(uneven) > 3 * DOUBT
    even[..., :16] = 0
    assert mirror_doubt(even) is None
    assert torch.equal(mirrored(mirrored(uneven)), uneven)


def test_the_mirror_image_has_no_share_in_a_face_like_the_exemplars_and_most_in_one_like_itself():
    def part(query: Tensor) -> float:
        return mirror_share(FACES[0], FACES[1], query, DOUBT, eye_distance=EYES)

    assert part(FACES[0]) == 0
    assert part(FACES[1]) > 0.5 > part(0.8 * FACES[0] + 0.2 * FACES[1])
