"""Kernels in eight bits: half a step off at most, and nothing else changed."""

import pytest
import torch
from torch.testing import assert_close

from mirrorppr_core.eight_bits import from_eight_bits, in_eight_bits


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(4, 3, 3, 3, generator=generator) * torch.tensor([1.0, 0.1, 10.0, 0.0])[:, None, None, None]
    return {"kernel": kernel, "bias": torch.randn(4, generator=generator), "count": torch.tensor(3)}


def test_a_kernel_comes_back_within_half_a_step_of_its_channel():
    back = from_eight_bits(in_eight_bits(state()))["kernel"]
    step = state()["kernel"].abs().amax((1, 2, 3), keepdim=True) / 127
    assert back.dtype == torch.float32
    assert ((back - state()["kernel"]).abs() <= 0.6 * step + 1e-6).all()  # steps are rounded to half precision


def test_a_kernel_takes_a_byte_a_number_and_all_else_stays_as_it_is():
    stored = in_eight_bits(state())
    assert stored["kernel"].dtype == torch.int8 and stored["kernel.step"].dtype == torch.float16
    assert_close(stored["bias"], state()["bias"], rtol=0, atol=0)
    assert stored["count"] == 3


def test_what_was_stored_in_floats_is_read_as_it_is():
    assert_close(from_eight_bits(state()), state(), rtol=0, atol=0)


@pytest.mark.parametrize("lost", [None, torch.ones(3, dtype=torch.float16)])
def test_a_kernel_without_its_steps_is_refused(lost):
    stored = in_eight_bits(state())
    del stored["kernel.step"]
    if lost is not None:
        stored["kernel.step"] = lost
    with pytest.raises(ValueError, match="without a step for each output channel"):
        from_eight_bits(stored)
