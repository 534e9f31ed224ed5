"""What an exemplar shows beside a change of shape is named, kind by kind, and the shape is read all the same."""

import re

import pytest
import torch
import torch.nn.functional as F
from toys import SEEING, astronaut, retouched_mouth, save_set

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import length
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.motion.sharpness import gauss

pytest.importorskip("skimage")

FACE = (slice(None), slice(None), slice(70, 190), slice(165, 285))
NAMED = ("grade", "black and white", "softer", "smoother", "colour or brightness of the face")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MirrorPPR:
    return MirrorPPR.from_folder(save_set(tmp_path_factory.mktemp("set"), config=SEEING))


def before():
    return astronaut().float() / 255


def reshaped():
    return retouched_mouth(astronaut()).float() / 255


def graded(photo):
    """Brighter and warmer, and nowhere clipped that was not."""
    return photo * torch.tensor([0.92, 0.88, 0.80]).view(1, 3, 1, 1) + 0.04


def grey(photo):
    weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (photo * weights).sum(1, keepdim=True).expand(-1, 3, -1, -1).contiguous()


def softened(photo):
    return gauss(photo, 1.5)


def smoothed(photo):
    """Skin blurred, eyes, brows and lips left alone, as a surface blur does."""
    face = photo[FACE]
    texture = gauss((face - gauss(face, 1.2)).abs().mean(1, keepdim=True), 2.0)
    skin = gauss((texture < texture.quantile(0.75)).float(), 1.0)
    result = photo.clone()
    result[FACE] = face * (1 - skin) + gauss(face, 2.0) * skin
    return result


def made_up(photo):
    """A warm light on the face alone."""
    glow = F.pad(torch.ones(1, 1, 120, 120), (165, 227, 70, 322))
    return (photo + gauss(glow, 4.0) * torch.tensor([0.07, 0.04, 0.02]).view(1, 3, 1, 1)).clamp(0, 1)


KINDS = [
    (graded, "a grade is not transferred"),
    (grey, "black and white: only changes of shape"),
    (softened, "after is softer than before"),
    (smoothed, "skin is smoother in after"),
    (made_up, "colour or brightness of the face was changed"),
]


@pytest.fixture(scope="module")
def clean(model):
    return model.extract(Exemplar(before(), reshaped()))


def test_a_change_of_shape_alone_is_no_other_kind_of_change(clean):
    assert not clean.is_identity
    assert not [note for note in clean.notes if any(word in note for word in NAMED)]


@pytest.mark.parametrize(("kind", "said"), KINDS)
def test_another_change_beside_the_shape_is_named_and_the_shape_is_read(model, clean, kind, said):
    operation = model.extract(Exemplar(before(), kind(reshaped())))
    assert [note for note in operation.notes if said in note], operation.notes
    assert not [note for note in operation.notes if "nothing on the face moved" in note]
    off = float(length(operation.motion - clean.motion).mean() / length(clean.motion).mean())
    assert off < 0.5


def test_softness_is_told_in_pixels_of_the_photo(model):
    (note,) = [one for one in model.extract(Exemplar(before(), softened(before()))).notes if "softer" in one]
    assert 0.7 < float(re.search(r"about ([\d.]+) px", note)[1]) < 2.0  # it was 1.5


@pytest.mark.parametrize(("kind", "said"), [KINDS[0], KINDS[2]])
def test_without_any_change_of_shape_hardly_anything_is_read_and_the_notes_say_what_it_was(model, clean, kind, said):
    operation = model.extract(Exemplar(before(), kind(before())))
    assert [note for note in operation.notes if said in note], operation.notes
    assert float(length(operation.motion).amax() / length(clean.motion).amax()) < 0.2
