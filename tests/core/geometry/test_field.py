"""Fields as a retouch leaves them."""

import torch

from mirrorppr_core.geometry.field import Field, settled


def test_traces_of_motion_leave_still_pixels_their_bits():
    displacement = torch.zeros(1, 2, 8, 8)
    displacement[..., 2, 2], displacement[..., 5, 5] = 3e-9, 0.01
    field = settled(Field(displacement=displacement, left=0, top=0, height=8, width=8))
    assert (field.displacement[..., 2, 2] == 0).all()
    assert torch.equal(field.displacement[..., 5, 5], torch.full((1, 2), 0.01))


def test_a_field_of_nothing_stays_nothing():
    assert settled(Field.zero(8, 8)).max_px == 0
