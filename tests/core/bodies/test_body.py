"""Body retouches: measured beside the face, carried bone by bone, adding up with the face's part.

The network's joints are replaced by drawn ones, so what is held here is true of any weights.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toys import SEEING, astronaut, hopper, push, randomise, retouched_mouth, save_set, seeded

from mirrorppr_core.bodies.bones import Skeleton, facing, has_a_place, match
from mirrorppr_core.bodies.joints import find_body, load_body_net, save_body_net, told_joints
from mirrorppr_core.bodies.motion_map import HEIGHT, WIDTH, carry, motion_of_body
from mirrorppr_core.bodies.network import BELOW_EYES, CROP_PX, HALF_SIDE, JOINTS, MIRROR_JOINTS, BodyNet
from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.geometry.displacement import jacobian_determinant, pixel_grid
from mirrorppr_core.geometry.field import apply_field
from mirrorppr_core.geometry.similarity import Similarity
from mirrorppr_core.mini.editor import RetouchConfig
from mirrorppr_core.mini.files import load_editor, load_part, save_part
from mirrorppr_core.mini.pipeline import MirrorPPR

STANDING = torch.tensor(
    [[-2.5, 4.5], [2.5, 4.5], [-3.0, 9.0], [3.0, 9.0], [-3.2, 13.0], [3.2, 13.0], [-1.6, 12.0], [1.6, 12.0]]
)
SIZE = (560, 480)


def person(joints: Tensor = STANDING, *, untold: tuple[str, ...] = ()) -> Skeleton:
    told = torch.tensor([name not in untold for name in JOINTS])
    return Skeleton(joints=joints, told=told, chin=torch.tensor([0.0, 1.5]))


def frame(scale: float = 30.0, x: float = 240.0, y: float = 110.0) -> Similarity:
    return Similarity(torch.tensor(scale), torch.tensor(0.0), torch.tensor([x, y]))


def bump(place: tuple[float, float], *, where: Similarity, radius: float = 2.0, shift=(0.3, 0.1)) -> Tensor:
    """Smooth motion (1, 2, *SIZE) px around a place in eye distances."""
    away = (pixel_grid(*SIZE) - where.translation.view(1, 2, 1, 1)) / where.scale - torch.tensor(place).view(1, 2, 1, 1)
    weight = (1 - away.square().sum(1, keepdim=True) / radius**2).clamp(min=0) ** 2
    return weight * torch.tensor(shift).view(1, 2, 1, 1) * where.scale


def read(motion: Tensor, skeleton: Skeleton, where: Similarity, others: float = 0.0):
    return motion_of_body(motion, where, skeleton, torch.full((1, 1, HEIGHT * 8, WIDTH * 8), others))


# bones


def test_a_body_matches_itself():
    places = torch.rand(50, 2, generator=seeded()) * torch.tensor([8.0, 14.0]) - torch.tensor([4.0, 1.0])
    found = match(places, person(), person())
    assert_close(found.places, places, atol=1e-4, rtol=0)
    assert_close(found.turn, torch.eye(2).expand(50, 2, 2), atol=1e-5, rtol=0)


def test_a_larger_body_is_the_same_body():
    places = torch.tensor([[-2.5, 4.5], [-3.0, 7.0], [1.0, 8.0]])
    found = match(1.5 * places, person(1.5 * STANDING), person())
    assert_close(found.places, places, atol=0.05, rtol=0)
    assert_close(found.turn[0], 1.5 * torch.eye(2), atol=0.05, rtol=0)


def test_motion_turns_with_a_raised_arm():
    raised = STANDING.clone()
    raised[2], raised[4] = torch.tensor([-7.0, 4.5]), torch.tensor([-11.0, 4.5])
    found = match(torch.tensor([[-5.0, 4.5]]), person(raised), person())
    assert (found.places[0] - torch.tensor([-2.8, 6.9])).norm() < 0.3  # halfway down the hanging arm
    across = found.turn[0] @ torch.tensor([1.0, 0.0])  # across that arm ...
    assert abs(across[1]) > 0.95 and abs(across[0]) < 0.3  # ... is up and down across the raised one


def test_a_person_from_behind_is_not_turned_upside_down():
    behind = facing(person(STANDING[list(MIRROR_JOINTS)]))
    assert_close(behind.joints, STANDING)


def test_an_arm_that_the_query_does_not_show_gets_nothing_but_its_shoulder_does():
    query = person(untold=("elbow_r", "wrist_r"))
    forearm, shoulder, waist = has_a_place(torch.tensor([[-3.1, 11.0], [-2.5, 4.5], [0.0, 9.0]]), person(), query)
    assert forearm < 0.1 and shoulder > 0.99 and waist > 0.9


# the map


def test_on_the_exemplar_itself_the_motion_comes_back():
    motion = bump((-2.5, 4.5), where=frame())
    carried = carry(read(motion, person(), frame()), person(), frame(), strength=1.0, size=SIZE)
    assert (carried.field.dense() - motion).norm() < 0.05 * motion.norm()
    assert not (carried.softened or carried.lost or carried.cut)


@pytest.mark.parametrize("strength", [-1.0, 0.5])
def test_strength_scales_and_reverses_exactly(strength):
    body = read(bump((2.5, 4.5), where=frame()), person(), frame())
    once, other = (carry(body, person(), frame(), strength=s, size=SIZE).field.dense() for s in (1.0, strength))
    assert_close(other, strength * once, atol=1e-5, rtol=1e-5)


def test_pixels_beside_the_motion_do_not_move_at_all():
    carried = carry(
        read(bump((2.5, 4.5), where=frame()), person(), frame()), person(), frame(), strength=1.0, size=SIZE
    )
    still = carried.field.dense().norm(dim=1)[0] == 0
    assert still.float().mean() > 0.8
    photo = torch.randint(0, 256, (1, 3, *SIZE), generator=seeded(), dtype=torch.uint8)
    assert torch.equal(apply_field(photo, carried.field)[0][:, still], photo[0][:, still])


def test_a_photo_twice_as_large_is_moved_twice_as_far():
    body = read(bump((-2.5, 4.5), where=frame()), person(), frame())
    small = carry(body, person(), frame(), strength=1.0, size=SIZE).field
    large = carry(body, person(), frame(60, 480.5, 220.5), strength=1.0, size=(1120, 960)).field
    assert large.max_px == pytest.approx(2 * small.max_px, rel=0.02)
    assert_close(large.resized(*SIZE).dense(), small.dense(), atol=0.3, rtol=0)


def test_what_others_carry_is_not_carried_twice():
    motion = bump((-2.5, 4.5), where=frame())
    whole, half = (read(motion, person(), frame(), others) for others in (0.0, 0.5))
    assert_close(half.motion, 0.5 * whole.motion)


def test_motion_that_would_fold_is_softened():
    wild = read(bump((-2.5, 4.5), where=frame(), radius=1.0, shift=(0.9, 0.0)), person(), frame())
    carried = carry(wild, person(), frame(), strength=2.0, size=SIZE)
    assert carried.softened and float(jacobian_determinant(carried.field.displacement).amin()) > -0.5


def test_a_body_cut_off_by_the_photo_is_reported():
    body = read(bump((0.0, 11.0), where=frame(), radius=1.5), person(), frame())
    carried = carry(body, person(), frame(), strength=1.0, size=(400, 480))  # ends 9.6 eye distances below the eyes
    assert carried.cut and carried.field.max_px < 0.05 * float(bump((0.0, 11.0), where=frame()).amax())


def test_motion_goes_on_beyond_the_exemplars_photo_and_fades():
    shown = bump((0.0, 9.0), where=frame(), radius=3.0)[..., :380, :]  # cut at 9 below the eyes, in full motion
    dense = carry(read(shown, person(), frame()), person(), frame(), strength=1.0, size=SIZE).field.dense()
    column = dense[0, 0, :, 240]
    assert column[385] > 0.5 * column[370] and (column[380 + 60 :] == 0).all()
    assert column.diff().abs().amax() < 0.08 * column.amax()  # no seam


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
