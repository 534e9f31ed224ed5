"""Quadruplets: a function of the number alone, whoever asks, in whatever order."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torch.utils.data import DataLoader

from mirrorppr_core.geometry.displacement import changed_mask, jacobian_determinant, warp
from tests.training.recipes.test_recipes import full_mesh
from training.data.landmark_sources import landmark_source
from training.data.portrait_folder import Portrait, PortraitFolder, Skipped
from training.recipes.augment import AugmentConfig
from training.recipes.quadruplets import PLAIN, Quadruplet, QuadrupletConfig, Quadruplets
from training.recipes.recipe import PROFESSIONAL_FACE, SIMULATED

PHOTO = (192, 160)
SIZE = (64, 64)
TINY = QuadrupletConfig(operations=SIMULATED + PROFESSIONAL_FACE, exemplar_size=SIZE, query_size=(64, 80))


class DrawnPortraits:
    """Noise with a face drawn nowhere but in the landmarks; every fifth cannot be used."""

    def __init__(self, num: int = 10, *, people: int = 5):
        self.num, self.people, self.num_read = num, people, 0

    def __len__(self) -> int:
        return self.num

    def read(self, index: int) -> Portrait | Skipped:
        self.num_read += 1
        if index % 5 == 4:
            return Skipped(f"{index}.png", "no-face", "nothing was found")
        coarse = torch.rand(1, 3, 24, 20, generator=torch.Generator().manual_seed(index))
        image = (torch.nn.functional.interpolate(coarse, PHOTO, mode="bilinear") * 255).round() / 255
        return Portrait(
            file=f"{index}.png", image=image, mesh=full_mesh() + index, pose=None,
            identity=f"person {index % self.people}", source="drawn", licence="none", split="train",
        )  # fmt: skip


def made(*, length: int = 1_000, **changes) -> Quadruplets:
    config = QuadrupletConfig(**{**TINY.__dict__, **changes})
    return Quadruplets(DrawnPortraits(), config, seed=3, length=length)


def same(a: Quadruplet, b: Quadruplet) -> bool:
    pictures = ("before", "after", "query", "target", "exemplar_motion", "query_motion")
    facts = ("index", "recipe", "files", "views", "look", "skipped")
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in pictures) and all(
        getattr(a, name) == getattr(b, name) for name in facts
    )


def test_a_sample_has_the_promised_shapes():
    sample = made()[0]
    assert sample.before.shape == sample.after.shape == (1, 3, 64, 64)
    assert sample.query.shape == sample.target.shape == (1, 3, 64, 80)
    assert sample.exemplar_motion.shape == (1, 2, 64, 64) and sample.query_motion.shape == (1, 2, 64, 80)
    assert sample.exemplar_motion.any() and sample.query_motion.any()
    for picture in (sample.before, sample.after, sample.query, sample.target):
        assert 0 <= picture.min() and picture.max() <= 1


def test_samples_can_be_trained_on():
    sample = made(cross_identity=1.0)[0]
    weight = torch.ones(1, requires_grad=True)
    for picture in (sample.before, sample.after, sample.query, sample.target, sample.query_motion):
        (weight * picture).square().sum().backward()
    assert weight.grad > 0


@pytest.mark.parametrize("cross", [0.0, 1.0])
def test_motions_are_those_of_the_pictures(cross):
    quadruplets = made(cross_identity=cross, look=None)
    for index in range(4):
        sample = quadruplets[index]
        for before, after, motion in (
            (sample.before, sample.after, sample.exemplar_motion),
            (sample.query, sample.target, sample.query_motion),
        ):
            mask = changed_mask(motion)
            error = (warp(before, motion) - after).square().mean()
            assert error < 1e-4 and error < 0.2 * (before - after).square().mean()
            assert torch.equal((before * (1 - mask)), after * (1 - mask)), "where nothing moves, nothing changes"
            assert (jacobian_determinant(motion) > 0).all()


def test_self_augmented_samples_show_one_photo_and_the_others_two_people():
    alone, across = made(cross_identity=0.0), made(cross_identity=1.0)
    for index in range(6):
        sample = alone[index]
        assert sample.files[0] == sample.files[1] and not torch.equal(sample.before[..., :64], sample.query[..., :64])
        assert len(set(across[index].identities)) == 2


def test_one_person_alone_is_self_augmented():
    portraits = DrawnPortraits(people=1)
    quadruplets = Quadruplets(
        portraits, QuadrupletConfig(**{**TINY.__dict__, "cross_identity": 1.0}), seed=0, length=1_000
    )
    assert len(set(quadruplets[0].identities)) == 1
    read = portraits.num_read
    assert quadruplets[1].identities == ("person 0", "person 0")
    assert portraits.num_read == read + 1  # whose the others are is known by now


def test_the_share_of_other_people_is_the_one_asked_for():
    quadruplets = made(cross_identity=0.5)
    across = sum(len(set(quadruplets[index].files)) == 2 for index in range(40))
    assert 10 <= across <= 30


def test_query_and_target_share_a_look_that_the_exemplar_does_not_have():
    sample = made(look=TINY.look, cross_identity=0.0, query_view=PLAIN, query_size=SIZE)[1]
    assert sample.look is not None
    bare = made(look=None, cross_identity=0.0, query_view=PLAIN, query_size=SIZE)[1]
    assert torch.equal(sample.before, bare.before) and not torch.equal(sample.query, bare.query)


def test_a_sample_is_a_function_of_its_number_and_the_seed():
    first, again = made(), made()
    again[5], again[2]  # whatever was asked before
    assert same(first[3], again[3])
    assert not same(first[3], first[4])
    other = Quadruplets(DrawnPortraits(), TINY, seed=4, length=1_000)
    assert not torch.equal(first[3].before, other[3].before)


def test_every_portrait_is_the_exemplar_once_in_a_pass():
    quadruplets = made(cross_identity=0.0)
    files = [quadruplets[index].files[0] for index in range(10) if not quadruplets[index].skipped]
    assert len(files) == len(set(files)) == 8


def test_unusable_portraits_are_replaced_told_and_not_read_again():
    quadruplets = made(cross_identity=0.0)
    told = [sample.skipped for sample in map(quadruplets.__getitem__, range(10))]
    assert {file for skips in told for file, _ in skips} == {"4.png", "9.png"}
    assert {reason for skips in told for _, reason in skips} == {"no-face"}
    read = quadruplets.portraits.num_read
    for index in range(10):
        quadruplets[index]
    assert quadruplets.portraits.num_read - read == 10


def test_a_folder_of_nothing_usable_is_an_error_that_says_why():
    class Useless(DrawnPortraits):
        def read(self, index: int) -> Skipped:
            return Skipped(f"{index}.png", "too-small", "32x32")

    with pytest.raises(ValueError, match="no portrait can be used.*too-small"):
        Quadruplets(Useless(), TINY, seed=0, length=1_000)[0]


def test_one_sided_recipes_are_not_flipped():
    always = AugmentConfig(flip=1.0)
    quadruplets = made(operations=PROFESSIONAL_FACE, query_view=always, cross_identity=0.0)
    flips = {sample.recipe.one_sided: sample.views[1].flipped for sample in map(quadruplets.__getitem__, range(12))}
    assert flips == {True: False, False: True}


def test_official_samples_are_blends_of_bytes():
    quadruplets = made(operations=SIMULATED, mode="official", look=None, cross_identity=0.0, exemplar_size=PHOTO)
    sample = quadruplets[0]
    assert sample.recipe.mode == "official"
    changed = (sample.before != sample.after).any(1)
    assert changed.any() and not changed.all()
    bytes_ = sample.after[0][:, changed[0]] * 255
    assert_close(bytes_, bytes_.round(), atol=1e-2, rtol=0)


def test_workers_give_the_bytes_that_no_worker_gives():
    quadruplets = made(length=4)
    torch.set_num_threads(1)
    loader = DataLoader(quadruplets, batch_size=None, num_workers=2)
    assert all(same(shared, alone) for shared, alone in zip(loader, quadruplets, strict=True))


def test_a_set_has_the_length_it_was_given():
    bounded = Quadruplets(DrawnPortraits(), TINY, seed=0, length=4)
    assert len(bounded) == 4 and bounded[3].index == 3
    with pytest.raises(IndexError, match="4 of 4"):
        bounded[4]


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"operations": ("chin_resize",)}, "unknown operation"),
        ({"operations": ()}, "no operations"),
        ({"max_steps": 0}, "max_steps"),
        ({"mode": "official"}, "mode='exact'"),
        ({"exemplar_size": (0, 64)}, "exemplar_size"),
        ({"cross_identity": 1.2}, "share"),
    ],
)
def test_impossible_settings_are_refused(settings, advice):
    with pytest.raises(ValueError, match=advice):
        made(**settings)


def test_a_real_folder_is_read(tmp_path):
    """PortraitFolder as it is, with landmarks from a file."""
    meshes = []
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 255, (24, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize(PHOTO[::-1], Image.Resampling.BICUBIC).save(tmp_path / f"{number}.png")
        meshes.append(full_mesh().numpy() + 0.5)
    np.savez(tmp_path / "landmarks.npz", files=np.array(["0.png", "1.png"]), face_avg=np.stack(meshes))
    folder = PortraitFolder(tmp_path, landmark_source(f"npz:{tmp_path / 'landmarks.npz'}"), min_side=64)
    sample = Quadruplets(folder, TINY, seed=0, length=1_000)[0]
    assert set(sample.files) <= {"0.png", "1.png"} and not sample.skipped
