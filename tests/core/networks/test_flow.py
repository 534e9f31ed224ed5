"""Flow matching and the field codec: where paths begin and end, and what stays exactly zero."""

import pytest
import torch
from torch.testing import assert_close
from toys import seeded

from mirrorppr_core.mini.codec import FieldCodec, motion_scale
from mirrorppr_core.networks.flow import draw_noise, euler_step, integrate, interpolate, schedule


@pytest.fixture
def field():
    """(2, 2, 16, 16): a smooth bump each, exactly zero outside."""
    axis = torch.linspace(-2, 2, 16)
    bump = (1 - axis.square()).clamp(min=0)
    return torch.randn(2, 2, 1, 1, generator=seeded()) * bump[:, None] * bump


def test_the_path_starts_at_the_field_and_ends_at_the_noise(field):
    noise = draw_noise(tuple(field.shape), seed=1)
    assert_close(interpolate(field, noise, torch.zeros(2)), field)
    assert_close(interpolate(field, noise, torch.ones(2)), noise)
    assert_close(interpolate(field, noise, torch.tensor([0.0, 1.0])), torch.stack([field[0], noise[1]]))


def test_the_true_velocity_takes_noise_to_the_field_in_one_step(field):
    noise = draw_noise(tuple(field.shape), seed=1)
    assert_close(euler_step(noise, noise - field, t=1.0, t_next=0.0), field)


@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 28])
def test_a_network_that_knows_the_field_walks_to_it_in_any_number_of_steps(field, num_steps):
    noise = draw_noise(tuple(field.shape), seed=1)
    assert_close(integrate(lambda x_t, t: field, noise, num_steps=num_steps), field, atol=1e-5, rtol=0)


def test_every_step_lies_on_the_straight_path(field):
    noise, seen = draw_noise(tuple(field.shape), seed=1), []

    def network(x_t, t):
        seen.append(t)
        assert_close(x_t, interpolate(field, noise, torch.full((2,), t)))
        return field

    integrate(network, noise, num_steps=4)
    assert seen == [1.0, 0.75, 0.5, 0.25]


def test_the_schedule_falls_evenly_from_one_to_zero():
    assert schedule(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(ValueError, match="1 to 4 is usual"):
        schedule(0)


def test_the_same_seed_draws_the_same_noise_and_leaves_the_global_one_alone():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert torch.equal(draw_noise((2, 3), seed=5), draw_noise((2, 3), seed=5))
    assert not torch.equal(draw_noise((2, 3), seed=5), draw_noise((2, 3), seed=6))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_walk_reports_each_step_and_can_be_interrupted(field):
    steps = []

    def stop_after_two(step, estimate):
        steps.append(step)
        assert torch.equal(estimate, field)
        if step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        integrate(lambda x_t, t: field, field, num_steps=9, on_step=stop_after_two)
    assert steps == [1, 2]


def test_strong_and_weak_operations_have_the_same_latent(field):
    codec = FieldCodec()
    assert_close(motion_scale(0.1 * field), 0.1 * motion_scale(field))
    assert_close(codec.encode(0.1 * field, motion_scale(0.1 * field)), codec.encode(field, motion_scale(field)))


def test_the_scale_is_the_mean_of_the_longest_twentieth():
    motion = torch.zeros(1, 2, 20, 20)
    motion[0, 0].view(-1)[:20] = torch.linspace(1, 3, 20)  # 20 of 400 cells move, 2 on average
    assert motion_scale(motion).item() == pytest.approx(2.0)


def test_decoding_undoes_encoding_where_motion_is_not_negligible(field):
    codec, scale = FieldCodec(), motion_scale(field)
    back = codec.decode(codec.encode(field, scale), scale)
    length = field.norm(dim=1, keepdim=True).expand_as(field)
    assert_close(back[length > 0.12 * scale], field[length > 0.12 * scale])


def test_negligible_motion_decodes_to_exact_zeros(field):
    codec, scale = FieldCodec(), motion_scale(field)
    noisy = codec.encode(field, scale) + 0.01 * torch.rand(field.shape, generator=seeded(2))
    still = (field == 0).all(dim=1, keepdim=True).expand_as(field)
    assert still.float().mean() > 0.3
    assert (codec.decode(noisy, scale)[still] == 0).all()


def test_no_motion_has_no_scale_and_stays_no_motion():
    nothing = torch.zeros(1, 2, 16, 16)
    assert motion_scale(nothing).item() == 0
    assert not FieldCodec().decode(FieldCodec().encode(nothing, motion_scale(nothing)), motion_scale(nothing)).any()
