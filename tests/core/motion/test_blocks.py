"""Whether a picture shows the blocks of a coarse JPEG, and what is said of a pair that does."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from toys import SEEING, astronaut, hopper, retouched_mouth, save_set

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.motion.blocks import is_coarse_jpeg

pytest.importorskip("skimage")
pytest.importorskip("matplotlib")


def through_jpeg(photo, quality: int):
    stream = io.BytesIO()
    Image.fromarray(photo[0].permute(1, 2, 0).contiguous().numpy()).save(stream, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1)[None]


@pytest.mark.parametrize("photo", [astronaut, hopper])
def test_a_coarse_jpeg_is_told_from_a_fine_one_and_from_none(photo):
    assert is_coarse_jpeg(through_jpeg(photo(), 30)) and is_coarse_jpeg(through_jpeg(photo(), 40))
    for fine in (photo(), through_jpeg(photo(), 90), through_jpeg(photo(), 75)):
        assert not is_coarse_jpeg(fine) and not is_coarse_jpeg(fine.float() / 255)


def test_a_picture_that_was_moved_since_tells_nothing():
    assert not is_coarse_jpeg(through_jpeg(astronaut(), 40)[..., 3:, 5:])


def test_a_note_names_which_of_a_pair_to_export_anew(tmp_path):
    model = MirrorPPR.from_folder(save_set(tmp_path / "set", config=SEEING))
    before, after = astronaut(), retouched_mouth(astronaut())

    def said(*pair) -> list[str]:
        return [note for note in model.extract(Exemplar(*pair)).notes if "JPEG" in note and "export the pair" in note]

    (note,) = said(before, through_jpeg(after, 30))
    assert note.startswith("after was compressed heavily")
    (note,) = said(through_jpeg(before, 30), through_jpeg(after, 30))
    assert note.startswith("before and after were compressed heavily")
    assert not said(before, through_jpeg(after, 75))
