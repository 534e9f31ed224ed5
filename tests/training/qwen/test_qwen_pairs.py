"""Finished pairs as samples of the Qwen stages: shards and released folders, dealt out without loss, and refusals."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from qwen_training_toys import ToyEncoder
from tiny_qwen import TINY_FACE
from torch.testing import assert_close

from tests.core.operations.test_professional import SIZE, draw_mesh
from training import synthesize
from training.qwen import pairs as pairs_module
from training.qwen import shard_pairs
from training.qwen.batches import QwenSource
from training.qwen.pairs import PairBucket, UnusablePair, bits_of, buckets_of, changed_box, number_of, with_partner
from training.qwen.released_pairs import ReleasedPairs
from training.qwen.shard_pairs import INDEX, ShardPairs
from training.qwen_sources import main
from training.recipes.recipe import ALL_OPERATIONS, PROFESSIONAL_FACE, SIMULATED, Recipe, Step
from training.runs.batches import StepBatches
from training.shards.spec import FORMAT_VERSION
from training.shards.tar import Sample, write_shard

EVERYTHING, SIDE = (1 << len(ALL_OPERATIONS)) - 1, 64


def photo(seed: int, *, retouched: float = 0.0, size: int = 96) -> np.ndarray:
    """Smooth colours; a retouch brightens a square right of the middle."""
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    picture = torch.nn.functional.interpolate(coarse, (size, size), mode="bicubic").clamp(0.1, 0.6)
    picture[..., size // 3 : size // 2, size // 2 : 2 * size // 3] += retouched
    return (picture[0] * 255).byte().permute(1, 2, 0).numpy()


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def recipe(operation: str = "eye_resize", strength: float = 50.0, side: str = "both") -> Recipe:
    return Recipe(steps=(Step(operation=operation, strength=strength, side=side),))


def sample(index: int, identity: str, done: Recipe) -> Sample:
    box = [48, 32, 64, 48]
    about = {"identity": identity, "recipe": done.to_json(), "displacement": {"box": box}}
    files = {"before.png": png(photo(index)), "after.png": png(photo(index, retouched=done.steps[0].strength / 200))}
    return Sample(f"{index:09d}", {**files, "json": json.dumps(about).encode()})


def write_shards(folder: Path, rows: list[tuple[str, Recipe]], *, per_shard: int = 5, side: int = 96) -> Path:
    folder.mkdir(exist_ok=True)
    samples = [sample(index, *row) for index, row in enumerate(rows)]
    for shard, first in enumerate(range(0, len(samples), per_shard)):
        write_shard(folder, f"pairs-{shard:06d}", samples[first : first + per_shard], {})
    told = {"format": FORMAT_VERSION, "dataset": {"side": side, "num_pairs": len(rows)}}
    (folder / "manifest.json").write_text(json.dumps(told))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """13 pairs in three shards: person 0 .. 12, every third with the same operation, the last one on one side."""
    done = [recipe("eye_resize"), recipe("nose_length"), recipe("lip_thickness", strength=80.0)]
    rows = [(f"person {n}", done[n % 3]) for n in range(12)]
    one_sided = recipe("eye_height_left+eye_height_right", side="left")
    return write_shards(tmp_path_factory.mktemp("shards"), [*rows, ("person 12", one_sided)])


def only_bucket(pairs, *, allowed=EVERYTHING, share=1e-12, held_out=False, samples=0, cross=1.0, seed=0) -> PairBucket:
    (bucket,) = buckets_of(
        pairs, allowed=allowed, held_out=held_out, share=share, samples=samples, seed=seed,
        exemplar_size=(SIDE, SIDE), query_sizes=((SIDE, SIDE),), cross_identity=cross,
    )  # fmt: skip
    return bucket


def bits(*names: str) -> int:
    return bits_of(names)


# --- shards ---------------------------------------------------------------------------------------------------------


def test_what_the_data_engine_writes_is_read(tmp_path):
    people = tmp_path / "people"
    people.mkdir()
    for person in range(3):
        Image.fromarray(np.array(Image.fromarray(photo(person)).resize(SIZE[::-1]))).save(people / f"{person}.png")
    meshes = np.stack([draw_mesh(person).numpy() + 0.5 for person in range(3)])
    np.savez(tmp_path / "marks.npz", files=np.array([f"{n}.png" for n in range(3)]), mesh=meshes)
    told = {"portraits": people, "landmarks": f"npz:{tmp_path / 'marks.npz'}", "out": tmp_path / "shards", "pairs": 6,
            "side": 160, "shard-size": 4, "operations": "face", "picture": "png", "pairs-per-portrait": 2}  # fmt: skip
    assert synthesize.main([word for name, value in told.items() for word in (f"--{name}", str(value))]) == 0
    pairs = ShardPairs(tmp_path / "shards", min_side=160)
    assert len(pairs.facts) == 6 and set(pairs.facts.identity) == {number_of(str(n)) for n in range(3)}
    for number in range(6):
        pair = pairs.load(number)
        assert pair.before.shape == (1, 3, *SIZE) and pair.before.dtype == torch.uint8
        seen, kept = changed_box(pair.before, pair.after), pair.keep
        assert seen[0] >= kept[0] - 1 and seen[1] >= kept[1] - 1 and seen[2] <= kept[2] + 1 and seen[3] <= kept[3] + 1
    assert not any(int(mask) & ~bits(*PROFESSIONAL_FACE) for mask in pairs.facts.operations)
    with pytest.raises(ValueError, match="pairs of 160 px and data.min_side is 512: make them with .* --side 512"):
        ShardPairs(tmp_path / "shards", min_side=512)


def test_the_index_is_written_once_and_made_anew_when_the_shards_are_others(folder, tmp_path):
    first = ShardPairs(folder).facts
    written = (folder / INDEX).stat().st_mtime_ns
    assert ShardPairs(folder).facts.digest == first.digest and (folder / INDEX).stat().st_mtime_ns == written
    other = write_shards(tmp_path / "other", [("a", recipe()), ("b", recipe())])
    (other / INDEX).write_bytes((folder / INDEX).read_bytes())
    assert len(ShardPairs(other).facts) == 2


def test_the_index_is_made_anew_when_the_table_of_operations_is_another(folder, monkeypatch):
    """A row put into the table moves the bits of those behind it."""
    names = {"eye_resize", "nose_length", "lip_thickness", "eye_height_left+eye_height_right"}
    ShardPairs(folder)
    table = ("new_operation", *ALL_OPERATIONS)
    for module in (shard_pairs, pairs_module):
        monkeypatch.setattr(module, "ALL_OPERATIONS", table, raising=False)
    masks = ShardPairs(folder).facts.operations
    assert {name for k, name in enumerate(table) if any(int(mask) >> k & 1 for mask in masks)} == names


def test_a_cross_identity_sample_has_the_same_recipe_on_another_person(folder):
    pairs = ShardPairs(folder)
    bucket, crossed = only_bucket(pairs), 0
    for index in range(len(bucket)):
        shown, asked = bucket[index].pairs
        assert pairs.facts.retouch[shown] == pairs.facts.retouch[asked]
        crossed += pairs.facts.identity[shown] != pairs.facts.identity[asked]
    assert crossed == 12, "all but the one whose recipe nobody else has"


def test_how_many_pairs_can_be_crossed_is_told(folder, capsys):
    told = ["--config", "qwen-face", "--set", "data.source=shards", "--set", f"data.pairs={folder}"]
    told += ["--set", "data.min_side=64", "--set", "data.held_out=0.5", "--set", "data.operations=simulated,face"]
    assert main(told) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and lines[0].startswith("extractor, training: ") and "another person" in lines[0]
    pairs = ShardPairs(folder)
    assert with_partner(pairs.facts, np.arange(13)) == 12 and with_partner(pairs.facts, np.arange(4)) == 2
    assert main(["--config", "qwen-face"]) == 2
    assert "set data.source to shards or released" in capsys.readouterr().err


def test_a_pair_alone_serves_itself_in_another_frame(folder):
    bucket = only_bucket(ShardPairs(folder), cross=0.0)
    for index in range(4):
        found = bucket[index]
        assert found.pairs[0] == found.pairs[1]
        assert found.query.shape == found.before.shape == (1, 3, SIDE, SIDE)
        assert not torch.equal(found.query, found.before)
        for before, after in ((found.before, found.after), (found.query, found.target)):
            assert (before - after).abs().amax() > 0.05, "what was retouched stays in the picture"


def test_a_one_sided_retouch_is_never_mirrored(folder):
    assert [ShardPairs(folder).load(n).may_flip for n in (0, 12)] == [True, False]


def test_a_stage_sees_pairs_of_its_operations_only(folder):
    pairs = ShardPairs(folder)
    assert len(only_bucket(pairs, allowed=bits("nose_length"))) == 4
    assert len(only_bucket(pairs, allowed=bits(*SIMULATED))) == 12
    with pytest.raises(ValueError, match="no pair shows operations of this stage only: set data.operations"):
        only_bucket(pairs, allowed=bits("jaw_trans"))


def test_nobody_is_on_both_sides_and_nobody_is_lost(folder):
    pairs = ShardPairs(folder)
    training, held_out = (only_bucket(pairs, share=0.5, held_out=side) for side in (False, True))
    people = [{pairs.facts.identity[n] for i in range(len(b)) for n in b[i].pairs} for b in (training, held_out)]
    assert people[0] and people[1] and not people[0] & people[1] and len(people[0] | people[1]) == 13
    with pytest.raises(ValueError, match="none of the 13 identities of these pairs is held out"):
        only_bucket(pairs, held_out=True)


def test_samples_repeat_and_go_on_in_new_frames_where_more_are_asked_for_than_there_are_pairs(folder):
    bucket, again = (only_bucket(ShardPairs(folder), cross=0.0, samples=26) for _ in range(2))
    asked = [bucket[index].pairs[1] for index in range(26)]
    assert sorted(asked[:13]) == sorted(asked[13:]) == list(range(13)) and asked[:13] != asked[13:]
    later = asked.index(asked[0], 13)
    assert not torch.equal(bucket[0].query, bucket[later].query)
    assert torch.equal(bucket[later].query, again[later].query), "whatever was asked for before"


def test_a_set_can_be_limited(folder):
    def length(samples: int, at_most: int) -> int:
        (bucket,) = buckets_of(
            ShardPairs(folder), allowed=EVERYTHING, held_out=False, share=1e-12, samples=samples, at_most=at_most,
            seed=0, exemplar_size=(SIDE, SIDE), query_sizes=((SIDE, SIDE),), cross_identity=0.0,
        )  # fmt: skip
        return len(bucket)

    assert [length(*told) for told in ((0, 100), (0, 4), (20, 100), (20, 15))] == [13, 4, 20, 15]


def test_every_size_of_queries_has_its_own_share_of_the_pairs(folder):
    sizes = ((64, 96), (96, 64))
    buckets = buckets_of(
        ShardPairs(folder), allowed=EVERYTHING, held_out=False, share=1e-12, samples=0, seed=0,
        exemplar_size=(SIDE, SIDE), query_sizes=sizes, cross_identity=0.0,
    )  # fmt: skip
    asked = [bucket[index].pairs[1] for bucket in buckets for index in range(len(bucket))]
    assert sorted(asked) == list(range(13))
    assert [tuple(bucket[0].target.shape[-2:]) for bucket in buckets] == list(sizes)


def seen_by(source: QwenSource, *, rank: int, world: int, steps: range, workers: int) -> list[bytes]:
    """Pictures that one rank is given, in order."""
    dealt = StepBatches(source, size=4, first=rank, parts=2, accumulate=2 // world)
    rows = []
    for _, batch in dealt.between(steps.start, steps.stop, workers=workers):
        rows += [query.numpy().tobytes() for query in batch.query]
    return rows


@pytest.mark.parametrize("workers", [0, 2])
def test_two_ranks_share_an_epoch_without_overlap_or_loss_and_any_step_can_be_the_first(folder, workers):
    """13 pairs and batches of 4: 13 steps are 4 whole epochs, the first of which ends within step 4."""
    bucket = only_bucket(ShardPairs(folder), cross=0.0)
    source = QwenSource(buckets=(bucket,), model=TINY_FACE, seed=3, encoder=None)
    ranks = [seen_by(source, rank=rank, world=2, steps=range(13), workers=workers) for rank in range(2)]
    # Two rows of each step to each rank.
    whole = [query for step in range(13) for rank in range(2) for query in ranks[rank][2 * step : 2 * step + 2]]
    everything = {bucket[index].query[0].numpy().tobytes() for index in range(13)}
    for epoch in range(4):
        assert set(whole[13 * epoch : 13 * (epoch + 1)]) == everything
    assert whole == seen_by(source, rank=0, world=1, steps=range(13), workers=0)
    late = seen_by(source, rank=1, world=2, steps=range(5, 9), workers=workers)
    assert late == ranks[1][10:18], "a resumed run goes on where it was"


def test_a_bucket_smaller_than_a_batch_gives_its_samples_as_often_as_the_others(folder):
    pairs = ShardPairs(folder)
    buckets = (
        only_bucket(pairs, allowed=bits("nose_length")),
        only_bucket(pairs, allowed=bits("eye_resize"), samples=1),
    )
    source = QwenSource(buckets=buckets, model=TINY_FACE, seed=0, encoder=ToyEncoder())
    plans = [source.plan(step, 4) for step in range(20)]
    counts = [sum(chosen == bucket for chosen, _ in plans) for bucket in range(2)]
    assert counts == [16, 4], "lengths 4 and 1"
    assert sorted(i for chosen, rows in plans if chosen == 0 for i in rows) == sorted(list(range(4)) * 16)


@pytest.mark.parametrize(
    ("spoil", "error", "complaint"),
    [
        (
            lambda folder: (folder / "manifest.json").unlink(),
            FileNotFoundError,
            "has no manifest.json: give the folder",
        ),
        (lambda folder: (folder / "manifest.json").write_text("{"), ValueError, "is damaged .*: copy it again"),
        (
            lambda folder: (folder / "manifest.json").write_text('{"format": 0}'),
            ValueError,
            "is of format 0 and this code reads 1: make the shards anew",
        ),
        (lambda folder: (folder / "pairs-000000.tar").unlink(), ValueError, "no shards"),
    ],
)
def test_a_folder_that_is_no_finished_set_is_refused_with_the_remedy(tmp_path, spoil, error, complaint):
    spoiled = write_shards(tmp_path / "set", [("a", recipe()), ("b", recipe())])
    spoil(spoiled)
    with pytest.raises(error, match=complaint):
        ShardPairs(spoiled)


def test_an_unfinished_set_and_no_folder_are_refused(tmp_path):
    unfinished = write_shards(tmp_path / "set", [("a", recipe()), ("b", recipe())], per_shard=1)
    for path in unfinished.glob("pairs-000001.*"):
        path.unlink()
    with pytest.raises(ValueError, match="holds 1 of 2 pairs: give the command of training.synthesize again"):
        ShardPairs(unfinished)
    with pytest.raises(FileNotFoundError, match="no such folder of shards. Make one with"):
        ShardPairs(tmp_path / "gone")


# --- released layouts -----------------------------------------------------------------------------------------------


def save(path: Path, pixels: np.ndarray) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path.name


def simface(root: Path) -> Path:
    rows = []
    for number in range(3):
        row = {}
        for key, person, amount in (
            ("pair1_origin", number, 0.0), ("pair1_edited", number, 0.2),
            ("pair2_origin", 10 + number, 0.0), ("pair2_edited", 10 + number, 0.2),
        ):  # fmt: skip
            row[key] = save(root / f"{person}_{amount}.png", photo(person, retouched=amount))
        rows.append(row)
    (root / "dataset.json").write_text(json.dumps(rows))
    return root


def professional(root: Path) -> Path:
    """Three photos of two people with the same two edits, a tile each."""
    rows = []
    for image_id, seed in (("1:0", 0), ("1:1", 1), ("2:0", 2)):
        whole = photo(seed)
        save(root / f"photos/{seed}.png", whole)
        for name, x in (("jaw_trans", 10), ("scale_nose", 50)):
            tile = whole[30:60, x : x + 30]
            brighter = tile.copy()
            brighter[8:22, 8:22] += 40
            save(root / f"tiles/{seed}_{name}_a.png", tile)
            save(root / f"tiles/{seed}_{name}_b.png", brighter)
            rows.append({
                "image_id": image_id, "operation_id": f"{name}:100", "source_image_path": f"photos/{seed}.png",
                "source_tile_path": f"tiles/{seed}_{name}_a.png", "edited_tile_path": f"tiles/{seed}_{name}_b.png",
                "crop_bbox_in_original": [x, 30, 30, 30],
            })  # fmt: skip
    metadata = root / "professional" / "metadata" / "single_ops_all.json"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(json.dumps(rows))
    return root


def scripts(root: Path) -> Path:
    """Two people as the published scripts leave them, one of them without augmentations."""
    for role, amount in (("source", 0.0), ("target", 0.2)):
        save(root / f"a/extractor_2k/extractor_2k_{role}.png", photo(1, retouched=amount))
        save(root / f"a/qwen_augmentations/professional_000_96x96_{role}.png", photo(2, retouched=amount))
        save(root / f"b/aligned_{role}.png", photo(3, retouched=amount))
    return root


def test_rows_of_simface_keep_their_exemplar(tmp_path):
    pairs = ReleasedPairs(simface(tmp_path))
    bucket = only_bucket(pairs)
    assert sorted(bucket[index].pairs for index in range(len(bucket))) == [(0, 1), (2, 3), (4, 5)]
    found = bucket[0]
    assert_close(found.before[0, :, 10, 10], pairs.load(found.pairs[0]).before[0, :, 15, 15] / 255, atol=0.02, rtol=0)


def test_a_row_whose_two_people_are_on_different_sides_is_left_out(tmp_path):
    pairs = ReleasedPairs(simface(tmp_path))
    held = pairs.facts.identity / 2.0**64
    share = float(np.sort(held)[3] * 0.5 + np.sort(held)[2] * 0.5)
    mixed = sum((held[2 * n] < share) != (held[2 * n + 1] < share) for n in range(3))
    counted = 0
    for side in (False, True):
        try:
            counted += len(only_bucket(pairs, share=share, held_out=side))
        except ValueError:
            continue
    assert mixed and counted == 3 - mixed


def test_professional_edits_are_put_together_and_found_again_on_other_people(tmp_path):
    pairs = ReleasedPairs(professional(tmp_path))
    assert len(pairs.facts) == 3 * 3, "two edits and both together, on three photos"
    assert set(pairs.facts.identity) == {number_of("1"), number_of("2")}, "a group of photos is one person"
    bucket = only_bucket(pairs)
    for index in range(len(bucket)):
        shown, asked = bucket[index].pairs
        assert pairs.facts.retouch[shown] == pairs.facts.retouch[asked]
        assert pairs.facts.identity[shown] != pairs.facts.identity[asked]
    both = int(np.flatnonzero(pairs.facts.operations == bits("jaw_trans", "scale_nose"))[0])
    left, top, right, bottom = pairs.load(both).keep
    assert (left, top, right, bottom) == (18, 38, 71, 51) and not pairs.load(both).may_flip
    assert len(ReleasedPairs(tmp_path, max_steps=1).facts) == 6
    assert len(only_bucket(pairs, allowed=bits("jaw_trans"))) == 3


def test_folders_of_the_published_scripts_pair_the_extractors_picture_with_its_augmentations(tmp_path):
    pairs = ReleasedPairs(scripts(tmp_path))
    bucket = only_bucket(pairs)
    asked = {bucket[index].pairs for index in range(len(bucket))}
    assert asked == {(0, 1), (2, 2)} and len(set(pairs.facts.identity)) == 2


def test_pictures_that_make_no_pair_are_named_and_another_pair_takes_their_place(tmp_path, capsys):
    pairs = ReleasedPairs(simface(tmp_path))
    bucket = only_bucket(pairs)
    save(tmp_path / "10_0.2.png", photo(10, size=64))
    with pytest.raises(UnusablePair, match="pair 1 of .*: before is 96x96 and after 64x64 pixels. A pair has one size"):
        pairs.load(1)
    save(tmp_path / "0_0.2.png", photo(0))
    with pytest.raises(UnusablePair, match="pair 0 of .*: before and after do not visibly differ"):
        pairs.load(0)
    (tmp_path / "0_0.2.png").write_bytes(b"")
    with pytest.raises(UnusablePair, match="pair 0 of .* cannot be read: empty-file"):
        pairs.load(0)
    asked = [bucket[index].pairs for index in range(3)]
    assert (0, 1) not in asked and set(asked) == {(2, 3), (4, 5)}
    assert "the next pair takes its place" in capsys.readouterr().err
    assert [bucket[index].pairs for index in (2, 1, 0)] == asked[::-1], "whatever was asked for before"
    for path in tmp_path.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="20 pairs in a row cannot be read: check the folder that data.pairs names"):
        bucket[0]


def test_a_folder_of_no_known_layout_says_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="none of the released layouts: .* are data.source=shards"):
        ReleasedPairs(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder. Give the one that a released data set"):
        ReleasedPairs(tmp_path / "gone")
