"""What an exemplar pair is warned about or refused for: misalignment, repainting, edits beside the face."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from toys import SEEING, astronaut, push, retouched_mouth, save_set

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import pixel_grid, sample
from mirrorppr_core.mini.pipeline import MirrorPPR

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MirrorPPR:
    return MirrorPPR.from_folder(save_set(tmp_path_factory.mktemp("set"), config=SEEING))


def floats(photo):
    return photo.float() / 255


def moved_as_a_whole(photo, *, shift=(0.0, 0.0), scale=1.0, turn=0.0):
    middle = torch.tensor([photo.shape[-1] / 2, photo.shape[-2] / 2]).view(1, 2, 1, 1)
    x, y = ((pixel_grid(*photo.shape[-2:]) - middle) * scale).split(1, dim=1)
    turned = torch.cat([x - turn * y, y + turn * x], dim=1)
    return sample(floats(photo), turned + middle + torch.tensor(shift).view(1, 2, 1, 1)).clamp(0, 1)


def as_jpeg(photo, quality):
    file = io.BytesIO()
    Image.fromarray(photo[0].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None]


@pytest.mark.parametrize("how", [{"shift": (3.0, 0.0)}, {"shift": (2.0, 2.0)}, {"scale": 1.01}, {"turn": 0.01}])
def test_layers_out_of_register_are_refused_not_transferred(model, how):
    after = moved_as_a_whole(retouched_mouth(astronaut()), **how)
    with pytest.raises(ValueError, match="align the two layers"):
        model.extract(Exemplar(floats(astronaut()), after))


@pytest.mark.parametrize("quality", [85, 50])
def test_a_retouch_saved_as_jpeg_is_not_taken_for_a_change_of_the_background(model, quality):
    operation = model.extract(Exemplar(astronaut(), as_jpeg(retouched_mouth(astronaut()), quality)))
    assert not operation.is_identity and operation.notes == ()


def test_a_body_edit_alone_says_that_the_body_moved(model):
    after = push(astronaut(), centre=(330, 420), radius=60, shift=(9.0, 0.0))
    operation = model.extract(Exemplar(astronaut(), after))
    assert operation.is_identity and any("body or the background was moved" in note for note in operation.notes)


def test_painted_glasses_are_pointed_out(model):
    after = astronaut().clone()
    after[..., 100:116, 196:252] = 10
    operation = model.extract(Exemplar(astronaut(), after))
    assert any("repainted" in note for note in operation.notes)


def test_skin_smoothing_of_the_face_is_neither_motion_nor_repainting(model):
    after = floats(astronaut())
    after[..., 60:185, 170:280] = F.avg_pool2d(F.pad(after, (1, 1, 1, 1), mode="replicate"), 3, 1)[..., 60:185, 170:280]
    operation = model.extract(Exemplar(floats(astronaut()), after))
    assert operation.is_identity and not any("repainted" in note for note in operation.notes)


def test_an_operation_is_of_one_face(model):
    with pytest.raises(ValueError, match="read from one face"):
        model.extract(Exemplar(astronaut(), retouched_mouth(astronaut())), face="all")
