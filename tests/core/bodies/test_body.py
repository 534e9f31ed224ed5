"""Body retouches from pixels to pixels: measured beside the face, carried by joints, adding up with the face's part.

Joints are given, so what is held here is true of any weights of the body network.
"""

import shutil
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toys import SEEING, astronaut, hopper, push, retouched_mouth, save_set

from mirrorppr_core.bodies.pose import Pose
from mirrorppr_core.bodies.sources import PoseChoice
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.similarity import fit_similarity
from mirrorppr_core.mini.arithmetic import Scaled
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.explain import bodies_in
from mirrorppr_core.mini.files import bundled_set, load_editor, load_part, save_part
from mirrorppr_core.mini.operation_file import read_file, save_operation
from mirrorppr_core.mini.pipeline import MirrorPPR

STANDING = torch.tensor(
    [[-2.5, 4.5], [2.5, 4.5], [-3.0, 9.0], [3.0, 9.0], [-3.2, 13.0], [3.2, 13.0], [-1.6, 12.0], [1.6, 12.0]]
)


# from pixels to pixels


def standing(model: MirrorPPR, photo: Tensor) -> PoseChoice:
    """The drawn joints of the photo's one person, as if somebody had given them."""
    (face,) = model.extractor.sight.faces(photo)
    placed = fit_similarity(model.extractor.sight.locator.mean_face, face.landmarks)
    points, told = torch.zeros(17, 2), torch.zeros(17)
    points[5:13], told[5:13] = placed.apply(STANDING), 1.0
    points[:5], told[:5] = face.landmarks.mean(0), 1.0
    return PoseChoice(given=(Pose(points=points, told=told, source="given"),))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MirrorPPR:
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    folder = save_set(tmp_path_factory.mktemp("set"), config=SEEING, trained=False)
    shutil.copyfile(bundled_set() / "body.safetensors", folder / "body.safetensors")
    return MirrorPPR.from_folder(folder)


@pytest.fixture(scope="module")
def before_pose(model) -> PoseChoice:
    return standing(model, astronaut())


def with_shoulder(photo: Tensor) -> Tensor:
    """The astronaut with one shoulder moved."""
    return push(photo, centre=(330, 300), radius=60, shift=(9.0, 0.0))


@pytest.fixture(scope="module")
def shoulder(model, before_pose):
    return model.extract(Exemplar(astronaut(), with_shoulder(astronaut())), poses=[before_pose])


def test_what_was_seen_on_the_exemplar_comes_with_the_operation_from_one_look(model):
    """The parts' own counts: the finder and the body network look as often as at any one photo, no more."""
    exemplar, sight = Exemplar(astronaut(), with_shoulder(astronaut())), model.extractor.sight
    looks = []
    hooks = [
        part.register_forward_hook(lambda part, *_: looks.append(part)) for part in (sight.locator.finder, sight.body)
    ]
    try:
        (face,) = sight.faces(exemplar.before)
        once = len(looks)
        extracted = model.extractor.extract(exemplar)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(looks) == 2 * once + 4, "the locator once, the body network once: a whole look and three close ones"
    assert torch.equal(extracted.face.mesh, face.mesh) and [f.box for f in extracted.faces] == [face.box]
    again = model.retouch(exemplar.before, extracted.operation)
    # A retouch makes a little less of it where joints are doubted; what was read is read in full.
    read, made = extracted.field.dense(), again.field.dense()
    assert (read - made).norm() < 0.15 * read.norm() and made.norm() <= read.norm()


def test_a_body_edit_alone_is_an_operation_without_a_warning(shoulder):
    assert shoulder.body is not None and not shoulder.is_identity and shoulder.notes == ()
    assert not (shoulder.motion != 0).any() and shoulder.largest_px == pytest.approx(9.0, rel=0.15)


def test_which_parts_of_the_body_were_read_and_by_whose_joints_is_told_and_kept(shoulder, tmp_path):
    """The astronaut's left shoulder, on the right of the picture."""
    (words,) = bodies_in(shoulder)
    assert "left" in words and "right" not in words and words.endswith("by the joints of the pose given")
    save_operation(tmp_path / "look.safetensors", shoulder)
    kept = read_file(tmp_path / "look.safetensors").operation
    assert bodies_in(kept) == (words,) == bodies_in(Scaled(of=kept, factor=0.5))


def test_an_edit_of_the_face_alone_reads_no_part_of_the_body(model):
    assert bodies_in(model.extract(Exemplar(astronaut(), retouched_mouth(astronaut())))) == ()


def test_applied_to_its_own_exemplar_it_gives_the_after_back(model, shoulder, before_pose):
    before, after = astronaut().float() / 255, with_shoulder(astronaut()).float() / 255
    again = model.retouch(before, shoulder, pose=before_pose).image
    assert (again - after).square().sum() < 0.1 * (before - after).square().sum()


def test_face_and_body_together_give_the_after_back(model, before_pose):
    before, both = astronaut().float() / 255, with_shoulder(retouched_mouth(astronaut()))
    operation = model.extract(Exemplar(astronaut(), both), poses=[before_pose])
    assert (operation.motion != 0).any() and operation.body is not None
    again = model.retouch(before, operation, pose=before_pose).image
    after = both.float() / 255
    assert (again - after).square().sum() < 0.15 * (before - after).square().sum()


def test_a_shoulder_moves_the_other_persons_shoulder_and_not_the_face(model, shoulder):
    result = model.retouch(hopper(), shoulder)
    x0, y0, x1, y1 = (int(v) for v in result.faces[0].box)
    assert result.field.max_px > 3 and (result.field.dense()[..., y0:y1, x0:x1] == 0).all()
    still = (result.field.dense() == 0).all(dim=1)[0]
    assert torch.equal(result.image[0][:, still], hopper()[0][:, still])


def test_strength_zero_and_a_set_without_body_network_leave_the_body_alone(model, shoulder):
    assert torch.equal(model.retouch(hopper(), shoulder, RetouchConfig(strength=0.0)).image, hopper())
    faces_only = replace(model, editor=replace(model.editor, sight=replace(model.editor.sight, body=None)))
    result = faces_only.retouch(hopper(), shoulder)
    assert torch.equal(result.image, hopper()) and "shoulders cannot be told in this photo" in result.notes[0]


def test_a_set_that_was_made_with_a_body_network_wants_one(tmp_path):
    folder = save_set(tmp_path, config=SEEING)
    assert load_editor(folder / "dit.safetensors").sight.body is None
    dit = load_part(folder / "dit.safetensors", "dit")
    save_part(folder / "dit.safetensors", "dit", dit.state, dit.config, dit.set_id, dit.locator_sha256, "0" * 64)
    with pytest.raises(FileNotFoundError, match="body.safetensors is missing"):
        load_editor(folder / "dit.safetensors")
    shutil.copyfile(bundled_set() / "body.safetensors", folder / "body.safetensors")
    assert load_editor(folder / "dit.safetensors").sight.body is not None


def test_an_edit_of_the_face_alone_has_no_body_part(model):
    assert model.extract(Exemplar(astronaut(), retouched_mouth(astronaut()))).body is None
