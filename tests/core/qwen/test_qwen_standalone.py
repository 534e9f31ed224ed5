"""The Qwen engine on a tiny random Qwen-Image-Edit: the operation, one call per step, and what changes the result."""

from dataclasses import replace

import pytest
import torch
from tiny_qwen import TINY_FACE, TINY_PRO, components, lora_state, save_base, save_set
from torch.testing import assert_close

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.networks.mae import MAEEncoder
from mirrorppr_core.qwen.conditioning import append_operation, vl_picture
from mirrorppr_core.qwen.denoise import denoise, velocity
from mirrorppr_core.qwen.extractor import (
    ExtractConfig,
    QwenConnector,
    QwenExtractor,
    cut,
    square_box,
    to_face_input,
    to_pro_input,
)
from mirrorppr_core.qwen.files import QwenSet
from mirrorppr_core.qwen.latents import decode, encode
from mirrorppr_core.qwen.patch_order import PatchOrder
from mirrorppr_core.qwen.schedule import native_noise, official_noise, official_sigmas, reference_time
from mirrorppr_core.qwen.standalone import (
    QwenComponents,
    QwenEngine,
    QwenRetouchConfig,
    encode_queries,
    encode_text,
    lora_attached,
    retouch_latent,
)

FEW = QwenRetouchConfig(num_steps=3)


def textured(height, width, seed=0):
    """A picture with detail that a photo and its copy share."""
    coarse = torch.rand(1, 3, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return QwenSet.from_folder(save_set(tmp_path_factory.mktemp("set")))


@pytest.fixture(scope="module")
def engine(files):
    return QwenEngine(files=files, components=components())


@pytest.fixture(scope="module")
def exemplar():
    before = textured(264, 328)
    after = before.clone()
    after[..., 100:140, 120:180] = after[..., 100:140, 128:188]
    return Exemplar(before, after)


@pytest.fixture(scope="module")
def operation(engine, exemplar):
    return engine.extract(exemplar)


@pytest.fixture(scope="module")
def tokens(files, operation):
    return QwenConnector.load(files).tokens(operation)


@pytest.fixture(scope="module")
def query():
    return textured(260, 300, seed=3)


@pytest.fixture(scope="module")
def encoded(engine, query):
    return encode_queries(engine.components, [query])[0]


# Operation ------------------------------------------------------------------------------------------------------------


def test_an_operation_is_eight_tokens_and_the_same_every_time(engine, exemplar, operation, tokens):
    assert operation.tokens.shape == (1, 8, 16) and tokens.shape == (1, 8, 32)
    assert torch.equal(engine.extract(exemplar).tokens, operation.tokens)


def test_a_random_patch_order_gives_other_tokens_the_same_for_one_seed(engine, exemplar, operation):
    one, same, other = (engine.extract(exemplar, ExtractConfig(patch_order=PatchOrder(seed=s))) for s in (1, 1, 2))
    assert torch.equal(one.tokens, same.tokens)
    assert not torch.equal(one.tokens, other.tokens) and not torch.equal(one.tokens, operation.tokens)


def test_the_exemplar_is_squeezed_to_a_square_as_released_or_cut_to_one(engine, exemplar):
    stretched, squared = (engine.extract(exemplar, ExtractConfig(crop=crop)) for crop in ("stretch", "square"))
    both = (cut(picture, (32, 0, 264)) for picture in (exemplar.before, exemplar.after))
    assert torch.equal(squared.tokens, engine.extract(Exemplar(*both)).tokens)
    assert not torch.equal(squared.tokens, stretched.tokens)


def test_a_squeeze_is_noted_only_where_it_is_strong(engine, exemplar):
    wide = Exemplar(*(torch.cat([p, p], dim=3) for p in (exemplar.before, exemplar.after)))
    assert "656x264" in engine.extract(wide).notes[0]
    assert engine.extract(wide, ExtractConfig(crop="square")).notes == ()
    assert engine.extract(exemplar).notes == ()


def test_the_square_is_the_largest_in_the_middle():
    assert square_box(100, 160) == (30, 0, 100)
    assert square_box(160, 100) == (0, 30, 100)


def test_face_pictures_are_resized_with_antialiasing_and_normalised_as_released():
    picture = torch.full((1, 4, 300, 500), 255, dtype=torch.uint8)
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / (torch.tensor([0.229, 0.224, 0.225]) + 1e-6)
    assert_close(to_face_input(picture, 64), white.view(1, 3, 1, 1).expand(1, 3, 64, 64))
    checker = (torch.arange(256)[:, None] + torch.arange(256)).remainder(2).float().expand(1, 3, 256, 256)
    assert_close(to_face_input(checker, 64), to_face_input(torch.full_like(checker, 0.5), 64), atol=5e-2, rtol=0)


def test_pro_keeps_the_size_and_refuses_more_than_its_tables_hold(tmp_path, exemplar):
    assert to_pro_input(exemplar.before, 4480).shape == exemplar.before.shape
    with pytest.raises(ValueError, match="at most 320 pixels"):
        to_pro_input(exemplar.before, 320)
    extractor = QwenExtractor.load(QwenSet.from_folder(save_set(tmp_path, TINY_PRO)))
    operation = extractor.extract(exemplar)
    assert operation.kind == "pro" and operation.tokens.shape == (1, 8, 16)
    assert "8 rows and 8 columns" in operation.notes[0]


def test_two_photos_are_no_exemplar(engine, exemplar):
    with pytest.raises(ValueError, match="same photo"):
        engine.extract(Exemplar(exemplar.before, textured(264, 328, seed=9)))
    with pytest.raises(ValueError, match="stretch, square"):
        ExtractConfig(crop="fit")


def test_an_operation_of_another_set_is_refused(tmp_path, operation):
    other = QwenConnector.load(QwenSet.from_folder(save_set(tmp_path, seed=7)))
    with pytest.raises(ValueError, match="trained apart"):
        other.tokens(operation)


def test_the_official_mae_on_minis_terms_is_minis_mae():
    """Both encoders are one network; they differ in class token, normalisation and size."""
    from mirrorppr_core.networks.mae import normalise
    from mirrorppr_core.qwen.networks import OfficialMAE

    official, mini = OfficialMAE(TINY_FACE.mae).eval(), MAEEncoder(TINY_FACE.mae).eval()
    mini.load_state_dict(official.state_dict())
    image = torch.rand(1, 3, 32, 32)
    assert_close(official(normalise(image))[:, 1:], mini(image))


# Query ----------------------------------------------------------------------------------------------------------------


def test_the_language_model_gets_two_dimensional_picture_positions(engine, query):
    """transformers 5 silently numbers picture tokens in one dimension when nobody says which they are."""
    encoder = engine.components.text_encoder
    text = encode_text(engine.components, query)
    seen = {}

    def without_types(module, arguments, keywords):
        seen.update(keywords)
        return arguments, keywords | {"mm_token_type_ids": None}

    hook = encoder.model.register_forward_pre_hook(without_types, with_kwargs=True)
    flat = encode_text(engine.components, query)
    hook.remove()
    assert (text - flat).abs().max() > 0.01
    types, ids = seen["mm_token_type_ids"], seen["input_ids"]
    positions, _ = encoder.model.get_rope_index(ids, mm_token_type_ids=types, image_grid_thw=seen["image_grid_thw"])
    rows, columns = (positions[axis][types.bool()].unique().numel() for axis in (1, 2))
    height, width = vl_picture(query).shape[-2:]
    assert (rows, columns) == (height // 28, width // 28)


def test_text_and_latent_are_those_of_diffusers_given_the_right_positions(engine, query, encoded):
    """diffusers' own encoding, with its missing argument supplied."""
    from diffusers import QwenImageEditPipeline

    parts, picture = engine.components, encoded.size.prepare(query)
    assert torch.equal(encode(parts.vae, picture), encoded.latent)
    pipeline = QwenImageEditPipeline.__new__(QwenImageEditPipeline)
    object.__setattr__(pipeline, "vae", parts.vae)
    pipeline.latent_channels = 16
    theirs = QwenImageEditPipeline._encode_vae_image(pipeline, (2 * picture - 1)[:, :, None], None)
    assert_close(theirs[:, :, 0], encoded.latent, atol=1e-5, rtol=1e-5)


def test_decoding_stays_within_a_picture(engine, encoded):
    image = decode(engine.components.vae, 50 * encoded.latent)
    assert image.shape == (1, 3, 288, 320) and image.min() >= 0 and image.max() <= 1


def test_a_tokenizer_without_picture_tokens_is_refused(engine, query):
    class Words:
        def __call__(self, text, return_tensors):
            return type("Ids", (), {"input_ids": torch.zeros(1, 9, dtype=torch.long)})

    with pytest.raises(ValueError, match="not Qwen2.5-VL's"):
        encode_text(replace(engine.components, tokenizer=Words()), query)


# The walk -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def calls(engine):
    """Counts the DiT's calls."""
    counted = []
    handle = engine.components.transformer.register_forward_hook(lambda *_: counted.append(1))
    yield counted
    handle.remove()


def released_walk(transformer, *, noise, query, text, sigmas, scale=4.0):
    """The released program's arithmetic: two calls per step with the same text, guidance 4 between them."""
    x = noise.float()
    for sigma, sigma_next in zip(sigmas[:-1], sigmas[1:], strict=True):
        positive = velocity(transformer, x, query=query, text=text, t=sigma)
        negative = velocity(transformer, x, query=query, text=text.clone(), t=sigma)
        v = negative + scale * (positive - negative)
        x = x + float(sigma_next - sigma) * v
    return x


@torch.no_grad()
def test_one_call_per_step_is_the_released_guidance_of_four_bit_for_bit(engine, encoded, tokens, calls):
    height, width = encoded.size.padded
    walk = {
        "noise": official_noise(height, width), "query": encoded.latent,
        "text": append_operation(encoded.text, tokens), "sigmas": official_sigmas(5, height=height, width=width),
    }  # fmt: skip
    ours = denoise(engine.components.transformer, **walk)
    assert len(calls) == 5
    theirs = released_walk(engine.components.transformer, **walk)
    assert len(calls) == 5 + 2 * 5
    assert torch.equal(ours, theirs)


def test_the_walk_is_diffusers_pipeline(engine, encoded, tokens):
    """The stock pipeline, given our embeddings and latents, takes the same steps."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    from mirrorppr_core.qwen.latents import pack, unpack

    parts, (height, width) = engine.components, encoded.size.padded
    sigmas, noise = official_sigmas(4, height=height, width=width), official_noise(height, width)
    text = append_operation(encoded.text, tokens)
    ours = denoise(parts.transformer, noise=noise, query=encoded.latent, text=text, sigmas=sigmas)
    scheduler = FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True, time_shift_type="exponential", shift_terminal=0.02, base_shift=0.5, max_shift=0.9,
        base_image_seq_len=256, max_image_seq_len=8192, shift=1.0,
    )  # fmt: skip
    mu = 0.5 + (height // 16 * (width // 16) - 256) * 0.4 / 7936
    scheduler.set_timesteps(sigmas=[1, 0.75, 0.5, 0.25], mu=mu)
    latents, grid = pack(noise), (1, height // 16, width // 16)
    with torch.no_grad():
        for t in scheduler.timesteps:
            predicted = parts.transformer(
                hidden_states=torch.cat([latents, pack(encoded.latent)], dim=1), timestep=t.expand(1) / 1000,
                encoder_hidden_states=text, encoder_hidden_states_mask=torch.ones(1, text.shape[1]),
                img_shapes=[[grid, grid]], return_dict=False,
            )[0][:, : latents.shape[1]]  # fmt: skip
            latents = scheduler.step(predicted, t, latents, return_dict=False)[0]
    assert_close(ours, unpack(latents, height=height // 8, width=width // 8), atol=1e-4, rtol=1e-4)


def test_tokens_lora_seed_noise_and_guidance_each_change_the_result(engine, files, encoded, tokens):
    parts = engine.components
    plain = retouch_latent(parts, encoded, tokens, FEW)
    with lora_attached(parts.transformer, files.lora.path) as num_layers:
        assert num_layers == len(lora_state()) // 2
        with_lora = retouch_latent(parts, encoded, tokens, FEW)
    others = {
        "tokens": retouch_latent(parts, encoded, tokens.flip(-1), FEW),
        "lora": with_lora,
        "seed": retouch_latent(parts, encoded, tokens, replace(FEW, seed=7)),
        "noise": retouch_latent(parts, encoded, tokens, replace(FEW, noise="native")),
        "guidance": retouch_latent(parts, encoded, tokens, replace(FEW, guidance=2.0)),
        "numerics": retouch_latent(parts, encoded, tokens, replace(FEW, reference_numerics=True)),
    }
    for name, latent in others.items():
        assert (latent - plain).abs().max() > 1e-4, f"{name} changes nothing"
    assert torch.equal(retouch_latent(parts, encoded, tokens, FEW), plain), "same seed, same result"


def test_guidance_of_one_costs_nothing_and_others_twice(engine, encoded, tokens, calls):
    retouch_latent(engine.components, encoded, tokens, FEW)
    assert len(calls) == 3
    retouch_latent(engine.components, encoded, tokens, replace(FEW, guidance=1.5))
    assert len(calls) == 3 + 6


def test_guidance_of_zero_is_the_query_without_the_operation(engine, encoded, tokens):
    parts, (height, width) = engine.components, encoded.size.padded
    without = denoise(
        parts.transformer, noise=official_noise(height, width), query=encoded.latent, text=encoded.text,
        sigmas=official_sigmas(3, height=height, width=width),
    )  # fmt: skip
    assert torch.equal(retouch_latent(parts, encoded, tokens, replace(FEW, guidance=0.0)), without)


def test_guidance_without_its_other_side_and_latents_of_two_sizes_are_refused(engine, encoded, tokens):
    transformer, sigmas = engine.components.transformer, torch.tensor([1.0, 0.0])
    small = native_noise(64, 64, seed=0)
    with pytest.raises(ValueError, match="text_without"):
        denoise(transformer, noise=small, query=small, text=encoded.text, sigmas=sigmas, guidance=2.0)
    with pytest.raises(ValueError, match="working_size"):
        denoise(transformer, noise=small, query=encoded.latent, text=encoded.text, sigmas=sigmas)


def test_the_dit_is_told_rounded_times_with_reference_numerics(engine, encoded, tokens):
    told = []
    handle = engine.components.transformer.register_forward_pre_hook(
        lambda _, __, keywords: told.append(keywords["timestep"].clone()), with_kwargs=True
    )
    retouch_latent(engine.components, encoded, tokens, replace(FEW, reference_numerics=True))
    handle.remove()
    height, width = encoded.size.padded
    assert torch.equal(torch.cat(told), reference_time(official_sigmas(3, height=height, width=width)[:-1]))


def test_each_step_reports_and_may_interrupt(engine, encoded, tokens):
    seen = []

    def watch(step, estimate):
        seen.append((step, tuple(estimate.shape)))
        if step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        retouch_latent(engine.components, encoded, tokens, FEW, on_step=watch)
    assert seen == [(1, tuple(encoded.latent.shape)), (2, tuple(encoded.latent.shape))]


# The engine -----------------------------------------------------------------------------------------------------------


def test_a_photo_of_any_size_comes_back_at_its_size(engine, operation, query):
    result = engine.retouch(query, operation, FEW)
    assert result.shape == query.shape and result.isfinite().all() and 0 <= result.min() and result.max() <= 1
    large = (255 * textured(296, 408, seed=2)).to(torch.uint8)
    rgba = torch.cat([large, large[:, :1]], dim=1)
    assert engine.retouch(rgba, operation, replace(FEW, max_pixels=256 * 256)).shape == (1, 3, 296, 408)


def test_an_album_is_its_photos_one_by_one_and_shares_the_models_work(engine, operation, query, files):
    other, seen = textured(256, 288, seed=5), []
    handle = engine.components.text_encoder.model.register_forward_hook(lambda *_: seen.append(1))
    album = list(engine.generate([query, other], operation, FEW))
    handle.remove()
    assert len(seen) == 2
    for photo, result in zip((query, other), album, strict=True):
        assert torch.equal(engine.retouch(photo, operation, FEW), result)


def test_the_transformer_is_as_it_was_after_an_album_that_was_broken_off(engine, operation, query):
    names = list(engine.components.transformer.state_dict())
    album = engine.generate([query, query], operation, FEW)
    next(album)
    album.close()
    assert list(engine.components.transformer.state_dict()) == names

    def interrupt(step, estimate):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        engine.retouch(query, operation, FEW, on_step=interrupt)
    assert list(engine.components.transformer.state_dict()) == names


def test_an_engine_from_folders_is_the_engine_from_parts(tmp_path, engine, operation, query):
    save_set(tmp_path / "weights")
    base = save_base(components(), tmp_path / "base")
    loaded = QwenEngine.from_folders(weights=tmp_path / "weights", base=base, device="cpu")
    assert_close(loaded.retouch(query, operation, FEW), engine.retouch(query, operation, FEW), atol=1e-4, rtol=0)


def test_an_incomplete_base_is_refused_with_what_it_lacks(tmp_path):
    (tmp_path / "vae").mkdir()
    with pytest.raises(FileNotFoundError, match="transformer, text_encoder, processor, .*vae/config.json"):
        QwenComponents.from_folder(tmp_path, device="cpu")


def test_the_later_edit_model_is_refused(engine):
    from diffusers import QwenImageTransformer2DModel

    with torch.device("meta"):
        later = QwenImageTransformer2DModel(num_layers=1, zero_cond_t=True)
    with pytest.raises(ValueError, match="2511"):
        replace(engine.components, transformer=later)


@pytest.mark.parametrize("wrong, advice", [({"num_steps": 0}, "40 is"), ({"noise": "white"}, "official, native")])
def test_impossible_settings_are_refused_with_advice(wrong, advice):
    with pytest.raises(ValueError, match=advice):
        QwenRetouchConfig(**wrong)


def test_a_query_that_is_none_is_refused_by_its_number(engine, operation, query):
    with pytest.raises(ValueError, match="query 2 is 40x40"):
        list(engine.generate([query, torch.zeros(1, 3, 40, 40)], operation, FEW))
