"""Files are complete or absent, whoever writes them and whatever happens meanwhile."""

import errno
import os

import pytest

from mirrorppr_core import file_writing
from mirrorppr_core.file_writing import replacing, write_file


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_the_old_one_and_leaves_nothing_beside_it(tmp_path):
    write_file(tmp_path / "a.txt", "old")
    write_file(tmp_path / "a.txt", "new, é")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new, é" and names(tmp_path) == ["a.txt"]


def test_a_mistake_in_the_middle_leaves_the_old_file(tmp_path):
    write_file(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError, match="mine"), replacing(tmp_path / "a") as stream:
        stream.write(b"half")
        raise RuntimeError("mine")
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_its_code_and_leaves_the_old_file(tmp_path, monkeypatch, code):
    write_file(tmp_path / "a", b"old")

    def full(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(file_writing.os, "fsync", full)
    with pytest.raises(OSError, match="cannot write a into .*free some space") as told:
        write_file(tmp_path / "a", b"new")
    assert told.value.errno == code and (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]


def test_a_new_file_never_takes_the_place_of_another(tmp_path):
    write_file(tmp_path / "a", b"first", new=True)
    with pytest.raises(FileExistsError, match="a exists already and is not overwritten: choose another name"):
        write_file(tmp_path / "a", b"second", new=True)
    assert (tmp_path / "a").read_bytes() == b"first" and names(tmp_path) == ["a"]


def test_a_new_file_that_fails_does_not_keep_its_name(tmp_path):
    with pytest.raises(RuntimeError), replacing(tmp_path / "a", new=True):
        raise RuntimeError
    assert names(tmp_path) == []


def test_what_a_link_in_its_place_points_at_is_left_alone(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "a").symlink_to(tmp_path / "precious")
    write_file(tmp_path / "a", b"new")
    assert (tmp_path / "precious").read_bytes() == b"precious" and not (tmp_path / "a").is_symlink()


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OSError, match="cannot write a into .*nowhere.*No such file"):
        write_file(tmp_path / "nowhere" / "a", b"")
