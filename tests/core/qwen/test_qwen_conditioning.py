"""What the DiT is told: sizes and their undoing, the language model's picture, token order, schedule and noise."""

import pytest
import torch
from host import COMFYUI
from torch.testing import assert_close

from mirrorppr_core.qwen.conditioning import (
    IMAGE_TOKEN,
    NUM_DROPPED,
    TEMPLATE,
    append_operation,
    append_to_mask,
    vl_patches,
    vl_picture,
    vl_size,
)
from mirrorppr_core.qwen.latents import pack, unpack
from mirrorppr_core.qwen.schedule import native_noise, official_noise, official_sigmas, reference_time, shift_mu
from mirrorppr_core.qwen.sizes import working_size


@pytest.fixture
def picture():
    return torch.rand(1, 3, 300, 410, generator=torch.Generator().manual_seed(0))


def test_a_query_is_padded_to_multiples_of_32_and_comes_back_bit_for_bit(picture):
    size = working_size(300, 410)
    assert size.padded == (320, 416)
    assert size.prepare(picture).shape == (1, 3, 320, 416)
    assert torch.equal(size.restore(size.prepare(picture)), picture)


def test_padding_repeats_the_edge_so_that_nothing_foreign_is_shown(picture):
    padded = working_size(300, 410).prepare(picture)
    assert torch.equal(padded[..., :300, 410:], picture[..., -1:].expand(-1, -1, -1, 6))


def test_a_query_that_fits_is_the_same_tensor():
    fitting = torch.rand(1, 3, 320, 416)
    size = working_size(320, 416)
    assert size.prepare(fitting).data_ptr() == fitting.data_ptr()
    assert size.restore(fitting).data_ptr() == fitting.data_ptr()


@pytest.mark.parametrize("height, width", [(4320, 7680), (7680, 4320), (9999, 301), (2049, 2048)])
def test_a_large_query_is_reduced_below_the_limit_and_keeps_its_shape(height, width):
    size = working_size(height, width)
    assert size.scaled[0] * size.scaled[1] <= 2048 * 2048
    assert all(p % 32 == 0 and 0 <= p - s < 32 for p, s in zip(size.padded, size.scaled, strict=True))
    assert size.scaled[1] / size.scaled[0] == pytest.approx(width / height, rel=0.01)


def test_a_reduced_query_is_enlarged_to_its_own_size_again():
    size = working_size(500, 700, max_pixels=64 * 64)
    grey = torch.full((1, 3, 500, 700), 0.25)
    assert_close(size.restore(size.prepare(grey)), grey)


def test_alpha_is_dropped_and_bytes_become_floats():
    rgba = torch.full((1, 4, 320, 320), 51, dtype=torch.uint8)
    prepared = working_size(320, 320).prepare(rgba)
    assert prepared.shape == (1, 3, 320, 320) and prepared.dtype == torch.float32
    assert_close(prepared, torch.full_like(prepared, 0.2))


def test_an_impossible_limit_is_refused_with_advice():
    with pytest.raises(ValueError, match="1048576 is usual"):
        working_size(512, 512, max_pixels=100)


@pytest.mark.parametrize(
    "size, seen",
    [((1024, 1024), (1036, 1036)), ((2048, 2048), (2044, 2044)), ((1536, 1440), (1540, 1428))],
)
def test_the_language_model_sees_the_published_sizes(size, seen):
    assert vl_size(*size) == seen


@pytest.mark.parametrize("height, width", [(300, 410), (42, 70), (20, 20), (5000, 4000), (1, 190), (3000, 300)])
def test_the_language_models_size_rule_is_transformers(height, width):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    assert vl_size(height, width) == smart_resize(height, width, factor=28, min_pixels=3136, max_pixels=12_845_056)


def test_a_picture_of_the_right_size_is_shown_as_it_is():
    assert vl_picture(fitting := torch.rand(1, 3, 280, 308)).data_ptr() == fitting.data_ptr()


def test_a_picture_that_is_too_narrow_for_the_language_model_is_refused():
    with pytest.raises(ValueError, match="too narrow"):
        vl_size(10, 2010)


def test_patches_are_those_of_transformers_image_processor(picture):
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    seen = (vl_picture(picture) * 255).round().to(torch.uint8)
    limits = {"shortest_edge": 3136, "longest_edge": 12_845_056}
    theirs = Qwen2VLImageProcessorPil(size=limits)(images=[seen[0].permute(1, 2, 0).numpy()], return_tensors="pt")
    patches, grid = vl_patches(seen.float() / 255, patch=14, merge=2, frames=2)
    assert torch.equal(grid, theirs["image_grid_thw"])
    assert_close(patches, theirs["pixel_values"], atol=1e-5, rtol=1e-5)


def test_the_template_is_diffusers_and_the_dropped_head_ends_at_vision_start():
    from diffusers import QwenImageEditPipeline

    pipeline = QwenImageEditPipeline.__new__(QwenImageEditPipeline)
    source = QwenImageEditPipeline.__init__.__code__.co_consts
    assert TEMPLATE in source and NUM_DROPPED in source, pipeline
    folder = COMFYUI / "comfy" / "text_encoders" / "qwen25_tokenizer"
    if not folder.is_dir():
        pytest.skip("the real tokenizer comes with ComfyUI: run `make setup`")
    from transformers import Qwen2Tokenizer

    ids = Qwen2Tokenizer.from_pretrained(folder)(TEMPLATE.format("")).input_ids
    words = Qwen2Tokenizer.from_pretrained(folder).convert_ids_to_tokens(ids)
    assert len(ids) == 72 and words[NUM_DROPPED] == "<|vision_start|>" and words[NUM_DROPPED + 1] == IMAGE_TOKEN


def test_operation_tokens_stand_last_and_are_attended_to():
    text, tokens = torch.randn(2, 5, 4), torch.randn(1, 3, 4)
    joined = append_operation(text, tokens)
    assert torch.equal(joined[:, :5], text) and torch.equal(joined[:, 5:], tokens.expand(2, -1, -1))
    assert append_to_mask(torch.tensor([[1, 1, 0]]), 2).tolist() == [[1, 1, 0, 1, 1]]


def test_tokens_of_another_width_are_refused_with_the_loader_to_check():
    with pytest.raises(ValueError, match="type qwen_image"):
        append_operation(torch.zeros(1, 5, 4096), torch.zeros(1, 8, 3584))


def test_packing_is_diffusers_and_unpacking_undoes_it():
    from diffusers import QwenImageEditPipeline

    latent = torch.randn(2, 16, 6, 8)
    tokens = pack(latent)
    assert torch.equal(tokens, QwenImageEditPipeline._pack_latents(latent, 2, 16, 6, 8))
    assert torch.equal(unpack(tokens, height=6, width=8), latent)


@pytest.mark.parametrize(
    "num_steps, side, first, last",
    [
        (40, 1024, (1.0, 0.986964, 0.973593, 0.959875), (0.157108, 0.113533, 0.067881, 0.02)),
        (40, 2048, (1.0, 0.992646, 0.985013, 0.977085), (0.240336, 0.175179, 0.10223, 0.02)),
        (30, 1024, (1.0, 0.982251, 0.963889, 0.944883), (0.19896, 0.142924, 0.083384, 0.02)),
    ],
)
def test_the_schedule_has_the_published_values(num_steps, side, first, last):
    sigmas = official_sigmas(num_steps, height=side, width=side)
    assert len(sigmas) == num_steps + 1 and sigmas[-1] == 0
    assert_close(sigmas[:4], torch.tensor(first), atol=1e-6, rtol=0)
    assert_close(sigmas[-5:-1], torch.tensor(last), atol=1e-6, rtol=0)


def test_the_schedule_is_diffusers():
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, time_shift_type="exponential", shift_terminal=0.02, base_shift=0.5, max_shift=0.9,
        base_image_seq_len=256, max_image_seq_len=8192, shift=1.0,
    )  # fmt: skip
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / 7, 7).tolist(), mu=shift_mu(48 * 64))
    assert_close(official_sigmas(7, height=768, width=1024), scheduler.sigmas, atol=1e-6, rtol=0)


def test_one_step_goes_all_the_way_and_none_is_refused():
    assert official_sigmas(1, height=512, width=512).tolist() == [1, 0]
    with pytest.raises(ValueError, match="40 is the reference's"):
        official_sigmas(0, height=512, width=512)


def test_the_shift_has_its_published_values():
    assert shift_mu(4096) == pytest.approx(0.693548, abs=1e-6)
    assert shift_mu(16384) == pytest.approx(1.312903, abs=1e-6)


def test_reference_times_are_those_of_bfloat16():
    sigmas = official_sigmas(40, height=1024, width=1024)
    thousandths = (1000 * sigmas[:6].float()).bfloat16().tolist()
    assert thousandths == [1000, 988, 972, 960, 944, 932]
    assert_close(reference_time(sigmas[:6]), torch.tensor(thousandths) / 1000, atol=2e-3, rtol=0)


def test_official_noise_has_its_published_values_and_is_native_noise_rounded():
    noise = official_noise(1024, 1024, seed=123)
    assert noise.shape == (1, 16, 128, 128) and noise.dtype == torch.float32
    assert noise.flatten()[:4].tolist() == [0.337890625, -0.177734375, -0.302734375, -0.58984375]
    assert torch.equal(noise, native_noise(1024, 1024, seed=123).bfloat16().float())
