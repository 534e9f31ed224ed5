"""The field codec: units of the operation's own scale, and exact zeros where nothing moves."""

import torch

from mirrorppr_core.mini.codec import FieldCodec, motion_scale


def one_push(n=64):
    motion = torch.zeros(1, 2, n, n)
    motion[:, 0, 8:56, 8:56] = torch.hann_window(48)[:, None] * torch.hann_window(48)[None]
    return motion


def test_negligible_motion_becomes_exactly_zero():
    motion = one_push()
    noise = 0.03 * motion_scale(motion) * torch.ones_like(motion) / 2**0.5
    decoded = FieldCodec().decode(noise / motion_scale(motion), motion_scale(motion))
    assert (decoded == 0).all()


def test_a_faint_rim_that_the_exemplar_shows_is_kept_and_one_that_it_does_not_show_is_not():
    motion, codec = one_push(), FieldCodec()
    scale = motion_scale(motion)
    latent = codec.encode(motion, scale)
    rim = (latent.abs().amax(1) > 0.041) & (latent.abs().amax(1) < 0.05)
    assert rim.any()
    shown = codec.decode(latent, scale, shown=latent)
    assert torch.equal(shown[:, 0][rim], motion[:, 0][rim])
    assert (codec.decode(latent, scale, shown=torch.zeros_like(latent))[:, 0][rim] == 0).all()


def test_what_did_not_move_on_the_exemplar_and_moves_no_further_on_the_query_stays_exactly_zero():
    motion, codec = one_push(), FieldCodec()
    decoded = codec.decode(motion * 0.5, torch.ones(1, 1, 1, 1), shown=motion)
    assert (decoded[motion == 0] == 0).all()
