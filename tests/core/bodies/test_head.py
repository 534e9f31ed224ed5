"""People whose face is not found: their joints stand in, the face's part is silent, and small faces are looked for."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from toys import astronaut, hopper, push, retouched_mouth

from mirrorppr_core.bodies.head import Head, head_of
from mirrorppr_core.bodies.pose import Pose
from mirrorppr_core.bodies.pose_network import JOINTS
from mirrorppr_core.bodies.sources import PoseChoice
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.faces.search import face_near, locate
from mirrorppr_core.geometry.similarity import fit_similarity
from mirrorppr_core.mini.arithmetic import combined
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.sliders import Amount, Sliders


@pytest.fixture(scope="module")
def model() -> MirrorPPR:
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    return MirrorPPR.bundled()


def cameraman() -> Tensor:
    """The photographer of scikit-image, from the side and with an eye at the camera: no locator reads that face."""
    from skimage import data

    return torch.from_numpy(data.camera()).expand(1, 3, -1, -1).contiguous()


def narrower(photo: Tensor, *, right: tuple[float, float], left: tuple[float, float]) -> Tensor:
    """Both shoulders pushed inwards; on the left of the picture, and on its right."""
    once = push(photo, centre=right, radius=60, shift=(-9.0, 0.0))
    return push(once, centre=left, radius=60, shift=(9.0, 0.0))


@pytest.fixture(scope="module")
def shoulders(model):
    return model.extract(Exemplar(astronaut(), narrower(astronaut(), right=(110, 300), left=(330, 300))))


@pytest.fixture(scope="module")
def smile(model):
    return model.extract(Exemplar(astronaut(), retouched_mouth(astronaut())))


def test_a_body_retouch_is_carried_to_somebody_whose_face_is_not_found(model, shoulders):
    assert locate(model.extractor.sight.locator, cameraman()) == []
    result = model.retouch(cameraman(), shoulders)
    assert result.field.max_px > 3 and result.num_found == 0 and isinstance(result.faces[0], Head)
    assert (result.field.dense()[..., :, 350:] == 0).all(), "nothing of the background far off moves"


def test_a_body_retouch_is_read_from_somebody_whose_face_is_not_found(model):
    after = narrower(cameraman(), right=(110, 230), left=(240, 250))
    operation = model.extract(Exemplar(cameraman(), after))
    assert operation.body is not None and not (operation.motion != 0).any()
    assert operation.notes[0].startswith("no face was found in the exemplar: only what was done to the body is read")
    assert model.retouch(hopper(), operation).field.max_px > 2


def test_an_operation_of_the_face_alone_is_still_refused_without_one(model, smile):
    with pytest.raises(ValueError, match="no face found"):
        model.retouch(cameraman(), smile)
    with pytest.raises(ValueError, match="no face found"):
        model.retouch(cameraman(), Sliders(amounts=(Amount(operation="mouth_resize", percent=50),)))


def test_of_face_and_body_the_body_is_done_and_a_note_says_so(model, shoulders, smile):
    both = model.retouch(cameraman(), combined([smile, shoulders]))
    alone = model.retouch(cameraman(), shoulders)
    assert torch.equal(both.image, alone.image)
    assert "no face was found in this photo: only what was done to the body is repeated" in both.notes
    assert not any("no face was found" in note for note in alone.notes)


def test_where_neither_face_nor_body_is_there_a_photo_is_refused(model, shoulders):
    from skimage import data

    coins = torch.from_numpy(data.coins()).expand(1, 3, -1, -1).contiguous()
    with pytest.raises(ValueError, match="no face found"):
        model.retouch(coins, shoulders)
    with pytest.raises(ValueError, match="no face found"):
        model.extract(Exemplar(coins, coins))


def test_given_joints_stand_in_for_a_face_that_is_covered(model, shoulders):
    """Seen from behind: a grey head."""
    photo = hopper()
    (face,) = locate(model.extractor.sight.locator, photo)
    covered = photo.clone()
    x0, y0, x1, y1 = (int(v) for v in face.box)
    covered[..., y0 - 40 : y1 + 10, x0 - 15 : x1 + 15] = 90
    placed = fit_similarity(model.extractor.sight.locator.mean_face, face.landmarks)
    points, told = torch.zeros(17, 2), torch.zeros(17)
    points[5:9] = placed.apply(torch.tensor([[-2.5, 4.0], [2.5, 4.0], [-3.0, 8.0], [3.0, 8.0]]))
    told[5:9] = 1.0
    choice = PoseChoice(given=(Pose(points=points, told=told, source="given"),))
    assert model.retouch(covered, shoulders, pose=choice).field.max_px > 3


def standing(unit: float) -> Pose:
    points = torch.zeros(17, 2)
    for name, place in {"shoulder_r": (-0.48, 0.0), "shoulder_l": (0.48, 0.0), "hip_r": (-0.3, 1.33),
                        "hip_l": (0.3, 1.33), "eye_r": (-0.1, -0.64), "eye_l": (0.1, -0.64)}.items():  # fmt: skip
        points[JOINTS.index(name)] = torch.tensor(place) * unit + 300
    told = (points != 0).any(1).float()
    return Pose(points=points, told=told, source="given")


def test_a_head_is_where_the_eyes_are_or_above_the_shoulders(model):
    locator, pose = model.extractor.sight.locator, standing(100.0)
    told = pose.told.clone()
    told[1:3] = 0
    for one in (pose, Pose(points=pose.points, told=told, source="given")):
        placed = fit_similarity(locator.mean_face, head_of(one, locator).landmarks)
        assert (placed.translation - torch.tensor([300.0, 236.0])).norm() < 8 and abs(float(placed.rotation)) < 0.01
        assert 15 < float(placed.scale) < 25
    told[5:13] = 0
    assert head_of(Pose(points=pose.points, told=told, source="given"), locator) is None


def test_a_head_bent_forward_points_halfway_between_neck_and_nose(model):
    """From the side: the nose lies in front of the eyes and below them."""
    locator, pose = model.extractor.sight.locator, standing(100.0)
    points, told = pose.points.clone(), pose.told.clone()
    nose = JOINTS.index("nose")
    points[nose], told[nose] = torch.tensor([270.0, 266.0]), 1.0  # 45 degrees forward
    placed = fit_similarity(
        locator.mean_face, head_of(Pose(points=points, told=told, source="given"), locator).landmarks
    )
    assert abs(float(placed.rotation)) * 180 / 3.14159 == pytest.approx(22.5, abs=1.0)


def test_a_face_of_40_pixels_is_found_where_a_head_is_told(model):
    locator = model.extractor.sight.locator
    (known,) = locate(locator, astronaut())
    factor = 40 / known.size_px
    small = F.interpolate(astronaut().float() / 255, scale_factor=factor, mode="bicubic", antialias=True)
    photo = torch.full((1, 3, 1500, 1000), 0.45)
    photo[..., 300 : 300 + small.shape[-2], 420 : 420 + small.shape[-1]] = small.clamp(0, 1)
    x = 420 + (known.box[0] + known.box[2]) / 2 * factor
    y = 300 + (known.box[1] + known.box[3]) / 2 * factor
    (face,) = face_near(locator, photo, [(x + 8, y - 6, 55.0)])
    assert abs(face.size_px - 40) < 6 and abs((face.box[0] + face.box[2]) / 2 - x) < 4
    assert face_near(locator, photo, [(800.0, 1200.0, 55.0)]) == []


def framed(portrait: Tensor, factor: float) -> Tensor:
    """A portrait made small, in a plain picture of 1500 x 1000."""
    small = F.interpolate(portrait.float() / 255, scale_factor=factor, mode="bicubic", antialias=True).clamp(0, 1)
    photo = torch.full((1, 3, 1500, 1000), 0.45)
    photo[..., 300 : 300 + small.shape[-2], 420 : 420 + small.shape[-1]] = small
    return (photo * 255).round() / 255


@pytest.mark.parametrize("face_px", [80, 56, 40])
def test_a_small_face_and_the_body_below_it_get_each_their_own_share(model, smile, shoulders, face_px):
    (known,) = locate(model.extractor.sight.locator, astronaut())
    photo = framed(astronaut(), face_px / known.size_px)
    result = model.retouch(photo, combined([smile, shoulders]), pose=PoseChoice("mini"))
    (face,), moved = result.faces, result.field.dense()
    x0, y0, x1, y1 = (int(v) for v in face.box)
    assert abs(face.size_px - face_px) < 0.1 * face_px
    assert moved[..., y0:y1, x0:x1].abs().amax() > 0.3 * face_px / 80, "the smile"
    assert moved[..., y1 + 30 :, :].abs().amax() > 0.3, "the shoulders"
    assert (moved[..., 1000:, :] == 0).all() and (moved[..., :250, :] == 0).all()


@pytest.mark.parametrize("face_px", [80, 56, 40])
def test_from_an_exemplar_with_a_small_face_both_shares_are_read(model, face_px):
    """The reduced copy in which a photo's motion is looked for shows less than a pixel of it."""
    (known,) = locate(model.extractor.sight.locator, astronaut())
    after = narrower(retouched_mouth(astronaut()), right=(110, 300), left=(330, 300))
    before, after = (framed(photo, face_px / known.size_px) for photo in (astronaut(), after))
    operation = model.extract(Exemplar(before, after))
    assert (operation.motion != 0).any() and operation.body is not None
    again = model.retouch(before, operation)
    left, whole = (again.image - after).square(), (before - after).square()
    below = int(again.faces[0].box[3] + 0.2 * face_px)
    assert left[..., :below, :].sum() < 0.1 * whole[..., :below, :].sum(), "the face"
    assert left[..., below:, :].sum() < 0.7 * whole[..., below:, :].sum(), "dabs are no operation the bank knows"


def test_a_cut_out_of_165_by_768_pixels_is_a_photo(model, shoulders):
    person = F.interpolate(hopper().float() / 255, (193, 165), mode="bicubic", antialias=True).clamp(0, 1)
    photo = torch.cat([person, person[..., -1:, :].expand(-1, -1, 575, -1)], dim=2)
    result = model.retouch(photo, shoulders)
    assert result.image.shape[-2:] == (768, 165) and result.field.max_px > 0.5


def test_from_the_side_the_neck_tells_how_large_the_head_is(model):
    pose = standing(100.0)
    points = pose.points.clone()
    points[5:13, 0] = 300 + 0.1 * (points[5:13, 0] - 300)
    told = pose.told.clone()
    told[11:13] = 0
    head = head_of(Pose(points=points, told=told, source="given"), model.extractor.sight.locator)
    assert 12 < float(fit_similarity(model.extractor.sight.locator.mean_face, head.landmarks).scale) < 25
