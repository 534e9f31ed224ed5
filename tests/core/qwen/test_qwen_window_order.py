"""Picture tokens in window order: the order itself, how a tower that has it is found, and its repair."""

import pytest
import torch
from tiny_qwen import text_encoder, tokenizer

from mirrorppr_core.qwen.conditioning import vl_patches
from mirrorppr_core.qwen.window_order import finds_window_order, to_raster, window_order


@pytest.fixture(scope="module")
def tower():
    return text_encoder(tokenizer()).model.visual


def seen_by(tower, picture):
    patches, grid = vl_patches(picture, patch=14, merge=2, frames=2)
    return tower(patches, grid_thw=grid).pooler_output


@pytest.mark.parametrize("rows, columns", [(6, 10), (4, 4), (9, 5), (1, 13)])
def test_the_order_is_transformers(rows, columns):
    from transformers.vision_utils import get_vision_window_index

    theirs, _ = get_vision_window_index(torch.tensor([[1, 2 * rows, 2 * columns]]), 2, 112, 14)
    assert window_order(rows, columns).tolist() == theirs.tolist()


def test_a_sound_tower_is_found_sound_and_a_scrambled_one_scrambled(tower):
    order = window_order(6, 10)
    assert finds_window_order(lambda picture: seen_by(tower, picture)) is False
    assert finds_window_order(lambda picture: seen_by(tower, picture)[order]) is True


def test_the_repair_restores_the_sound_towers_tokens(tower):
    tokens = seen_by(tower, torch.rand(1, 3, 6 * 28, 10 * 28))
    assert torch.equal(to_raster(tokens[window_order(6, 10)], 6, 10), tokens)


def test_a_tower_in_neither_order_is_reported(tower):
    with pytest.raises(ValueError, match="neither row by row nor by windows"):
        finds_window_order(lambda picture: seen_by(tower, picture).flip(0))
    with pytest.raises(ValueError, match="59 tokens"):
        finds_window_order(lambda picture: seen_by(tower, picture)[1:])


def test_a_tower_without_weights_is_told_from_an_unknown_one():
    with pytest.raises(ValueError, match="weights are missing.*mmproj"):
        finds_window_order(lambda picture: torch.zeros(60, 8))
