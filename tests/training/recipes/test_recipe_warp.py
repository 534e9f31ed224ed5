"""The quick ways of the data engine say what the careful ones of core say."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import local_steps, pixel_grid
from mirrorppr_core.geometry.field import Field, apply_field
from mirrorppr_core.operations.professional import SIDES, professional_displacement_at
from mirrorppr_core.operations.professional_table import OPERATIONS
from tests.core.operations.test_professional import draw_mesh, draw_pose
from training.data.packed_pixels import to_pixels, to_planes
from training.recipes.lattice import Lattice
from training.recipes.pushes import pushes_on_lattice
from training.recipes.warp import warped

SIZE = (96, 80)


def photo(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (1, 3, *SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def zoom(box: tuple[int, int, int, int], by: float) -> Field:
    """Everything in a box pulled towards its middle: above 0 the source is larger than what shows it."""
    left, top, right, bottom = box
    grid = pixel_grid(bottom - top, right - left)
    away = grid - torch.tensor([right - left - 1, bottom - top - 1]).view(2, 1, 1) / 2
    inside = ((away / away.abs().amax()).square().sum(1, keepdim=True) < 0.9).float()
    return Field(displacement=by * away * inside, left=left, top=top, height=SIZE[0], width=SIZE[1])


@pytest.mark.parametrize("by", [-0.4, 0.1, 0.6, 1.5])
@pytest.mark.parametrize("box", [(10, 12, 60, 70), (0, 0, 40, 50), (30, 40, 80, 96), (0, 0, 80, 96)])
def test_a_packed_photo_moves_as_any_photo_does(by, box):
    """Enlarged, hardly changed, shrunk by two taps and by four; inside the photo and at each of its borders."""
    image, field = photo(), zoom(box, by)
    if by > 0.3:
        assert local_steps(field.displacement).amax() > 1.5, "or the taps are not looked at"
    found = to_planes(warped(to_pixels(image[0].float().numpy()), field))
    expected = apply_field(image, field).float()
    assert (found - expected).abs().amax() <= 1 and (found != expected).float().mean() < 1e-3  # ties of rounding
    still = (field.dense() == 0).all(1, keepdim=True).expand_as(image)
    assert still.any() and torch.equal(found[still], image.float()[still])


def test_no_motion_is_a_copy():
    pixels = to_pixels(photo()[0].float().numpy())
    for field in (Field.zero(*SIZE), zoom((10, 10, 30, 30), 0.0)):
        result = warped(pixels, field)
        assert np.array_equal(result, pixels) and result is not pixels


def test_a_lattice_is_linear_between_its_points_and_goes_on_beyond_them():
    ramp = torch.stack([3 * pixel_grid(4, 5)[0, 0], pixel_grid(4, 5)[0, 1]])[None]
    lattice = Lattice(ramp, corner=(10.0, 20.0), spacing=(2.0, 4.0))
    read = lattice.at(torch.tensor([[10.0, 11.0, 0.0], [20.0, 26.0, 100.0]])[None, :, None])
    assert_close(read[0, :, 0], torch.tensor([[0.0, 1.5, 0.0], [0.0, 1.5, 3.0]]))


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("seed", [None, 3])
def test_pushes_on_a_lattice_are_those_of_core(name, seed):
    mesh, pose, operation = draw_mesh(seed), draw_pose(seed), OPERATIONS[name]
    for side in SIDES if operation.paired else ("both",):
        lattice, box = pushes_on_lattice(pose if operation.on_body else mesh, operation=name, strength=-70.0, side=side)
        told = dict(operation=name, strength=-70.0, side=side)
        grid = pixel_grid(*lattice.values.shape[-2:])
        points = grid * torch.tensor(lattice.spacing).view(2, 1, 1) + torch.tensor(lattice.corner).view(2, 1, 1)
        exact = professional_displacement_at(points.flatten(2).mT.contiguous()[0], mesh, pose, **told)
        assert_close(lattice.values[0].flatten(1).mT, exact, atol=1e-3, rtol=0)
        # It ends in zeros, beyond which core moves nothing.
        rim = torch.cat([lattice.values[..., [0, -1], :].flatten(), lattice.values[..., [0, -1]].flatten()])
        beyond = torch.tensor([[box[0] - 1, box[1] - 1], [box[2] + 1, box[3] + 1]])
        assert not rim.any() and not professional_displacement_at(beyond, mesh, pose, **told).any()
        # Between its points it is near enough.
        between = points[..., :-1, :-1] + torch.tensor(lattice.spacing).view(2, 1, 1) / 2
        exact = professional_displacement_at(between.flatten(2).mT.contiguous()[0], mesh, pose, **told)
        assert_close(lattice.at(between)[0].flatten(1).mT, exact, atol=0.05, rtol=0)


def test_hidden_parts_do_not_move_and_nothing_visible_is_an_error():
    pose = draw_pose()
    pose[[14, 16], 3] = 0.1  # the person's right arm
    arm = dict(operation="body_shape_slim_hand", strength=80.0)
    both, _ = pushes_on_lattice(pose, **arm, side="both")
    left, _ = pushes_on_lattice(pose, **arm, side="left")
    assert torch.equal(both.values, left.values)
    with pytest.raises(ValueError, match="does not see them.*another operation"):
        pushes_on_lattice(pose, **arm, side="right")
    with pytest.raises(ValueError, match="mesh is .*not found"):
        pushes_on_lattice(torch.full((478, 2), torch.nan), operation="jaw_trans", strength=50.0, side="both")
