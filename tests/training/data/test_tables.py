"""Tables and arrays beside pictures: what was written comes back, and damage is one line that names the file."""

import io
import zipfile

import numpy as np
import pytest

from training.data.tables import read_array, read_arrays, read_rows


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were_written(tmp_path, write):
    stored = {
        "a": np.arange(6, dtype=np.float16).reshape(2, 3),
        "names": np.array(["x", "yy"]),
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "one": np.array(7),
        "none": np.zeros((0, 4), np.float32),
        "true": np.array([True, False]),
    }
    write(tmp_path / "a.npz", **stored)
    found = read_arrays(tmp_path / "a.npz")
    assert found.keys() == stored.keys()
    assert all(np.array_equal(found[name], stored[name]) and found[name].flags.writeable for name in stored)
    assert read_arrays(tmp_path / "a.npz", ("one", "absent")).keys() == {"one"}


def test_pickles_are_never_read(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.array([{"x": 1}], dtype=object))
    with pytest.raises(ValueError, match="a.npz is damaged or not an npz file .*write it again"):
        read_arrays(tmp_path / "a.npz")


def test_a_file_that_claims_gigabytes_gets_no_memory(tmp_path):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (2**34,)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as stored:
        stored.writestr("a.npy", stream.getvalue())
    with pytest.raises(ValueError, match="0 bytes for a shape of"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no zip at all", b"\x93NUMPY" + bytes(200)])
def test_whatever_is_no_npz_is_told_with_the_remedy(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="a.npz is damaged or not an npz file .*: delete it"):
        read_arrays(tmp_path / "a.npz", remedy="delete it")


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x09\x00" + bytes(99), bytes(500)])
def test_one_array_that_is_none_is_told(content):
    with pytest.raises(ValueError, match="its field is damaged or not an npy file"):
        read_array(content, "its field")


def test_rows_come_back_by_column(tmp_path):
    (tmp_path / "a.csv").write_text("file,split\na.png,train\n", encoding="utf-8-sig")
    assert read_rows(tmp_path / "a.csv", ("file", "split")) == [{"file": "a.png", "split": "train"}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "has columns none: need at least a column `file`"),
        (b"name,split\na,b\n", "has columns name, split: need at least a column `file`"),
        (b"file,split\na.png\n", "row 2 is cut short: it needs file, split"),
        (b"file,split\n\xff\xfe,train\n", "no table in UTF-8"),
        (b"file,split\n" + b'"' + b"x" * 200_000 + b"\n", "no table in UTF-8"),
    ],
)
def test_a_table_that_is_none_is_told(tmp_path, content, told):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.csv.*{told}") as error:
        read_rows(tmp_path / "a.csv", ("file", "split"))
    assert len(str(error.value)) < 500
