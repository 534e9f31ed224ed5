"""The bank: named operations as they look on one face, and recognising them in a measured motion."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from toys import seeded

from mirrorppr_core.faces.landmarks import FACE_POINTS
from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.faces.view import CanonicalView, ViewConfig
from mirrorppr_core.geometry.displacement import sample
from mirrorppr_core.mini.bank_fit import BankFit, BankMatch, mixed
from mirrorppr_core.mini.files import bundled_set
from mirrorppr_core.operations.atoms import KNOWN_OPERATIONS, Atom, atoms_of, mirrored_order
from mirrorppr_core.operations.bank import PhotoFace, bank_motions
from mirrorppr_core.operations.llw import llw_displacement
from mirrorppr_core.operations.llw_table import OPERATIONS as LLW
from mirrorppr_core.operations.professional import professional_displacement, professional_displacement_at
from mirrorppr_core.operations.professional_atoms import professional_atoms_at

FEW = atoms_of(("eye_resize", "mouth_resize", "jaw_trans", "eye_height_left+eye_height_right"))
ALL = atoms_of(KNOWN_OPERATIONS)
ONE_WAY = torch.tensor([float(atom.operation in LLW) for atom in ALL])
SIZE = (512, 480)


@pytest.fixture(scope="module")
def locator() -> Locator:
    return Locator.from_file(bundled_set() / "locator.safetensors")


@pytest.fixture(scope="module")
def view(locator) -> CanonicalView:
    return CanonicalView(ViewConfig(), locator.mean_face)


@pytest.fixture(scope="module")
def mesh(locator) -> Tensor:
    """The mean face, 100 pixels from eye to eye, a little turned."""
    turn = torch.tensor([[0.995, 0.1], [-0.1, 0.995]])
    return locator.mean_mesh @ turn * 100 + torch.tensor([240.0, 230.0])


def atoms_on(mesh: Tensor, size: tuple[int, int], view: CanonicalView, atoms=FEW) -> Tensor:
    return bank_motions(atoms, PhotoFace(mesh, size), view.fit(mesh[list(FACE_POINTS)]), view)


def test_llw_has_an_atom_for_each_direction_and_a_paired_operation_one_for_each_side():
    assert FEW == (
        Atom("eye_resize", 100.0),
        Atom("eye_resize", -100.0),
        Atom("mouth_resize", 100.0),
        Atom("mouth_resize", -100.0),
        Atom("jaw_trans"),
        Atom("eye_height_left+eye_height_right", side="right"),
        Atom("eye_height_left+eye_height_right", side="left"),
    )
    with pytest.raises(ValueError, match=r"\['ears'\] are unknown: use some of eye_resize"):
        atoms_of(("eye_resize", "ears"))


def test_the_mirror_image_swaps_the_sides_of_paired_operations_alone():
    assert mirrored_order(FEW) == [0, 1, 2, 3, 4, 6, 5]


def test_an_atom_is_the_operations_own_motion_at_full_strength_in_cells(view, mesh):
    seen = view.fit(mesh[list(FACE_POINTS)])
    found = atoms_on(mesh, SIZE, view)[0]
    dense = [
        llw_displacement(mesh, SIZE, operation="mouth_resize", strength=-100).displacement,
        professional_displacement(mesh, None, SIZE, operation="jaw_trans", strength=100),
    ]
    for atom, displacement in zip(found[[3, 4]], dense, strict=True):
        pixels = sample(displacement, seen.positions, mode="bilinear")[0]
        turned = torch.einsum("ij,jhw->ihw", seen.similarity.linear()[0], atom)
        inside = view.window[0] == 1  # the motion fades at the view's border
        assert float((turned - pixels).norm(dim=0)[inside[0]].amax()) < 0.15 and pixels.abs().amax() > 3


def test_the_same_face_at_another_size_has_the_same_atoms(view, mesh):
    twice = atoms_on(mesh * 2, (2 * SIZE[0], 2 * SIZE[1]), view)
    assert_close(twice, atoms_on(mesh, SIZE, view), atol=2e-3, rtol=0)


def test_in_a_wide_shot_the_grid_is_that_of_a_portrait(view, mesh):
    """LLW's grid is a share of the photo: in a wide shot it would be coarser than the whole face."""
    one, wide = (atoms_on(mesh + shift, size, view) for shift, size in ((700.0, (1900, 2000)), (3000.0, (6000, 8000))))
    assert_close(wide, one, atol=2e-2, rtol=0)
    portrait = atoms_on(mesh, SIZE, view)
    error = (wide - portrait).flatten(2).norm(dim=2) / portrait.flatten(2).norm(dim=2)
    assert error.amax() < 0.6 and error[:, 4:].amax() < 1e-3, "only LLW has a grid, whose place differs"


def test_on_a_tilted_head_operations_turn_with_the_face(view, mesh):
    centre, atoms = mesh.mean(0), atoms_of(("mouth_position", "eye_resize", "jaw_trans"))
    upright = atoms_on(mesh, SIZE, view, atoms)
    for degrees in (-40.0, 25.0, 90.0):
        angle = torch.deg2rad(torch.tensor(degrees))
        turn = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()]).view(2, 2)
        tilted = atoms_on((mesh - centre) @ turn.mT + centre, SIZE, view, atoms)
        error = (tilted - upright).flatten(2).norm(dim=2) / upright.flatten(2).norm(dim=2)
        assert error[:, :4].amax() < 0.5 and error[:, 4].amax() < 1e-3, "only LLW has a grid, whose place differs"
        down = tilted[0, 0, 1].sum() / tilted[0, 0].norm(dim=0).sum()
        assert down < -0.95, "the mouth moves down the face, which is fetched from above"


def test_a_face_without_its_mesh_is_refused(view, mesh):
    with pytest.raises(ValueError, match=r"mesh is \(130, 2\): pass one face's \(478, 2\)"):
        seen = view.fit(mesh[list(FACE_POINTS)])
        bank_motions(FEW, PhotoFace(mesh[list(FACE_POINTS)], SIZE), seen, view)


@pytest.fixture(scope="module")
def bank(view, mesh) -> Tensor:
    return atoms_on(mesh, SIZE, view, ALL)


def confident(weight: float = 1.0) -> BankFit:
    """A fit without learned doubts."""
    torch.manual_seed(0)
    fit = BankFit(ALL, text_width=8, hidden=8)
    with torch.no_grad():
        fit.answer.bias.copy_(torch.cat([torch.full((50,), -9.0), torch.full((50,), weight), torch.zeros(1)]))
    return fit


TOKENS = torch.zeros(1, 2, 8)


@torch.no_grad()
def test_a_mixture_of_atoms_is_recognised(bank):
    wanted = torch.zeros(1, 50)
    wanted[0, [2, 9, 30]] = torch.tensor([0.7, 0.4, -0.5])
    motion = mixed(wanted, bank)
    found, keep = confident()(BankMatch.of(motion, bank), TOKENS)
    assert keep == 1
    assert float((mixed(found, bank) - motion).norm() / motion.norm()) < 0.1, "look-alikes may share a motion"


@torch.no_grad()
def test_amounts_are_proportional_to_the_motion_and_zero_without_one(bank):
    motion = 0.5 * bank[:, 5]
    one, twice, none = (confident()(BankMatch.of(k * motion, bank), TOKENS)[0] for k in (1.0, 2.0, 0.0))
    assert_close(twice, 2 * one, atol=1e-4, rtol=1e-3)
    assert not none.any()


@torch.no_grad()
def test_an_operation_that_does_not_show_on_the_exemplar_is_never_found(bank):
    hidden = bank.clone()
    hidden[:, 5] = 0
    found, _ = confident()(BankMatch.of(bank[:, 5], hidden), TOKENS)
    assert found[0, 5] == 0 and found.isfinite().all()


def test_a_fresh_fit_takes_nothing_and_can_learn(bank):
    fit, motion = BankFit(ALL, text_width=8, hidden=8), 0.5 * bank[:, 5]
    amounts, keep = fit(BankMatch.of(motion, bank), torch.randn(1, 2, 8, generator=seeded()))
    assert not amounts.any() and keep == 1
    left = motion - mixed(amounts, bank)
    (mixed(amounts, bank) + 0.5 * keep[..., None, None] * left - motion).square().sum().backward()
    gradient = fit.answer.weight.grad.abs()
    assert gradient[50:100].amax() > 0 and gradient[100].amax() > 0, "of the weights, and of what is left"


def test_the_greedy_guess_names_the_few_operations_of_a_retouch(bank):
    for wanted in ({2: 0.7}, {9: 0.4, 30: -0.5}, {1: 0.6, 12: 0.8, 49: 0.7}):
        amounts = torch.zeros(1, 50)
        amounts[0, list(wanted)] = torch.tensor(list(wanted.values()))
        match = BankMatch.of(mixed(amounts, bank), bank)
        found = match.greedy(ONE_WAY) / match.size
        largest = found[0].abs().topk(len(wanted)).indices
        assert set(largest.tolist()) == set(wanted)
        assert_close(found[0, largest], amounts[0, largest], atol=0.2, rtol=0)  # look-alikes take a little
        assert match.left(match.greedy(ONE_WAY)) < 0.1 < match.left(torch.zeros(1, 50))


def test_the_greedy_guess_never_takes_a_direction_of_llw_backwards(bank):
    match = BankMatch.of(-bank[:, 0], bank)  # like eyes made smaller, which is the second atom
    found = match.greedy(ONE_WAY)
    assert found[0, 0] == 0 and found[0, 1] > 0


@torch.no_grad()
def test_training_in_16_bits_still_solves_in_32(bank):
    motion = 0.5 * bank[:, 5]
    exact, _ = confident()(BankMatch.of(motion, bank), TOKENS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        match = BankMatch.of(motion, bank)
        found, _ = confident()(match, TOKENS)
    assert match.gram.dtype == match.match.dtype == torch.float32
    assert_close(found, exact, atol=0.02, rtol=0)


def test_a_high_precision_keeps_an_atom_out():
    atoms = torch.randn(1, 2, 2, 16, 16, generator=seeded())
    match = BankMatch.of(atoms[:, 0] + atoms[:, 1], atoms)
    amounts = match.solve(torch.tensor([[1e-4, 1e4]])) / match.size
    assert amounts[0, 0] > 0.8 and amounts[0, 1].abs() < 1e-2


def test_professional_atoms_found_together_are_those_found_one_by_one(mesh):
    points = torch.rand(300, 2, generator=torch.Generator().manual_seed(2)) * 480
    atoms = tuple(atom for atom in ALL if atom.operation not in LLW)
    together = professional_atoms_at(points, mesh, (*atoms, replace(atoms[0], strength=-40.0)))
    for atom, moved in zip(atoms, together, strict=False):
        how = {"operation": atom.operation, "strength": atom.strength, "side": atom.side}
        assert_close(moved, professional_displacement_at(points, mesh, None, **how), atol=1e-4, rtol=1e-4)
    assert_close(together[-1], together[0] * -0.4, atol=1e-5, rtol=1e-5)
