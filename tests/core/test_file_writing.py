"""Files are complete or absent, whoever writes them and whatever happens meanwhile."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from host import ROOT

from mirrorppr_core import file_writing
from mirrorppr_core.file_writing import append_line, copy_file, prove_writable, replacing, write_file
from mirrorppr_core.photo_files import Photo, prepare_folder, write_photo


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


def test_links_under_every_name_that_could_be_guessed_are_not_followed(tmp_path):
    precious, out = tmp_path / "precious", tmp_path / "out"
    precious.write_bytes(b"precious")
    out.mkdir()
    for name in (".a.png.part", "a.png.part", ".a.png.tmp", f".mirrorppr-{os.getpid()}", "a.png"):
        (out / name).symlink_to(precious)
    prepare_folder(out)
    write_photo(out / "a.png", Photo(torch.zeros(1, 3, 8, 8, dtype=torch.uint8)))
    assert precious.read_bytes() == b"precious" and not (out / "a.png").is_symlink()


def test_a_log_is_not_written_through_a_link(tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError):
        append_line(tmp_path / "log", "a line")
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_lines_are_added_to_a_log(tmp_path):
    append_line(tmp_path / "log", "one")
    append_line(tmp_path / "log", "zwei, \u00e9")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "one\nzwei, \u00e9\n"


def test_a_copy_is_complete_and_a_file_copied_onto_itself_stays(tmp_path):
    write_file(tmp_path / "a", b"x" * 3_000_000)
    copy_file(tmp_path / "a", tmp_path / "b")
    copy_file(tmp_path / "a", tmp_path / "a")
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes() == b"x" * 3_000_000
    assert names(tmp_path) == ["a", "b"]


def test_proving_that_a_folder_can_be_written_to_leaves_nothing(tmp_path):
    prove_writable(tmp_path)
    assert names(tmp_path) == []


_WRITER = """
import sys
from mirrorppr_core.file_writing import write_file
for _ in range(40):
    write_file(sys.argv[1], sys.argv[2].encode() * 200_000)
"""


def test_two_processes_that_write_one_name_leave_the_file_of_one_of_them(tmp_path):
    commands = [[sys.executable, "-c", _WRITER, str(tmp_path / "a"), letter] for letter in "xy"]
    running = [subprocess.Popen(command, cwd=ROOT) for command in commands]
    seen = set()
    while any(process.poll() is None for process in running):
        if (tmp_path / "a").exists():
            seen.add((tmp_path / "a").read_bytes())
    assert [process.returncode for process in running] == [0, 0]
    assert seen | {(tmp_path / "a").read_bytes()} <= {b"x" * 200_000, b"y" * 200_000} and names(tmp_path) == ["a"]


@contextmanager
def full_disk(folder):
    """A file system of 256 kB; where none may be mounted, files are of at most 256 kB."""
    folder.mkdir()
    mounted = os.name == "posix" and shutil.which("mount") is not None
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    mounted = mounted and subprocess.run(command, capture_output=True).returncode == 0
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if not mounted:
        resource.setrlimit(resource.RLIMIT_FSIZE, (256 * 1024, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (1, 3, 400, 400), dtype=np.uint8))  # 480 kB
    with full_disk(tmp_path / "disk"):
        write_photo(tmp_path / "disk" / "a.png", Photo(noise[..., :100, :100]))
        old = (tmp_path / "disk" / "a.png").read_bytes()
        with pytest.raises(OSError, match="cannot write a.png into disk/.*free some space"):
            write_photo(tmp_path / "disk" / "a.png", Photo(noise))
        with pytest.raises(OSError, match="cannot write b.png into disk/.*free some space"):
            write_photo(tmp_path / "disk" / "b.png", Photo(noise))
        assert names(tmp_path / "disk") == ["a.png"] and (tmp_path / "disk" / "a.png").read_bytes() == old


def test_without_a_handle_for_the_folder_nothing_is_written(tmp_path, monkeypatch):
    """A file whose name cannot be put on the disk would be there although writing it failed."""
    usual = os.open

    def starved(path, flags, *rest, **more):
        if Path(path) == tmp_path:
            raise OSError(errno.EMFILE, "Too many open files")
        return usual(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", starved)
    with pytest.raises(OSError, match="Too many open files"):
        write_file(tmp_path / "kept.json", "{}")
    assert list(tmp_path.iterdir()) == []
