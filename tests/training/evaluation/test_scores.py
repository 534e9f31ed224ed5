"""What one output is worth: the published numbers, motion inside the edit, learned measures, and how sure a mean is."""

import math
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import bump
from torch.testing import assert_close

from mirrorppr_core.geometry.displacement import warp
from training.evaluation.intervals import mean_interval, median_interval, ratio_interval
from training.evaluation.metrics import psnr, ssim
from training.evaluation.perceptual import IDENTITY_FILES, load_identity
from training.evaluation.scores import honest_score, to_size, truth_of

SIZE = 128


def drawn(name: str) -> torch.Tensor:
    """A picture with texture everywhere, (1, 3, SIZE, SIZE)."""
    generator = torch.Generator().manual_seed(ord(name))
    coarse = torch.rand(1, 3, SIZE // 4, SIZE // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic").clamp(0, 1)


def test_psnr_and_ssim_equal_torchmetrics():
    """Values of torchmetrics 1.9.0 with data_range=1; where it is installed, it is asked again."""
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")
    target = torch.stack([(x / 9).sin(), (y / 7).cos(), ((x + y) / 5).sin()])[None] * 0.4 + 0.5
    output = (target + 0.05 * ((x * 3 + y * 5) / 4).sin()).clamp(0, 1)
    assert float(ssim(output, target)) == pytest.approx(0.819292, abs=1e-5)
    assert float(psnr(output, target)) == pytest.approx(29.03125, abs=1e-4)
    functional = pytest.importorskip("torchmetrics.functional.image")
    assert_close(
        ssim(output, target),
        functional.structural_similarity_index_measure(output, target, data_range=1.0, reduction="none"),
        atol=1e-5,
        rtol=0,
    )


def test_an_output_of_another_size_is_resized_to_the_target_bilinear():
    target = drawn("a")
    larger = Image.fromarray(np.uint8(drawn("b")[0].permute(1, 2, 0) * 255)).resize((200, 150))
    expected = np.asarray(larger.resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    output = torch.from_numpy(np.array(larger)).permute(2, 0, 1)[None] / 255
    assert np.array_equal((to_size(output, target)[0].permute(1, 2, 0) * 255).round().byte().numpy(), expected)


def test_half_of_the_motion_has_half_the_error():
    push = bump(SIZE, SIZE, centre=(64, 64), radius=44, shift=(8.0, 0.0))
    truth = truth_of(drawn("a"), warp(drawn("a"), push))
    assert honest_score(warp(drawn("a"), push / 2), truth).relative_epe == pytest.approx(0.5, abs=0.05)
    assert honest_score(warp(drawn("a"), -push), truth).relative_epe == pytest.approx(2, abs=0.1)


def test_the_region_is_where_the_target_moved():
    push = bump(SIZE, SIZE, centre=(64, 64), radius=40, shift=(6.0, 0.0))
    region = truth_of(drawn("a"), warp(drawn("a"), push)).region
    moved = (push.norm(dim=1, keepdim=True) > 1).float()
    assert (region * moved).sum() > 0.95 * moved.sum()
    assert region[..., :12, :].sum() == 0


def test_a_change_of_colour_has_a_region_but_no_motion():
    target = drawn("a")
    target[..., 40:80, 40:80] = (target[..., 40:80, 40:80] * 0.8 + 0.1).clamp(0, 1)
    truth = truth_of(drawn("a"), target)
    assert not truth.moves and truth.region[..., 50:70, 50:70].all() and not truth.region[..., :30, :].any()
    score = honest_score(drawn("a"), truth)
    assert score.relative_epe is None and score.gain_db == 0


def test_a_target_that_is_the_query_has_neither():
    truth = truth_of(drawn("a"), drawn("a"))
    score = honest_score((drawn("a") + 0.1).clamp(0, 1), truth)
    assert score.relative_epe is None and score.gain_db is None
    assert score.repainted > 0.9
    assert score.outside_error > 0.005


def test_identity_is_the_cosine_of_the_first_faces_and_tries_again_with_a_frame(tmp_path, monkeypatch):
    """InsightFace is played by a stand-in that finds no face in pictures of SIZE pixels."""

    class FaceAnalysis:
        def __init__(self, name, root, providers):
            assert name == "buffalo_l" and root == str(tmp_path)

        def prepare(self, ctx_id, det_size):
            assert det_size == (640, 640)

        def get(self, picture):
            height, width, _ = picture.shape
            if height == SIZE:
                return []
            centre = picture[height // 2, width // 2].astype(np.float32)  # blue, green, red
            return [SimpleNamespace(embedding=centre), SimpleNamespace(embedding=-centre)]

    app = ModuleType("insightface.app")
    app.FaceAnalysis = FaceAnalysis
    runtime = ModuleType("onnxruntime")
    runtime.get_available_providers = lambda: ["CPUExecutionProvider"]
    for name, module in (
        ("insightface", ModuleType("insightface")),
        ("insightface.app", app),
        ("onnxruntime", runtime),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    with pytest.raises(FileNotFoundError, match="non-commercial"):
        load_identity(tmp_path)
    (tmp_path / "models" / "buffalo_l").mkdir(parents=True)
    for name in IDENTITY_FILES:
        (tmp_path / "models" / "buffalo_l" / name).touch()
    measure = load_identity(tmp_path)
    red, yellow = torch.zeros(2, 1, 3, SIZE, SIZE)
    red[:, 0] = yellow[:, :2] = 1
    assert measure(red, red) == pytest.approx(1)
    assert measure(red, yellow) == pytest.approx(math.sqrt(0.5))


def test_an_interval_holds_its_mean_and_repeating_a_cluster_does_not_narrow_it():
    values, labels = [0.1, 0.2, 0.4, 0.9], list("abcd")
    once = mean_interval(values, labels)
    assert once.value == pytest.approx(0.4) and once.low < 0.35 and once.high > 0.45
    assert mean_interval(values * 10, labels * 10).low == pytest.approx(once.low)
    alone = mean_interval(values * 10, range(40))
    assert alone.high - alone.low < 0.5 * (once.high - once.low)


def test_the_median_is_drawn_over_people_too_and_counts_each_of_their_values():
    values, labels = [0.1, 0.2, 0.4, 0.9], list("abcd")
    assert median_interval(values, labels).value == pytest.approx(0.3)
    assert median_interval(values[:3], labels[:3]).value == pytest.approx(0.2)
    repeated, alone = median_interval(values * 10, labels * 10), median_interval(values * 10, range(40))
    assert alone.high - alone.low < 0.7 * (repeated.high - repeated.low)
    sure = median_interval([0.1, 0.1, 0.1, 0.9], list("aaab"))
    assert (sure.low, sure.value, sure.high) == (0.1, 0.1, 0.9)


def test_pooling_weighs_by_the_denominators():
    interval = ratio_interval([1.0, 9.0], [10.0, 10.0], "ab", lambda ratio: 10 * ratio)
    assert interval.value == pytest.approx(5) and (interval.low, interval.high) == (pytest.approx(1), pytest.approx(9))
    with pytest.raises(ValueError, match="nothing to average"):
        mean_interval([], [])
