"""Faces of any size and turn are found, counted, and read at the photo's own scale."""

import math

import pytest
import torch
import torch.nn.functional as F
from toys import LOCATOR, astronaut

from mirrorppr_core.faces.choice import choose
from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.faces.search import SMALLEST_FACE_PX, locate, search_notes, smallest_face_px
from mirrorppr_core.geometry.crop import crop
from mirrorppr_core.geometry.similarity import Similarity

pytest.importorskip("skimage")


@pytest.fixture(scope="module")
def locator() -> Locator:
    return Locator.from_file(LOCATOR)


def small_portrait(width_px: int) -> torch.Tensor:
    """The astronaut's head with a face that wide, uint8."""
    head = astronaut()[..., 20:260, 120:360].float()
    size = round(240 * width_px / 85)
    return F.interpolate(head, (size, size), mode="bilinear", antialias=True).round().byte()


def test_faces_of_sixty_pixels_are_found_in_a_large_photo(locator):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randint(80, 170, (1, 3, 40, 60), generator=generator).float()
    photo = F.interpolate(coarse, (2000, 3000), mode="bicubic").byte()
    head = small_portrait(60)
    places = [(150, 200), (2400, 300), (1300, 1500)]
    for x, y in places:
        photo[..., y : y + head.shape[-2], x : x + head.shape[-1]] = head
    faces = sorted(locate(locator, photo), key=lambda face: face.box[0])
    assert len(faces) == 3
    for face, (x, y) in zip(faces, sorted(places), strict=True):
        assert x < face.box[0] and face.box[2] < x + head.shape[-1] and y < face.box[1]
        assert 45 < face.box[2] - face.box[0] < 85


@pytest.mark.parametrize("degrees", [90, 180, -75, 130])
def test_a_turned_face_is_found_and_its_landmarks_turn_with_it(locator, degrees):
    upright = locate(locator, astronaut())[0]
    turn = Similarity(torch.tensor(256.0), torch.tensor(math.radians(degrees)), torch.tensor([255.5, 200.0]))
    (face,) = locate(locator, crop(astronaut().float() / 255, turn, 512))
    expected = (turn.inverse(upright.landmarks) + 1) * 256 - 0.5
    assert (face.landmarks - expected).norm(dim=-1).mean() < 0.05 * upright.size_px


def test_a_mask_that_lies_mostly_on_one_face_means_that_face(locator):
    faces = locate(locator, astronaut())
    x, y = faces[0].landmarks[:16].mean(0).int().tolist()  # one eye, beside the centre of the face
    region = torch.zeros(512, 512)
    region[y - 8 : y + 8, x - 12 : x + 12] = 1
    assert choose(faces, "only", region=region) == faces
    region = torch.zeros(512, 512)
    region[400:500, 20:120] = 1
    with pytest.raises(ValueError, match="covers none of the 1 face"):
        choose(faces, "only", region=region)


def test_photos_up_to_sixty_megapixels_are_searched_for_the_smallest_faces_and_larger_ones_say_what_may_be_missed():
    assert smallest_face_px(6732, 8976) == SMALLEST_FACE_PX and search_notes(6732, 8976) == ()
    assert smallest_face_px(20000, 20000) > SMALLEST_FACE_PX
    assert "may have been missed" in search_notes(20000, 20000)[0]
