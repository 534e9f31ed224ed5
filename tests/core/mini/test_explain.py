"""Which named operations an operation is made of."""

from functools import cache

import pytest
import torch
from torch import Tensor
from toys import LOCATOR, SEEING, astronaut

from mirrorppr_core.faces.locator import Locator
from mirrorppr_core.faces.search import locate
from mirrorppr_core.faces.view import CanonicalView
from mirrorppr_core.mini.arithmetic import Blended, Combined, Limited, Scaled, Undone
from mirrorppr_core.mini.explain import composition, explain
from mirrorppr_core.mini.operation import Operation
from mirrorppr_core.operations.atoms import KNOWN_OPERATIONS, Atom, atoms_of
from mirrorppr_core.operations.bank import PhotoFace, bank_motions
from mirrorppr_core.operations.sliders import Sliders

pytest.importorskip("skimage")
ATOMS = atoms_of(KNOWN_OPERATIONS)


@cache
def seen(atoms: tuple[Atom, ...]) -> Tensor:
    """The motions of atoms on Eileen Collins' face, (1, M, 2, N, N)."""
    locator = Locator.from_file(LOCATOR)
    face = locate(locator, astronaut())[0]
    view = CanonicalView(SEEING.view, locator.mean_face)
    return bank_motions(atoms, PhotoFace(face.mesh, (512, 512)), view.fit(face.landmarks), view)


def made_of(*atoms: Atom, noise: float = 0.0) -> Operation:
    motion = seen(atoms).sum(1)
    motion = motion + noise * motion.abs().amax() * torch.randn(
        motion.shape, generator=torch.Generator().manual_seed(0)
    )
    nothing = torch.zeros_like(motion)
    return Operation(tokens=torch.zeros(1, 1, 1), motion=motion, shape=nothing, atoms=seen(ATOMS), set_id="a")


@pytest.mark.parametrize("name", [name for name in KNOWN_OPERATIONS if name != "nose_bridge"])
def test_every_named_operation_is_recognised_with_its_strength(name):
    told = explain(made_of(Atom(name, -60.0)), ATOMS)
    assert told.found[0].operation == name and told.found[0].side == "both"
    assert told.found[0].percent == pytest.approx(-60, abs=10) and told.left_over < 0.25


def test_on_so_small_a_face_a_narrower_bridge_passes_for_its_look_alike():
    assert explain(made_of(Atom("nose_bridge", -60.0)), ATOMS).found[0].operation in ("nose_bridge", "nasal_root")


def test_two_operations_are_both_named_the_further_reaching_first():
    told = explain(made_of(Atom("mouth_resize", 90.0), Atom("eye_resize", 60.0), noise=0.02), ATOMS)
    assert {one.operation for one in told.found[:2]} == {"mouth_resize", "eye_resize"}
    assert told.found[0].share > told.found[1].share and sum(one.share for one in told.found) == pytest.approx(1)


def test_one_side_alone_is_named_as_such():
    told = explain(made_of(Atom("eye_trans_left+eye_trans_right", 70.0, "left")), ATOMS)
    assert told.found[0].side == "left" and told.found[0].slider.name == "eye_trans_left"


def test_what_has_no_name_is_left_over():
    nameless = made_of(Atom("nose_alar", 50.0))
    nameless.motion[:] = 0
    nameless.motion[..., 2:10, 2:10] = 3.0  # a corner of the view, beside the face
    told = explain(nameless, ATOMS)
    assert told.left_over > 0.9
    nameless.motion[:] = 0
    told = explain(nameless, ATOMS)
    assert told.found == () and told.left_over == 0 and "none of the named" in told.words()


def test_the_lines_open_as_the_sliders_that_were_found():
    told = explain(made_of(Atom("nose_alar", 80.0), Atom("jaw_trans", -70.0)), ATOMS)
    assert Sliders.from_text(told.lines()) == told.sliders
    assert set(told.lines().split()) >= {"nose_alar", "jaw_trans"}


def test_what_goes_beyond_the_sliders_is_cut_aloud():
    strong = made_of(Atom("nose_alar", 90.0))
    strong.motion[:] *= 1.5
    told = explain(strong, ATOMS)
    assert told.found[0].percent > 120
    assert "nose_alar = 100  # found 13" in told.lines() and Sliders.from_text(told.lines())


def test_operations_made_of_others_are_explained_to_first_order():
    nose = Sliders.of({"nose_alar": 40})
    eyes = Sliders.of({"eye_resize": 20})
    told = explain(Combined(steps=(Scaled(of=nose, factor=0.5), Undone(of=eyes))), ATOMS)
    assert {one.slider.name: one.percent for one in told.found} == {"nose_alar": 20.0, "eye_resize": -20.0}
    told = explain(Blended(of=(nose, eyes), weights=(3, 1)), ATOMS)
    assert {one.slider.name: one.percent for one in told.found} == {"nose_alar": 30.0, "eye_resize": 5.0}
    limited = explain(Limited(of=nose, parts=("nose",)), ATOMS)
    assert "limited" in limited.notes[0] and limited.left_over == 0
    assert composition(Undone(of=Combined(steps=(nose, eyes)))) == (
        "reversed (combined (sliders (nose_alar); sliders (eye_resize)))"
    )


def test_an_operation_with_other_names_than_the_sets_is_refused():
    with pytest.raises(ValueError, match="explain it with the set that extracted it"):
        explain(made_of(Atom("nose_alar", 50.0)), ATOMS[:-1])
