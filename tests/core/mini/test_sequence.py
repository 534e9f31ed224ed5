"""Frames of one person as a sequence: the same retouch as of single frames, but steady; and what cannot be one."""

import pytest
import torch
from toys import SEEING, astronaut, hopper, push, save_set

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.mini.sequence import FrameSequence

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    save_set(folder, config=SEEING)
    return MirrorPPR.from_folder(folder)


@pytest.fixture(scope="module")
def operation(model):
    return model.extract(Exemplar(astronaut(), push(astronaut(), centre=(226, 152), radius=28, shift=(5.0, 3.0))))


def grainy(seed):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(hopper().shape, generator=generator) * 4
    return (hopper().float() + noise).clamp(0, 255).round().byte()


def fields(results):
    return torch.stack([result.field.dense() for result in results])


def test_a_still_sequence_trembles_less_than_its_single_frames_and_does_the_same(model, operation):
    frames = [grainy(seed) for seed in range(5)]
    sequence = FrameSequence(model.editor, operation, model.connector.connector, RetouchConfig())
    for number, one in enumerate(frames):
        sequence.look(one, f"frame {number}")
    single = fields([model.retouch(one, operation) for one in frames])
    steady = fields([sequence.retouch(number, one) for number, one in enumerate(frames)])
    trembling = [(of - of.mean(0)).norm(dim=2).amax() for of in (single, steady)]
    assert trembling[1] < trembling[0]
    assert (single.mean(0) - steady.mean(0)).norm(dim=1).amax() < 0.1 * single.norm(dim=2).amax()


def test_frames_of_several_sizes_are_no_sequence(model, operation):
    sequence = FrameSequence(model.editor, operation, model.connector.connector, RetouchConfig())
    sequence.look(hopper(), "one.png")
    with pytest.raises(ValueError, match="two.png is 500x600 but the frames before it are 512x600"):
        sequence.look(hopper()[..., :500], "two.png")


def test_a_frame_that_cannot_be_read_at_the_end_has_no_face(model, operation):
    sequence = FrameSequence(model.editor, operation, model.connector.connector, RetouchConfig())
    sequence.look(hopper(), "one.png")
    sequence.look(None, "two.png")
    with pytest.raises(ValueError, match="no face found"):
        sequence.retouch(1, hopper())
