"""Settings: impossible ones fail at construction, and a set's settings travel as JSON without loss."""

import dataclasses
import json

import pytest
from toys import TINY

from mirrorppr_core.faces.view import ViewConfig
from mirrorppr_core.networks.config import (
    ConnectorConfig,
    DiTConfig,
    LoRAConfig,
    MAEConfig,
    ModelConfig,
    RFormerConfig,
    set_id_of,
)


@pytest.mark.parametrize("config", [ModelConfig(), TINY], ids=["mini", "tiny"])
def test_a_model_comes_back_from_json_unchanged(config):
    assert ModelConfig.from_json(config.to_json()) == config


def test_json_of_another_release_is_refused_by_the_field_that_differs():
    values = json.loads(ModelConfig().to_json())
    values["dit"]["novelty"] = 1
    with pytest.raises(ValueError, match=r"DiTConfig: fields \['novelty'\].*same release"):
        ModelConfig.from_json(json.dumps(values))
    del values["dit"]["novelty"], values["view"]
    with pytest.raises(ValueError, match=r"ModelConfig: fields \['view'\]"):
        ModelConfig.from_json(json.dumps(values))


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ModelConfig().view.size = 32


@pytest.mark.parametrize(
    ("impossible", "message"),
    [
        (lambda: ViewConfig(size=40), "multiple of 16, 64 is usual"),
        (lambda: ViewConfig(side=1.0), "side >= 2"),
        (lambda: DiTConfig(operations=()), "name at least one, and each once"),
        (lambda: DiTConfig(operations=("nose_alar", "nose_alar")), "name at least one, and each once"),
        (lambda: DiTConfig(operations=("nose",)), r"\['nose'\] are unknown: use some of eye_resize"),
        (lambda: DiTConfig(bank_width=0), "use 1 or more, 256 is usual"),
        (lambda: ViewConfig(smoothing=-1.0), "smoothing >= 0"),
        (lambda: MAEConfig(image_size=100), "image_size=100 must be a multiple of patch=16"),
        (lambda: MAEConfig(width=130), "MAE width=130 must be a multiple of heads=4"),
        (lambda: RFormerConfig(num_queries=0), "8 is the paper's"),
        (lambda: RFormerConfig(heads=3), "R-Former width=128 must be a multiple of heads=3"),
        (lambda: ConnectorConfig(heads=0), "connector width=128 must be a multiple of heads=0"),
        (lambda: DiTConfig(rope_axes=(8, 8, 8)), "add up to head_dim=32"),
        (lambda: DiTConfig(rope_axes=(8, 11, 13)), "must be even"),
        (lambda: LoRAConfig(rank=8), "alpha == rank"),
        (lambda: ModelConfig(connector=ConnectorConfig(output=64)), "connector output 64 must be DiT text_width 128"),
        (lambda: ModelConfig(rformer=RFormerConfig(width=64)), "connector width 128 must be R-Former width 64"),
        (lambda: ModelConfig(dit=DiTConfig(grid=24)), "view size=64 must be a multiple of twice the DiT grid=48"),
        (lambda: ModelConfig(dit=DiTConfig(grid=4)), "MAE grid 8 and DiT grid 4 must be equal"),
    ],
)
def test_impossible_settings_are_refused_with_the_reason(impossible, message):
    with pytest.raises(ValueError, match=message):
        impossible()


def test_a_set_is_named_by_its_settings_and_its_run():
    assert set_id_of(TINY, "run") == set_id_of(TINY, "run")
    names = {set_id_of(TINY, "run"), set_id_of(TINY, "another"), set_id_of(ModelConfig(), "run")}
    assert len(names) == 3 and all(len(name) == 12 for name in names)
