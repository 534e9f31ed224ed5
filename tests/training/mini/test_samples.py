"""Training samples: a batch is a function of its seed and step, and means the same operation on both faces."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close
from toys import TINY, drawn_faces, drawn_view, mirrored, seeded, table_amount

from mirrorppr_core.faces.landmarks import MIRROR_130
from mirrorppr_core.mini.bank_fit import mixed
from mirrorppr_core.operations.atoms import KNOWN_OPERATIONS, atoms_of, mirrored_order
from mirrorppr_core.operations.llw import OPERATIONS
from training.mini.config import NAMED, UNNAMED, SampleConfig
from training.mini.face_set import PROFESSIONAL_FACE, PROFESSIONAL_ROWS, TABLE_STRENGTHS, FaceSet
from training.mini.part_operations import draw_part_operations
from training.mini.samples import Batch, Sampler

CLEAN = SampleConfig(eye_distance_cells=8.0, hidden=0.0)


def sampler(faces: FaceSet | None = None, config: SampleConfig = CLEAN, seed: int = 0) -> Sampler:
    return Sampler(faces or drawn_faces(), drawn_view(), config, seed=seed)


def same(a: Batch, b: Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


def relative_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def test_a_batch_is_a_function_of_seed_and_step():
    one, noisy = sampler(), SampleConfig(eye_distance_cells=8.0)
    later = one.batch(3, 8)
    one.batch(7, 8)
    torch.manual_seed(99)
    assert same(sampler().batch(3, 8), later), "neither other steps nor the global generator have a say"
    assert not same(sampler().batch(4, 8), later) and not same(sampler(seed=1).batch(3, 8), later)
    assert same(sampler(config=noisy).batch(3, 8), sampler(config=noisy).batch(3, 8))


def test_every_sample_holds_an_operation_and_its_numbers_are_finite():
    batch = sampler(config=SampleConfig(eye_distance_cells=8.0)).batch(0, 64)
    assert (batch.operation != 0).any(1).all() and (batch.target != 0).flatten(1).any(1).all()
    assert ((batch.operation == 0) == (batch.strength == 0).all(-1)).all()
    assert all(value.isfinite().all() for value in vars(batch).values())
    for pixels in (batch.exemplar_pixels, batch.exemplar_after, batch.query_pixels):
        assert pixels.shape == (64, 3, 64, 64) and pixels.amin() >= 0 and pixels.amax() <= 1


def test_named_operations_move_as_far_as_their_strength_says():
    faces = drawn_faces(alike=True)
    batch = sampler(faces, replace(CLEAN, part_share=0.0)).batch(0, 64)
    named = ~(batch.operation == UNNAMED).any(1)
    assert named.sum() > 30
    for row in named.nonzero()[:, 0].tolist():
        expected = torch.zeros_like(batch.target[row])
        for o, s in zip(batch.operation[row].tolist(), batch.strength[row].tolist(), strict=True):
            if o and NAMED[o - 1] in OPERATIONS:
                at_100 = faces.llw[0, o - 1, TABLE_STRENGTHS.index(100)].float()
                expected += at_100 / table_amount(1.0) * table_amount(s[0])
            elif o:
                for moved, amount in zip(PROFESSIONAL_ROWS[NAMED[o - 1]], s, strict=False):
                    expected += amount * faces.professional[0, moved].float()
        assert_close(batch.target[row], expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("strength", TABLE_STRENGTHS)
def test_between_its_entries_the_table_is_a_parabola_that_hits_them(strength):
    faces = drawn_faces()
    operation, wanted = torch.tensor([[6, 0, 0]] * 2), torch.zeros(2, 3, 2)
    wanted[:, 0] = strength / 100
    motion = sampler(faces)._named_motion(torch.tensor([4, 1]), torch.tensor([False, True]), operation, wanted)
    entry = faces.llw[:, 5, TABLE_STRENGTHS.index(strength)].float()
    assert_close(motion, torch.stack([entry[4], mirrored(entry[1])]))


def test_one_side_of_a_paired_operation_stays_on_that_side_of_the_person():
    faces = drawn_faces()
    name = next(n for n in PROFESSIONAL_FACE if len(PROFESSIONAL_ROWS[n]) == 2)
    right, left = (faces.professional[:, row].float() for row in PROFESSIONAL_ROWS[name])
    operation, strength = torch.tensor([[NAMED.index(name) + 1, 0, 0]] * 2), torch.zeros(2, 3, 2)
    strength[:, 0, 0] = 0.5  # the person's right
    motion = sampler(faces)._named_motion(torch.tensor([2, 2]), torch.tensor([False, True]), operation, strength)
    assert_close(motion, torch.stack([0.5 * right[2], mirrored(0.5 * left[2])]))


def test_shares_and_left_out_operations_are_kept():
    only_llw = replace(CLEAN, professional_share=0.0, part_share=0.0)
    drawn = sampler(config=only_llw).batch(0, 128).operation
    assert set(drawn.unique().tolist()) <= {*range(len(OPERATIONS) + 1), UNNAMED}
    without = replace(CLEAN, leave_out=("lip_thickness",))
    drawn = torch.cat([sampler(config=without).batch(step, 128).operation for step in range(3)])
    assert not (drawn == NAMED.index("lip_thickness") + 1).any() and len(drawn.unique()) > 20
    with pytest.raises(ValueError, match="no such operation"):
        SampleConfig(leave_out=("wings",))
    for name in ("hidden", "part_share"):
        with pytest.raises(ValueError, match=f"{name}=1.5: a share is a number from 0 to 1"):
            SampleConfig(**{name: 1.5})
    with pytest.raises(ValueError, match="fewer than two operations"):
        SampleConfig(leave_out=NAMED[1:])


def test_atoms_of_a_sample_explain_its_named_operations():
    config = replace(CLEAN, count_odds=(0.0, 1.0, 0.0), part_share=0.0, professional_share=1.0)
    batch = sampler(config=config).batch(0, 16)
    amounts = torch.zeros(16, batch.query_atoms.shape[1])
    for row in range(16):
        name = NAMED[int(batch.operation[row, 0]) - 1]
        own = [i for i, atom in enumerate(atoms_of(KNOWN_OPERATIONS)) if atom.operation == name]
        amounts[row, own] = batch.strength[row, 0, : len(own)]
    assert_close(mixed(amounts, batch.query_atoms.float()), batch.target, atol=5e-3, rtol=0)


def test_hidden_operations_are_missing_from_the_exemplars_bank_alone():
    seen, hidden = sampler().batch(0, 32), sampler(config=replace(CLEAN, hidden=1.0)).batch(0, 32)
    gone = (hidden.exemplar_atoms == 0).flatten(2).all(2) & ~(seen.exemplar_atoms == 0).flatten(2).all(2)
    columns = [NAMED.index(atom.operation) + 1 for atom in atoms_of(KNOWN_OPERATIONS)]
    shown = torch.stack([(hidden.operation == number).any(1) for number in columns], dim=1)
    assert torch.equal(gone, shown) and gone.any()
    assert torch.equal(hidden.query_atoms, seen.query_atoms) and torch.equal(hidden.target, seen.target)


def test_a_network_that_knows_fewer_operations_gets_their_atoms_alone():
    few = Sampler(drawn_faces(), drawn_view(), CLEAN, seed=0, operations=("nose_alar", "jaw_trans")).batch(0, 4)
    every = sampler().batch(0, 4)
    own = [i for i, atom in enumerate(atoms_of(KNOWN_OPERATIONS)) if atom.operation in ("nose_alar", "jaw_trans")]
    assert torch.equal(few.query_atoms, every.query_atoms[:, own])


def test_without_pixels_the_geometry_is_the_same():
    one, other = sampler().batch(2, 8), sampler().batch(2, 8, pixels=False)
    assert other.query_pixels.numel() == 24
    for name in ("copied", "target", "query_shape", "exemplar_points", "operation", "strength"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def test_landmarks_and_shapes_of_a_sample_agree():
    batch = sampler(drawn_faces(error=0.03)).batch(0, 8)
    view = drawn_view()
    # In cells. On the outline the map of shapes turns into that of what lies beside the face: less exact there.
    assert_close(view.landmarks(batch.query_shape), batch.query_points, atol=0.05, rtol=0)
    assert_close(view.landmarks(batch.exemplar_shape), batch.exemplar_points, atol=0.05, rtol=0)


@pytest.mark.parametrize("part_share", [0.0, 1.0])
def test_on_one_face_the_exemplar_moves_as_the_query_does(part_share):
    faces = drawn_faces(alike=True)  # symmetric: a flipped face is the same face
    batch = sampler(faces, replace(CLEAN, part_share=part_share)).batch(0, 64)
    measured = [relative_difference(c, t) for c, t in zip(batch.copied, batch.target, strict=True)]
    assert max(measured) < 0.4 and sum(measured) / 64 < 0.15  # measuring blurs, but no sample is another motion
    assert relative_difference(batch.copied.roll(1, 0), batch.target) > 1


def test_self_augmented_samples_show_one_face_and_its_own_motion():
    faces = drawn_faces()
    batch = sampler(faces, replace(CLEAN, same_identity=1.0)).batch(0, 32)
    one = (batch.exemplar_shape - batch.query_shape).flatten(1).norm(dim=1)
    flipped = (batch.exemplar_shape - mirrored(batch.query_shape)).flatten(1).norm(dim=1)
    assert torch.minimum(one, flipped).max() < 1e-4 and (one < 1e-4).any() and (flipped < 1e-4).any()
    unlike = sampler(faces, replace(CLEAN, same_identity=0.0)).batch(0, 32)
    assert (unlike.exemplar_shape - unlike.query_shape).flatten(1).norm(dim=1).median() > 1e-2


def test_mirrored_faces_give_mirrored_batches():
    faces = drawn_faces()
    points = faces.points[:, list(MIRROR_130)]
    swapped = [row for rows in PROFESSIONAL_ROWS.values() for row in reversed(rows)]
    other = mirrored_order(atoms_of(KNOWN_OPERATIONS))
    twins = replace(
        faces,
        atoms=mirrored(faces.atoms[:, :, other]),
        pixels=faces.pixels.flip(-1),
        shapes=mirrored(faces.shapes),
        points=torch.stack([TINY.view.size - 1 - points[..., 0], points[..., 1]], dim=-1),
        llw=mirrored(faces.llw),
        professional=mirrored(faces.professional)[:, swapped],
    )
    config = replace(CLEAN, part_share=0.0, one_sided=0.0)
    one, other = sampler(faces, config).batch(0, 64), sampler(twins, config).batch(0, 64)
    named = ~(one.operation == UNNAMED).any(1)  # a part operation acts on one side of the picture
    assert_close(other.target[named], mirrored(one.target[named]), atol=1e-5, rtol=0)
    assert_close(other.exemplar_after[named], one.exemplar_after[named].flip(-1), atol=1e-5, rtol=0)
    assert_close(other.query_shape, mirrored(one.query_shape))
    assert_close(other.exemplar_atoms, mirrored(one.exemplar_atoms[:, mirrored_order(atoms_of(KNOWN_OPERATIONS))]))
    assert_close(other.query_pixels, one.query_pixels.flip(-1), atol=1e-5, rtol=0)


def test_a_part_operation_on_both_sides_of_a_symmetric_face_is_symmetric():
    faces = drawn_faces(64, alike=True)
    drawn = draw_part_operations(seeded(0), 64, drawn_view().template, view_size=32, eye_distance=8.0, any_part=0.5)
    sided = drawn.both  # some of those on one side
    assert 10 < sided.sum() < 60
    on_both = drawn.motion(faces.shapes, faces.points, 8.0)
    one = replace(drawn, both=torch.zeros(64, dtype=torch.bool)).motion(faces.shapes, faces.points, 8.0)
    assert_close(on_both[sided], mirrored(on_both[sided]), atol=1e-5, rtol=0)
    assert_close(on_both[sided], one[sided] + mirrored(one[sided]), atol=1e-5, rtol=0)
    assert one[sided].flatten(1).norm(dim=1).amin() > 0


def test_part_operations_do_not_fold():
    batch = sampler(config=replace(CLEAN, part_share=1.0)).batch(0, 256)
    alone = (batch.operation[:, :2] == 0).all(1)
    assert alone.sum() > 40
    target = batch.target[alone]
    assert target.diff(dim=-1).abs().amax() < 0.71 and target.diff(dim=-2).abs().amax() < 0.71


def test_a_locators_errors_are_as_large_as_the_tables_say_and_move_pixels_shape_and_motion_together():
    clean, noisy = sampler().batch(0, 64), sampler(drawn_faces(error=0.05)).batch(0, 64)
    error = noisy.query_shape - clean.query_shape
    size = error.norm(dim=1)[:, 8:24, 8:24].mean() / CLEAN.eye_distance_cells
    assert 0.01 < size < 0.1  # the smoothed spline evens out part of it
    grid = (torch.stack(torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="xy")) + error + 0.5) / 16 - 1
    seen = torch.nn.functional.grid_sample(clean.target, grid.permute(0, 2, 3, 1), align_corners=False)
    assert_close(noisy.target, seen, atol=1e-4, rtol=0)
