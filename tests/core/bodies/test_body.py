"""Body retouches from pixels to pixels: measured beside the face, carried by joints, adding up with the face's part.

The network's joints are replaced by drawn ones, so what is held here is true of any weights.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toys import SEEING, astronaut, hopper, push, randomise, retouched_mouth, save_set, seeded

from mirrorppr_core.bodies.joints import find_body, load_body_net, save_body_net, told_joints
from mirrorppr_core.bodies.network import BELOW_EYES, CROP_PX, HALF_SIDE, MIRROR_JOINTS, BodyNet
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.similarity import Similarity
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.files import load_editor, load_part, save_part
from mirrorppr_core.mini.pipeline import MirrorPPR

STANDING = torch.tensor(
    [[-2.5, 4.5], [2.5, 4.5], [-3.0, 9.0], [3.0, 9.0], [-3.2, 13.0], [3.2, 13.0], [-1.6, 12.0], [1.6, 12.0]]
)


# the network


def test_joints_swap_sides_in_the_mirror():
    net = randomise(BodyNet())
    pixels = torch.rand(1, 4, CROP_PX, CROP_PX, generator=seeded())
    own, mirrored = told_joints(net, pixels)[0], told_joints(net, pixels.flip(-1))[0]
    assert_close(mirrored[:, 0], -own[list(MIRROR_JOINTS), 0], atol=1e-5, rtol=0)


def test_joints_move_with_the_photo():
    net, photo = randomise(BodyNet()), torch.rand(1, 3, 300, 300, generator=seeded())
    here = find_body(net, photo, Similarity(torch.tensor(10.0), torch.tensor(0.0), torch.tensor([150.0, 100.0])))
    cropped = photo[..., 30:, 20:]
    there = find_body(net, cropped, Similarity(torch.tensor(10.0), torch.tensor(0.0), torch.tensor([130.0, 70.0])))
    assert_close(there.joints, here.joints - torch.tensor([20.0, 30.0]), atol=1e-2, rtol=0)


def test_the_file_of_the_network_is_strict(tmp_path):
    net, path = randomise(BodyNet()), tmp_path / "body.safetensors"
    save_body_net(net, path)
    pixels = torch.rand(1, 4, CROP_PX, CROP_PX, generator=seeded())
    assert_close(told_joints(load_body_net(path), pixels), told_joints(net, pixels), atol=0.02, rtol=0.02)
    assert path.stat().st_size < 3e6 and sum(p.numel() for p in net.parameters()) < 1.5e6
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        load_body_net(path)
    with pytest.raises(FileNotFoundError, match="body.safetensors is missing"):
        load_body_net(tmp_path / "no" / "body.safetensors")
    with pytest.raises(ValueError, match="holds no body network"):
        load_body_net(save_set(tmp_path / "set", config=SEEING) / "locator.safetensors")


# from pixels to pixels


def drawn_net() -> BodyNet:
    """The real network, which sees STANDING everywhere."""
    net = randomise(BodyNet())
    places = (STANDING - torch.tensor([0.0, BELOW_EYES])) / HALF_SIDE
    with torch.no_grad():
        net.maps.weight.zero_()
        net.prior.copy_(-300 * (net.cells - places[:, None, None]).square().sum(dim=-1))
        net.certainty[-1].weight.zero_()
        net.certainty[-1].bias.fill_(5.0)
    return net


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> MirrorPPR:
    pytest.importorskip("skimage")
    pytest.importorskip("matplotlib")
    folder = save_set(tmp_path_factory.mktemp("set"), config=SEEING, trained=False)
    save_body_net(drawn_net(), folder / "body.safetensors")
    return MirrorPPR.from_folder(folder)


def with_shoulder(photo: Tensor) -> Tensor:
    """The astronaut with one shoulder moved."""
    return push(photo, centre=(330, 300), radius=60, shift=(9.0, 0.0))


@pytest.fixture(scope="module")
def shoulder(model):
    return model.extract(Exemplar(astronaut(), with_shoulder(astronaut())))


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
    assert len(looks) == 2 * once + 1, "the locator once, the body network once"
    assert torch.equal(extracted.face.mesh, face.mesh) and [f.box for f in extracted.faces] == [face.box]
    again = model.retouch(exemplar.before, extracted.operation)
    assert_close(extracted.field.dense(), again.field.dense())


def test_a_body_edit_alone_is_an_operation_without_a_warning(shoulder):
    assert shoulder.body is not None and not shoulder.is_identity and shoulder.notes == ()
    assert not (shoulder.motion != 0).any() and shoulder.largest_px == pytest.approx(9.0, rel=0.15)


def test_applied_to_its_own_exemplar_it_gives_the_after_back(model, shoulder):
    before, after = astronaut().float() / 255, with_shoulder(astronaut()).float() / 255
    again = model.retouch(before, shoulder).image
    assert (again - after).square().sum() < 0.1 * (before - after).square().sum()


def test_face_and_body_together_give_the_after_back(model):
    before, both = astronaut().float() / 255, with_shoulder(retouched_mouth(astronaut()))
    operation = model.extract(Exemplar(astronaut(), both))
    assert (operation.motion != 0).any() and operation.body is not None
    again = model.retouch(before, operation).image
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


def test_a_set_that_names_its_body_network_wants_that_one(tmp_path):
    folder = save_set(tmp_path, config=SEEING)
    assert load_editor(folder / "dit.safetensors").sight.body is None
    dit = load_part(folder / "dit.safetensors", "dit")
    save_part(folder / "dit.safetensors", "dit", dit.state, dit.config, dit.set_id, dit.locator_sha256, "0" * 64)
    with pytest.raises(FileNotFoundError, match="body.safetensors is missing"):
        load_editor(folder / "dit.safetensors")
    save_body_net(drawn_net(), folder / "body.safetensors")
    with pytest.raises(ValueError, match="body.safetensors is not the one that belongs to it"):
        load_editor(folder / "dit.safetensors")


def test_an_edit_of_the_face_alone_has_no_body_part(model):
    assert model.extract(Exemplar(astronaut(), retouched_mouth(astronaut()))).body is None
