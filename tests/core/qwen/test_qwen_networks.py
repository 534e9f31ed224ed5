"""The released networks, rebuilt: golden vectors, patch order, and what the R-Former tells apart.

The vectors were made from a description of the release, with these pseudo-random weights in the released names.
"""

import zlib

import numpy as np
import pytest
import torch
from tiny_qwen import TINY_FACE, TINY_PRO, randomise
from torch.testing import assert_close

from mirrorppr_core.networks.connector import Connector
from mirrorppr_core.qwen.config import FACE, PRO, QwenConfig
from mirrorppr_core.qwen.networks import OfficialMAE, OfficialRFormer
from mirrorppr_core.qwen.patch_order import CANONICAL, PatchOrder, judge_patch_order


def golden(cls, config, *, prefix=""):
    """The module with the weights that the golden vectors were made with."""
    with torch.device("meta"):
        module = cls(config)
    state = {}
    for name, like in module.state_dict().items():
        key = prefix + name
        z = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(like.numel()).reshape(like.shape)
        if key.endswith("gamma") or (key.endswith(".weight") and like.ndim == 1):
            z = 1 + 0.1 * z
        elif key.endswith(".weight"):
            z = z / np.sqrt(like.numel() / like.shape[0])
        else:
            z = 0.1 * z
        state[name] = torch.from_numpy(z).float()
    module.load_state_dict(state, assign=True)
    return module.eval().requires_grad_(False)


def drawn(tokens, channels, seed):
    z = np.random.RandomState(seed).standard_normal(tokens * channels).reshape(1, tokens, channels)
    return torch.from_numpy(z).float()


def assert_golden(out, *, shape, mean, std, largest, first, last):
    assert tuple(out.shape) == shape
    found = torch.tensor([out.mean(), out.std(), out.abs().max(), *out[0, 0, :4], *out[0, -1, -3:]])
    assert_close(found, torch.tensor([mean, std, largest, *first, *last]), atol=1e-4, rtol=0)


def test_the_connector_gives_the_golden_vector():
    assert_golden(
        golden(Connector, FACE.connector)(drawn(8, 768, 12)), shape=(1, 8, 3584),
        mean=-0.014780, std=1.002634, largest=4.379632,
        first=(-0.54252, 0.72801, -0.30024, 0.30600), last=(0.25822, 0.77213, 1.04351),
    )  # fmt: skip


def test_the_pro_rformer_and_the_connector_after_it_give_the_golden_vectors():
    pair = drawn(25, 1024, 7), drawn(25, 1024, 17)
    tokens = golden(OfficialRFormer, PRO)(*pair, before_grid=(4, 6), after_grid=(4, 6))
    assert_golden(
        tokens, shape=(1, 8, 768), mean=-0.004755, std=1.009994, largest=4.352290,
        first=(0.13469, -1.26259, -0.33540, -0.91233), last=(-0.48966, 0.65148, 0.70882),
    )  # fmt: skip
    assert_golden(
        golden(Connector, PRO.connector)(tokens), shape=(1, 8, 3584), mean=-0.026034, std=1.006525, largest=3.852234,
        first=(-0.53292, 0.83932, 0.41145, 1.16301), last=(0.00742, 1.13188, 0.33902),
    )  # fmt: skip


def test_the_face_rformer_gives_the_golden_vector():
    pair = drawn(4097, 1024, 7), drawn(4097, 1024, 17)
    assert_golden(
        golden(OfficialRFormer, FACE)(*pair, before_grid=(64, 64), after_grid=(64, 64)), shape=(1, 8, 768),
        mean=-0.001444, std=1.007441, largest=3.905755,
        first=(-0.26262, -1.10578, -0.42235, -0.92190), last=(-0.75326, 0.45746, 1.13651),
    )  # fmt: skip


def test_the_mae_gives_the_golden_vector_in_canonical_order():
    image = drawn(192, 96, 7).reshape(1, 3, 64, 96)
    assert_golden(
        golden(OfficialMAE, FACE.mae, prefix="vit.")(image), shape=(1, 25, 1024),
        mean=0.004467, std=1.015657, largest=4.311578,
        first=(-1.12896, -2.49395, -1.64209, 1.16733), last=(1.14082, 0.60288, -1.26745),
    )  # fmt: skip


def test_a_random_order_permutes_the_maes_patches_and_nothing_else():
    mae = randomise(OfficialMAE(TINY_FACE.mae))
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    order, other = PatchOrder(seed=3).permutations(24, 24)
    canonical, shuffled = mae(image), mae(image, order)
    assert not torch.equal(order, other), "before and after are shuffled independently"
    assert_close(shuffled[:, 1:], canonical[:, 1:][:, order])
    assert_close(shuffled[:, 0], canonical[:, 0])


def test_a_seed_names_an_order_and_no_seed_means_raster_order():
    assert CANONICAL.permutations(9, 9) == (None, None)
    first, second, third = (PatchOrder(seed=seed).permutations(99, 99)[0] for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, third)


def test_the_mae_uses_its_positions_as_they_are_at_their_own_size():
    mae = randomise(OfficialMAE(TINY_FACE.mae))
    black = torch.zeros(1, 3, 32, 32)
    patches = mae.embeddings.patch_embeddings.projection(black).flatten(2).transpose(1, 2)
    assert torch.equal(mae.embed(black), patches + mae.embeddings.position_embeddings[:, 1:])


@pytest.mark.parametrize("config, side", [(TINY_FACE, 4), (TINY_PRO, 5)], ids=["face", "pro"])
def test_the_rformer_tells_before_from_after_and_one_operation_from_another(config, side):
    rformer = randomise(OfficialRFormer(config))
    generator = torch.Generator().manual_seed(0)
    before, after, other = torch.randn(3, 1, 1 + side * side, 16, generator=generator)
    grid = {"before_grid": (side, side), "after_grid": (side, side)}
    tokens = rformer(before, after, **grid)
    assert tokens.shape == (1, 8, 16)
    assert (tokens - rformer(after, before, **grid)).abs().max() > 0.05
    assert (tokens - rformer(before, other, **grid)).abs().max() > 0.05


def test_the_second_token_type_is_dead_as_in_the_release():
    rformer = randomise(OfficialRFormer(TINY_FACE))
    pair = torch.randn(2, 1, 17, 16, generator=torch.Generator().manual_seed(0))
    grid = {"before_grid": (4, 4), "after_grid": (4, 4)}
    before = rformer(*pair, **grid)
    rformer.embeddings.token_type_embeddings[1] += 1
    assert torch.equal(rformer(*pair, **grid), before)


def test_pictures_that_do_not_fit_the_rformer_are_refused():
    face, pro = OfficialRFormer(TINY_FACE), OfficialRFormer(TINY_PRO)
    with pytest.raises(ValueError, match="exactly 4 x 4"):
        face(torch.zeros(1, 26, 16), torch.zeros(1, 26, 16), before_grid=(5, 5), after_grid=(5, 5))
    with pytest.raises(ValueError, match="at most 32 a side"):
        pro(torch.zeros(1, 34, 16), torch.zeros(1, 34, 16), before_grid=(1, 33), after_grid=(1, 33))
    with pytest.raises(ValueError, match="need 1 . 16"):
        face(torch.zeros(1, 16, 16), torch.zeros(1, 17, 16), before_grid=(4, 4), after_grid=(4, 4))


def smooth_grid(side, width, *, shuffled):
    """Position rows of a place: smooth in both directions, or the same rows in no order."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, width, 6, 6, generator=generator)
    rows = torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic")[0].flatten(1).T
    return rows[torch.randperm(side * side, generator=generator)] if shuffled else rows


@pytest.mark.parametrize("shuffled", [False, True], ids=["ordered", "shuffled"])
def test_the_patch_order_test_knows_ordered_from_shuffled_face_positions(shuffled, request):
    rows = smooth_grid(64, 96, shuffled=shuffled)
    table = torch.cat([torch.randn(9, 96), rows, torch.randn(2, 96), rows])[None]
    verdict = judge_patch_order({"position_embeddings": table}, num_queries=8, side_patches=64)
    assert verdict.verdict == ("shuffled" if shuffled else "ordered")
    assert ("repeatable" in str(verdict)) == shuffled


def test_the_patch_order_test_reads_pros_tables_and_takes_untrained_ones_for_shuffled():
    names = [f"pos_emb_{axis}_{part}" for axis in "xy" for part in ("cond", "target")]
    line = torch.linspace(0, 3, 280)[:, None] * torch.linspace(0.1, 2, 48)
    ordered = {name: torch.cat([line.sin(), line.cos()], dim=1)[None] for name in names}
    untrained = {name: torch.randn(1, 280, 96, generator=torch.Generator().manual_seed(4)) for name in names}
    assert judge_patch_order(ordered, num_queries=8, side_patches=280).verdict == "ordered"
    assert judge_patch_order(untrained, num_queries=8, side_patches=280).verdict == "shuffled"


def test_a_config_survives_json_and_impossible_ones_are_refused():
    assert QwenConfig.from_json(TINY_PRO.to_json()) == TINY_PRO
    with pytest.raises(ValueError, match="face, pro"):
        QwenConfig(kind="body")
    with pytest.raises(ValueError, match="motion_channels=0"):
        QwenConfig(rformer=type(FACE.rformer)(width=768, heads=12))
