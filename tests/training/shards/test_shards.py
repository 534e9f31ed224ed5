"""Shards: the same samples give the same bytes, every reader understands them, and each is found by its number."""

import errno
import io
import json
import tarfile
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image

from mirrorppr_core import file_writing
from training.data.order import place_of
from training.shards import tar as shards
from training.shards.reader import ShardSet, decode_pair
from training.shards.tar import DiskFull, Sample, finished, remove_leftovers, write_shard


def sample(index: int, size: int = 5) -> Sample:
    return Sample(f"{index:09d}", {"txt": bytes([index % 251]) * size, "json": json.dumps({"index": index}).encode()})


def raw(stored: Sample) -> Sample:
    return stored


@pytest.fixture
def folder(tmp_path):
    """Three shards of 7, 5 and 1 samples, numbered 0 to 12, of different lengths."""
    first = 0
    for shard_id, count in enumerate((7, 5, 1)):
        samples = [sample(i, size=100 * (i % 13)) for i in range(first, first + count)]
        write_shard(tmp_path, shards.shard_name(shard_id), samples, {})
        first += count
    return tmp_path


def test_a_shard_is_a_plain_tar_of_bytes_that_depend_on_the_samples_alone(tmp_path):
    written = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        facts = write_shard(tmp_path / name, "pairs-000000", [sample(3), sample(4)], {"shard": 0})
        content = (tmp_path / name / "pairs-000000.tar").read_bytes()
        assert facts["sha256"] == sha256(content).hexdigest() and facts["bytes"] == len(content)
        written.append(content)
    assert written[0] == written[1]
    with tarfile.open(fileobj=io.BytesIO(written[0])) as archive:
        members = archive.getmembers()
        assert [m.name for m in members] == ["000000003.txt", "000000003.json", "000000004.txt", "000000004.json"]
        assert {(m.uid, m.gid, m.mtime, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}
        assert archive.extractfile(members[0]).read() == sample(3).files["txt"]


def test_webdataset_reads_it(folder):
    webdataset = pytest.importorskip("webdataset", reason="pip install webdataset: not needed but by this test")
    urls = [str(folder / f"pairs-{i:06d}.tar") for i in range(3)]
    stored = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [int(s["__key__"]) for s in stored] == list(range(13))
    assert all(s["txt"] == sample(i, size=100 * (i % 13)).files["txt"] for i, s in enumerate(stored))


@pytest.mark.parametrize("key", ["", "a.b", "a/b"])
def test_a_key_that_readers_would_cut_is_refused(key):
    with pytest.raises(ValueError, match="cut names at the first dot"):
        Sample(key, {})


def test_a_shard_is_finished_only_when_it_is_complete(tmp_path):
    assert finished(tmp_path, "pairs-000000") is None
    facts = write_shard(tmp_path, "pairs-000000", [sample(0)], {"shard": 0})
    assert finished(tmp_path, "pairs-000000") == facts and facts["shard"] == 0 and facts["count"] == 1
    with open(tmp_path / "pairs-000000.tar", "ab") as archive:
        archive.write(b"x")
    with pytest.raises(ValueError, match="copied in part"):
        finished(tmp_path, "pairs-000000")
    (tmp_path / "pairs-000000.json").write_text("{")
    with pytest.raises(ValueError, match="pairs-000000.json is damaged"):
        finished(tmp_path, "pairs-000000")
    (tmp_path / "pairs-000000.json").unlink()
    assert finished(tmp_path, "pairs-000000") is None, "a tar whose json was not reached is made again"


def test_an_error_among_the_samples_leaves_nothing_behind(tmp_path):
    def failing():
        yield sample(0)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_shard(tmp_path, "pairs-000000", failing(), {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("when", ["write", "close", "json"])
def test_a_full_disk_leaves_the_finished_shards_and_no_part_of_the_unfinished_one(folder, monkeypatch, code, when):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    class Full(io.FileIO):
        def write(self, block):
            if when == "write" and self.tell() > 2000:
                raise OSError(code, "full")
            return super().write(block)

        def flush(self):
            if when == "close" or when in str(self.name):
                raise OSError(code, "full")

    monkeypatch.setattr(file_writing, "open", lambda path, mode: Full(path, mode.replace("b", "")), raising=False)
    with pytest.raises(DiskFull, match="same command again"):
        write_shard(folder, "pairs-000003", [sample(i, 900) for i in range(9)], {})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(folder):
    kept = sorted(path.name for path in folder.iterdir())
    for name in ("pairs-000001.tar", "pairs-000002.json", "manifest.json"):
        (folder / f".{name}.0123abcd.part").touch()
    assert remove_leftovers(folder, "pairs-000001") == [".pairs-000001.tar.0123abcd.part"]
    assert len(remove_leftovers(folder)) == 2
    assert sorted(path.name for path in folder.iterdir()) == kept


@pytest.mark.skipif(shards.fcntl is None, reason="this system has no file locks")
def test_what_another_run_is_writing_is_no_leftover(tmp_path):
    (tmp_path / ".pairs-000000.tar.dead.part").write_bytes(b"half")

    def samples():
        yield sample(0)
        assert remove_leftovers(tmp_path) == [".pairs-000000.tar.dead.part"]
        yield sample(1)

    write_shard(tmp_path, "pairs-000000", samples(), {})
    assert finished(tmp_path, "pairs-000000")["count"] == 2


def test_any_sample_is_read_by_its_number_without_the_ones_before_it(folder):
    stored = ShardSet(folder, decode=raw)
    assert len(stored) == 13
    damaged = bytearray((folder / "pairs-000000.tar").read_bytes())
    damaged[:3000] = b"?" * 3000
    (folder / "pairs-000000.tar").write_bytes(damaged)
    for index in (12, 6, 7, 11):
        assert stored[index] == sample(index, size=100 * (index % 13))
    with pytest.raises(ValueError, match="pairs-000000.tar is damaged"):
        stored[0]
    with pytest.raises(IndexError, match="13 of 13"):
        stored[13]


def test_a_folder_without_shards_or_with_an_unfinished_one_is_refused(folder, tmp_path_factory):
    with pytest.raises(ValueError, match="no shards"):
        ShardSet(tmp_path_factory.mktemp("empty"))
    (folder / "pairs-000001.json").unlink()
    with pytest.raises(ValueError, match="pairs-000001.json"):
        ShardSet(folder)


def picture(suffix: str, value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (6, 4), (value, 10, 20)).save(stream, {"jpg": "JPEG", "png": "PNG"}[suffix])
    return stream.getvalue()


def test_a_pair_is_decoded_with_its_recipe_and_its_motion_put_back_in_place():
    part, stream = np.full((2, 2, 3), 1.5, np.float16), io.BytesIO()
    np.save(stream, part)
    about = json.dumps({"displacement": {"box": [1, 1, 4, 3]}, "recipe": {}}).encode()
    files = {"before.png": picture("png", 100), "after.png": picture("png", 200), "json": about}
    pair = decode_pair(Sample("000000001", {**files, "field.npy": stream.getvalue()}))
    assert pair.before.shape == (3, 4, 6) and pair.before.dtype == torch.uint8
    assert pair.before[0, 0, 0] == 100 and pair.after[0, 0, 0] == 200 and pair.about["recipe"] == {}
    assert pair.displacement.shape == (2, 4, 6)
    assert pair.displacement[:, 1:3, 1:4].eq(1.5).all() and pair.displacement.sum() == 1.5 * 12
    assert decode_pair(Sample("000000001", files)).displacement is None


@pytest.mark.parametrize("n", [1, 2, 5, 64, 1000])
def test_an_order_without_a_table_is_a_permutation_and_a_seed_of_its_own_makes_another(n):
    orders = [[place_of(i, n, seed) for i in range(n)] for seed in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(n))
    assert n < 5 or orders[0] != orders[1]
    with pytest.raises(IndexError):
        place_of(n, n, 0)
