"""How a motion without a name is laid on another face: what must be true of both ways, and of the choice."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mirrorppr_core.faces.view import CanonicalView, ViewConfig
from mirrorppr_core.geometry.displacement import pixel_grid
from mirrorppr_core.mini.mixture import mirrored
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.mini.several import mean_of, together
from mirrorppr_core.mini.transport import UNTOLD, as_a_whole, followed, told_by_pairs
from training.mini.drawn_faces import drawn_mean_face

VIEW = CanonicalView(ViewConfig(), drawn_mean_face())
N = VIEW.config.size
MIDDLE = (N - 1) / 2
PLACE = torch.tensor([24.0, 26.0])  # where a dab is, as a cell
BOTH_WAYS = torch.zeros(1)


def shape(width: float, height: float, details: float = 0.0) -> Tensor:
    """A face so much wider and higher than the template, whose details lie up to so many cells elsewhere."""
    x, y = pixel_grid(N, N).split(1, dim=1)
    near = torch.exp(-((x - MIDDLE).square() + (y - MIDDLE).square()) / (2 * 14.0**2))
    waves = details * torch.sin(0.7 * (x - PLACE[0])) * near
    return torch.cat([(x - MIDDLE) * width * near + waves, (y - MIDDLE) * height * near], dim=1)


def dab(place: Tensor, face: Tensor) -> Tensor:
    """A round dab, 5 cells wide on every face, around the point of the face that belongs to a cell (x, y)."""
    at = place + face[0, :, round(float(place[1])), round(float(place[0]))]
    offset = pixel_grid(N, N) + face - at.view(1, 2, 1, 1)
    window = torch.exp(-offset.square().sum(1, keepdim=True) / (2 * 5.0**2))
    return window * torch.tensor([1.0, 0.5]).view(1, 2, 1, 1)


def band(face: Tensor) -> Tensor:
    """What belongs to cells of the template, whatever the face: a feature that is stretched with its contour."""
    x, y = pixel_grid(N, N).split(1, dim=1)
    inside = ((x - MIDDLE).abs() < 9) & ((y - MIDDLE + 8).abs() < 3)
    return torch.cat([inside * (x - MIDDLE) * 0.1, torch.zeros_like(x)], dim=1)


def operation(motion: Tensor, face: Tensor, **more) -> Operation:
    return Operation(
        tokens=torch.zeros(1, 1, 4), motion=motion, shape=face, atoms=torch.zeros(1, 1, 2, N, N), set_id="toy", **more
    )


FACES = (shape(0.0, 0.0), shape(0.06, -0.04, 0.9), shape(-0.05, 0.05, -0.9))


def error(made: Tensor, true: Tensor) -> float:
    return float((made - true).norm(dim=1).sum() / true.norm(dim=1).sum())


def test_on_the_exemplars_own_face_both_ways_are_the_motion_itself():
    motion = dab(PLACE, FACES[1])
    torch.testing.assert_close(as_a_whole(motion, FACES[1], FACES[1]), motion, atol=2e-3, rtol=0)


def test_what_did_not_move_stays():
    motion = band(FACES[0])
    made = followed(operation(motion, FACES[1]), FACES[2], VIEW)
    far = torch.nn.functional.max_pool2d(motion.norm(dim=1), 15, stride=1, padding=7) == 0
    assert far.any() and (made.norm(dim=1)[far] == 0).all()


def test_a_round_dab_is_followed_better_as_a_whole_and_a_stretched_feature_feature_by_feature():
    round_one, stretched = (dab(PLACE, FACES[1]), dab(PLACE, FACES[2])), (band(FACES[1]), band(FACES[2]))
    for (seen, true), sign in ((round_one, 1), (stretched, -1)):
        whole = as_a_whole(seen, FACES[1], FACES[2])
        assert sign * (error(seen, true) - error(whole, true)) > 0


def test_one_pair_is_laid_half_as_a_whole():
    motion = dab(PLACE, FACES[1])  # on one side of the face alone
    made = followed(operation(motion, FACES[1]), FACES[2], VIEW)
    torch.testing.assert_close(made, motion.lerp(as_a_whole(motion, FACES[1], FACES[2]), UNTOLD))


def test_what_was_done_to_both_sides_alike_is_seen_on_the_mirror_image_too():
    turned = shape(0.05, 0.0) + 2 * torch.exp(-(pixel_grid(N, N)[:, :1] - MIDDLE).square() / 200) * torch.tensor(
        [1.0, 0.0]
    ).view(1, 2, 1, 1)
    motion = dab(PLACE, turned) + mirrored(dab(PLACE, mirrored(turned)))
    away = mirrored(turned)  # a face turned the other way
    true = dab(PLACE, away) + mirrored(dab(PLACE, turned))
    alone = motion.lerp(as_a_whole(motion, turned, away), UNTOLD)
    assert error(followed(operation(motion, turned), away, VIEW), true) < 0.8 * error(alone, true)


def test_on_the_exemplars_own_face_one_pair_is_its_own_motion_whatever_its_mirror_image_shows():
    motion = dab(PLACE, FACES[1]) + mirrored(dab(PLACE, mirrored(FACES[1])))
    made = followed(operation(motion, FACES[1]), FACES[1], VIEW)
    torch.testing.assert_close(made, motion, atol=2e-3, rtol=0)


def test_several_pairs_are_mixed_as_the_face_is():
    """A tool that moves so far as the face is wide, shown on narrow faces: on a wider one it moves farther."""

    def pushed(width: float) -> Tensor:
        return (1 + 8 * width) * band(FACES[0])

    widths, asked = (-0.04, 0.0, 0.04), 0.06
    pairs = [operation(pushed(width), shape(width, 0.0)) for width in widths]
    together_, true = replace(mean_of(pairs, torch.ones(3)), whole=0.0), pushed(asked)
    made = followed(together_, shape(asked, 0.0), VIEW)
    assert error(made, true) < 0.35 * error(together_.motion, true)


def test_what_has_a_name_after_all_follows_the_features():
    one = operation(dab(PLACE, FACES[1]), FACES[1])
    assert torch.equal(followed(one, FACES[2], VIEW, named=1.0), one.motion)


def test_several_pairs_tell_which_way_it_is():
    dabs = [operation(dab(PLACE, face), face) for face in FACES]
    bands = [operation(band(face), face) for face in FACES]
    assert told_by_pairs(dabs) > 0.8 and told_by_pairs(bands) < 0.2
    assert together(dabs, one_way=BOTH_WAYS).whole == pytest.approx(told_by_pairs(dabs))
    assert mean_of(dabs, torch.ones(3)).whole is None


def test_the_order_of_the_pairs_does_not_matter():
    dabs = [operation(dab(PLACE, face), face) for face in FACES]
    assert told_by_pairs(dabs) == pytest.approx(told_by_pairs(dabs[::-1]), abs=1e-6)


def test_a_share_beyond_one_is_refused():
    with pytest.raises(ValueError, match="whole=1.5"):
        operation(band(FACES[0]), FACES[0], whole=1.5)
