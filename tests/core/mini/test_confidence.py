"""How sure: what speaks against a retouch lowers its confidence, and the reason is told."""

from dataclasses import fields, replace

import pytest
import torch
from toys import SEEING, astronaut, hopper, push, save_set

from mirrorppr_core.exemplar import Exemplar
from mirrorppr_core.faces.locator import Face
from mirrorppr_core.faces.view import CanonicalView, ViewConfig
from mirrorppr_core.mini.confidence import (
    _USUAL,
    GOOD,
    LOW,
    Cues,
    Explained,
    Names,
    apart,
    confidence_in,
    mean_evidence,
    misplaced,
)
from mirrorppr_core.mini.operation import Evidence, Operation
from mirrorppr_core.mini.pipeline import MirrorPPR
from mirrorppr_core.operations.atoms import Atom


@pytest.mark.parametrize("cue", [one.name for one in fields(Cues)])
def test_no_cue_raises_the_confidence_when_it_grows(cue):
    worse = replace(_USUAL, **{cue: getattr(_USUAL, cue) + 1})
    assert confidence_in(worse).value <= confidence_in(_USUAL).value


def test_an_error_as_large_as_counts_for_good_is_even_chances():
    middle = min((confidence_in(replace(_USUAL, left=x / 100)) for x in range(-300, 100)),
                 key=lambda one: abs(one.expected_error - GOOD))  # fmt: skip
    assert middle.value == pytest.approx(0.5, abs=0.02)


def test_a_low_confidence_is_told_with_its_reason_and_a_high_one_is_not():
    low = confidence_in(replace(_USUAL, hidden=1.0, left=0.0))
    assert low.value < LOW and low.note[0].startswith(f"confidence {low.value:.2f}: ")
    assert confidence_in(replace(_USUAL, left=-3.0)).note == ()


def test_operations_that_are_hard_to_repeat_lower_the_confidence_by_their_share():
    atoms = (Atom("lip_thickness", 60), Atom("nose_alar", -60), Atom("mouth_smile", 60))
    names = Names.of(atoms)
    assert names.kinds[0] > 0 > names.kinds[1] and names.kinds[2] == 0
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(1, 3, 2, 64, 64, generator=generator)
    seen = {"tokens": torch.zeros(1, 1, 1), "shape": torch.zeros(1, 2, 64, 64), "atoms": bank, "set_id": "0"}
    shown = [Explained.of(Operation(motion=bank[:, i], **seen), names) for i in range(2)]
    hard, easy = (confidence_in(replace(_USUAL, kind=float(one.shares @ names.kinds))) for one in shown)
    assert shown[0].shares[0] > 0.9 and shown[1].shares[1] > 0.9
    assert hard.value < confidence_in(_USUAL).value < easy.value and "hard to repeat" in hard.reason


def test_what_named_operations_explain_goes_with_the_other_face_and_the_rest_is_copied():
    names = Names.of((Atom("lip_thickness", 60), Atom("nose_alar", -60)))
    bank, other = torch.randn(2, 1, 2, 2, 64, 64, generator=torch.Generator().manual_seed(1)).unbind()
    rest = 0.01 * torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(2))
    operation = Operation(tokens=torch.zeros(1, 1, 1), motion=bank[:, 0] + rest, shape=0 * rest, atoms=bank, set_id="0")
    there = Explained.of(operation, names).on(other, operation)
    assert apart(there, other[:, 0]) < 0.1 and apart(operation.motion, other[:, 0]) > 1


def test_looks_that_agree_do_not_shift_a_motion_and_looks_that_do_not_shift_it_by_their_share():
    mean_face = torch.rand(130, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    canonical = CanonicalView(ViewConfig(), mean_face)
    view = canonical.fit(mean_face * 50 + 100)
    x = torch.arange(64.0)
    motion = torch.zeros(1, 2, 64, 64)
    motion[:, 0] = torch.exp(-((x - 32) ** 2) / 50)[None, :] * torch.exp(-((x[:, None] - 32) ** 2) / 50)

    def face(shift):
        return Face(mean_face, torch.zeros(478, 2), 1.0, 1.0, (0, 0, 1, 1), strays=torch.full((3, 130, 2), shift))

    assert misplaced(motion, face(0.0), view, canonical) == 0.0
    small, large = (misplaced(motion, face(s * view.pixels_per_cell), view, canonical) for s in (0.1, 0.2))
    assert 0.01 < small < 0.2 and large == pytest.approx(2 * small, rel=0.05)


def test_how_far_two_motions_are_apart_is_relative():
    one = torch.rand(1, 2, 8, 8)
    assert apart(one, one) == 0.0 and apart(one, 0 * one) == pytest.approx(1.0, abs=1e-4)


def test_the_evidence_of_several_pairs_is_their_mean_or_unknown():
    first = Evidence(misplaced=0.1, noise=0.2, hidden=0.0, softened=1.0)
    second = Evidence(misplaced=0.3, noise=0.4, hidden=1.0, softened=0.0)
    mean = mean_evidence([first, second], torch.tensor([0.25, 0.75]))
    assert mean.misplaced == pytest.approx(0.25) and mean.hidden == pytest.approx(0.75)
    assert mean_evidence([first, None], torch.tensor([0.5, 0.5])) is None


def test_an_operation_and_its_retouch_carry_a_confidence(tmp_path):
    pytest.importorskip("skimage"), pytest.importorskip("matplotlib")
    save_set(tmp_path, config=SEEING)
    model = MirrorPPR.from_folder(tmp_path)
    operation = model.extract(Exemplar(astronaut(), push(astronaut(), centre=(226, 152), radius=28, shift=(5.0, 3.0))))
    assert 0 < operation.confidence < 1 and operation.evidence.noise < 0.5
    result = model.retouch(hopper(), operation)
    assert 0 < result.confidence < 1 and len(result.cues) == 1
    assert model.extract(Exemplar(astronaut(), astronaut())).confidence is None
