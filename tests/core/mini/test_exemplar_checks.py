"""What an exemplar pair is warned about or refused for: misalignment, repainting, edits beside the face."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from toys import SEEING, astronaut, push, retouched_mouth, save_set

from mirrorppr_core.exemplar import SAME_PHOTO, Exemplar, same_photo
from mirrorppr_core.geometry.displacement import length, pixel_grid, sample, warp
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.motion.panels import holds_two

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


@pytest.mark.parametrize("how", [{"shift": (3.0, 0.0)}, {"shift": (8.0, 6.0)}, {"scale": 1 / 1.03}, {"turn": 0.035}])
def test_layers_out_of_register_are_laid_on_each_other_and_the_retouch_is_read_all_the_same(model, how):
    in_place = model.extract(Exemplar(floats(astronaut()), floats(retouched_mouth(astronaut()))))
    after = moved_as_a_whole(retouched_mouth(astronaut()), **how)
    operation = model.extract(Exemplar(floats(astronaut()), after))
    assert any("as a whole was shifted, zoomed or turned" in note for note in operation.notes)
    assert length(operation.motion - in_place.motion).mean() < 0.1 * length(in_place.motion).mean()


def test_an_after_of_another_size_or_cropped_is_brought_back(model):
    in_place = model.extract(Exemplar(floats(astronaut()), floats(retouched_mouth(astronaut()))))
    after = floats(retouched_mouth(astronaut()))
    smaller = F.interpolate(after, scale_factor=0.8, mode="bicubic", antialias=True).clamp(0, 1)
    for version, said in ((smaller, "brought to the same size"), (after[..., 16:, :-40], "taken for a crop")):
        operation = model.extract(Exemplar(floats(astronaut()), version))
        assert any(said in note for note in operation.notes)
        assert length(operation.motion - in_place.motion).mean() < 0.15 * length(in_place.motion).mean()


def test_an_after_brightened_until_it_clips_moves_nothing_and_is_named(model):
    operation = model.extract(Exemplar(floats(astronaut()), (floats(astronaut()) * 1.5).clamp(0, 1)))
    assert operation.is_identity and any("clips to white" in note for note in operation.notes)


def test_a_strap_taken_off_the_clothes_is_no_motion_and_leaves_the_face_alone(model):
    clean = model.extract(Exemplar(astronaut(), retouched_mouth(astronaut())))
    strap = Image.fromarray(astronaut()[0].permute(1, 2, 0).numpy())
    ImageDraw.Draw(strap).line((272, 190, 420, 511), fill=(40, 30, 30), width=7)  # from beside the jaw on
    before = torch.from_numpy(np.array(strap)).permute(2, 0, 1)[None]
    operation = model.extract(Exemplar(before, retouched_mouth(astronaut())))
    assert operation.body is None and any("painted or removed" in note for note in operation.notes)
    assert not any("of the face" in note or "on the face" in note for note in operation.notes)
    assert length(operation.motion - clean.motion).mean() < 0.1 * length(clean.motion).mean()


def test_with_another_background_the_face_is_read_and_nothing_beside_it(model):
    clean = model.extract(Exemplar(astronaut(), retouched_mouth(astronaut())))
    place = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    place = F.interpolate(place, (512, 512), mode="bicubic").clamp(0, 1) * 255
    x, y = pixel_grid(512, 512).split(1, dim=1)
    outside = ((x - 224) / 130) ** 2 + ((y - 130) / 180) ** 2 > 1
    after = torch.where(outside, place.byte(), retouched_mouth(astronaut()))
    operation = model.extract(Exemplar(astronaut(), after))
    assert operation.body is None and any("new" in note for note in operation.notes)
    assert length(operation.motion - clean.motion).mean() < 0.15 * length(clean.motion).mean()


def test_what_cannot_be_a_pair_is_refused_for_what_it_is(model):
    photo = floats(astronaut())
    side_by_side = torch.cat([photo, photo], dim=-1)
    for after, why in (
        (photo.flip(-1), "mirrored"),
        (side_by_side, "side by side"),
        (torch.zeros_like(photo), "one plain colour"),
        (photo.flip(-2), "same photo"),
        (photo[..., :300], "of another shape"),
    ):
        with pytest.raises(ValueError, match=why):
            model.extract(Exemplar(photo, after))


@pytest.mark.parametrize("frame", [0, 24])
@pytest.mark.parametrize("way", ["beside", "below"])
def test_a_screenshot_of_the_pair_is_told_as_that_however_it_is_framed(model, frame, way):
    photo, after = floats(astronaut()), floats(retouched_mouth(astronaut()))
    gap = torch.full((1, 3, 512, frame), 0.12)
    parts = [photo, gap, after] if way == "beside" else [photo, gap.mT, after]
    both = F.pad(torch.cat(parts, dim=-1 if way == "beside" else -2) - 0.12, (frame,) * 4) + 0.12
    for one, other in ((photo, both), (both, after), (both, both)):
        with pytest.raises(ValueError, match="two pictures side by side"):
            model.extract(Exemplar(one, other))
    assert not holds_two(photo) and not holds_two(photo, after)


def widely_moved(photo, *, shift, reach):
    """The whole head and what is around it, fading far away."""
    away = (pixel_grid(512, 512) - torch.tensor([224.0, 130.0]).view(1, 2, 1, 1)).square().sum(1, keepdim=True).sqrt()
    soft = 0.5 - 0.5 * torch.tanh((away - reach) / (0.3 * reach))
    displacement = soft * torch.tensor(shift).view(1, 2, 1, 1)
    return warp(floats(photo), displacement).clamp(0, 1), displacement


def test_an_edit_that_fills_the_close_up_is_read_whole_and_not_taken_for_a_slip(model):
    after, displacement = widely_moved(astronaut(), shift=(0.0, 1.2), reach=150)
    extracted = model.extractor.extract(Exemplar(floats(astronaut()), after))
    face = (slice(None), slice(None), slice(80, 180), slice(180, 270))
    error = length((extracted.field.dense() - displacement)[face]).mean() / length(displacement[face]).mean()
    assert error < 0.1


def test_a_retouch_so_strong_that_hardly_any_detail_stays_is_still_a_pair(model):
    after, displacement = widely_moved(astronaut(), shift=(-22.0, 9.0), reach=190)
    pair = Exemplar(floats(astronaut()), after)
    assert same_photo(pair.before, pair.after) < SAME_PHOTO
    assert not model.extract(pair).is_identity


@pytest.mark.parametrize("quality", [85, 50])
def test_a_retouch_saved_as_jpeg_is_not_taken_for_a_change_of_the_background(model, quality):
    operation = model.extract(Exemplar(astronaut(), as_jpeg(retouched_mouth(astronaut()), quality)))
    assert not operation.is_identity and not [note for note in operation.notes if not note.startswith("confidence")]


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
