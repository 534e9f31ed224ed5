"""The paper's two stages on a tiny random Qwen-Image-Edit: what learns, what stays, and from which data."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
import torch
from qwen_training_toys import ToyBucket, ToyEncoder, extractor_stage, joint_stage, tiny_train_config
from tiny_qwen import NUM_BLOCKS, TINY_FACE, TINY_PRO, components, save_base, save_set, transformer
from torch.testing import assert_close

from mirrorppr_core.qwen.conditioning import append_operation
from mirrorppr_core.qwen.denoise import velocity
from mirrorppr_core.qwen.files import SLOTS
from mirrorppr_core.qwen.standalone import encode_queries
from training.qwen.base import adapted_layers, load_mae, load_transformer
from training.qwen.batches import BODY_POOL, FACE_POOL, QwenSource, stacked
from training.qwen.config import LORA_TARGETS, QWEN_FACE, QWEN_PRO, DecoderConfig, QwenTrainConfig
from training.qwen.encoders import CachedEncoder, OnlineEncoder, base_identity, picture_key
from training.qwen.flow import edited_region, region_weights, time_weights, training_times
from training.qwen.stages import extract_tokens, lpips_loss
from training.qwen_cache import encode_missing
from training.qwen_memory import estimate

FACE, PRO = tiny_train_config(), tiny_train_config(TINY_PRO)
BUCKETS = (ToyBucket(),)


def source(config=FACE, *, stage="joint", buckets=BUCKETS) -> QwenSource:
    return QwenSource(buckets=buckets, model=config.model, seed=0, encoder=ToyEncoder() if stage == "joint" else None)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def trainable(module) -> dict[str, torch.Tensor]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def learn(module, batch, *, steps: int, rate: float = 3e-3) -> list[float]:
    """Losses on one batch with one draw of noise."""
    optimizer = torch.optim.AdamW(trainable(module).values(), lr=rate)
    losses = []
    for _ in range(steps):
        loss, _ = module(batch, seeded(7))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


STAGES = {"extractor": extractor_stage, "joint": joint_stage}


# --- what learns, and what does not ---------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("config", [FACE, PRO], ids=["face", "pro"])
def test_the_loss_on_one_batch_falls_and_what_is_frozen_keeps_every_bit(stage, config):
    module = STAGES[stage](config)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    losses = learn(module, source(config, stage=stage).batch(0, 2, 0, 1), steps=20)
    assert losses[-1] < 0.9 * losses[0], losses
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == set(trainable(module))


def test_stage_one_trains_r_former_and_decoder_and_nothing_else():
    parts = {name.split(".")[0] for name in trainable(extractor_stage(FACE))}
    assert parts == {"rformer", "decoder"}


def test_stage_two_trains_r_former_connector_and_lora_and_nothing_else():
    module = joint_stage(FACE)
    names = trainable(module)
    assert {name.split(".")[0] for name in names} == {"rformer", "connector", "transformer"}
    adapters = [name for name in names if name.startswith("transformer.")]
    assert all(".lora_A.default." in name or ".lora_B.default." in name for name in adapters)
    assert len(adapters) == 2 * len(module.adapted) == 2 * (NUM_BLOCKS * len(LORA_TARGETS) - 4)


@pytest.mark.parametrize("stage", STAGES)
def test_everything_that_learns_gets_a_gradient_so_that_processes_stay_in_step(stage):
    module = STAGES[stage](FACE)
    batch = source(stage=stage).batch(0, 2, 0, 1)
    learn(module, batch, steps=1)  # a fresh LoRA is zero, and its first factor sees nothing before the second moved
    module(batch, seeded(0))[0].backward()
    silent = [name for name, p in trainable(module).items() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_the_text_branch_of_the_last_block_would_get_none_and_has_no_adapter():
    layers = adapted_layers(transformer(), LORA_TARGETS)
    last = {name.removeprefix("transformer_blocks.1.") for name in layers if name.startswith("transformer_blocks.1.")}
    unread = {"attn.add_q_proj", "attn.to_add_out", "txt_mlp.net.0.proj", "txt_mlp.net.2"}
    assert last == set(LORA_TARGETS) - unread
    with pytest.raises(ValueError, match="attn.to_z.* name no layer"):
        adapted_layers(transformer(), ("attn.to_z",))


def test_a_fresh_lora_changes_nothing():
    module, base = joint_stage(FACE), transformer()
    batch = source().batch(0, 2, 0, 1)
    arguments = {"query": batch.query, "text": batch.text, "t": torch.full((2,), 0.5)}
    assert torch.equal(
        velocity(module.transformer, batch.target, **arguments), velocity(base, batch.target, **arguments)
    )


@pytest.mark.parametrize("storage", ["bfloat16", "fp8"])
def test_a_base_of_low_precision_trains_float32_adapters(storage):
    module = joint_stage(tiny_train_config(storage=storage))
    assert {p.dtype for p in trainable(module).values()} == {torch.float32}
    frozen = module.transformer.transformer_blocks[0].attn.to_q.base_layer.weight
    assert frozen.dtype == (torch.float8_e4m3fn if storage == "fp8" else torch.bfloat16)
    losses = learn(module, source().batch(0, 2, 0, 1), steps=12)
    assert losses[-1] < 0.95 * losses[0], losses


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (True, False):
        module = joint_stage(tiny_train_config(gradient_checkpointing=checkpointing)).train()
        module(source().batch(0, 2, 0, 1), seeded(0))[0].backward()
        gradients.append({name: p.grad for name, p in trainable(module).items()})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_100_steps_from_one_seed_give_the_same_bits():
    def run() -> list[torch.Tensor]:
        config = tiny_train_config(gradient_checkpointing=False)
        module, data = extractor_stage(config, seed=3), source(stage="extractor")
        optimizer = torch.optim.AdamW(trainable(module).values(), lr=1e-3)
        for step in range(100):
            optimizer.zero_grad()
            module(data.batch(step, 1, 0, 1), seeded(step))[0].backward()
            optimizer.step()
        return list(trainable(module).values())

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


# --- the objective --------------------------------------------------------------------------------------------------


def test_times_and_weights_are_those_of_the_reference():
    times, weights = training_times(), time_weights("bell")
    assert len(times) == 1000 and times[0] == 1 and abs(times[-1] - 0.02) < 1e-6
    for t, weight in ((1000, 0.0), (872, 0.65), (695, 1.37), (500, 1.68), (436, 1.65), (20, 0.10)):
        nearest = (times - t / 1000).abs().argmin()
        assert abs(weights[nearest] - weight) < 0.01, t
    assert_close(weights.mean(), torch.tensor(1.0))
    assert time_weights("flat").unique().tolist() == [1.0]


def test_the_right_velocity_has_no_loss():
    module, batch = joint_stage(tiny_train_config(weighting="flat")), source().batch(0, 2, 0, 1)
    index = torch.randint(1000, (2,), generator=(g := seeded(4)))
    noise = torch.randn(batch.target.shape, generator=g)
    tokens = module.connector(extract_tokens(module.rformer, module.mae, batch.before, batch.after))
    s = module.times[index]
    predicted = velocity(
        module.transformer, torch.lerp(batch.target, noise, s.view(-1, 1, 1, 1)), query=batch.query,
        text=append_operation(batch.text, tokens), t=s,
    )  # fmt: skip
    loss, numbers = module(batch, seeded(4))
    assert_close(loss, (predicted - (noise - batch.target)).square().mean())
    assert_close(numbers["flow"], loss.item())


def test_the_region_of_an_edit_counts_more_and_the_mean_weight_stays_one():
    bucket = ToyBucket()
    region = edited_region(bucket[0].query, bucket[0].target)
    assert region.shape == (1, 1, 8, 8) and region[0, 0, 2:4, 2:4].all() and region.sum() == 4
    weights = region_weights(region, 100.0)
    assert_close(weights.mean(), torch.tensor(1.0))
    assert_close(weights[0, 0, 2, 2] / weights[0, 0, 0, 0], torch.tensor(100.0))
    assert region_weights(region, 1.0).unique().tolist() == [1.0]


def test_a_perceptual_distance_joins_the_squared_error_with_its_weight():
    batch = source(stage="extractor").batch(0, 2, 0, 1)
    plain, _ = extractor_stage(FACE)(batch, seeded(0))
    config = tiny_train_config(lpips_weight=0.5)
    both, numbers = extractor_stage(config, perceptual=lambda a, b: (a - b).abs().mean((1, 2, 3)))(batch, seeded(0))
    assert numbers["mse"] == pytest.approx(plain.item()) and both > plain
    with pytest.raises(ValueError, match="give both or neither"):
        extractor_stage(config)
    with pytest.raises(ImportError, match="torchmetrics and torchvision"):
        lpips_loss()


def test_stage_one_reads_queries_of_any_size_in_whole_patches():
    module = extractor_stage(FACE)
    wide = source(stage="extractor", buckets=(ToyBucket(query_size=(32, 96)),)).batch(0, 2, 0, 1)
    assert module(wide, seeded(0))[0].isfinite()
    with pytest.raises(ValueError, match="100x32: Stage I needs sides that are multiples of 16"):
        module(replace(wide, query=torch.rand(2, 3, 32, 100)), seeded(0))


# --- data -----------------------------------------------------------------------------------------------------------


def test_parts_of_a_step_are_the_step_whoever_computes_them():
    data = source()
    whole = data.batch(3, 4, 0, 1)
    halves = [data.batch(3, 4, part, 2) for part in range(2)]
    for name in vars(whole):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(half, name) for half in halves])), name
    again = pickle.loads(pickle.dumps(data)).batch(3, 4, 0, 1)
    assert torch.equal(whole.target, again.target)


def test_an_epoch_gives_every_sample_once_and_batches_never_mix_shapes():
    buckets = (ToyBucket(length=8), ToyBucket(length=4, query_size=(32, 96), exemplar_size=(96, 32)))
    data = source(PRO, buckets=buckets)
    plans = [data.plan(step, 2) for step in range(6)]
    given = sorted((bucket, index) for bucket, rows in plans for index in rows)
    assert given == [(0, i) for i in range(8)] + [(1, i) for i in range(4)]
    assert [data.plan(step, 2) for step in range(6, 12)] != plans, "the next epoch has another order"
    assert {data.batch(step, 2, 0, 1).target.shape[-2:] for step in range(6)} == {(8, 8), (4, 12)}


def test_mixed_shapes_train_one_after_the_other():
    buckets = (ToyBucket(length=2), ToyBucket(length=2, query_size=(32, 96), exemplar_size=(96, 32)))
    module, data = joint_stage(PRO), source(PRO, buckets=buckets)
    losses = [module(data.batch(step, 2, 0, 1), seeded(step))[0] for step in range(2)]
    assert all(loss.isfinite() for loss in losses)


def test_shapes_that_do_not_fit_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="60x64: sides must be multiples of 32"):
        source(buckets=(ToyBucket(query_size=(64, 60)),))
    with pytest.raises(ValueError, match="Pro reads at most 512 pixels"):
        source(PRO, buckets=(ToyBucket(exemplar_size=(64, 1024)),))
    with pytest.raises(ValueError, match="no samples"):
        source(buckets=(ToyBucket(length=0),))
    with pytest.raises(ValueError, match="must agree"):
        stacked("query", [torch.zeros(2), torch.zeros(3)])

    class Lying(ToyBucket):
        def __getitem__(self, index):
            return ToyBucket(exemplar_size=(32, 32))[index]

    with pytest.raises(ValueError, match="its bucket promises"):
        source(PRO, buckets=(Lying(),)).batch(0, 1, 0, 1)


def test_the_pools_are_those_of_the_published_data():
    assert len(FACE_POOL) == 6 and len(set(BODY_POOL)) == 22
    areas = {w * h for w, h in BODY_POOL}
    assert areas == {2_211_840, 2_396_160} and {w * h for w, h in FACE_POOL} == {2_211_840}
    assert all(side % 32 == 0 for size in BODY_POOL for side in size)


# --- the cache ------------------------------------------------------------------------------------------------------


class Counting(ToyEncoder):
    def __init__(self):
        self.texts = self.latents = 0

    def text(self, picture):
        self.texts += 1
        return super().text(picture)

    def latent(self, picture):
        self.latents += 1
        return super().latent(picture)


def test_the_cache_answers_as_the_encoder_does_and_asks_it_once_a_picture(tmp_path):
    bucket, asked = ToyBucket(length=3), Counting()
    pictures = [(bucket[i].query[0], True) for i in range(3)] + [(bucket[i].target[0], False) for i in range(3)]
    assert encode_missing(asked, pictures + pictures, tmp_path, base="b", per_shard=2) == 6
    assert (asked.texts, asked.latents) == (3, 6)
    assert encode_missing(asked, pictures, tmp_path, base="b") == 0 and asked.latents == 6
    cached = pickle.loads(pickle.dumps(CachedEncoder(tmp_path)))
    assert len(cached) == 6 and cached.base == "b"
    online, offline = source(buckets=(bucket,)), replace(source(buckets=(bucket,)), encoder=cached)
    for name, value in vars(online.batch(0, 3, 0, 1)).items():
        assert torch.equal(value, getattr(offline.batch(0, 3, 0, 1), name)), name


def test_a_picture_that_the_cache_lacks_is_named_with_the_remedy(tmp_path):
    picture = ToyBucket()[0].query[0]
    encode_missing(ToyEncoder(), [(picture, False)], tmp_path, base="b")
    cached = CachedEncoder(tmp_path)
    assert torch.equal(cached.latent(picture), ToyEncoder().latent(picture))
    with pytest.raises(KeyError, match="no text of this 64x64 picture: run python -m training.qwen_cache"):
        cached.text(picture)
    with pytest.raises(ValueError, match="base model b, not c"):
        encode_missing(ToyEncoder(), [], tmp_path, base="c")
    (shard,) = tmp_path.glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:40])
    with pytest.raises(ValueError, match="damaged"):
        CachedEncoder(tmp_path)


def test_a_key_follows_the_pixels_and_the_shape():
    picture = (ToyBucket()[0].query[0] * 255).round() / 255
    brighter = picture.clone()
    brighter[0, 0, 0] += 1 / 255
    assert picture_key(picture) == picture_key(picture + 1e-4) != picture_key(brighter)
    assert picture_key(picture) != picture_key(picture.reshape(3, 32, 128))


# --- the real classes, from files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return save_base(components(), tmp_path_factory.mktemp("base"))


def test_language_model_and_vae_are_asked_as_at_inference(base):
    parts, picture = components(), ToyBucket(query_size=(256, 256))[0].query
    (expected,) = encode_queries(parts, [picture])
    encoder = OnlineEncoder(parts)
    assert torch.equal(encoder.text(picture[0]), expected.text[0])
    assert torch.equal(encoder.latent(picture[0]), expected.latent[0])
    assert base_identity(base) == base_identity(base) and len(base_identity(base)) == 12


def test_base_and_mae_load_from_their_files(base, tmp_path):
    loaded = load_transformer(base, storage="float32")
    assert not any(p.requires_grad for p in loaded.parameters())
    for (name, value), other in zip(transformer().state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.equal(value, other), name
    assert load_transformer(base, storage="fp8").transformer_blocks[0].attn.to_q.weight.dtype == torch.float8_e4m3fn
    mae = load_mae(save_set(tmp_path) / SLOTS["mae"], TINY_FACE, dtype=torch.float32)
    assert not mae.training and not any(p.requires_grad for p in mae.parameters())


def test_wrong_files_are_refused_before_anything_is_built(base, tmp_path):
    folder = save_set(tmp_path)
    with pytest.raises(ValueError, match="MAE of other dimensions.*needs width 1024, depth 24"):
        load_mae(folder / SLOTS["mae"], QWEN_FACE.model, dtype=torch.float32)
    with pytest.raises(ValueError, match="belongs to the rformer slot"):
        load_mae(folder / SLOTS["rformer"], TINY_FACE, dtype=torch.float32)
    with pytest.raises(FileNotFoundError, match="diffusers folder of Qwen-Image-Edit"):
        load_transformer(folder, storage="float32")
    with pytest.raises((ModuleNotFoundError, ValueError), match="storage nf4 needs"):
        load_transformer(base, storage="nf4")


def test_settings_that_cannot_be_meant_are_refused():
    for wrong, message in (
        ({"storage": "int3"}, "float32, fp8, nf4"), ({"weighting": "x"}, "bell, flat"),
        ({"region_weight": 0.5}, "region_weight >= 1"), ({"lpips_weight": -1.0}, "lpips_weight >= 0"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            QwenTrainConfig(**wrong)
    with pytest.raises(ValueError, match="multiple of heads"):
        DecoderConfig(width=100, heads=12)
    assert QWEN_FACE.config_hash != QWEN_PRO.config_hash == replace(QWEN_PRO).config_hash


def test_the_memory_of_the_real_dimensions_adds_up():
    needed = estimate(QWEN_FACE, query=(1024, 1024), exemplar=(1024, 1024), batch=1)
    assert needed.dit == 20_430_401_088  # as published
    assert needed.tokens == 2 * 4096 + 1376 + 8
    assert 38 < needed.base_gib < 39 and needed.total_gib < 80 and "estimated" in str(needed)
